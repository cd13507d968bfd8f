//go:build !race

package index

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// TestCrashModel has faults in any call, indexes that are opened again in the same
// process, which sees what may not be on the disk, and power cuts, after each other in
// any order.
func TestCrashModel(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		h := newHistory()
		var ix *Index
		var count *tally
		faulted := func(err error) bool {
			if err != nil && errs.KindOf(err) != errs.BadDevice {
				t.Fatal(err)
			}
			return err != nil
		}
		open := func(t *rapid.T) {
			var options []vfs.FaultOption
			if rapid.Bool().Draw(t, "for good") {
				options = append(options, vfs.FaultForever())
			}
			faulty := vfs.FailAt(disk, rapid.IntRange(0, 100).Draw(t, "fault"), options...)
			for _, fs := range []vfs.FS{faulty, disk} {
				var err error
				if ix, count, err = openTally(fs); err == nil {
					if err = h.opened(ix, count); err == nil {
						return
					}
					ix.Close()
				}
				if !faulted(err) || fs == disk {
					t.Fatal(err)
				}
			}
		}
		open(t)
		defer func() { ix.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				e := event{at(len(h.log)), genKey.Draw(t, "key"), genEntry.Draw(t, "entry")}
				h.log = append(h.log, e)
				h.change(ix, count, len(h.log), e.key, e.new)
			},
			"amend": func(t *rapid.T) {
				h.change(ix, count, len(h.log), genKey.Draw(t, "key"), genEntry.Draw(t, "entry"))
			},
			"checkpoint": func(t *rapid.T) {
				if !faulted(ix.Checkpoint(ctx)) {
					h.acked = len(h.states) - 1
				}
			},
			"merge some": func(t *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(t, "runs")
				_, err := ix.merge(ctx, "test", func(all []int64) int { return min(n, len(all)) })
				faulted(err)
			},
			"open again": func(t *rapid.T) {
				ix.Close()
				open(t)
			},
			"crash": func(t *rapid.T) {
				ix.Close()
				disk = disk.AfterCrash(rapid.Uint64Range(0, 100).Draw(t, "seed"))
				open(t)
			},
		})
	})
}

// TestOpenAgainThenCrash fails each call, opens the index again in the same process,
// which sees names that no sync will make durable, and cuts the power: what was opened
// is there.
func TestOpenAgainThenCrash(t *testing.T) {
	log := spread(9, 12)
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		if ix, err := Open(config(faulty)); err == nil {
			for i := range log {
				if err = replay(ix, log[:i+1], log[i].at); err == nil && i%4 == 3 {
					err = ix.Checkpoint(t.Context())
				}
				if err == nil && i == 7 {
					err = ix.MergeAll(t.Context())
				}
				if err != nil {
					break
				}
			}
			ix.Close()
		}
		fired = faulty.Fired()
		again := mustOpen(t, disk)
		seen := again.Position()
		for range 2 {
			for seed := range uint64(16) {
				after, err := Open(config(disk.AfterCrash(seed)))
				if err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				if p := after.Position(); p != seen {
					t.Fatalf("fault %d, seed %d: opened at %v, then at %v", n, seed, seen, p)
				}
				if err := same(after, modelOf(log[:indexOf(log, after.Position())])); err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				after.Close()
			}
			// What comes next is as durable as ever.
			if err := errors.Join(replay(again, log, seen), again.Checkpoint(t.Context())); err != nil {
				t.Fatal(err)
			}
			seen = again.Position()
		}
		again.Close()
	}
}

func TestTooManyRuns(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	log := spread(13, 2)
	if err := errors.Join(replay(ix, log[:1], seglog.Position{}), ix.Checkpoint(t.Context()), replay(ix, log, at(1))); err != nil {
		t.Fatal(err)
	}
	ix.view = newView(slices.Repeat(ix.view.runs, maxRuns))
	if err := ix.Checkpoint(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Fatalf("a manifest that no one reads is written: %v", err)
	}
	if err := errors.Join(ix.MergeAll(t.Context()), ix.Checkpoint(t.Context()), same(ix, modelOf(log))); err != nil {
		t.Fatal(err)
	}
}

// TestExtraFaults fails each call to the disk below a checkpoint and a merge: what is
// there afterwards is of the position, and what was frozen before the failure stays so.
func TestExtraFaults(t *testing.T) {
	log := spread(21, 12)
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		ix, kept, err := openTally(faulty)
		if err != nil {
			continue
		}
		for i, e := range log {
			old, _ := ix.Get(e.key) // what is wrong with it is for TestFaults
			ix.ApplyWith(e.at, kept.count(uint64(i)), Change{e.key, old, e.new})
			if i%3 == 2 {
				_ = ix.Checkpoint(t.Context()) // seen in the position
			}
			if i == 8 {
				_ = ix.MergeAll(t.Context())
			}
		}
		want := func(ix *Index) {
			t.Helper()
			var c tally
			for i := range log[:indexOf(log, ix.Position())] {
				c.count(uint64(i))()
			}
			if got := tallyOf(ix.Extra()); got != c {
				t.Fatalf("fault %d: at %v there is %v, want %v", n, ix.Position(), got, c)
			}
		}
		want(ix)
		err = ix.Checkpoint(t.Context())
		want(ix)
		acked := ix.Position()
		if fired = faulty.Fired(); err == nil && acked != log[len(log)-1].at {
			t.Fatalf("fault %d: a checkpoint came to %v", n, acked)
		}
		ix.Close()
		for seed := range uint64(6) {
			after, _, err := openTally(disk.AfterCrash(seed))
			if err != nil {
				t.Fatalf("fault %d, seed %d: %v", n, seed, err)
			}
			want(after)
			if after.Position().Less(acked) {
				t.Fatalf("fault %d, seed %d: opened at %v, was at %v", n, seed, after.Position(), acked)
			}
			after.Close()
		}
	}
}
