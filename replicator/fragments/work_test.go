package fragments

import (
	"math"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// However much devices say that they have, what is to be got is never less than nothing.
func TestWorkBeyondAll(t *testing.T) {
	for what, said := range map[string][]int64{
		"one":  {math.MaxInt64},
		"two":  {math.MaxInt64, math.MaxInt64},
		"many": {1 << 40, 1 << 40, 1 << 40},
	} {
		progress := &replicator.Progress{}
		w := &work{progress: progress}
		guess := int64(0)
		for _, n := range said {
			guess += guessOf(n, 0)
		}
		w.expect(guess)
		w.found(0, []*missing{{layout: ec.Of(ec.Shape{Data: 1, Parity: 1}), commit: &replwire.Commit{Coded: backend.Coded{Size: 1 << 52}}}})
		if get := progress.ToGet(); get.Objects <= 0 || get.Bytes <= 0 {
			t.Errorf("%s: %+v", what, get)
		}
	}
}
