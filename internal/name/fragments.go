package name

import (
	"crypto/sha256"
	"encoding/binary"

	"martlet/internal/timestamp"
)

// Fragment returns the hash under which a fragment of an object is kept, whose own hash
// is h: it is told from others by the time of the data and its index, 0 to 255. The first
// half is that of h, so that it is in the same partition, and all of an object's
// fragments are next to each other: see FragmentRange. The second is the beginning of
// the SHA-256 of h, the time's ticks and offset, 8 bytes each, big endian, and the index.
func (h Hash) Fragment(t timestamp.T, index int) Hash {
	var of [len(h) + 17]byte
	copy(of[:], h[:])
	binary.BigEndian.PutUint64(of[len(h):], uint64(t.Ticks()))
	binary.BigEndian.PutUint64(of[len(h)+8:], t.Offset())
	of[len(h)+16] = byte(index)
	sum := sha256.Sum256(of[:])
	copy(h[8:], sum[:8])
	return h
}

// FragmentRange has the hashes of all fragments of an object, and next to never one of
// another object.
func (h Hash) FragmentRange() Range {
	return Range{Prefix: binary.BigEndian.Uint64(h[:8]), Depth: 64}
}
