package memnet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/httpapi"
	"martlet/internal/lean"
	"martlet/internal/memnet"
)

// BenchmarkHop is a GET from a storage node's server by the client of proxies, over a socket of the loopback network and in memory, of a body that is
// in memory: what there is between the two and nothing else.
func BenchmarkHop(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, over := range []string{"socket", "memory"} {
			for _, workers := range []int{1, 16} {
				b.Run(strconv.Itoa(size>>10)+"KiB/"+over+"/"+strconv.Itoa(workers), func(b *testing.B) {
					network := memnet.New()
					addr := serve(b, network, size)
					if over == "socket" {
						network = nil
					}
					c := direct.New(direct.Config{Dial: network.Dialer(nil)})
					defer c.Close()
					b.SetBytes(int64(size))
					b.ReportAllocs()
					b.ResetTimer()
					began := used(b)
					var left atomic.Int64
					left.Store(int64(b.N))
					var all sync.WaitGroup
					for range workers {
						all.Go(func() {
							buf := make([]byte, 64<<10)
							for left.Add(-1) >= 0 {
								if err := get(b.Context(), c, addr, buf, size); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					all.Wait()
					b.ReportMetric(float64((used(b)-began).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
				})
			}
		}
	}
}

// get reads a body as a proxy does.
func get(ctx context.Context, c *direct.Client, addr string, buf []byte, size int) error {
	resp, err := c.Do(ctx, addr, &backend.Request{Method: "GET", Path: "/d1/17/AUTH_a/c/o"})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for n := 0; ; {
		got, err := resp.Body.Read(buf)
		switch n += got; {
		case err == io.EOF && n == size:
			return nil
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
	}
}

// used is the processor time of this process.
func used(tb testing.TB) time.Duration {
	tb.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// serve serves a body at an address, by a socket and in memory.
func serve(tb testing.TB, network *memnet.Network, size int) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	beside, err := network.Listen(netip.MustParseAddrPort(l.Addr().String()))
	if err != nil {
		tb.Fatal(err)
	}
	block := make([]byte, size)
	log := slog.New(slog.DiscardHandler)
	m, err := httpapi.NewMetrics(prometheus.NewRegistry(), "test")
	if err != nil {
		tb.Fatal(err)
	}
	s := &lean.Server{
		Name: "test", Listener: l, Memory: beside, Log: log, Drain: time.Second,
		Watch: httpapi.Observed{Server: "test", Silence: time.Minute, Log: log, Metrics: m},
		Handler: backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) {
			return &backend.Response{Status: 200, Length: int64(size), Body: body{bytes.NewBuffer(block)}}, nil
		}),
	}
	ctx, cancel := context.WithCancel(tb.Context())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			tb.Error(err)
		}
	})
	return l.Addr().String()
}

// body is in memory as a whole.
type body struct{ *bytes.Buffer }

func (body) Close() error { return nil }
