package name

import (
	"encoding/binary"
	"iter"
)

// A Range is all hashes that begin with the same bits: a partition of a ring is one,
// and so is each of its parts.
type Range struct {
	Prefix uint64 // those bits, from the highest on; all behind them are zero
	Depth  uint8  // how many they are, at most 64
}

// PartitionRange is a partition of a ring with 2^power partitions; power is at most 32.
func PartitionRange(power int, partition uint32) Range {
	return Range{uint64(partition) << 32 << (32 - power), uint8(power)}
}

// Valid reports whether a range is one: no bit of it says anything behind its depth.
func (r Range) Valid() bool { return r.Depth <= 64 && r.Prefix&r.rest() == 0 }

// rest has the bits that are not those of the prefix.
func (r Range) rest() uint64 { return ^uint64(0) >> r.Depth }

// First is the lowest hash of the range.
func (r Range) First() (h Hash) {
	binary.BigEndian.PutUint64(h[:], r.Prefix)
	return h
}

// Last is the highest hash of the range.
func (r Range) Last() (h Hash) {
	binary.BigEndian.PutUint64(h[:], r.Prefix|r.rest())
	for i := 8; i < len(h); i++ {
		h[i] = 0xff
	}
	return h
}

// Has reports whether a hash is one of the range.
func (r Range) Has(h Hash) bool { return binary.BigEndian.Uint64(h[:])&^r.rest() == r.Prefix }

// Before reports whether all of a range comes before all of another.
func (r Range) Before(s Range) bool { return r.Prefix|r.rest() < s.Prefix }

// Parts yields the 2^bits ranges that are all of this one, in order. Depth and bits together
// are at most 64.
func (r Range) Parts(bits uint8) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		depth := r.Depth + bits
		for i := range uint64(1) << bits {
			if !yield(Range{r.Prefix | i<<(64-depth), depth}) {
				return
			}
		}
	}
}
