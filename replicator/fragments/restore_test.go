package fragments

import (
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/replwire"
)

// TestTogether: small objects go side by side, a few at a time, large ones alone, in the order that
// they came in.
func TestTogether(t *testing.T) {
	const segment = 100
	for name, tt := range map[string]struct {
		sizes []int64
		want  []int // how many in each group
	}{
		"none":              {nil, nil},
		"one":               {[]int64{5}, []int{1}},
		"more than a group": {[]int64{0, 1, segment, 3, 4, 5}, []int{4, 2}},
		"large":             {[]int64{segment + 1, segment + 1}, []int{1, 1}},
		"one between":       {[]int64{1, 2, segment + 1, 3}, []int{2, 1, 1}},
	} {
		list := make([]*missing, 0, len(tt.sizes))
		for _, size := range tt.sizes {
			list = append(list, &missing{commit: &replwire.Commit{Coded: backend.Coded{Size: size}}, layout: ec.Layout{Segment: segment}})
		}
		var got []int
		var all []*missing
		for _, g := range together(list) {
			got, all = append(got, len(g)), append(all, g...)
		}
		if !slices.Equal(got, tt.want) || !slices.Equal(all, list) {
			t.Errorf("%s: groups of %v, want %v, in the same order", name, got, tt.want)
		}
	}
}
