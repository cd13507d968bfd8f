package node

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
)

// bench is two nodes that share all partitions, as they are in production, and counts what
// they do.
type bench struct {
	*fleet
	counts         []*vfs.Counter
	bytes          atomic.Int64 // on the wire, both directions
	requests, puts atomic.Int64
}

func newBench(b *testing.B, partPower int) *bench {
	b.Helper()
	w := &bench{}
	w.fleet = newFleet(b, 2, 2, func() vfs.FS {
		c := vfs.Count(vfs.OS)
		w.counts = append(w.counts, c)
		return c
	}, func(f *fleet) {
		f.engines = engine.Defaults()
		f.engines.Reserve = 0
		f.data.PartPower = partPower
		f.client.Close()
		f.client = direct.New(direct.Config{ConnectTimeout: 5 * time.Second, MaxIdlePerAddr: 16, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &counted{c, &w.bytes}, err
		}})
	})
	for _, n := range w.nodes {
		good := n.serving()
		n.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.requests.Add(1); r.Method == "PUT" {
				w.puts.Add(1)
			}
			good.ServeHTTP(rw, r)
		}))
	}
	return w
}

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func used(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// measure makes passes of nodes, and reports what they take under a name.
func (w *bench) measure(b *testing.B, what string, nodes ...*small) replicator.Counts {
	b.Helper()
	w.bytes.Store(0)
	w.requests.Store(0)
	w.puts.Store(0)
	before := make([]vfs.Counts, len(w.counts))
	for i, c := range w.counts {
		before[i] = c.Counts()
	}
	began, cpu := time.Now(), used(b)
	c := w.pass(nodes...)
	b.ReportMetric(time.Since(began).Seconds(), what+"-s")
	b.ReportMetric((used(b) - cpu).Seconds(), what+"-cpu-s")
	b.ReportMetric(float64(w.bytes.Load())/1e6, what+"-wire-MB")
	b.ReportMetric(float64(w.requests.Load()), what+"-requests")
	var reads, syncs int64
	for i, c := range w.counts {
		d := c.Counts().Sub(before[i])
		reads += d.Reads
		syncs += d.Syncs
	}
	b.ReportMetric(float64(reads), what+"-reads")
	b.ReportMetric(float64(syncs), what+"-syncs")
	if c.Failed > 0 {
		b.Fatalf("%s: %+v", what, c.Failures)
	}
	return c
}

// putMany stores objects in an engine that nobody else uses, 64 at a time.
func putMany(b *testing.B, e *engine.Engine, hasher name.Hasher, from, to int, body []byte) time.Duration {
	b.Helper()
	sum := md5.Sum(body)
	ts := timestamp.Now().Add(-time.Hour)
	put := func(i int) error {
		path := thing(fmt.Sprint("some/where/object-", i))
		w, err := e.Create(b.Context(), engine.Location{Hash: hasher.Hash(path)}, int64(len(body)))
		if err != nil {
			return err
		}
		if _, err = w.Write(body); err == nil {
			_, err = w.Commit(engine.Version{
				Time: ts, Name: path, MD5: sum, ContentType: "application/octet-stream",
				Meta: backend.Header{{Name: "X-Object-Meta-Mtime", Value: "1700000000.123456"}},
			}, engine.Terms{})
		}
		return errors.Join(err, w.Close())
	}
	began := time.Now()
	var next atomic.Int64
	next.Store(int64(from))
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(to); i = next.Add(1) - 1 {
				if err := put(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

// filled puts a store with objects of 256 bytes into the folders of devices: the one that
// MARTLET_STORE names, which is made if it is not there.
func filled(b *testing.B, f *fleet, objects int, roots ...string) {
	b.Helper()
	from := os.Getenv("MARTLET_STORE")
	if from == "" {
		from = b.TempDir()
	}
	if _, err := os.Stat(filepath.Join(from, "index")); err != nil {
		if err := os.MkdirAll(from, 0o755); err != nil {
			b.Fatal(err)
		}
		cfg := f.engines
		cfg.FS = vfs.OS
		e := engine.New(from, cfg)
		keep, stop := context.WithCancel(b.Context())
		var kept sync.WaitGroup
		kept.Go(func() { _ = e.Keep(keep) })
		putMany(b, e, f.hasher, 0, objects, bytes.Repeat([]byte("x"), 256))
		stop()
		kept.Wait()
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
	for _, root := range roots {
		if err := os.CopyFS(root, os.DirFS(from)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPassInStep has two nodes in step, with as many objects of 256 bytes as
// MARTLET_OBJECTS says (1,000,000) in 2^16 partitions: a pass of both, and then a pass that
// finds the one object that one of them has lost.
func BenchmarkPassInStep(b *testing.B) {
	objects := 1_000_000
	if text := os.Getenv("MARTLET_OBJECTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		objects = n
	}
	w := newBench(b, 16)
	filled(b, w.fleet, objects, w.nodes[0].root, w.nodes[1].root)
	for _, n := range w.nodes { // both are open
		if _, err := n.store.Stat(b.Context(), w.at("x")); err != nil {
			b.Fatal(err)
		}
	}
	if c := w.measure(b, "step", w.nodes...); c.Pushed != 0 {
		b.Fatalf("%+v, want nothing to do", c)
	}
	at := w.at(fmt.Sprint("some/where/object-", objects/2))
	if gone, err := w.nodes[1].store.Drop(b.Context(), at, func(*engine.State) bool { return true }); err != nil || !gone {
		b.Fatal(gone, err)
	}
	if c := w.measure(b, "missing", w.nodes[0]); c.Pushed != 1 {
		b.Fatalf("%+v, want one object pushed", c)
	}
	if s, err := w.nodes[1].store.Stat(b.Context(), at); err != nil || s.Kind != engine.Live {
		b.Fatal(s, err)
	}
	b.ReportMetric(0, "ns/op") // it is no loop
}

// BenchmarkRefillSmall refills a device that has lost all it had, 100,000 objects of 4 KiB in
// 2^12 partitions, beside the same objects put into an engine by 64 writers.
func BenchmarkRefillSmall(b *testing.B) {
	const objects = 100_000
	body := make([]byte, 4<<10)
	for range b.N {
		w := newBench(b, 12)
		local := putMany(b, w.nodes[0].store, w.hasher, 0, objects, body)
		began := time.Now()
		if c := w.measure(b, "refill", w.nodes[0]); c.Pushed != objects {
			b.Fatalf("%+v, want all pushed", c)
		}
		took := time.Since(began)
		b.ReportMetric(objects/local.Seconds(), "put/s")
		b.ReportMetric(objects/took.Seconds(), "refill/s")
		b.ReportMetric(local.Seconds()/took.Seconds(), "of-put")
		b.ReportMetric(float64(w.puts.Load()), "refill-puts")
	}
	b.ReportMetric(0, "ns/op") // it is no loop
}

// BenchmarkRefillLarge refills a device with 200 objects of 4 MiB, beside the same bytes
// written with O_DIRECT, copied so from one file to another on the same disk (which is what
// a refill does to it here), and sent over loopback, and nothing else.
func BenchmarkRefillLarge(b *testing.B) {
	const objects, size = 200, 4 << 20
	body := make([]byte, size)
	for range b.N {
		w := newBench(b, 12)
		putMany(b, w.nodes[0].store, w.hasher, 0, objects, body)
		disk, again := rawCopy(b, objects, size)
		loop := loopback(b, objects*size)
		began := time.Now()
		if c := w.measure(b, "refill", w.nodes[0]); c.Pushed != objects {
			b.Fatalf("%+v, want all pushed", c)
		}
		rate := objects * size / 1e6 / time.Since(began).Seconds()
		b.ReportMetric(disk, "disk-MB/s")
		b.ReportMetric(loop, "loopback-MB/s")
		b.ReportMetric(rate, "refill-MB/s")
		b.ReportMetric(again, "copy-MB/s")
		b.ReportMetric(rate/min(again, loop), "of-copy")
		b.ReportMetric(rate/min(disk, loop), "of-write")
	}
	b.ReportMetric(0, "ns/op") // it is no loop
}

// rawCopy returns the rates, in MB/s, at which files of a size are written and synced, four at
// a time, and at which they are copied.
func rawCopy(b *testing.B, files, size int) (write, again float64) {
	b.Helper()
	dir := b.TempDir()
	at := func(kind string, i int64) string { return filepath.Join(dir, fmt.Sprint(kind, i)) }
	rate := func(do func(block []byte, i int64) error) float64 {
		began := time.Now()
		var next atomic.Int64
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				block := vfs.AlignedBuffer(1<<20, 4096)
				for i := next.Add(1); i <= int64(files); i = next.Add(1) {
					if err := do(block, i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		return float64(files) * float64(size) / 1e6 / time.Since(began).Seconds()
	}
	fill := func(name string, read func(block []byte) error, block []byte) error {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|syscall.O_DIRECT, 0o600)
		for off := 0; off < size && err == nil; off += len(block) {
			if err = read(block); err == nil {
				_, err = f.Write(block)
			}
		}
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}
	write = rate(func(block []byte, i int64) error {
		return fill(at("a", i), func([]byte) error { return nil }, block)
	})
	again = rate(func(block []byte, i int64) error {
		from, err := os.OpenFile(at("a", i), os.O_RDONLY|syscall.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer from.Close()
		return fill(at("b", i), func(block []byte) error {
			_, err := io.ReadFull(from, block)
			return err
		}, block)
	})
	return write, again
}

// loopback returns the rate, in MB/s, at which bytes go through a socket, with their CRC32C
// taken on both sides.
func loopback(b *testing.B, size int) float64 {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	table := crc32.MakeTable(crc32.Castagnoli)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(crc32.New(table), c)
			err = errors.Join(err, c.Close())
		}
		done <- err
	}()
	began := time.Now()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	block, sum := make([]byte, 1<<20), crc32.New(table)
	for sent := 0; sent < size && err == nil; sent += len(block) {
		_, _ = sum.Write(block)
		_, err = c.Write(block)
	}
	if err = errors.Join(err, c.Close(), <-done); err != nil {
		b.Fatal(err)
	}
	return float64(size) / 1e6 / time.Since(began).Seconds()
}
