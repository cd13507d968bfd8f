//go:build !race

package ec

import (
	"bytes"
	"io"
	"testing"
)

// What a segment costs in allocations, over and over: the library's own, and none of ours. Of a choice of
// fragments the matrix is inverted once. Under
// the race detector pools drop what is put into them.
func TestSegmentsAllocateLittle(t *testing.T) {
	const segments = 64
	c := code(t, "4+2", smallSegment) // so that segments of no pool are what counts
	size := segments * smallSegment
	body := bytesOf(size, 1)
	w := write(1, size)
	all := archives(t, c, w, body, size)
	large := code(t, "20+8", smallSegment)
	lost := archives(t, large, w, body, size)[8:]
	for name, tt := range map[string]struct {
		most float64 // for each segment
		run  func() error
	}{
		"encode": {1, func() error {
			e, err := c.Encode(w, func([][]byte) error { return nil })
			if err != nil {
				return err
			}
			if _, err := e.ReadFrom(bytes.NewReader(body)); err != nil {
				return err
			}
			return e.Close()
		}},
		"decode":                  {0, func() error { return readAll(c, w, from(all[:4]...)) }},
		"decode what is there":    {0, func() error { return readAll(c, w, &nodes{archives: all, here: everyone}) }},
		"decode with two lost":    {1, func() error { return readAll(c, w, from(all[2:]...)) }},
		"decode 20+8 with 8 lost": {9, func() error { return readAll(large, w, from(lost...)) }},
		"rebuild": {1, func() error {
			_, _, err := c.Rebuild(io.Discard, w, 0, from(all[1:]...).source)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := testing.AllocsPerRun(10, func() {
				if err := tt.run(); err != nil {
					t.Fatal(err)
				}
			})
			// An object has some of its own, a goroutine for each archive, and may have to make its buffers.
			if each := (got - 100) / segments; each > tt.most {
				t.Errorf("%.1f allocations for each segment, want at most %.0f", each, tt.most)
			}
		})
	}
}
