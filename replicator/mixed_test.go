//go:build !race

package replicator

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// pace is what an object costs at a steady pace: so much for itself, and for each MiB.
type pace struct{ object, mebibyte time.Duration }

func (p pace) of(bytes int64) time.Duration {
	return p.object + time.Duration(float64(p.mebibyte)*float64(bytes)/(1<<20))
}

// sizes draws how long the fragment of an object is.
type sizes func(r *rand.Rand) int64

// Sizes that are mixed, some far larger than others, at a steady pace, some at a time: from a tenth of the work on what is told is within a
// fifth of the time that is left. Objects come in the order of how many fragments are left of them, which has nothing to do with their sizes.
func TestETAOfMixedSizes(t *testing.T) {
	between := func(least, most float64) sizes { // each order of magnitude as often as another
		return func(r *rand.Rand) int64 { return int64(least * math.Pow(most/least, r.Float64())) }
	}
	for what, tt := range map[string]struct {
		objects int
		sizes   sizes
		pace    pace
		beside  int // how many come at one time
	}{
		"what counts is how many": {20_000, between(1<<10, 1<<20), pace{time.Millisecond, 0}, 8},
		"what counts are bytes":   {20_000, between(1<<10, 1<<20), pace{0, 10 * time.Millisecond}, 8},
		"both":                    {20_000, between(1<<10, 1<<20), pace{time.Millisecond, 5 * time.Millisecond}, 8},
		"both, by the batch":      {40_000, between(1<<10, 64<<10), pace{200 * time.Microsecond, 5 * time.Millisecond}, 256},
		"both, for hours":         {40_000, between(1<<10, 16<<20), pace{time.Millisecond * 20, 200 * time.Millisecond}, 8},
		"two sizes":               {20_000, func(r *rand.Rand) int64 { return []int64{3 << 10, 64 << 10}[r.IntN(2)] }, pace{time.Millisecond, 10 * time.Millisecond}, 8},
		"a few large ones":        {20_000, func(r *rand.Rand) int64 { return []int64{3 << 10, 4 << 20}[r.IntN(100)/99] }, pace{300 * time.Microsecond, 10 * time.Millisecond}, 8},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, 2))
				list, objects, bytes := make([]int64, tt.objects), int64(tt.objects), int64(0)
				var all, done time.Duration
				for i := range list {
					list[i] = tt.sizes(r)
					bytes += list[i]
					all += tt.pace.of(list[i])
				}
				var p Progress
				p.Lacks(objects, bytes)
				time.Sleep(3 * time.Second) // in the bubble: it is found out what is to be got
				worst, at := 0.0, 0.0
				for i := 0; i < len(list); {
					some := list[i:min(i+tt.beside, len(list))]
					i += len(some)
					for _, size := range some { // they are under way side by side, and come together
						time.Sleep(tt.pace.of(size)) // in the bubble
						done += tt.pace.of(size)
					}
					for _, size := range some {
						p.Took(size)
						objects, bytes = objects-1, bytes-size
						p.Lacks(objects, bytes)
					}
					part := float64(done) / float64(all)
					if part < .1 || part > .95 {
						continue
					}
					left := (all - done).Seconds()
					off := math.Inf(1)
					if eta := p.ToGet().ETASeconds; eta != nil {
						off = math.Abs(*eta-left) / left
					}
					if off > worst {
						worst, at = off, part
					}
				}
				if worst > .2 {
					t.Errorf("%.0f %% off, when %.0f %% had come of what takes %v", 100*worst, 100*at, all)
				}
			})
		})
	}
}
