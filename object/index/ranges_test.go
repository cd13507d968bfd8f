//go:build !race

package index

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// genRanges draws ranges of several depths, in order and apart from each other, where there
// are keys and where there are none.
var genRanges = rapid.Custom(func(t *rapid.T) (list []name.Range) {
	left := []name.Range{{}}
	for len(left) > 0 {
		r := left[0]
		left = left[1:]
		step := min(rapid.IntRange(1, 6).Draw(t, "step"), 32-int(r.Depth))
		if len(list)+len(left) > 60 || step == 0 || rapid.IntRange(0, 3).Draw(t, "whole") == 0 {
			if rapid.IntRange(0, 9).Draw(t, "leave out") > 0 {
				list = append(list, r)
			}
			continue
		}
		var parts []name.Range
		for p := range r.Parts(uint8(step)) {
			parts = append(parts, p)
		}
		left = append(parts, left...)
	}
	return list
})

// TestRanges: what ranges and partitions come to, of any depth and however the index keeps
// them, is what a look at each alone says.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := config(vfs.NewMem())
		cfg.Depth = rapid.SampledFrom([]int{8, 12}).Draw(t, "depth")
		ix, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer ix.Close()
		var log []event
		for i, k := range rapid.SliceOfN(genKey, 0, 30).Draw(t, "keys") {
			if k.Hash[0] == 0 {
				k.Hash[1], k.Hash[4] = byte(i), byte(i*37)
			}
			log = append(log, event{at(i), k, genEntry.Draw(t, "entry")})
			if err := replay(ix, log[i:], log[i].at); err != nil {
				t.Fatal(err)
			}
			switch rapid.IntRange(0, 15).Draw(t, "step") {
			case 0:
				if err := ix.Checkpoint(context.Background()); err != nil {
					t.Fatal(err)
				}
			case 1:
				if ix.frozen == nil {
					if _, _, err := ix.freeze(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		model := modelOf(log)
		ranges := genRanges.Draw(t, "ranges")
		for _, s := range []Set{{}, {Policy: 1}, {Policy: 1, Part: 2}} {
			for _, line := range []timestamp.T{{}, genStamp.Draw(t, "line")} {
				alone := func(r name.Range) Digest {
					partition := uint32(r.Prefix >> 32 >> (32 - r.Depth))
					if line.IsZero() {
						return model.digest(s, int(r.Depth), partition)
					}
					d, err := ix.DigestBefore(s, int(r.Depth), partition, line)
					if err != nil {
						t.Fatal(err)
					}
					return d
				}
				i := 0
				for got, err := range ix.Ranges(s, ranges, line) {
					if want := alone(ranges[i]); err != nil || got.Range != ranges[i] || got.Digest != want {
						t.Fatalf("%+v before %v: got %+v, %v, want %v of %+v", s, line, got, err, want, ranges[i])
					}
					i++
				}
				if i != len(ranges) {
					t.Fatalf("%d of %d ranges", i, len(ranges))
				}
				for _, power := range []int{0, 3, 8, 10} {
					var got, want []Part
					for p, err := range ix.Partitions(s, power, line) {
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, p)
					}
					for p := range uint32(1) << power {
						r := name.PartitionRange(power, p)
						if d := alone(r); !d.IsZero() {
							want = append(want, Part{r, d})
						}
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%+v before %v, part power %d: got %+v, want %+v", s, line, power, got, want)
					}
				}
			}
		}
	})
}

// TestRangesEnd: who has had enough is not asked again, and an index that is damaged, or
// closed, says so.
func TestRangesEnd(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	stamp := timestamp.FromTicks(5)
	var ranges []name.Range
	for i := range 5 {
		h := name.Hash{byte(i)}
		ix.Apply(at(i), Change{Key: Key{Hash: h}, New: Entry{Kind: Data, Times: timestamp.Packed{Data: stamp, ContentType: stamp, Meta: stamp}}})
		ranges = append(ranges, name.Range{Prefix: uint64(i) << 56, Depth: 20})
	}
	for _, power := range []int{12, 20} {
		seen := 0
		for _, err := range ix.Partitions(Set{}, power, timestamp.T{}) {
			if seen++; seen == 2 || err != nil {
				break
			}
		}
		for _, err := range ix.Ranges(Set{}, ranges, timestamp.T{}) {
			if seen++; seen == 4 || err != nil {
				break
			}
		}
		if seen != 4 {
			t.Errorf("part power %d: %d parts were seen, want 4", power, seen)
		}
	}
	for _, power := range []int{-1, 33} {
		for p, err := range ix.Partitions(Set{}, power, timestamp.T{}) {
			if err == nil {
				t.Errorf("part power %d has %+v", power, p)
			}
		}
	}
	ix.Close()
	var err error
	for _, err = range ix.Ranges(Set{}, ranges, timestamp.T{}) {
		break
	}
	if err == nil {
		t.Error("a closed index knows what ranges come to that it has to read")
	}
}
