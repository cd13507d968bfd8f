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
	"martlet/internal/timestamp"
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
	page := vfs.NewHuge()
	defer page.Free()
	huge := page.Bytes
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

// many is a store with many small objects, which is kept as a node keeps it.
type many struct {
	*Engine
	root    string
	cfg     Config
	count   *vfs.Counter
	objects int    // there are, from number 1 on
	stop    func() // ends what keeps it
}

var manyBody = bytes.Repeat([]byte("x"), 256)

func beginMany(b *testing.B) *many {
	b.Helper()
	m := &many{root: b.TempDir(), cfg: Defaults(), count: vfs.Count(vfs.OS)}
	m.cfg.FS, m.cfg.Reserve = m.count, 0
	m.Engine = New(m.root, m.cfg)
	keep, stop := context.WithCancel(context.Background())
	var kept sync.WaitGroup
	kept.Go(func() { _ = m.Keep(keep) })
	m.stop = func() {
		stop()
		kept.Wait()
	}
	return m
}

// fill adds objects, and returns the processor time of each.
func (m *many) fill(b *testing.B, n int) (used time.Duration) {
	b.Helper()
	_, used = together(b, 64, n, func(i int) error { return putNumbered(m.Engine, numbered(m.objects+i), 1, manyBody, usual) })
	m.objects += n
	return used
}

// disk returns the store when nothing goes on in it, and the index is in its files, as it is
// a minute after the last write.
func (m *many) disk(b *testing.B) *disk {
	b.Helper()
	d := m.now().ready.Load()
	d.keeping.Lock()
	defer d.keeping.Unlock()
	if err := d.save(); err != nil {
		b.Fatal(err)
	}
	return d
}

// some returns where n objects are that chance has chosen.
func (m *many) some(n int) []Location {
	r := rand.New(rand.NewPCG(1, uint64(m.objects)))
	list := make([]Location, n)
	for i := range list {
		list[i] = numbered(r.IntN(m.objects) + 1)
	}
	return list
}

// raw returns what reads as much as a GET of each object does, at places like those, and
// does nothing else: the record, and before it a block of the index's files.
func (m *many) raw(b *testing.B, of []Location) func(i int) error {
	b.Helper()
	d := m.disk(b)
	open := map[string]int{}
	file := func(path string) int {
		if _, ok := open[path]; !ok {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { f.Close() })
			open[path] = int(f.Fd())
		}
		return open[path]
	}
	runs, err := filepath.Glob(m.root + indexFolder + "/*.run")
	if err != nil {
		b.Fatal(err)
	}
	const block = 4096
	var blocks [][2]int64 // file, offset
	for _, path := range runs {
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		for at := int64(0); at+block <= info.Size(); at += block {
			blocks = append(blocks, [2]int64{int64(file(path)), at})
		}
	}
	type read struct {
		file     int
		at, size int64
	}
	reads := make([][2]read, len(of))
	r := rand.New(rand.NewPCG(2, 2))
	for i, l := range of {
		e, err := d.get(l)
		if err != nil {
			b.Fatal(err)
		}
		segment := file(fmt.Sprintf("%s%s/%016x.seg", m.root, logFolder, e.Data.Segment))
		place := blocks[r.IntN(len(blocks))]
		reads[i] = [2]read{{int(place[0]), place[1], block}, {segment, e.Data.Offset, e.Data.Size}}
	}
	rooms := sync.Pool{New: func() any { return new([2 * block]byte) }}
	return func(i int) error {
		room := rooms.Get().(*[2 * block]byte)
		defer rooms.Put(room)
		for _, read := range reads[i-1] {
			if n, err := syscall.Pread(read.file, room[:read.size], read.at); int64(n) != read.size {
				return fmt.Errorf("read %d bytes, %w", n, err)
			}
		}
		return nil
	}
}

// readOnce is a GET.
func readOnce(e *Engine, l Location) error {
	r, err := e.Open(ctx, l)
	if err != nil {
		return err
	}
	defer r.Close()
	if b, err := r.View(0, 1<<20); err != nil || len(b) != len(manyBody) {
		return fmt.Errorf("%d bytes, %w", len(b), err)
	}
	return nil
}

