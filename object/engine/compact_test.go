//go:build !race

package engine

import (
	"bytes"
	"slices"
	"testing"

	"martlet/internal/name"
	"martlet/internal/vfs"
)

// What is moved may come behind what was written later, and there is still what was
// dropped, with later times, before both. ops are done each into a segment of its own,
// of which some are compacted; then all that may come of it is the same.
func TestMovedBehindWhatIsLater(t *testing.T) {
	l := worldName(0)
	do := func(what int, n, m int64) op { return op{what: what, at: l, n: n, m: m} }
	for name, tt := range map[string]struct {
		ops     []op
		compact []uint64 // segments, from 1
	}{
		"data behind metadata": {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0)}, []uint64{2, 3}},
		"of a type as well":    {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 12, 8)}, []uint64{2, 3}},
		"metadata alone later": {[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 12, 0)}, []uint64{2, 3}},
		"behind a tombstone":   {[]op{do(opDelete, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 7)}, []uint64{2, 3}},
		"behind lost data":     {[]op{do(opPut, 10, 0), do(opLoseData, 0, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 7)}, []uint64{3, 4}},
		"behind later metadata": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0)}, []uint64{3, 4},
		},
		"metadata that waited": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPost, 7, 0), do(opPut, 5, 0)}, []uint64{3, 4},
		},
		"half of it is older": {[]op{do(opPost, 1, 2), do(opPut, 1, 0)}, []uint64{1}},
		"lost metadata": {
			[]op{do(opPut, 10, 0), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0), do(opLoseMeta, 0, 0)}, []uint64{2, 3},
		},
		"a mark of metadata": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPost, 7, 0), do(opLoseMeta, 0, 0), do(opPut, 5, 0)}, []uint64{3, 5},
		},
		"a mark of data": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opLoseData, 0, 0), do(opPost, 7, 0)}, []uint64{3, 5},
		},
		"metadata behind a mark of data": {
			[]op{do(opPut, 10, 0), do(opPost, 20, 20), do(opDrop, 0, 0), do(opPut, 5, 0), do(opPost, 7, 0), do(opLoseData, 0, 0)}, []uint64{3, 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for _, o := range tt.ops {
				if err := w.do(o); err != nil {
					t.Fatal(err)
				}
				w.seal(t)
			}
			n := uint64(0)
			err := compactSome(ctx, w.e, ts(0), func() bool {
				n++
				return slices.Contains(tt.compact, n)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.check(0, 8); err != nil {
				t.Fatal(err)
			}
			// What the restarted store makes of the moved records is the same.
			w.open(w.fs)
			if err := w.check(0, 8); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Each start leaves a segment with little in it. They do not become ever more.
func TestSmallSegments(t *testing.T) {
	cfg := smallConfig(vfs.NewMem())
	cfg.SegmentSize, cfg.Threshold = 1<<20, 1<<17
	one := func(i int) Location { return Location{Hash: name.Hash{byte(i), 1}} }
	bodyOf := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 20_000) } // most of a segment
	for i := range 3 * manySmall {
		e := New("/", cfg)
		if err := put(e, one(i), ts(1), bodyOf(i), "x", Terms{}); err != nil {
			t.Fatal(err)
		}
		if err := e.Compact(ctx, ts(0), nil); err != nil {
			t.Fatal(err)
		}
		d, err := e.now().open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(d.log.Segments()); n > manySmall+1 {
			t.Fatalf("there are %d segments", n)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := New("/", cfg)
	for i := range 3 * manySmall {
		if _, body, err := get(e, one(i)); err != nil || !bytes.Equal(body, bodyOf(i)) {
			t.Errorf("%v has %d bytes, %v", one(i), len(body), err)
		}
	}
}
