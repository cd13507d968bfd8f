package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// BenchmarkExpire ends many objects of one second on a device, 64 at a time, among ten times as
// many that end later, and says what a look costs that finds nothing due.
func BenchmarkExpire(b *testing.B) {
	const due, later = 100_000, 1_000_000
	fs := vfs.Count(vfs.OS)
	cfg := Defaults()
	cfg.FS = fs
	e := New(b.TempDir(), cfg)
	defer e.Close()
	at := func(i int) Location {
		u := uint64(i) * 0x9e3779b97f4a7c15
		return Location{Hash: name.Hash{byte(u >> 56), byte(u >> 48), byte(u >> 40), byte(u >> 32), byte(u >> 24), byte(i >> 16), byte(i >> 8), byte(i), 15: byte(i)}}
	}
	together := func(n int, do func(i int) error) {
		var all sync.WaitGroup
		for w := range 64 {
			all.Go(func() {
				for i := w; i < n; i += 64 {
					if err := do(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	body := make([]byte, 256)
	together(due+later, func(i int) error {
		ends := 1_000
		if i >= due {
			ends = 1_000_000 + i
		}
		w, err := e.Create(ctx, at(i), int64(len(body)))
		if err != nil {
			return err
		}
		defer w.Close()
		if _, err := w.Write(body); err != nil {
			return err
		}
		_, err = w.Commit(Version{Time: ts(int64(1 + i)), Name: path3(at(i)), Meta: backend.Header{{Name: DeleteAtField, Value: fmt.Sprint(ends)}}}, Terms{})
		return err
	})
	if err := e.Checkpoint(ctx); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		look := func(second int64) (n int64, took time.Duration) {
			began := cpu(b)
			n, err := e.Due(ctx, time.Unix(second, 0), nil)
			if err != nil {
				b.Fatal(err)
			}
			return n, cpu(b) - began
		}
		_, nothing := look(999)
		n, found := look(1_000)
		began, used, calls := time.Now(), cpu(b), fs.Counts()
		var all []Entry
		for entry, err := range e.Expired(ctx, time.Unix(1_000, 0), nil) {
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, entry)
		}
		together(len(all), func(i int) error { _, err := e.Expire(ctx, all[i]); return err })
		took, c := time.Since(began), fs.Counts().Sub(calls)
		if left, _ := look(1_000); n != due || left != 0 {
			b.Fatalf("%d are due, and then %d", n, left)
		}
		b.ReportMetric(float64(nothing.Microseconds()), "look-µs")
		b.ReportMetric(float64(found.Microseconds())/due, "found-µs")
		b.ReportMetric(due/took.Seconds(), "ended/s")
		b.ReportMetric(float64((cpu(b)-used).Microseconds())/due, "cpu-µs")
		b.ReportMetric(float64(c.Syncs)/due, "syncs")
	}
}
