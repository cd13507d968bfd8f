package fragments

import (
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/replwire"
)

// TestTogether: small objects go together, up to a number and a size, large ones alone, in the order that
// they came in.
func TestTogether(t *testing.T) {
	const small = 64 << 10
	layout := ec.Of(ec.Shape{Data: 4, Parity: 2})
	for name, tt := range map[string]struct {
		sizes []int64
		want  []int // how many in each batch
	}{
		"none":             {nil, nil},
		"one":              {[]int64{5}, []int{1}},
		"many":             {slices.Repeat([]int64{1}, inBatch+3), []int{inBatch, 3}},
		"many bytes":       {slices.Repeat([]int64{small}, batchBytes/small+1), []int{batchBytes / small, 1}},
		"large":            {[]int64{2 << 20, 2 << 20}, []int{1, 1}},
		"not in a record":  {[]int64{1 << 20, 1 << 20}, []int{1, 1}},
		"one between":      {[]int64{1, 2, 2 << 20, 3}, []int{2, 1, 1}},
		"a small one last": {[]int64{2 << 20, 3, 4}, []int{1, 2}},
	} {
		list := make([]*missing, 0, len(tt.sizes))
		for _, size := range tt.sizes {
			list = append(list, &missing{commit: &replwire.Commit{Coded: backend.Coded{Size: size}}, layout: layout})
		}
		var got []int
		var all []*missing
		for _, g := range together(list) {
			got, all = append(got, len(g)), append(all, g...)
		}
		if !slices.Equal(got, tt.want) || !slices.Equal(all, list) {
			t.Errorf("%s: batches of %v, want %v, in the same order", name, got, tt.want)
		}
	}
}
