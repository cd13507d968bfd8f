package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/httpapi"
	"martlet/replicator/fragments"
)

// BenchmarkFragmentsRebuild measures how fast a device that was emptied gets its fragments, of 64 KiB at 4+2, from five
// others over loopback, with real disks, all in one process; and in the same run what the code alone takes for as
// many from memory, and the device for storing them.
func BenchmarkFragmentsRebuild(b *testing.B) {
	const objects, size = 1000, 256 << 10
	shape := ec.Shape{Data: 4, Parity: 2}
	for b.Loop() {
		b.StopTimer()
		var listeners []net.Listener
		f := newCells(b, shape, 6, func(f *cells) {
			f.segment, f.depth, f.width = 64<<20, 12, fragments.Defaults().Concurrency
			f.data.PartPower = 4
			f.root = func() string {
				top := b.TempDir()
				if err := os.Mkdir(filepath.Join(top, "d"), 0o755); err != nil {
					b.Fatal(err)
				}
				return top
			}
			client := direct.New(direct.Config{ConnectTimeout: 5 * time.Second, MaxIdlePerAddr: 64})
			b.Cleanup(client.Close)
			f.peers = client
			var err error
			if f.code, err = ec.New(ec.Of(shape)); err != nil {
				b.Fatal(err)
			}
			for _, d := range f.data.Devices {
				l, err := httpapi.Listen("127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				host, port, _ := net.SplitHostPort(l.Addr().String())
				d.IP = host
				d.Port, _ = strconv.Atoi(port)
				listeners = append(listeners, l)
			}
		})
		quiet := slog.New(slog.DiscardHandler)
		for i, l := range listeners {
			serve := backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
				return f.nodes[i].repl.Serve(ctx, r)
			})
			s := &http.Server{Handler: httpapi.Observe(httpapi.Backend(serve, quiet), httpapi.Observed{Server: "replication", Silence: 30 * time.Second, Log: quiet})}
			go func() {
				if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					b.Error(err)
				}
			}()
			b.Cleanup(func() { s.Close() })
		}
		one := f.encode("model", f.source.Next(), bytes.Repeat([]byte("0123456789abcdef"), size/16), true)
		var all sync.WaitGroup
		turns := make(chan struct{}, 8)
		for i := range objects {
			turns <- struct{}{}
			all.Go(func() {
				o := *one
				o.path, o.at = thing(fmt.Sprint("o", i)), f.source.Next()
				f.putAll(&o, 5)
				f.commit(&o)
				<-turns
			})
		}
		all.Wait()
		bytes5 := int64(len(one.archives[5])) * objects

		b.StartTimer()
		began, cpu := time.Now(), used(b)
		c := f.clean(5)
		took, cpu := time.Since(began), used(b)-cpu
		b.StopTimer()
		if c.Rebuilt != objects {
			b.Fatalf("%d of %d were made again", c.Rebuilt, objects)
		}
		b.ReportMetric(objects/took.Seconds(), "fragments/s")
		b.ReportMetric(float64(bytes5)/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(float64(cpu.Microseconds())/objects, "cpu-us/fragment")

		began, cpu = time.Now(), used(b)
		for range objects {
			next := 0
			_, _, err := f.code.Rebuild(io.Discard, ec.Write{ID: one.coded.Write, Size: one.coded.Size}, 5, func(segment int64) (ec.Part, error) {
				h, err := ec.ParseHeader(one.archives[next])
				p := ec.Part{Header: h, Frames: bytes.NewReader(one.archives[next][f.code.FrameAt(segment):])}
				next++
				return p, err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(objects/time.Since(began).Seconds(), "coding-fragments/s")
		b.ReportMetric(float64((used(b)-cpu).Microseconds())/objects, "coding-cpu-us/fragment")

		began, cpu = time.Now(), used(b)
		turns = make(chan struct{}, 4)
		for i := range objects {
			turns <- struct{}{}
			all.Go(func() {
				o := *one
				o.path, o.at = thing(fmt.Sprint("stored", i)), f.source.Next()
				f.put(&o, 5, 5)
				<-turns
			})
		}
		all.Wait()
		b.ReportMetric(objects/time.Since(began).Seconds(), "stored-fragments/s")
		b.ReportMetric(float64((used(b)-cpu).Microseconds())/objects, "stored-cpu-us/fragment")
		b.StartTimer()
	}
}
