//go:build !race

package engine

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// flipPart damages a record: a byte of its first 56, which hides whose it is, or the last
// one, which is of the body or of what fills it up.
func flipPart(t testing.TB, w *world, l Location, p part, last bool) {
	t.Helper()
	place, file := placeOf(t, w.e, l, p)
	if place.IsZero() {
		t.Fatalf("%v has no %v", l, p)
	}
	off := place.Offset + 20
	if last {
		off = place.Offset + place.Size - 1
	}
	flip(t, w.fs, file, off)
}

// A record that is not the data's is damaged, and found by each of those who look: no
// more is lost than what it said, and an index made anew agrees.
func TestDamageOfOneRecord(t *testing.T) {
	l := worldName(0)
	for name, tt := range map[string]struct {
		ops  []op
		part part
		want func(f *fact)
	}{
		"mark of metadata": {[]op{{opPut, l, 5, 0}, {opPost, l, 7, 0}, {opLoseMeta, l, 0, 0}}, partMark, func(*fact) {}},
		"mark of data":     {[]op{{opPut, l, 5, 0}, {opPost, l, 7, 0}, {opLoseData, l, 0, 0}}, partMark, func(*fact) {}},
		"purge":            {[]op{{opPut, l, 5, 0}, {opDrop, l, 0, 0}}, partData, func(*fact) {}},
		"metadata": {[]op{{opPut, l, 5, 0}, {opPost, l, 7, 0}}, partMeta, func(f *fact) {
			f.noMeta = true
		}},
		"waiting metadata": {[]op{{opPost, l, 7, 0}}, partMeta, func(f *fact) { f.noMeta = true }},
		"tombstone": {[]op{{opPut, l, 5, 0}, {opDelete, l, 9, 0}}, partData, func(f *fact) {
			f.kind, f.time, f.lost, f.lostAt = Absent, moment{}, true, moment{n: 9}
		}},
	} {
		for _, last := range []bool{false, true} {
			for who, find := range map[string]func(e *Engine) error{
				"scrub":      func(e *Engine) error { return e.Scrub(ctx, time.Now().Add(time.Hour), nil) },
				"compaction": func(e *Engine) error { return compactSome(ctx, e, ts(0), always) },
			} {
				w := newWorld()
				for _, o := range tt.ops {
					if err := w.do(o); err != nil {
						t.Fatal(err)
					}
				}
				w.seal(t)
				place, file := placeOf(t, w.e, l, tt.part)
				if last && readByte(t, w.fs, file, place.Offset+place.Size-1) != 0 {
					continue // it is part of the head
				}
				flipPart(t, w, l, tt.part, last)
				what := fmt.Sprintf("%s, last byte %v, %s", name, last, who)
				if err := find(w.e); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				tt.want(&w.facts[l][0])
				if err := w.states(0); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				remade := func() error {
					again := w.copyOf(w.fs.AfterCrash(whole))
					return errors.Join(withoutIndex(again.cfg), again.states(0))
				}
				if err := remade(); err != nil {
					t.Fatalf("%s, rebuilt: %v", what, err)
				}
				if err := compactSome(ctx, w.e, ts(0), always); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if err := w.states(0); err != nil {
					t.Fatalf("%s, compacted: %v", what, err)
				}
				if err := remade(); err != nil {
					t.Fatalf("%s, compacted and rebuilt: %v", what, err)
				}
			}
		}
	}
}

// keeping is a file system that fails once to remove a segment, or to make that durable.
type keeping struct {
	vfs.FS
	sync, removed, failed bool
}

func (k *keeping) Remove(name string) error {
	if strings.HasSuffix(name, ".seg") && !k.failed {
		k.removed = true
		if k.failed = !k.sync; k.failed {
			return syscall.EIO
		}
	}
	return k.FS.Remove(name)
}

func (k *keeping) SyncDir(dir string) error {
	if k.removed && !k.failed {
		k.failed = true
		return syscall.EIO
	}
	if k.sync && k.failed && dir == "/log" {
		return nil // what a failed sync was of is not written by a later one
	}
	return k.FS.SyncDir(dir)
}

// A segment that could not be removed for good may be back after a crash: what hides what
// it holds is not forgotten before that is known.
func TestSegmentThatStays(t *testing.T) {
	l := worldName(0)
	for _, sync := range []bool{false, true} {
		w := newWorld()
		for _, o := range []op{{what: opPut, at: l, n: 5}, {what: opDelete, at: l, n: 9}} {
			if err := w.do(o); err != nil {
				t.Fatal(err)
			}
			w.seal(t)
		}
		fs := &keeping{FS: w.fs, sync: sync}
		w.open(fs)
		for i := range 4 {
			for j := range 30 { // what says that a segment is done goes with its own segment
				if err := put(w.e, worldName(1), ts(int64(100*i+j+1)), make([]byte, 5000), "x", Terms{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := compactSome(ctx, w.e, ts(100), always); err != nil && !errs.Is(err, errs.BadDevice) {
				t.Fatal(err)
			}
		}
		if !fs.failed {
			t.Fatal("nothing failed")
		}
		for seed := range uint64(10) {
			after := w.copyOf(w.fs.AfterCrash(seed))
			if err := withoutIndex(after.cfg); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if s, err := after.e.Stat(ctx, l); err != nil || s.Kind != Deleted && s.Kind != Absent {
					t.Fatalf("sync %v, power cut %d: what was deleted is %s, %v", sync, seed, show(s), err)
				}
				if err := compactSome(ctx, after.e, ts(100), always); err != nil {
					t.Fatal(err)
				}
			}
			if s, err := after.e.Stat(ctx, l); err != nil || s.Kind != Absent {
				t.Fatalf("sync %v, power cut %d: not forgotten: %s, %v", sync, seed, show(s), err)
			}
		}
	}
}

// A segment is gone, and nobody has removed it. Who looks through the device finds what is
// missing, and says so once.
func TestSegmentVanished(t *testing.T) {
	w := newWorld()
	for i := range 3 {
		if err := w.do(op{opPut, worldName(i), 1, 0}); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			w.seal(t) // the first segment has two objects
		}
	}
	if err := w.e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.fs.Remove(logFolder + "/0000000000000001.seg"); err != nil {
		t.Fatal(err)
	}
	var lost []Location
	cfg := smallConfig(w.fs)
	cfg.Lost = func(l Location) { lost = append(lost, l) }
	e := New("/", cfg)
	for range 2 {
		if err := e.Scrub(ctx, time.Now().Add(time.Hour), nil); err != nil {
			t.Fatal(err)
		}
		if len(lost) != 2 || lost[0] == lost[1] {
			t.Fatalf("lost are %v, want two objects", lost)
		}
	}
	for i := range 3 {
		s, err := e.Stat(ctx, worldName(i))
		if want := [...]Kind{Lost, Lost, Live}[i]; err != nil || s.Kind != want {
			t.Errorf("%v is %s, %v, want %v", worldName(i), show(s), err, want)
		}
	}
}
