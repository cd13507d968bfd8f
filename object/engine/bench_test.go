package engine

import (
	"bytes"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// measure runs op b.N times and reports processor time and calls on the disk.
func measure(b *testing.B, fs *vfs.Counter, op func(i int)) {
	b.Helper()
	b.ReportAllocs()
	began, calls := cpu(b), fs.Counts()
	i := 0
	for b.Loop() {
		op(i)
		i++
	}
	c := fs.Counts().Sub(calls)
	n := float64(i)
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/n, "cpu-µs/op")
	b.ReportMetric(float64(c.Syncs+c.DirSyncs)/n, "syncs/op")
	b.ReportMetric(float64(c.Opens+c.Reads+c.Writes+c.Syncs+c.DirSyncs+c.Links+c.Renames+c.Removes)/n, "calls/op")
}

func benchLocation(i int) Location {
	return Location{Hash: name.Hash{0, byte(i) << 4, byte(i >> 8), byte(i), byte(i >> 16)}}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 64 << 20} {
		for _, what := range []string{"new", "over"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, what), func(b *testing.B) {
				fs := vfs.Count(vfs.OS)
				e := newEngineWith(fs, b.TempDir(), blob.NewBuffers(testMemory))
				data := make([]byte, size)
				for i := range 16 { // the folders are made once
					if err := del(e, benchLocation(i), 0, Terms{Merge: true}); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(size))
				measure(b, fs, func(i int) {
					l := benchLocation(i + 16)
					if what == "over" || size > 1<<20 { // the disk is not to fill up
						l = benchLocation(i % 16)
					}
					w, err := e.Create(ctx, l, int64(size))
					if err != nil {
						b.Fatal(err)
					}
					if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
						b.Fatal(err)
					}
					v := Version{Time: ts(int64(i + 1)), Name: name.Path{Account: "a", Container: "c", Object: "o"}, ContentType: "text/plain"}
					if _, err := w.Commit(v, Terms{}); err != nil {
						b.Fatal(err)
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			fs := vfs.Count(vfs.OS)
			e := newEngineWith(fs, b.TempDir(), blob.NewBuffers(testMemory))
			if err := put(e, at(1), ts(1), bytes.Repeat([]byte{1}, size), "x", Terms{}); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			measure(b, fs, func(int) {
				r, err := e.Open(ctx, at(1))
				if err != nil {
					b.Fatal(err)
				}
				for off := int64(0); ; {
					p, err := r.View(off, 1<<20)
					if err == io.EOF {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					off += int64(len(p))
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkHead(b *testing.B) {
	fs := vfs.Count(vfs.OS)
	e := newEngineWith(fs, b.TempDir(), blob.NewBuffers(testMemory))
	if err := put(e, at(1), ts(1), nil, "x", Terms{}); err != nil {
		b.Fatal(err)
	}
	for what, l := range map[string]Location{"live": at(1), "absent": at(2)} {
		b.Run(what, func(b *testing.B) {
			measure(b, fs, func(int) {
				if _, err := e.Stat(ctx, l); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
