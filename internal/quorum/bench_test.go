package quorum

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

// bareNode answers every request on a connection with the same bytes, and costs
// next to nothing.
func bareNode(b *testing.B, answer string) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 4096)
				for n := 0; ; {
					got, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += got; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						continue
					}
					n = 0
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkClusterRead is a GET of 4 KiB that the first replica answers: what a read
// costs in the client's process where nothing is amiss. The nodes are in it, and
// cost as little as can be.
func BenchmarkClusterRead(b *testing.B) {
	f := nodetest.New(b, name.Path{Account: "a", Container: "c", Object: "o"})
	node := bareNode(b, "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nX-Backend-Timestamp: 1700000000.00000\r\n\r\n"+strings.Repeat("x", 4096))
	client := direct.New(direct.Config{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, node)
	}})
	b.Cleanup(client.Close)
	c := New(Config{}, Rings{Account: f.Ring, Container: f.Ring, Objects: map[policy.Index]*ring.Source{0: f.Ring}}, f.Hasher, client)
	p, err := c.Object(0, name.Path{Account: "a", Container: "c", Object: "o"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	buf := make([]byte, 4096)
	build := func(int, *ring.Device) *backend.Request { return &backend.Request{Method: "GET"} }
	before := cpu(b)
	b.ReportAllocs()
	for b.Loop() {
		reply, err := c.Read(ctx, p, build)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(reply.Body, buf); err != nil {
			b.Fatal(err)
		}
		_ = reply.Body.Close()
	}
	b.ReportMetric(float64(cpu(b)-before)/1e3/float64(b.N), "cpu-µs/op")
}

// cpu is the processor time of this process so far, in nanoseconds.
func cpu(b *testing.B) int64 {
	b.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}
