//go:build !race

package engine

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
	"martlet/object/engine/record"
)

// What is moved may come behind what was written later, and there is still what was
// dropped, with later times, before both. ops are done each into a segment of its own,
// of which some are compacted; then all that may come of it is the same.
func TestMovedBehindWhatIsLater(t *testing.T) {
	l := worldName(0)
	do := func(what int, n, m int64) op { return op{what: what, at: l, n: n, m: m} }
	for name, tt := range map[string]struct {
		ops     []op
		compact []uint64 // segments, from 1
	}{
		"data behind metadata": {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0)}, []uint64{2, 3}},
		"of a type as well":    {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 12, 8)}, []uint64{2, 3}},
		"metadata alone later": {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 12, 0)}, []uint64{2, 3}},
		"behind a tombstone":   {[]op{do(opDelete, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 7)}, []uint64{2, 3}},
		"behind lost data":     {[]op{do(opPut, 10, 0), do(opLoseData, 0, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 7)}, []uint64{3, 4}},
		"behind later metadata": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0)}, []uint64{3, 4},
		},
		"metadata that waited": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPost, 7, 0), do(opPut, 5, 0)}, []uint64{3, 4},
		},
		"half of it is older": {[]op{do(opPost, 1, 2), do(opPut, 1, 0)}, []uint64{1}},
		"lost metadata": {
			[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0), do(opLoseMeta, 0, 0)}, []uint64{2, 3},
		},
		"a mark of metadata": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPost, 7, 0), do(opLoseMeta, 0, 0), do(opPut, 5, 0)}, []uint64{3, 5},
		},
		"a mark of data": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opLoseData, 0, 0), do(opPost, 7, 0)}, []uint64{3, 5},
		},
		"metadata behind a mark of data": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0), do(opLoseData, 0, 0)}, []uint64{3, 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for _, o := range tt.ops {
				if err := w.do(o); err != nil {
					t.Fatal(err)
				}
				w.seal(t)
			}
			n := uint64(0)
			err := compactSome(ctx, w.e, ts(0), func() bool {
				n++
				return slices.Contains(tt.compact, n)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.check(0, 8); err != nil {
				t.Fatal(err)
			}
			// What the restarted store makes of the moved records is the same.
			w.open(w.fs)
			if err := w.check(0, 8); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Each start leaves a segment with little in it. They do not become ever more.
func TestSmallSegments(t *testing.T) {
	cfg := smallConfig(vfs.NewMem())
	cfg.SegmentSize, cfg.Threshold = 1<<20, 1<<17
	one := func(i int) Location { return Location{Hash: name.Hash{byte(i), 1}} }
	bodyOf := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 20_000) } // most of a segment
	for i := range 3 * manySmall {
		e := New("/", cfg)
		if err := put(e, one(i), ts(1), bodyOf(i), "x", Terms{}); err != nil {
			t.Fatal(err)
		}
		if err := e.Compact(ctx, ts(0), nil); err != nil {
			t.Fatal(err)
		}
		d, err := e.now().open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(d.log.Segments()); n > manySmall+1 {
			t.Fatalf("there are %d segments", n)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := New("/", cfg)
	for i := range 3 * manySmall {
		if _, body, err := get(e, one(i)); err != nil || !bytes.Equal(body, bodyOf(i)) {
			t.Errorf("%v has %d bytes, %v", one(i), len(body), err)
		}
	}
}

// Segments that are done share a checkpoint, up to so many bytes.
func TestOneCheckpointForMany(t *testing.T) {
	for _, tt := range []struct {
		together int64
		runs     int
	}{{1, 3}, {60_000, 2}, {1 << 30, 1}} {
		cfg := smallConfig(vfs.NewMem())
		cfg.Changes, cfg.Reserve, cfg.pieces.together = 1000, 0, tt.together
		w := &world{fs: cfg.FS.(*vfs.Mem), cfg: cfg, e: New("/", cfg), facts: map[Location][]fact{}}
		var at []Location
		for i := range 3 {
			for j := range 15 {
				at = append(at, Location{Hash: name.Hash{byte(i), byte(j)}})
				if err := put(w.e, at[len(at)-1], ts(1), make([]byte, 3000), "x", Terms{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.e.Close(); err != nil { // which seals
				t.Fatal(err)
			}
			w.e = New("/", cfg)
		}
		for _, l := range at {
			if err := del(w.e, l, 2, Terms{}); err != nil {
				t.Fatal(err)
			}
		}
		d, err := w.e.now().open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.e.Checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
		before := d.index.Stats().Runs
		if err := w.e.Compact(ctx, ts(0), nil); err != nil {
			t.Fatal(err)
		}
		if n := d.log.Segments(); len(n) != 1 {
			t.Errorf("segments %v are left", n)
		}
		if got := d.index.Stats().Runs - before; got != tt.runs {
			t.Errorf("%d bytes together: %d checkpoints, want %d", tt.together, got, tt.runs)
		}
		if err := w.e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// unreadable has a segment that can't be read from an offset on.
type unreadable struct {
	vfs.FS
	name string
	from int64
	now  atomic.Bool // it can't be
}

type unreadableFile struct {
	vfs.File
	fs *unreadable
}

func (u *unreadable) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag)
	if err == nil && strings.HasSuffix(name, u.name) {
		f = unreadableFile{f, u}
	}
	return f, err
}

func (f unreadableFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.now.Load() && off+int64(len(p)) > f.fs.from {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// A segment that can't be read to its end keeps nothing of the room of those that were done before it.
func TestUnreadableSegmentHoldsNoOther(t *testing.T) {
	mem := vfs.NewMem()
	cfg := smallConfig(mem)
	cfg.pieces.together = 1 << 30
	e := New("/", cfg)
	at := func(segment, i int) Location { return Location{Hash: name.Hash{byte(segment), byte(i)}} }
	const segments, each = 4, 20
	for s := range segments {
		for i := range each {
			if err := put(e, at(s, i), ts(1), make([]byte, 2000), "x", Terms{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil { // which seals
			t.Fatal(err)
		}
		e = New("/", cfg)
	}
	for s := range segments {
		for i := range each {
			if s == 0 && i < 2 {
				continue // the first is compacted last, as it has least that is dead
			}
			if err := del(e, at(s, i), 2, Terms{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	bad := &unreadable{FS: mem, name: "0000000000000001.seg", from: 20_000}
	cfg.FS = bad
	e = New("/", cfg)
	if _, _, err := get(e, at(0, 0)); err != nil {
		t.Fatal(err)
	}
	bad.now.Store(true)
	if err := e.Compact(ctx, ts(0), nil); !errors.Is(err, syscall.EIO) {
		t.Errorf("compacting what can't be read: %v", err)
	}
	d, err := e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range d.log.Segments() {
		if n > 1 && n <= segments {
			t.Errorf("segment %d is left, of which nothing is in force", n)
		}
	}
	if _, _, err := get(e, at(0, 0)); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// A segment that was begun, and can't go on because the journal needs it, keeps what says how far it is: the later ones stay.
func TestBegunAndHeld(t *testing.T) {
	w := newWorld()
	needed := map[uint64]bool{}
	hooks := Hooks{Needed: func() map[uint64]bool { return needed }}
	j, err := w.e.Journal(ctx, record.Containers, hooks)
	if err != nil {
		t.Fatal(err)
	}
	journal(t, j, 1)
	for i := range worldNames {
		if err := w.do(op{opPut, worldName(i), 1, 0}); err != nil {
			t.Fatal(err)
		}
	}
	w.seal(t)
	for i := range worldNames {
		if err := w.do(op{opPut, worldName(i), 2, 0}); err != nil {
			t.Fatal(err)
		}
	}
	w.seal(t)
	if _, err := w.e.Journal(ctx, record.Containers, hooks); err != nil {
		t.Fatal(err)
	}
	d, err := w.e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = w.e.Compact(ctx, ts(0), func(context.Context, int64) error {
		if d.usage.get(1).done > 0 {
			return errs.E(errs.Aborted, "told to end")
		}
		return nil
	})
	if !errs.Is(err, errs.Aborted) || d.usage.get(1).done == 0 {
		t.Fatalf("it was not begun: %v", err)
	}
	w.seal(t) // nothing is alive of the one that says so
	if _, err := w.e.Journal(ctx, record.Containers, hooks); err != nil {
		t.Fatal(err)
	}
	if d, err = w.e.now().open(ctx); err != nil {
		t.Fatal(err)
	}
	for _, held := range []bool{true, false} {
		if clear(needed); held {
			needed[1] = true
		}
		if err := w.e.Compact(ctx, ts(0), nil); err != nil {
			t.Fatal(err)
		}
		if n := d.log.Segments(); slices.Contains(n, 1) != held || slices.Contains(n, 3) != held {
			t.Errorf("held %v: segments %v are left", held, n)
		}
		if err := w.check(0, 8); err != nil {
			t.Fatal(err)
		}
	}
}

// The more room there is the more of a segment is left to die by itself.
func TestWorth(t *testing.T) {
	fs := vfs.NewMem()
	fs.SetCapacity(100 << 20)
	cfg := smallConfig(fs)
	cfg.Reserve = .1
	e := New("/", cfg)
	d, err := e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.OpenFile("/other", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		used int64 // in MiB
		want float64
	}{{10, lavish}, {45, lavish}, {63, .62}, {80, worth}, {95, scarce}} {
		if err := f.Preallocate(0, tt.used<<20); err != nil {
			t.Fatal(err)
		}
		if got := d.worth(); math.Abs(got-tt.want) > .02 {
			t.Errorf("with %d %% in use %.3f, want %.2f", tt.used, got, tt.want)
		}
	}
	if err := errors.Join(f.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
}
