//go:build !race

package metadb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// Rows that come in order leave full pages behind, and those between others room for more.
func TestPagesOfRowsInOrder(t *testing.T) {
	for what, tt := range map[string]struct {
		in          func(n int) int
		least, most float64
	}{
		"ascending": {func(n int) int { return n }, .8, 1},
		"random":    {func(int) int { return rand.IntN(1 << 30) }, .4, .8},
	} {
		s, loc := one(t, own)
		for i := range 100 {
			rows := map[int]bool{}
			for j := range 50 {
				rows[tt.in(50*i+j)] = true
			}
			err := s.MergeRows(bg, loc, nil, ordered(rows)...)
			if err != nil {
				t.Fatal(err)
			}
		}
		err := s.look(bg, loc, func(tx *Tx) error {
			b := tx.live.(bucket).Stats()
			if full := float64(b.LeafInuse) / float64(b.LeafAlloc); full < tt.least || full > tt.most {
				t.Errorf("%s: pages are full to %.2f, want %.1f to %.1f", what, full, tt.least, tt.most)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func ordered(of map[int]bool) (rows []Row) {
	for _, n := range slices.Sorted(maps.Keys(of)) {
		rows = append(rows, Row{0, fmt.Sprintf("row-%010d", n), live(5, 1)})
	}
	return rows
}
