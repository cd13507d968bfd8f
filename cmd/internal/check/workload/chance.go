package workload

import (
	"maps"
	"math/rand/v2"
	"slices"

	"martlet/cmd/internal/check/history"
)

// A preset is a mixture of operations.
type preset struct {
	weights  [history.List + 1]int
	large    int // of 1000 PUTs, how many make a static large object
	sizes    func(*rand.Rand, int64) int64
	expires  int // of 100 PUTs, how many store what ends by itself
	versions int // of 100 GETs and HEADs, how many are of a version that is known; 0 has containers without versions
	names    int // at most so many; 0 is as many as the configuration has
}

func weights(put, post, del, cop, get, rng, head, list int) (w [history.List + 1]int) {
	w[history.Put], w[history.Post], w[history.Delete], w[history.Copy] = put, post, del, cop
	w[history.Get], w[history.Range], w[history.Head], w[history.List] = get, rng, head, list
	return w
}

var presets = map[string]preset{
	"":          {weights: weights(30, 9, 10, 7, 18, 8, 9, 9), large: 25, sizes: anySize},
	"overwrite": {weights: weights(45, 0, 2, 3, 30, 10, 10, 0), sizes: smallSize, names: 4},
	"read":      {weights: weights(8, 0, 1, 1, 70, 15, 5, 0), sizes: readSize},
	"delete":    {weights: weights(30, 0, 30, 5, 20, 0, 10, 5), sizes: smallSize, names: 6},
	"post":      {weights: weights(10, 45, 3, 2, 10, 0, 30, 0), sizes: smallSize, names: 4},
	"listing":   {weights: weights(30, 0, 25, 5, 0, 0, 0, 40), sizes: smallSize},
	"large":     {weights: weights(40, 2, 5, 3, 25, 20, 5, 0), large: 150, sizes: largeSize, names: 8},
	"stream":    {weights: weights(10, 0, 0, 0, 75, 15, 0, 0), sizes: largeSize, names: 3},
	"expiry":    {weights: weights(35, 0, 5, 0, 30, 0, 20, 10), sizes: smallSize, names: 8, expires: 60},
	"versions":  {weights: weights(35, 0, 10, 0, 30, 10, 10, 5), sizes: smallSize, names: 6, versions: 60},
	"ec":        {weights: weights(35, 5, 8, 7, 20, 20, 5, 0), large: 20, sizes: codedSize, names: 8},
}

// Presets returns the names of the workloads beside that of everything.
func Presets() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(presets)), func(s string) bool { return s == "" })
}

// The sizes at which a store begins to do something else: a body is whole under erasure coding, has another block of
// checksums, is in a file of its own and streamed, has another segment.
var thresholds = []int64{8 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, 2 << 20, 4 << 20}

// near is a threshold, or a byte or a few beside it.
func near(r *rand.Rand, upTo int64) int64 {
	fit := thresholds
	for len(fit) > 1 && fit[len(fit)-1] > upTo {
		fit = fit[:len(fit)-1]
	}
	return max(0, fit[r.IntN(len(fit))]+[...]int64{-1, 0, 1, -511, 4096}[r.IntN(5)])
}

func smallSize(r *rand.Rand, _ int64) int64 {
	switch r.IntN(10) {
	case 0:
		return 0
	case 1:
		return near(r, 64<<10)
	}
	return 1 + r.Int64N(4<<10)
}

func anySize(r *rand.Rand, largest int64) int64 {
	switch n := r.IntN(100); {
	case n < 6:
		return 0
	case n < 50:
		return 1 + r.Int64N(4<<10)
	case n < 70:
		return near(r, 256<<10)
	case n < 90:
		return r.Int64N(300 << 10)
	case n < 97:
		return near(r, 2<<20)
	}
	return largeSize(r, largest)
}

func largeSize(r *rand.Rand, largest int64) int64 {
	if r.IntN(2) == 0 {
		return near(r, largest)
	}
	return r.Int64N(largest + 1)
}

// readSize is of what is in the log and of what is in a file of its own, small enough to be read often.
func readSize(r *rand.Rand, _ int64) int64 {
	if r.IntN(4) == 0 {
		return near(r, 2<<20)
	}
	return 1 + r.Int64N(256<<10)
}

func codedSize(r *rand.Rand, largest int64) int64 {
	switch r.IntN(4) {
	case 0:
		return near(r, 8<<10)
	case 1:
		return 8<<10 + r.Int64N(64<<10)
	case 2:
		return near(r, 2<<20)
	}
	return r.Int64N(min(largest, 3<<20) + 1)
}

// pick chooses a kind by its weight.
func (p *preset) pick(r *rand.Rand) history.Kind {
	sum := 0
	for _, w := range p.weights {
		sum += w
	}
	n := r.IntN(sum)
	for k, w := range p.weights {
		if n -= w; n < 0 {
			return history.Kind(k)
		}
	}
	return history.Get
}
