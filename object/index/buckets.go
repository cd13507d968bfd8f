package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"martlet/internal/policy"
)

// A Set is what has digests of its own: what replicas keep of a policy (part 0), or
// one of the fragments (part i+1).
type Set struct {
	Policy policy.Index
	Part   uint8
}

func (r *rawKey) set() Set { return Set{r.policy(), r[keySize-1]} }

const (
	chunkBits = 8
	minDepth  = chunkBits
	maxDepth  = 24
	fileDepth = 20 // or more
)

// chunk is neighbouring buckets.
type chunk [1 << chunkBits]Digest

// buckets are the digests by set and by the first bits of the hash.
type buckets struct {
	depth int
	sets  map[Set][]*chunk // nil where nothing ever was

	// What was changed last is changed next, mostly.
	last   Set
	recent []*chunk // of last; nil before there is one
}

func newBuckets(depth int) *buckets { return &buckets{depth: depth, sets: map[Set][]*chunk{}} }

func (b *buckets) add(s Set, prefix uint32, d Digest) {
	if b.recent == nil || b.last != s {
		if b.sets[s] == nil {
			b.sets[s] = make([]*chunk, 1<<(b.depth-chunkBits))
		}
		b.last, b.recent = s, b.sets[s]
	}
	c := &b.recent[prefix>>chunkBits]
	if *c == nil {
		*c = new(chunk)
	}
	at := &(*c)[prefix&(1<<chunkBits-1)]
	*at = at.Add(d)
}

// sum returns the digest of n buckets from one on.
func (b *buckets) sum(s Set, first, n uint32) (d Digest) {
	chunks := b.sets[s]
	if chunks == nil {
		return d
	}
	for end := first + n; first < end; {
		stop := min(end, (first>>chunkBits+1)<<chunkBits)
		if c := chunks[first>>chunkBits]; c != nil {
			from := first & (1<<chunkBits - 1)
			for i := range c[from:][:stop-first] {
				d = d.Add(c[from:][i])
			}
		}
		first = stop
	}
	return d
}

// bucket is one as runs have it.
type bucket struct {
	set    Set
	prefix uint32
	digest Digest
}

const bucketSize = 2 + 1 + 4 + 16 + 8 + 8

func (b *bucket) append(to []byte) []byte {
	be := binary.BigEndian
	to = append(be.AppendUint16(to, uint16(b.set.Policy)), b.set.Part)
	to = be.AppendUint32(to, b.prefix)
	le := binary.LittleEndian
	to = le.AppendUint64(le.AppendUint64(to, b.digest.Sum.High), b.digest.Sum.Low)
	return le.AppendUint64(le.AppendUint64(to, uint64(b.digest.Objects)), uint64(b.digest.Bytes))
}

func (b *bucket) parse(from []byte) {
	be, le := binary.BigEndian, binary.LittleEndian
	b.set = Set{policy.Index(be.Uint16(from)), from[2]}
	b.prefix = be.Uint32(from[3:])
	b.digest = Digest{
		Sum{le.Uint64(from[7:]), le.Uint64(from[15:])},
		int64(le.Uint64(from[23:])), int64(le.Uint64(from[31:])),
	}
}

func (b *bucket) compare(c *bucket) int {
	return cmp.Or(
		cmp.Compare(b.set.Policy, c.set.Policy),
		cmp.Compare(b.set.Part, c.set.Part),
		cmp.Compare(b.prefix, c.prefix),
	)
}

// changed returns by how much the slots of a table changed which buckets.
func (m *memory) changed(depth int) []bucket {
	list := make([]bucket, 0, m.count)
	for _, slots := range m.slots {
		for i := range slots {
			s := &slots[i]
			list = append(list, bucket{s.key.set(), s.key.prefix(depth), s.digest.Sub(s.before)})
		}
	}
	slices.SortFunc(list, func(a, b bucket) int { return a.compare(&b) })
	return compact(list)
}

// compact joins neighbours of the same bucket and leaves out what did not change.
func compact(list []bucket) []bucket {
	kept := list[:0]
	for _, b := range list {
		if n := len(kept); n > 0 && kept[n-1].compare(&b) == 0 {
			kept[n-1].digest = kept[n-1].digest.Add(b.digest)
			continue
		}
		kept = append(kept, b)
	}
	return slices.DeleteFunc(kept, func(b bucket) bool { return b.digest.IsZero() })
}

// equal reports whether all buckets are the same.
func (b *buckets) equal(c *buckets) bool { return b.within(c) && c.within(b) }

func (b *buckets) within(c *buckets) bool {
	for s, chunks := range b.sets {
		for i, mine := range chunks {
			if mine == nil {
				continue
			}
			theirs := new(chunk)
			if other := c.sets[s]; other != nil && other[i] != nil {
				theirs = other[i]
			}
			if *mine != *theirs {
				return false
			}
		}
	}
	return true
}

func hasPrefix(b []byte, magic string) bool { return bytes.HasPrefix(b, []byte(magic)) }
