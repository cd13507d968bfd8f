package fragments

import (
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/replwire"
)

// TestTogether: small objects go together, up to a number and a size, large ones alone; those of which fewer fragments are left
// stay first, and in no batch with others.
func TestTogether(t *testing.T) {
	const small, large = 64 << 10, 1 << 20 // of which a fragment does not fit into a record
	layout := ec.Of(ec.Shape{Data: 4, Parity: 2})
	for name, tt := range map[string]struct {
		sizes []int64
		left  []int // of each; none for the same of all
		want  [][]int
	}{
		"none":               {nil, nil, nil},
		"one":                {[]int64{5}, nil, [][]int{{0}}},
		"many":               {slices.Repeat([]int64{1}, inBatch+2), nil, [][]int{upTo(0, inBatch), {inBatch, inBatch + 1}}},
		"many bytes":         {slices.Repeat([]int64{small}, batchBytes/small+1), nil, [][]int{upTo(0, batchBytes/small), {batchBytes / small}}},
		"large":              {[]int64{large, 2 * large}, nil, [][]int{{0}, {1}}},
		"large between":      {[]int64{1, 2, large, 3, large, 4}, nil, [][]int{{0, 1, 3, 5}, {2}, {4}}},
		"fewer left":         {[]int64{1, 2, 3, 4}, []int{4, 4, 5, 5}, [][]int{{0, 1}, {2, 3}}},
		"fewer of the large": {[]int64{large, 2, large, 4}, []int{4, 4, 5, 5}, [][]int{{0}, {1}, {2}, {3}}},
	} {
		list, place := make([]*missing, 0, len(tt.sizes)), map[*missing]int{}
		for i, size := range tt.sizes {
			m := &missing{commit: &replwire.Commit{Coded: backend.Coded{Size: size}}, layout: layout}
			if tt.left != nil {
				m.left = tt.left[i]
			}
			list, place[m] = append(list, m), i
		}
		var got [][]int
		for _, b := range together(list) {
			var at []int
			for _, m := range b {
				at = append(at, place[m])
			}
			got = append(got, at)
		}
		if !slices.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%s: batches of %v, want %v", name, got, tt.want)
		}
	}
}

func upTo(from, to int) (list []int) {
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
