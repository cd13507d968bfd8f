//go:build !race

// One goroutine does all of it: the race detector has nothing to find, and takes half a minute.

package engine

import (
	"math/rand/v2"
	"testing"
)

// Whatever is written in whatever order: after each pass of compaction the states are the
// same, and an index made anew says the same as the one that there was.
func TestCompactChangesNothing(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld()
		for round := range 12 {
			var done []op
			for range 5 + r.IntN(40) {
				o := randomOp(r)
				done = append(done, o)
				if err := w.do(o); err != nil {
					t.Fatalf("seed %d, round %d: %v, after %v", seed, round, err, done)
				}
			}
			if err := w.check(0, seed); err != nil {
				t.Fatalf("seed %d, round %d, before compaction: %v; done %v", seed, round, err, done)
			}
			horizon := r.Int64N(60)
			var err error
			switch r.IntN(4) {
			case 0:
				err = compactSome(ctx, w.e, ts(horizon), always)
			case 1:
				err = w.e.Compact(ctx, ts(horizon), nil)
			default:
				err = compactSome(ctx, w.e, ts(horizon), func() bool { return r.IntN(3) == 0 })
			}
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			if err := w.check(horizon, 8+seed); err != nil {
				t.Fatalf("seed %d, round %d, after compaction: %v; done %v", seed, round, err, done)
			}
		}
	}
}
