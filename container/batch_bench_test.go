package container

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/httpapi"
	"martlet/internal/rowbatch"
)

// serveHTTP has a handler listen as a storage node has its servers, and returns
// the address.
func serveHTTP(t testing.TB, h backend.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
	srv := httpapi.Server{
		Name: "container", Listener: l, Log: log,
		Handler: httpapi.Observe(httpapi.Backend(h, log), httpapi.Observed{Server: "container", Silence: time.Minute, Log: log, Level: slog.LevelDebug}),
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// BenchmarkUpdates is 64 writers telling one container server of objects, over
// loopback, client and server in one process: each update in a request of its own,
// and through a rowbatch.Sender with so many requests under way. "nothing kept" is
// a server that does not touch its databases, so what it costs is the way; in
// "kept" the rows go into one container. All take turns in one run.
func BenchmarkUpdates(b *testing.B) {
	s, _ := start(b, b.TempDir())
	want(b, s, 201, "PUT /sda/0/a/c", at(1))
	nothing := func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		if _, err := s.core.Parse(r); err != nil {
			return nil, err
		}
		return &backend.Response{Status: http.StatusCreated}, nil
	}
	for _, server := range []struct {
		what    string
		handler backend.Handler
	}{
		{"nothing-kept", backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Method == rowbatch.Method {
				return s.core.Batch(ctx, r, nothing)
			}
			return nothing(ctx, r)
		})},
		{"kept", s},
	} {
		addr := serveHTTP(b, server.handler)
		client := direct.New(direct.Config{})
		b.Cleanup(client.Close)
		b.Run(server.what+"/single", func(b *testing.B) { benchmarkUpdates(b, addr, client, nil) })
		for _, flights := range []int{1, 2, 4} {
			sender := rowbatch.NewSender(rowbatch.Config{Flights: flights}, client)
			b.Cleanup(sender.Close)
			b.Run(fmt.Sprintf("%s/flights-%d", server.what, flights), func(b *testing.B) { benchmarkUpdates(b, addr, sender, sender) })
		}
	}
}

func benchmarkUpdates(b *testing.B, addr string, to accountUpdater, sender *rowbatch.Sender) {
	const writers = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	var before rowbatch.Counts
	if sender != nil {
		before = sender.Counts()
	}
	b.ReportAllocs()
	used := cpuTime(b)
	for range writers {
		wg.Go(func() {
			for next.Add(1) <= int64(b.N) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				line := fmt.Sprintf("PUT /sda/77/a/c/%016x", uint64(putSoFar.Add(1))*0x9E3779B97F4A7C15)
				resp, err := to.Do(ctx, addr, request(line, object(5, 1, "X-Trans-Id: tx00000000000000000000-0000000000", "X-Backend-Storage-Policy-Index: 0")...))
				cancel()
				if err != nil || resp.Status != http.StatusCreated {
					b.Error(resp, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	if sender != nil {
		b.ReportMetric(float64(sender.Counts().Requests-before.Requests)/float64(b.N), "requests/op")
	}
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
