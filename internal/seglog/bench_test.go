package seglog

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/vfs"
)

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// raw is the least that group commit can cost: who comes first writes what has
// gathered, as bytes alone, and syncs.
type raw struct {
	mu      sync.Mutex
	writing bool
	waiting []chan bool
	bytes   [][]byte
	file    vfs.File
	end     int64
	syncs   atomic.Int64
}

func (r *raw) append(b []byte) error {
	r.mu.Lock()
	r.bytes = append(r.bytes, b)
	if r.writing {
		turn := make(chan bool, 1)
		r.waiting = append(r.waiting, turn)
		r.mu.Unlock()
		if mine := <-turn; !mine {
			return nil
		}
		r.mu.Lock()
	}
	r.writing = true
	batch, others := r.bytes, r.waiting
	r.bytes, r.waiting = nil, nil
	r.mu.Unlock()
	n, err := r.file.WriteVec(batch, r.end)
	r.end += int64(n)
	if err == nil {
		err = r.file.Sync()
	}
	r.syncs.Add(1)
	for _, o := range others {
		o <- false
	}
	r.mu.Lock()
	if r.writing = len(r.waiting) > 0; r.writing {
		r.waiting[0] <- true
		r.waiting = r.waiting[1:]
	}
	r.mu.Unlock()
	return err
}

// BenchmarkAppend is 4 KiB at a time by so many writers, beside a raw append of the
// same bytes to a file of the same kind, in the same run: with room that is reserved,
// or filled with zeros.
func BenchmarkAppend(b *testing.B) {
	body := make([]byte, 4096)
	if _, err := rand.Read(body); err != nil {
		b.Fatal(err)
	}
	for _, zero := range []bool{false, true} {
		for _, writers := range []int{1, 16, 64, 256} {
			name := fmt.Sprintf("zero=%t/writers=%d", zero, writers)
			b.Run("raw/"+name, func(b *testing.B) {
				dir := folder{vfs.OS, b.TempDir()}
				if err := dir.spare("raw", 1<<30, zero, func() bool { return false }); err != nil {
					b.Fatal(err)
				}
				f, err := vfs.OS.OpenFile(dir.file(sparePrefix+"raw"), syscall.O_RDWR)
				if err != nil {
					b.Fatal(err)
				}
				r := &raw{file: f}
				spread(b, writers, func(int) error { return r.append(body) })
				b.ReportMetric(float64(r.syncs.Load())/float64(b.N), "syncs/op")
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			})
			b.Run("log/"+name, func(b *testing.B) {
				count := vfs.Count(vfs.OS)
				c := Defaults()
				c.FS, c.Folder, c.Zero = count, filepath.Join(b.TempDir(), "log"), zero
				l, err := Open(c)
				if err != nil {
					b.Fatal(err)
				}
				head := make([]byte, 120)
				put := func(n int) error {
					_, err := l.Append(&Record{Kind: 1, Key: [16]byte{byte(n), byte(n >> 8), byte(n >> 16)}, Head: head, Body: body}, nil)
					return err
				}
				if err := put(0); err != nil { // segments are made
					b.Fatal(err)
				}
				before := count.Counts()
				spread(b, writers, put)
				c2 := count.Counts().Sub(before)
				b.ReportMetric(float64(c2.Syncs)/float64(b.N), "syncs/op")
				b.ReportMetric(float64(c2.Writes)/float64(b.N), "writes/op")
				b.ReportMetric(float64(c2.BytesWritten)/float64(b.N), "written-B/op")
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// spread has writers do b.N of something, and reports the processor time of each.
func spread(b *testing.B, writers int, do func(n int) error) {
	b.Helper()
	b.ReportAllocs()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	began := cpu()
	for range writers {
		all.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := do(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu()-began)/float64(b.N)/1000, "cpu-us/op")
}

// BenchmarkRead is a record of 4 KiB from the page cache.
func BenchmarkRead(b *testing.B) {
	c := Defaults()
	c.Folder, c.SegmentSize = filepath.Join(b.TempDir(), "log"), 64<<20
	l, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	at, err := l.Append(&Record{Head: make([]byte, 120), Body: make([]byte, 4096)}, nil)
	if err != nil {
		b.Fatal(err)
	}
	size := Size(120, 4096)
	buf := make([]byte, size)
	b.ReportAllocs()
	began := cpu()
	for b.Loop() {
		if _, buf, err = l.Read(at, size, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-began)/float64(b.N)/1000, "cpu-us/op")
}
