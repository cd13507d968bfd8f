//go:build !race

// One goroutine does all of it: the race detector has nothing to find, and takes minutes.

package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Every disk call of all that a store does fails once: no answer is wrong then, also of the
// store that goes on, and after a power cut, and with an index made anew.
func TestFaultAtEveryCallOfEverything(t *testing.T) {
	l := worldName(0)
	do := func(what int, n, m int64) func(w *world) error {
		return func(w *world) error { return w.do(op{what: what, at: l, n: n, m: m}) }
	}
	const horizon = 20
	for name, tt := range map[string]struct {
		act   func(w *world) error
		calls int // at least
	}{
		"put":             {do(opPut, 100, 0), 3},
		"put a blob":      {do(opPut, 105, 0), 8},
		"post":            {do(opPost, 100, 100), 3},
		"delete":          {do(opDelete, 100, 0), 3},
		"drop":            {do(opDrop, 0, 0), 3},
		"quarantine":      {do(opLoseData, 0, 0), 5},
		"checkpoint":      {func(w *world) error { return w.e.Checkpoint(ctx) }, 5},
		"compact":         {func(w *world) error { return compactSome(ctx, w.e, ts(horizon), always) }, 40},
		"scrub":           {func(w *world) error { return w.e.Scrub(ctx, time.Now().Add(time.Hour), nil) }, 10},
		"sweep":           {func(w *world) error { return w.e.Sweep(ctx) }, 5},
		"open and delete": {do(opDelete, 100, 0), 60},
		"close": {func(w *world) error {
			if _, err := w.e.Stat(ctx, l); err != nil {
				return err
			}
			_ = w.e.Replayed()
			w.e.Told()
			return w.e.Close()
		}, 10},
		"close untold": {func(w *world) error {
			if _, err := w.e.Stat(ctx, l); err != nil {
				return err
			}
			return w.e.Close()
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := aHistory(t, 3, 60)
			first := 0 // the calls that open the store are the same before all
			if name != "open and delete" {
				first = base.opening(t)
			}
			n := first
			for fired := true; fired; n++ {
				disk := base.fs.AfterCrash(whole)
				w := base.copyOf(disk)
				faulty := vfs.FailAt(disk, n)
				w.open(faulty)
				if err := tt.act(w); err != nil && !errs.Is(err, errs.BadDevice) {
					t.Fatalf("fault %d: %v", n, err)
				}
				fired = faulty.Fired()
				for seed := range uint64(2) {
					seed += uint64(n) * 3
					after := w.copyOf(disk.AfterCrash(seed))
					if seed%2 == 0 {
						if err := withoutIndex(after.cfg); err != nil {
							t.Fatal(err)
						}
					}
					if err := after.goOn(seed, horizon); err != nil {
						t.Fatalf("fault %d, power cut %d: %v", n, seed, err)
					}
				}
				if strings.HasPrefix(name, "close") {
					w.open(disk)
				}
				if err := w.afterFault(uint64(n), horizon); err != nil {
					t.Fatalf("fault %d: %v", n, err)
				}
			}
			if n-first < tt.calls {
				t.Errorf("only %d calls were failed", n-first)
			}
		})
	}
}

// opening is how many calls it takes to open the store.
func (w *world) opening(t testing.TB) int {
	t.Helper()
	disk := w.fs.AfterCrash(whole)
	counted := vfs.FailAt(disk, -1)
	c := w.copyOf(disk)
	c.open(counted)
	if _, err := c.e.now().open(ctx); err != nil {
		t.Fatal(err)
	}
	return counted.Calls()
}

// afterFault goes on with the store that has met a fault, and then cuts the power: what is
// seen after the next write has come to an end stays so.
func (w *world) afterFault(seed uint64, horizon int64) error {
	var err error
	for range 3 { // what was in doubt is settled, or the index was opened again
		settled(w.e)
		if err = del(w.e, worldName(1), 200, Terms{Merge: true}); err == nil || errs.Is(err, errs.Stale) {
			break
		}
	}
	if errs.Is(err, errs.BadDevice) {
		return nil // it stays in doubt until the disk is mounted anew
	}
	if err != nil && !errs.Is(err, errs.Stale) {
		return fmt.Errorf("goes on with %w", err)
	}
	w.facts[worldName(1)] = []fact{{kind: Deleted, time: moment{n: 200}}}
	if err := w.states(horizon); err != nil {
		return fmt.Errorf("goes on: %w", err)
	}
	after := w.copyOf(w.fs.AfterCrash(seed))
	if seed%2 == 1 {
		if err := withoutIndex(after.cfg); err != nil {
			return err
		}
	}
	if err := after.goOn(seed, horizon); err != nil {
		return fmt.Errorf("goes on, and then power cut %d: %w", seed, err)
	}
	return nil
}

// Compaction that is told to end at any of its pieces has done nothing wrong, and the next
// one goes on.
func TestCompactEnds(t *testing.T) {
	base := aHistory(t, 5, 120)
	for n, ended := 0, true; ended; n++ {
		w := base.copyOf(base.fs.AfterCrash(whole))
		left := n
		ended = false
		err := w.e.Compact(ctx, ts(20), func(context.Context, int64) error {
			if left--; left < 0 {
				ended = true
				return errs.E(errs.Aborted, "told to end")
			}
			return nil
		})
		if ended != errs.Is(err, errs.Aborted) {
			t.Fatalf("piece %d: %v", n, err)
		}
		if err := w.check(20, uint64(n)); err != nil {
			t.Fatalf("piece %d: %v", n, err)
		}
		if err := w.copyOf(w.fs.AfterCrash(uint64(n))).goOn(uint64(n), 20); err != nil {
			t.Fatalf("piece %d, power cut: %v", n, err)
		}
		if err := w.goOn(whole, 20); err != nil {
			t.Fatalf("piece %d: %v", n, err)
		}
	}
}

// A segment whose removal fails may be back after a crash. What says that nothing of it is needed is
// there then, also where a scrub found meanwhile that the segment is gone.
func TestRemovalThatFailsIsNotForgotten(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		w := newWorld()
		for i := range int64(6) {
			o := op{what: opPut, at: worldName(int(i % 3)), n: 1 + i}
			if err := w.do(o); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.e.Close(); err != nil {
			t.Fatal(err)
		}
		disk := vfs.FailAt(w.fs, n)
		w.open(disk)
		_ = compactSome(ctx, w.e, ts(0), always) // any call fails, of all of these
		_ = w.e.Scrub(ctx, time.Now().Add(time.Hour), nil)
		_ = w.e.Checkpoint(ctx)
		fired = disk.Fired()
		for seed := range uint64(4) {
			after := w.copyOf(w.fs.AfterCrash(seed))
			if _, err := look(after.e); err != nil {
				t.Fatalf("call %d fails, power cut %d: %v", n, seed, err)
			}
		}
	}
}
