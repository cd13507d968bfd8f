package name

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// A range has exactly the hashes from its first to its last, its parts are all of it, one
// behind the other, and what is invalid is seen to be.
func TestRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		depth := rapid.IntRange(0, 64).Draw(t, "depth")
		var h Hash
		copy(h[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
		r := Range{rapid.Uint64().Draw(t, "prefix"), uint8(depth)}
		r.Prefix &^= r.rest()
		first, last := r.First(), r.Last()
		if in := bytes.Compare(first[:], h[:]) <= 0 && bytes.Compare(h[:], last[:]) <= 0; !r.Valid() || r.Has(h) != in {
			t.Fatalf("%+v from %s to %s: has %s: %t, want %t", r, first, last, h, r.Has(h), in)
		}
		if spoilt := (Range{r.Prefix | 1, r.Depth}); depth < 64 && spoilt.Valid() {
			t.Fatalf("%+v is valid", spoilt)
		}
		bits := rapid.IntRange(0, min(8, 64-depth)).Draw(t, "bits")
		var parts []Range
		for p := range r.Parts(uint8(bits)) {
			parts = append(parts, p)
		}
		if len(parts) != 1<<bits || parts[0].First() != first || parts[len(parts)-1].Last() != last {
			t.Fatalf("%+v has %d parts, %+v", r, len(parts), parts)
		}
		for i := range parts[1:] {
			if !parts[i].Before(parts[i+1]) || parts[i+1].Before(parts[i]) || !parts[i].Valid() || next(parts[i].Last()) != parts[i+1].First() {
				t.Fatalf("part %d of %+v: %+v, then %+v", i, r, parts[i], parts[i+1])
			}
		}
	})
	if (Range{0, 65}).Valid() {
		t.Error("a range of 65 bits is valid")
	}
	for power, partition := range map[int]uint32{0: 0, 1: 1, 16: 0xabcd, 32: 1<<32 - 1} {
		r := PartitionRange(power, partition)
		if got := uint32(r.Prefix >> 32 >> (32 - power)); !r.Valid() || got != partition || int(r.Depth) != power {
			t.Errorf("partition %d of part power %d is %+v", partition, power, r)
		}
	}
}

// next is the hash after one that is not the last there is.
func next(h Hash) Hash {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i]++; h[i] != 0 {
			break
		}
	}
	return h
}
