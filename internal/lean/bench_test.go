package lean

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
)

// BenchmarkServe compares what a request costs in processor time with this server, with
// net/http's, and with a loop that reads and writes and does nothing else. All take turns,
// and the least of ten is told; the client, which is the same bare one for all and part of each figure,
// is in the same process.
func BenchmarkServe(b *testing.B) {
	block := bytes.Repeat([]byte("x"), 4<<10)
	const fields = "Host: 127.0.1.1:6200\r\nUser-Agent: martlet-proxy\r\nX-Trans-Id: tx0123456789abcdef01234-0123456789\r\nX-Backend-Storage-Policy-Index: 0\r\nX-Timestamp: 1700000000.00000\r\n"
	for name, request := range map[string]string{
		"GET of 4 KiB": "GET /d1/17/AUTH_a/c/o HTTP/1.1\r\n" + fields + "\r\n",
		"PUT of 4 KiB": "PUT /d1/17/AUTH_a/c/o HTTP/1.1\r\n" + fields + "Content-Type: text/plain\r\nX-Backend-Commit-Crc32c: 01234567\r\nContent-Length: 4096\r\n\r\n" + string(block),
	} {
		handler := func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Body != nil {
				buf := takeBlock()
				defer giveBlock(buf)
				if _, err := io.ReadFull(r.Body, *buf); err != nil {
					return nil, err
				}
				return &backend.Response{Status: 201}, nil
			}
			resp := &backend.Response{Status: 200, Length: int64(len(block)), Body: io.NopCloser(bytes.NewReader(block))}
			resp.Header = backend.Header{{Name: "Content-Type", Value: "text/plain"}, {Name: "Etag", Value: "5d41402abc4b2a76b9719d911017c592"}, {Name: "X-Timestamp", Value: "1700000000.00000"}, {Name: "X-Backend-Timestamp", Value: "1700000000.00000"}}
			return resp, nil
		}
		b.Run(name, func(b *testing.B) {
			clients := map[string]*bareClient{}
			for _, kind := range []string{leanly, plain, "a bare loop"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				stop := startQuiet(b, kind, l, handler, request)
				defer stop()
				clients[kind] = newBareClient(b, l.Addr().String(), request)
			}
			const turns = 10
			least, total := map[string]time.Duration{}, b.N
			b.ResetTimer()
			for range turns {
				for kind, c := range clients {
					began := used()
					c.send(b, max(total/turns, 1))
					took := (used() - began) / time.Duration(max(total/turns, 1))
					if was, ok := least[kind]; !ok || took < was {
						least[kind] = took
					}
				}
			}
			for kind, d := range least {
				b.ReportMetric(float64(d)/1e3, strings.ReplaceAll(kind, " ", "-")+"-µs/op")
			}
		})
	}
}

var blocks = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

func takeBlock() *[]byte  { return blocks.Get().(*[]byte) }
func giveBlock(b *[]byte) { blocks.Put(b) }

// startQuiet starts a server that logs nothing.
func startQuiet(b *testing.B, kind string, l net.Listener, h backend.HandlerFunc, request string) (stop func()) {
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))
	m, err := httpapi.NewMetrics(prometheus.NewRegistry(), "test")
	if err != nil {
		b.Fatal(err)
	}
	watch := httpapi.Observed{Server: "test", Silence: time.Minute, Log: log, Metrics: m}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		switch kind {
		case leanly:
			_ = (&Server{Name: "test", Listener: l, Handler: h, Log: log, Watch: watch, Drain: time.Millisecond}).Run(ctx)
		case plain:
			_ = (&httpapi.Server{Name: "test", Listener: l, Handler: httpapi.Observe(httpapi.Backend(h, log), watch), Log: log, Drain: time.Millisecond}).Run(ctx)
		default:
			loop(l, len(request), request[0] == 'G')
		}
	}()
	return func() { cancel(); _ = l.Close(); <-over }
}

// loop answers so many bytes with an answer that is ready.
func loop(l net.Listener, n int, body bool) {
	answer := []byte("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
	if body {
		answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nX-Timestamp: 1700000000.00000\r\n\r\n%s", strings.Repeat("x", 4<<10))
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			for in := make([]byte, n); ; {
				if _, err := io.ReadFull(c, in); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// bareClient sends a request on each of eight connections, again and again.
type bareClient struct {
	request []byte
	conns   [8]net.Conn
	answer  int // bytes of an answer
}

func newBareClient(b *testing.B, addr, request string) *bareClient {
	c := &bareClient{request: []byte(request)}
	for i := range c.conns {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = nc.Close() })
		c.conns[i] = nc
	}
	p := &peer{Conn: c.conns[0]}
	if _, err := p.Write(c.request); err != nil {
		b.Fatal(err)
	}
	in := make([]byte, 16<<10)
	for {
		n, err := p.Read(in[c.answer:])
		c.answer += n
		if err != nil {
			b.Fatal(err)
		}
		if head := bytes.Index(in[:c.answer], headEnd); head >= 0 && (request[0] != 'G' || c.answer >= head+4+4<<10) {
			return c
		}
	}
}

func (c *bareClient) send(b *testing.B, n int) {
	var all sync.WaitGroup
	for _, nc := range c.conns {
		all.Go(func() {
			in := make([]byte, c.answer)
			for range (n + len(c.conns) - 1) / len(c.conns) {
				if _, err := nc.Write(c.request); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(nc, in); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// used is the processor time of the process.
func used() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
