package direct

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
)

const benchPath = "/sdb1/12345/AUTH_test/container/some/object"

// BenchmarkGet4KiB compares the CPU time that a GET of 4 KiB takes in the
// client's process, the server being a process of its own:
//
//   - floor: one write and the reads on a net.Conn, nothing parsed or checked.
//     Nothing on a net.Conn can cost less.
//   - direct: this package.
//   - transport: http.Transport as it comes, without a limit on silence.
//
// In "ratio" all take turns in one run. Its metrics are direct's share of
// http.Transport's time, and overhead/transport: the same with the floor, which the
// kernel takes in either case, subtracted from both.
func BenchmarkGet4KiB(b *testing.B) {
	addr := startBare(b)
	ctx, cancel := context.WithCancel(context.Background()) // as that of a request served
	defer cancel()
	c := New(Config{})
	defer c.Close()
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 128}
	defer tr.CloseIdleConnections()
	bare := &bareClient{addr: addr}
	defer bare.close()
	clients := map[string]func(buf []byte) error{
		"floor":     bare.get,
		"direct":    func(buf []byte) error { return getDirect(ctx, c, addr, buf) },
		"transport": func(buf []byte) error { return getTransport(ctx, tr, addr, buf) },
	}
	names := slices.Sorted(maps.Keys(clients))
	for _, mode := range []struct {
		name    string
		workers int
	}{{"serial", 1}, {"parallel16", 16}} {
		for _, name := range names {
			b.Run(mode.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				used := cpuOf(b, b.N, mode.workers, clients[name])
				b.ReportMetric(micros(used, b.N), "cpu-µs/op")
			})
		}
		b.Run(mode.name+"/ratio", func(b *testing.B) {
			used := make(map[string]time.Duration)
			for left := b.N; left > 0; {
				n := min(left, 1000)
				left -= n
				for _, name := range names {
					used[name] += cpuOf(b, n, mode.workers, clients[name])
				}
			}
			for name, of := range used {
				b.ReportMetric(micros(of, b.N), name+"-µs/op")
			}
			share := func(d, of time.Duration) float64 { return float64(d) / float64(max(of, 1)) }
			b.ReportMetric(share(used["direct"], used["transport"]), "direct/transport")
			b.ReportMetric(share(used["direct"]-used["floor"], used["transport"]-used["floor"]), "overhead/transport")
		})
	}
}

// bareClient writes the bytes of a request and counts those of the answer.
type bareClient struct {
	addr string
	mu   sync.Mutex
	idle []net.Conn
}

var bareRequest = []byte("GET " + benchPath + " HTTP/1.1\r\nHost: 127.0.0.1:12345\r\nUser-Agent: martlet\r\n" +
	"X-Timestamp: 1700000000.00000\r\nX-Trans-Id: tx00000000000000000000-0000000000\r\nX-Backend-Storage-Policy-Index: 0\r\n\r\n")

func (c *bareClient) get(buf []byte) error {
	c.mu.Lock()
	var nc net.Conn
	if n := len(c.idle); n > 0 {
		nc, c.idle = c.idle[n-1], c.idle[:n-1]
	}
	c.mu.Unlock()
	if nc == nil {
		var err error
		if nc, err = net.Dial("tcp", c.addr); err != nil {
			return err
		}
	}
	if _, err := nc.Write(bareRequest); err != nil {
		return errors.Join(err, nc.Close())
	}
	for got := 0; got < len(bareAnswer); {
		n, err := nc.Read(buf[:cap(buf)])
		if err != nil {
			return errors.Join(err, nc.Close())
		}
		got += n
	}
	c.mu.Lock()
	c.idle = append(c.idle, nc)
	c.mu.Unlock()
	return nil
}

func (c *bareClient) close() {
	for _, nc := range c.idle {
		_ = nc.Close()
	}
}

func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }

// cpuOf returns the CPU time of this process in n calls of get.
func cpuOf(b *testing.B, n, workers int, get func([]byte) error) time.Duration {
	b.Helper()
	before := cpuTime(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, 4096, 8192)
			for next.Add(1) <= int64(n) {
				if err := get(buf); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return cpuTime(b) - before
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

var benchHeader = backend.Header{
	{Name: backend.Timestamp, Value: "1700000000.00000"},
	{Name: backend.TransID, Value: "tx00000000000000000000-0000000000"},
	{Name: backend.PolicyIndex, Value: "0"},
}

func getDirect(ctx context.Context, c *Client, addr string, buf []byte) error {
	resp, err := c.Do(ctx, addr, &backend.Request{Method: "GET", Path: benchPath, Header: benchHeader})
	if err != nil {
		return err
	}
	_, err = io.ReadFull(resp.Body, buf)
	_ = resp.Body.Close()
	return err
}

func getTransport(ctx context.Context, tr *http.Transport, addr string, buf []byte) error {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+benchPath, nil)
	if err != nil {
		return err
	}
	for _, f := range benchHeader {
		r.Header[f.Name] = []string{f.Value}
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return err
	}
	if _, err = io.ReadFull(resp.Body, buf); err == nil {
		_, err = resp.Body.Read(buf[:1]) // to its end, without which it keeps no connection
		if err == io.EOF {
			err = nil
		}
	}
	_ = resp.Body.Close()
	return err
}
