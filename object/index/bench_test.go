package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// sizes are how many objects there are: MARTLET_OBJECTS, such as 100000,10000000.
func sizes(b *testing.B) (list []int) {
	b.Helper()
	text := os.Getenv("MARTLET_OBJECTS")
	if text == "" {
		return []int{100_000, 1_000_000}
	}
	for s := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// written is how many bytes this process has written, to whatever.
func written(b *testing.B) (n int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "wchar: "); ok {
			if n, err = strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err != nil {
				b.Fatal(err)
			}
		}
	}
	return n
}

// hashOf is that of object i: any of them can be had again.
func hashOf(i int) (h name.Hash) {
	mix := func(x uint64) uint64 {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	binary.LittleEndian.PutUint64(h[:], mix(uint64(i)*2))
	binary.LittleEndian.PutUint64(h[8:], mix(uint64(i)*2+1))
	return h
}

// puts does what an engine does of each PUT, checkpoints every so many and merges
// included.
func puts(b *testing.B, ix *Index, keys func(yield func(int) bool), every int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	ctx := context.Background()
	now := ix.Applied()
	settle := func() {
		if err := ix.Checkpoint(ctx); err != nil {
			b.Fatal(err)
		}
		for more := true; more; {
			var err error
			if more, err = ix.Merge(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	n := 0
	for i := range keys {
		k := Key{Hash: hashOf(i)}
		old, err := ix.Get(k)
		if err != nil {
			b.Fatal(err)
		}
		now = seglog.Position{Segment: 1, Offset: now.Offset + 8}
		ix.Apply(now, Change{k, old, usual(r)})
		if n++; n%every == 0 {
			settle()
		}
	}
	settle()
}

func upTo(from, to int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := from; i < to && yield(i); i++ {
		}
	}
}

// BenchmarkIndex fills an index, and then measures per operation: PUTs, of which half
// are new and half replace something, with a checkpoint every 10,000 and every 50,000;
// GETs; iteration; digests; and opening it.
func BenchmarkIndex(b *testing.B) {
	for _, n := range sizes(b) {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) { benchIndex(b, n) })
	}
}

func benchIndex(b *testing.B, n int) {
	cfg := Defaults()
	cfg.FS, cfg.Folder = vfs.OS, filepath.Join(b.TempDir(), "index")
	open := func() *Index {
		ix, err := Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		return ix
	}
	ix := open()
	defer func() { ix.Close() }()
	measure := func(what string, ops int, f func()) {
		began, used, wrote := time.Now(), cpu(b), written(b)
		f()
		per := float64(ops)
		b.Logf("%-22s %8.2f us of CPU, %8.2f us, %6.0f bytes written", what,
			float64((cpu(b)-used).Nanoseconds())/1e3/per, float64(time.Since(began).Nanoseconds())/1e3/per, float64(written(b)-wrote)/per)
	}
	measure("filling, each 50,000", n, func() { puts(b, ix, upTo(0, n), 50_000) })
	r := rand.New(rand.NewPCG(3, 4))
	next := n
	mixed := func(count int) func(func(int) bool) {
		return func(yield func(int) bool) {
			for i := range count {
				k := next
				if i%2 == 0 {
					k = r.IntN(n)
				} else {
					next++
				}
				if !yield(k) {
					return
				}
			}
		}
	}
	few := max(n/8, 200_000)
	measure("PUT, each 10,000", few, func() { puts(b, ix, mixed(few), 10_000) })
	many := max(n/2, 500_000)
	measure("PUT, each 50,000", many, func() { puts(b, ix, mixed(many), 50_000) })
	get := func(from, to int) {
		for range 200_000 {
			if _, err := ix.Get(Key{Hash: hashOf(from + r.IntN(to-from))}); err != nil {
				b.Fatal(err)
			}
		}
	}
	get(0, n)
	runtime.GC()
	measure("GET of what is there", 200_000, func() { get(0, n) })
	measure("GET of what is not", 200_000, func() { get(1<<40, 1<<41) })
	entries := 0
	began := cpu(b)
	from, to := fullRange()
	for _, err := range ix.Range(0, from, to) {
		if err != nil {
			b.Fatal(err)
		}
		entries++
	}
	iterated := float64((cpu(b) - began).Nanoseconds()) / 1e3 / float64(entries)
	if entries != next {
		b.Fatalf("%d entries, want %d", entries, next)
	}
	var sum Digest
	digests := time.Now()
	for p, err := range ix.Partitions(Set{}, 16, timestamp.T{}) {
		if err != nil {
			b.Fatal(err)
		}
		sum = sum.Add(p.Digest)
	}
	took := time.Since(digests)
	if sum.Objects != int64(next) {
		b.Fatalf("%d objects by the digests, want %d", sum.Objects, next)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	inUse := mem.HeapInuse
	runtime.GC()
	runtime.ReadMemStats(&mem)
	s := ix.Stats()
	b.Logf("%d runs, %.1f bytes an object; heap in use %d MB, at most %d MB, live %d MB, of which filters and fences %d MB",
		s.Runs, float64(s.FileBytes)/float64(entries), inUse>>20, mem.HeapSys>>20, mem.HeapAlloc>>20, s.MemoryBytes>>20)
	b.Logf("iteration %.3f us of CPU an entry; digests of 65536 partitions in %v", iterated, took)
	ix.Close()
	began2 := time.Now()
	ix = open()
	b.Logf("opened in %v", time.Since(began2))
	check := time.Now()
	if err := ix.Check(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Logf("checked in %v", time.Since(check))
	b.ResetTimer()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ix.Get(Key{Hash: hashOf(r.IntN(n))}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBatches compares the index with what docs/dependencies.md weighs it against,
// bbolt: both get the same sorted batches of random keys, all new, and make each durable.
// The index does what Apply does for them, terms of digests included, and its merges; bbolt
// gets entries as large in one bucket, in transactions of about 1,000 pages at most.
func BenchmarkBatches(b *testing.B) {
	for _, n := range sizes(b) {
		for _, batch := range []int{10_000, 50_000, 500_000} {
			for name, begin := range map[string]func(*testing.B) store{"index": beginIndex, "bbolt": beginBbolt} {
				b.Run(fmt.Sprintf("%s/objects=%d/batch=%d", name, n, batch), func(b *testing.B) {
					benchBatches(b, begin(b), n, batch)
				})
			}
		}
	}
}

// store is what both are.
type store struct {
	put  func(keys []Key, there int) error // sorted and new, beside so many
	get  func(Key) error
	size func() int64
}

func benchBatches(b *testing.B, s store, n, batch int) {
	there := 0
	put := func(count int) {
		keys := make([]Key, count)
		for i := range keys {
			keys[i] = Key{Hash: hashOf(there + i)}
		}
		slices.SortFunc(keys, func(a, b Key) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
		if err := s.put(keys, there); err != nil {
			b.Fatal(err)
		}
		there += count
	}
	for there < n {
		put(min(n-there, 500_000))
	}
	const least = 500_000 // so that the index merges as often as it would
	rounds := (least + batch - 1) / batch
	used, wrote := cpu(b), written(b)
	for range rounds {
		put(batch)
	}
	per := float64(rounds * batch)
	used, wrote = cpu(b)-used, written(b)-wrote
	r := rand.New(rand.NewPCG(5, 6))
	b.ResetTimer() // what is measured by the clock is a lookup
	for b.Loop() {
		if err := s.get(Key{Hash: hashOf(r.IntN(n))}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(used.Nanoseconds())/1e3/per, "us-CPU/put")
	b.ReportMetric(float64(wrote)/per, "B-written/put")
	b.ReportMetric(float64(s.size())/float64(there), "B/entry")
}

func beginIndex(b *testing.B) store {
	cfg := Defaults()
	cfg.Folder = filepath.Join(b.TempDir(), "index")
	ix, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(ix.Close)
	r := rand.New(rand.NewPCG(1, 2))
	return store{
		put: func(keys []Key, there int) error {
			for i, k := range keys {
				ix.Apply(seglog.Position{Segment: 1, Offset: int64(there + i + 1)}, Change{Key: k, New: usual(r)})
			}
			err := ix.Checkpoint(b.Context())
			for more := true; more && err == nil; {
				more, err = ix.Merge(b.Context())
			}
			return err
		},
		get: func(k Key) error {
			if e, err := ix.Get(k); err != nil || e.Kind != Data {
				return fmt.Errorf("got %v, %w", e, err)
			}
			return nil
		},
		size: func() int64 { return ix.Stats().FileBytes },
	}
}

func beginBbolt(b *testing.B) store {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "bbolt"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	name := []byte("entries")
	return store{
		put: func(keys []Key, there int) error {
			// 44 entries a page: what touches about 800 of them.
			each := max(800, 800*44*len(keys)/max(1, there))
			for part := range slices.Chunk(keys, each) {
				err := db.Update(func(tx *bolt.Tx) error {
					bucket, err := tx.CreateBucketIfNotExists(name)
					for _, k := range part {
						raw := k.raw()
						err = errors.Join(err, bucket.Put(raw[:extraAt], make([]byte, 29)))
					}
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
		get: func(k Key) error {
			return db.View(func(tx *bolt.Tx) error {
				raw := k.raw()
				if tx.Bucket(name).Get(raw[:extraAt]) == nil {
					return errors.New("an entry is missing")
				}
				return nil
			})
		},
		size: func() int64 {
			info, err := os.Stat(db.Path())
			if err != nil {
				b.Fatal(err)
			}
			return info.Size()
		},
	}
}