// fresh returns the processor time of a GET where names that were written last are in
// no file of the index yet: the least of some rounds.
func fresh(b *testing.B, m *many) (used time.Duration) {
	b.Helper()
	d := m.now().ready.Load()
	d.keeping.Lock() // so it stays
	defer d.keeping.Unlock()
	list := m.some(gotEach)
	for round := range gotRounds + 1 {
		_, one := together(b, gotBy, gotEach, func(i int) error { return readOnce(m.Engine, list[i-1]) })
		if round < 2 || one < used {
			used = one
		}
	}
	return used
}

// How many objects are read in a round, how many rounds there are after one that fills the
// page cache, and how many read together.
const gotEach, gotRounds, gotBy = 20_000, 5, 2

// gets returns the processor time of a GET, and of what must be read for it at the least:
// of each store, all in turn, as the machine may be slower for a while; the least of some rounds.
func gets(b *testing.B, stores ...*many) (got, raw []time.Duration) {
	b.Helper()
	var get, floor []func(i int) error
	for _, m := range stores {
		list := m.some(gotEach)
		get = append(get, func(i int) error { return readOnce(m.Engine, list[i-1]) })
		floor = append(floor, m.raw(b, list))
	}
	got, raw = make([]time.Duration, len(stores)), make([]time.Duration, len(stores))
	for round := range gotRounds + 1 {
		for i := range stores {
			_, one := together(b, gotBy, gotEach, get[i])
			_, two := together(b, gotBy, gotEach, floor[i])
			switch round {
			case 0: // the page cache is filled
			case 1:
				got[i], raw[i] = one, two
			default:
				got[i], raw[i] = min(got[i], one), min(raw[i], two)
			}
		}
	}
	return got, raw
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
// (1,000,000), and reports what they take, and what comes after costs: beside another
// store with few of them.
func BenchmarkMany(b *testing.B) {
	objects := 1_000_000
	if text := os.Getenv("MARTLET_OBJECTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		objects = n
	}
	const few = 100_000
	small, large := beginMany(b), beginMany(b)
	small.fill(b, few)
	b.ReportMetric(micros(fresh(b, small)), "few-fresh-get-cpu-µs")
	before := large.count.Counts()
	b.ReportMetric(micros(large.fill(b, objects)), "put-cpu-µs")
	c := large.count.Counts().Sub(before)
	b.ReportMetric(float64(c.BytesWritten)/float64(objects), "written-B/put")

	both, names := []*many{small, large}, []string{"few", "many"}
	got, raw := gets(b, both...)
	for i, name := range names {
		b.ReportMetric(micros(got[i]), name+"-get-cpu-µs")
		b.ReportMetric(micros(raw[i]), name+"-raw-cpu-µs")
	}
	for i, m := range both {
		some := m.some(20_000)
		wall, used := together(b, 64, len(some), func(i int) error {
			return putNumbered(m.Engine, some[i-1], 10+int64(i), manyBody, usual)
		})
		b.ReportMetric(micros(used), names[i]+"-put-cpu-µs")
		b.ReportMetric(1/wall.Seconds(), names[i]+"-put/s")
	}
	small.stop()
	if err := small.Close(); err != nil {
		b.Fatal(err)
	}

	d := large.disk(b)
	b.ReportMetric(float64(d.index.Stats().Runs), "runs")
	b.ReportMetric(float64(d.index.Stats().FileBytes)/float64(objects), "index-B/object")
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapAlloc)/(1<<20), "heap-MB")
	began := time.Now()
	partitions := 0
	for _, err := range d.index.Partitions(d.index.Sets()[0], 16, timestamp.T{}) {
		if err != nil {
			b.Fatal(err)
		}
		partitions++
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "digests-ms")
	if partitions != 1<<16 && objects >= 1_000_000 {
		b.Errorf("digests of %d partitions", partitions)
	}

	e := large.Engine
	again := func(what string) {
		began := time.Now()
		e = New(large.root, large.cfg)
		if _, err := e.Stat(ctx, numbered(1)); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), what)
	}
	large.stop()
	// As after kill -9: nothing was closed, and as much as there may be was not checkpointed.
	large.fill(b, large.cfg.Changes)
	again("open-killed-s")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	again("open-clean-s")
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	files := 0
	if err := filepath.WalkDir(large.root, func(string, fs.DirEntry, error) error { files++; return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(files), "inodes")
	b.ReportMetric(0, "ns/op") // it is no loop
}
