package index

import (
	"encoding/binary"
	"iter"
	"sort"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// A Part is what a range of hashes comes to.
type Part struct {
	Range name.Range
	Digest
}

// Partitions yields the digests of all partitions of which there is something, in order, of
// a ring with 2^power partitions, each as DigestBefore has it; a time of zero leaves out
// nothing. It costs a look at each bucket and at what is in memory. Where power is more
// than the depth it reads all entries of the set, once. Each digest is that of a moment, not
// all of the same.
func (ix *Index) Partitions(s Set, power int, at timestamp.T) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		var err error
		switch {
		case power < 0 || power > 32:
			err = errs.E(errs.Invalid, "there is no such part power")
		case power <= ix.cfg.Depth:
			ix.partitions(s, power, at, func(p Part) bool { return yield(p, nil) })
		default:
			err = ix.smallPartitions(s, power, at, func(p Part) bool { return yield(p, nil) })
		}
		if err != nil {
			yield(Part{}, ix.digestError(err))
		}
	}
}

func (ix *Index) digestError(err error) error {
	return errs.E(errs.Op("index.digest"), errs.Subject(ix.cfg.Folder), kindOf(err), err)
}

// partitions adds up buckets.
func (ix *Index) partitions(s Set, power int, at timestamp.T, yield func(Part) bool) {
	each := uint32(1) << (ix.cfg.Depth - power) // buckets in a partition
	together := max(1, 1<<12/each)              // partitions for which the lock is held
	sums := make([]Digest, 0, together)
	for first := uint32(0); first < 1<<power; first += together {
		end := min(first+together, 1<<power)
		sums = sums[:0]
		ix.mu.RLock()
		for p := first; p < end; p++ {
			sums = append(sums, ix.buckets.sum(s, p*each, each))
		}
		from, to := name.PartitionRange(power, first), name.PartitionRange(power, end-1)
		ix.sinceEach(s, hashes(s.Policy, from.First(), to.Last()), at, func(k *rawKey, d Digest) {
			i := k.prefix(power) - first
			sums[i] = sums[i].Sub(d)
		})
		ix.mu.RUnlock()
		for i, d := range sums {
			if !d.IsZero() && !yield(Part{name.PartitionRange(power, first+uint32(i)), d}) {
				return
			}
		}
	}
}

// smallPartitions adds up entries, of partitions that are smaller than buckets.
func (ix *Index) smallPartitions(s Set, power int, at timestamp.T, yield func(Part) bool) error {
	all := hashes(s.Policy, name.Range{}.First(), name.Range{}.Last())
	later := map[uint32]Digest{}
	undo := func() {
		ix.sinceEach(s, all, at, func(k *rawKey, d Digest) { later[k.prefix(power)] = later[k.prefix(power)].Add(d) })
	}
	var now uint32
	var sum Digest
	flush := func() bool {
		d := sum.Sub(later[now])
		sum = Digest{}
		return d.IsZero() || yield(Part{name.PartitionRange(power, now), d})
	}
	enough := false
	err := ix.each(all, undo, func(i Item) bool {
		if i.Key.Part != s.Part {
			return true
		}
		if p := binary.BigEndian.Uint32(i.Key.Hash[:]) >> (32 - power); p != now {
			if enough = !flush(); enough {
				return false
			}
			now = p
		}
		sum = sum.Add(DigestOf(i.Key, &i.Entry))
		return true
	})
	if err == nil && !enough {
		flush()
	}
	return err
}

// Ranges yields what each of some ranges comes to, in their order; each begins behind the
// end of the one before it. A time of zero leaves out nothing, else it is as DigestBefore
// has it. Down to the depth of the buckets it reads nothing. Below it reads entries: once
// for neighbours, which are those that are parts of one range 256 times as large.
func (ix *Index) Ranges(s Set, ranges []name.Range, at timestamp.T) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		for left := ranges; len(left) > 0; {
			n := ix.neighbours(left)
			sums, err := ix.sums(s, left[:n], at)
			if err != nil {
				yield(Part{}, ix.digestError(err))
				return
			}
			for i, d := range sums {
				if !yield(Part{left[i], d}, nil) {
					return
				}
			}
			left = left[n:]
		}
	}
}

// neighbours says how many ranges are looked at together.
func (ix *Index) neighbours(ranges []name.Range) int {
	const most = 256
	first := ranges[0]
	deep := int(first.Depth) > ix.cfg.Depth
	around := name.Range{Depth: uint8(min(ix.cfg.Depth, max(0, int(first.Depth)-8)))}
	around.Prefix = first.Prefix >> (64 - around.Depth) << (64 - around.Depth)
	n := 1
	for n < min(most, len(ranges)) && int(ranges[n].Depth) > ix.cfg.Depth == deep && (!deep || around.Has(ranges[n].First())) {
		n++
	}
	return n
}

// sums returns what neighbours come to.
func (ix *Index) sums(s Set, ranges []name.Range, at timestamp.T) ([]Digest, error) {
	sums := make([]Digest, len(ranges))
	if int(ranges[0].Depth) <= ix.cfg.Depth {
		ix.mu.RLock()
		defer ix.mu.RUnlock()
		for i, r := range ranges {
			shift := 64 - ix.cfg.Depth
			sums[i] = ix.buckets.sum(s, uint32(r.Prefix>>shift), uint32(1)<<(ix.cfg.Depth-int(r.Depth)))
			ix.sinceEach(s, hashes(s.Policy, r.First(), r.Last()), at, func(_ *rawKey, d Digest) { sums[i] = sums[i].Sub(d) })
		}
		return sums, nil
	}
	all := hashes(s.Policy, ranges[0].First(), ranges[len(ranges)-1].Last())
	undo := func() {
		ix.sinceEach(s, all, at, func(k *rawKey, d Digest) {
			if i := rangeOf(ranges, k.hash()); i >= 0 {
				sums[i] = sums[i].Sub(d)
			}
		})
	}
	err := ix.each(all, undo, func(item Item) bool {
		if i := rangeOf(ranges, item.Key.Hash); i >= 0 && item.Key.Part == s.Part {
			sums[i] = sums[i].Add(DigestOf(item.Key, &item.Entry))
		}
		return true
	})
	return sums, err
}

// rangeOf returns the place of the range that has a hash, -1 if none has.
func rangeOf(ranges []name.Range, h name.Hash) int {
	at := binary.BigEndian.Uint64(h[:])
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].Prefix > at }) - 1
	if i < 0 || !ranges[i].Has(h) {
		return -1
	}
	return i
}
