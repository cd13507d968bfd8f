package engine

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// numbered is where the n-th of many objects is.
func numbered(n int) Location {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return Location{Hash: name.Hash(md5.Sum(b[:]))}
}

func putNumbered(e *Engine, l Location, at int64, body []byte, version Version) error {
	w, err := e.Create(ctx, l, int64(len(body)))
	if err != nil {
		return err
	}
	if _, err = w.Write(body); err == nil {
		version.Time = ts(at)
		_, err = w.Commit(version, Terms{})
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	return err
}

// usual is a version as most are.
var usual = Version{
	Name: name.Path{Account: "AUTH_test", Container: "container", Object: "some/where/object-0001"}, ContentType: "application/octet-stream",
	Meta: backend.Header{{Name: "X-Object-Meta-Mtime", Value: "1700000000.123456"}},
}

// together has writers do n of something, and returns the time and processor time of each.
func together(b *testing.B, writers, n int, do func(n int) error) (wall, used time.Duration) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	began, usedBefore := time.Now(), cpu(b)
	for range writers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if err := do(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began) / time.Duration(n), (cpu(b) - usedBefore) / time.Duration(n)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkPutTogether is 4 KiB at a time by so many writers. What the same bytes cost
// that are only appended is in internal/seglog: BenchmarkAppend.
func BenchmarkPutTogether(b *testing.B) {
	body := make([]byte, 4<<10)
	for _, zero := range []bool{false, true} {
		for _, writers := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("zero=%t/writers=%d", zero, writers), func(b *testing.B) {
				count := vfs.Count(vfs.OS)
				cfg := Defaults()
				cfg.FS, cfg.Zero, cfg.Reserve = count, zero, 0
				e := New(b.TempDir(), cfg)
				if err := putNumbered(e, numbered(0), 1, body, usual); err != nil { // segments are made
					b.Fatal(err)
				}
				before := count.Counts()
				b.ReportAllocs()
				b.ResetTimer()
				_, used := together(b, writers, b.N, func(n int) error { return putNumbered(e, numbered(n), 1, body, usual) })
				b.StopTimer()
				c := count.Counts().Sub(before)
				b.ReportMetric(micros(used), "cpu-µs/op")
				b.ReportMetric(float64(c.Syncs)/float64(b.N), "syncs/op")
				b.ReportMetric(float64(c.Writes)/float64(b.N), "writes/op")
				b.ReportMetric(float64(c.BytesWritten)/float64(b.N), "written-B/op")
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkLarge writes and reads 1 GiB, each time in turn with the same done with nothing but
// O_DIRECT: 4 MiB of ordinary memory at a time (raw), and 2 MiB of a huge page (huge). Reading is
// also done through the page cache, which is told to forget (cached). Nothing is in the page
// cache when reading begins. The rates are those of all rounds together; "of-raw" is the median
// of the rounds.
func BenchmarkLarge(b *testing.B) {
	const size = 1 << 30
	block := vfs.AlignedBuffer(4<<20, 4096)
	for i := range block {
		block[i] = byte(i * 7)
	}
	huge := vfs.HugeBuffer()
	copy(huge, block)
	root := b.TempDir()
	raw := filepath.Join(root, "raw")
	e := New(filepath.Join(root, "device"), Defaults())
	if err := os.Mkdir(filepath.Join(root, "device"), 0o700); err != nil {
		b.Fatal(err)
	}
	stamp := int64(0)
	rounds := map[string][]float64{} // MB/s
	used := map[string]time.Duration{}
	for range b.N {
		for _, part := range []struct {
			what string
			do   func() error
		}{
			{"raw-write", func() error { return rawWrite(raw, block, size) }},
			{"huge-write", func() error { return rawWrite(raw, huge, size) }},
			{"write", func() error {
				stamp++
				return putBlocks(e, at(1), stamp, block, size)
			}},
			{"raw-read", func() error { return rawRead(raw, block, size) }},
			{"huge-read", func() error { return rawRead(raw, huge, size) }},
			{"read", func() error { return viewAll(e, at(1)) }},
			{"cached-read", func() error { return cachedRead(e, at(1)) }},
		} {
			if err := dropAll(root); err != nil {
				b.Fatal(err)
			}
			began, before := time.Now(), cpu(b)
			if err := part.do(); err != nil {
				b.Fatalf("%s: %v", part.what, err)
			}
			used[part.what] += cpu(b) - before
			rounds[part.what] = append(rounds[part.what], size/1e6/time.Since(began).Seconds())
		}
	}
	for what, rates := range rounds {
		var seconds float64
		ratios := make([]float64, len(rates))
		against := "raw-read"
		if strings.HasSuffix(what, "write") {
			against = "raw-write"
		}
		for i, r := range rates {
			seconds += 1 / r
			ratios[i] = r / rounds[against][i]
		}
		slices.Sort(ratios)
		b.ReportMetric(float64(len(rates))/seconds, what+"-MB/s")
		b.ReportMetric(used[what].Seconds()/float64(b.N)/(size/1e9), what+"-cpu-s/GB")
		if what != against {
			b.ReportMetric(ratios[len(ratios)/2], what+"-of-raw")
		}
	}
	b.ReportMetric(0, "ns/op") // it is no loop
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

func rawWrite(name string, block []byte, size int64) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_TRUNC|syscall.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return err
	}
	for off := int64(0); off < size; off += int64(len(block)) {
		if _, err := f.WriteAt(block, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

func rawRead(name string, block []byte, size int64) error {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := int64(0); off < size; off += int64(len(block)) {
		if _, err := f.ReadAt(block, off); err != nil {
			return err
		}
	}
	return nil
}

func putBlocks(e *Engine, l Location, stamp int64, block []byte, size int64) error {
	w, err := e.Create(ctx, l, size)
	if err != nil {
		return err
	}
	defer w.Close()
	for range size / int64(len(block)) {
		if _, err := w.ReadFrom(bytes.NewReader(block)); err != nil {
			return err
		}
	}
	v := usual
	v.Time = ts(stamp)
	_, err = w.Commit(v, Terms{})
	return err
}

func viewAll(e *Engine, l Location) error {
	r, err := e.Open(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	for off := int64(0); ; {
		p, err := r.View(off, blob.MaxLength)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		off += int64(len(p))
	}
}

// cachedRead reads the file of an object through the page cache, which forgets it
// as it was read.
func cachedRead(e *Engine, l Location) error {
	d := e.now().ready.Load()
	entry, err := d.get(l)
	if err != nil {
		return err
	}
	h, err := d.head(l, partData, entry.Data)
	if err != nil {
		return err
	}
	f, err := d.cfg.FS.Open(d.blobPath(l, h.File))
	if err != nil {
		return err
	}
	defer f.Close()
	r, _, err := blob.Open(ctx, f, d.cfg.Buffers)
	if err != nil {
		return err
	}
	defer r.Close()
	for off, dropped := int64(0), int64(0); ; {
		p, err := r.View(off, blob.MaxLength)
		if err == io.EOF {
			return f.DropCache(0, 0)
		}
		if err != nil {
			return err
		}
		if off += int64(len(p)); off-dropped >= forgetEvery {
			if err := f.DropCache(0, off); err != nil {
				return err
			}
			dropped = off
		}
	}
}

// dropAll has the page cache forget the files of a folder.
func dropAll(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := vfs.OS.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.DropCache(0, 0)
	})
}

// BenchmarkMany fills a store with objects of 256 bytes, as many as MARTLET_OBJECTS says
// (1,000,000), and reports what they take, and what comes after costs.
func BenchmarkMany(b *testing.B) {
	objects := 1_000_000
	if text := os.Getenv("MARTLET_OBJECTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		objects = n
	}
	const writers, few = 64, 100_000
	body := bytes.Repeat([]byte("x"), 256)
	root := b.TempDir()
	count := vfs.Count(vfs.OS)
	cfg := Defaults()
	cfg.FS, cfg.Reserve = count, 0
	e := New(root, cfg)
	keep, stop := context.WithCancel(context.Background())
	var kept sync.WaitGroup
	begin := func() { kept.Go(func() { _ = e.Keep(keep) }) }
	begin()
	rates := func(when string, n int, stamp int64) {
		const each = 20_000
		r := rand.New(rand.NewPCG(1, uint64(n)))
		some := make([]int, each)
		for i := range some {
			some[i] = r.IntN(n) + 1
		}
		for _, what := range []string{"warm", "get"} { // the first has the page cache filled
			_, used := together(b, 2, each, func(i int) error { _, _, err := get(e, numbered(some[i-1])); return err })
			if what == "get" {
				b.ReportMetric(micros(used), when+"-get-cpu-µs")
			}
		}
		wall, used := together(b, writers, each, func(i int) error { return putNumbered(e, numbered(some[i-1]), stamp+int64(i), body, usual) })
		b.ReportMetric(micros(used), when+"-put-cpu-µs")
		b.ReportMetric(1/wall.Seconds(), when+"-put/s")
	}
	fill := func(from, to int) (wall, used time.Duration) {
		return together(b, writers, to-from, func(i int) error { return putNumbered(e, numbered(from+i), 1, body, usual) })
	}
	fill(0, min(few, objects))
	rates("few", min(few, objects), 10)
	before := count.Counts()
	_, used := fill(min(few, objects), objects)
	c := count.Counts().Sub(before)
	n := float64(max(1, objects-few))
	b.ReportMetric(micros(used), "put-cpu-µs")
	b.ReportMetric(float64(c.BytesWritten)/n, "written-B/put")
	rates("many", objects, 100_000)

	d := e.now().ready.Load()
	b.ReportMetric(float64(d.index.Stats().FileBytes)/float64(objects), "index-B/object")
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MB")
	began := time.Now()
	partitions := 0
	for range d.index.Digests(d.index.Sets()[0], 16) {
		partitions++
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "digests-ms")
	if partitions != 1<<16 && objects >= 1_000_000 {
		b.Errorf("digests of %d partitions", partitions)
	}

	again := func(what string) {
		began := time.Now()
		e = New(root, cfg)
		if _, err := e.Stat(ctx, numbered(1)); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), what)
	}
	stop()
	kept.Wait()
	// As after kill -9: nothing was closed, and as much as there may be was not checkpointed.
	fill(objects, objects+cfg.Changes)
	again("open-killed-s")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	again("open-clean-s")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	files := 0
	if err := filepath.WalkDir(root, func(string, fs.DirEntry, error) error { files++; return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(files), "inodes")
	b.ReportMetric(0, "ns/op") // it is no loop
}
