package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"martlet/internal/vfs"
)

// After a pass nothing is left that the horizon has passed, and all else is as it was,
// whatever was written, dropped, lost and compacted before, and whatever crash comes after.
func TestReclaim(t *testing.T) {
	forgot, lost := 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld()
		for round := range 10 {
			for range 5 + r.IntN(40) {
				if err := w.do(randomOp(r)); err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
			}
			horizon := r.Int64N(60)
			if r.IntN(2) == 0 {
				if err := compactSome(ctx, w.e, ts(r.Int64N(1+horizon)), always); err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
			}
			if err := w.e.Reclaim(ctx, ts(horizon), nil); err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			n, marks, err := w.reclaimed(horizon)
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			forgot, lost = forgot+n, lost+marks
			if err := w.check(horizon, 8+seed); err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
		}
	}
	if forgot < 30 || lost == 0 {
		t.Errorf("only %d names were forgotten, %d of them with metadata that was lost", forgot, lost)
	}
}

// reclaimed fails where something is left that was to be forgotten, and counts what was, and what of that was the mark of metadata that was lost.
// That is forgotten by nothing else.
func (w *world) reclaimed(horizon int64) (n, lost int, err error) {
	reclaimable := func(f fact) bool {
		f.noMeta = false
		return f.forgettable(horizon)
	}
	for l, facts := range w.facts {
		s, err := w.e.Stat(ctx, l)
		if err != nil {
			return 0, 0, err
		}
		gone := s.Kind == Absent && s.Newest().IsZero()
		if !gone && !slices.ContainsFunc(facts, func(f fact) bool { return !reclaimable(f) }) {
			return 0, 0, fmt.Errorf("of %v there is still %s, before %d", l, show(s), horizon)
		}
		if !gone || slices.Contains(facts, fact{}) {
			continue
		}
		n++
		if slices.ContainsFunc(facts, func(f fact) bool { return f.noMeta && reclaimable(f) }) {
			lost++
			w.facts[l] = []fact{{}}
		}
	}
	return n, lost, nil
}

// What comes while names are reclaimed stays: one that is written anew is not dropped for
// what it was.
func TestReclaimBesideWrites(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	for i := range byte(200) {
		if err := del(e, at(i), 5, Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() { done <- e.Reclaim(ctx, ts(10), nil) }()
	for i := range byte(200) {
		if err := put(e, at(i), ts(20), []byte("new"), "", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i := range byte(200) {
		if s, body, err := get(e, at(i)); err != nil || string(body) != "new" {
			t.Errorf("object %d: %s, %q, %v, want what was written last", i, show(s), body, err)
		}
	}
}
