package engine

import (
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// On a device that is full to the last byte deletes work, and compaction, and together they
// make room again.
func TestFullDisk(t *testing.T) {
	for name, size := range map[string]int{"small": 6000, "files": 30_000} {
		t.Run(name, func(t *testing.T) {
			w := &world{fs: vfs.NewMem(), facts: map[Location][]fact{}}
			w.fs.SetCapacity(3 << 20)
			w.open(w.fs)
			n := 0
			name := func(i int) Location {
				l := worldName(0)
				l.Hash[1], l.Hash[2] = byte(i>>8), byte(i)
				return l
			}
			for ; ; n++ {
				if err := put(w.e, name(n), ts(1), make([]byte, size), "x", Terms{}); errs.Is(err, errs.NoSpace) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			u, err := w.e.Usage()
			if err != nil {
				t.Fatal(err)
			}
			w.fs.SetCapacity(u.Total - u.Available) // and somebody else takes the rest
			if n < 50 {
				t.Fatalf("only %d fit", n)
			}
			for i := range n {
				if i%10 == 0 {
					continue
				}
				if err := del(w.e, name(i), 2, Terms{}); err != nil {
					t.Fatalf("delete %d of %d: %v", i, n, err)
				}
			}
			before := logBytes(t, w.e)
			for range 3 {
				if err := w.e.Compact(ctx, ts(3), nil); err != nil {
					t.Fatalf("compaction: %v", err)
				}
			}
			if after := logBytes(t, w.e); size < largeBody && after > before/3 {
				t.Errorf("the log had %d bytes, and has %d", before, after)
			}
			for i := range n / 2 {
				if err := put(w.e, name(1000+i), ts(1), make([]byte, size), "x", Terms{}); err != nil {
					t.Fatalf("put %d after it: %v", i, err)
				}
			}
			for i := 0; i < n; i += 10 {
				if _, body, err := get(w.e, name(i)); err != nil || len(body) != size {
					t.Errorf("what was not deleted reads as %d bytes, %v", len(body), err)
				}
			}
			if _, err := look(w.e); err != nil {
				t.Error(err)
			}
		})
	}
}

// Space comes back, also of tombstones.
func TestSpaceComesBack(t *testing.T) {
	w := newWorld()
	name := func(i int) Location {
		l := worldName(0)
		l.Hash[1], l.Hash[2] = byte(i>>8), byte(i)
		return l
	}
	const many = 1000
	for i := range many {
		if err := put(w.e, name(i), ts(1), make([]byte, 2000), "x", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	full := logBytes(t, w.e)
	for i := range many {
		if err := del(w.e, name(i), 2, Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	w.seal(t)
	for range 4 {
		if err := w.e.Compact(ctx, ts(2), nil); err != nil {
			t.Fatal(err)
		}
	}
	deleted := logBytes(t, w.e)
	for range 4 {
		if err := w.e.Compact(ctx, ts(3), nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // what is appended to is not compacted before it is sealed
		w.seal(t)
		if err := compactSome(ctx, w.e, ts(3), always); err != nil {
			t.Fatal(err)
		}
	}
	forgotten := logBytes(t, w.e)
	v, err := look(w.e)
	if err != nil || len(v.entries) > 0 {
		t.Errorf("the index still has %d names, %v", len(v.entries), err)
	}
	if deleted > full/4 || forgotten > 3*smallConfig(nil).SegmentSize {
		t.Errorf("the log had %d bytes, after the deletes %d, and %d when those were forgotten", full, deleted, forgotten)
	}
}
