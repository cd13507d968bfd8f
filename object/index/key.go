package index

import (
	"bytes"
	"encoding/binary"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// A Key is what an entry is of.
type Key struct {
	Policy policy.Index
	Hash   name.Hash

	// Version and Part are of erasure coding, and zero where whole copies are kept:
	// part 0 is what is known of a version, part i+1 its fragment i.
	Version timestamp.T
	Part    uint8
}

const (
	keySize  = 2 + 16 + 16 + 1
	hashAt   = 2
	extraAt  = hashAt + 16 // version and part
	extraLen = keySize - extraAt
)

// rawKey is a key as it is ordered and stored.
type rawKey [keySize]byte

func (k Key) raw() (r rawKey) {
	be := binary.BigEndian
	be.PutUint16(r[:], uint16(k.Policy))
	copy(r[hashAt:], k.Hash[:])
	be.PutUint64(r[extraAt:], uint64(k.Version.Ticks()))
	be.PutUint64(r[extraAt+8:], k.Version.Offset())
	r[keySize-1] = k.Part
	return r
}

func (r *rawKey) key() Key {
	be := binary.BigEndian
	return Key{
		Policy:  r.policy(),
		Hash:    r.hash(),
		Version: timestamp.FromTicks(int64(be.Uint64(r[extraAt:]))).WithOffset(be.Uint64(r[extraAt+8:])),
		Part:    r[keySize-1],
	}
}

func (r *rawKey) policy() policy.Index { return policy.Index(binary.BigEndian.Uint16(r[:])) }
func (r *rawKey) hash() name.Hash      { return name.Hash(r[hashAt:extraAt]) }
func (r *rawKey) extra() []byte        { return r[extraAt:] }

// prefix returns the first bits of the hash.
func (r *rawKey) prefix(bits int) uint32 {
	return uint32(uint64(binary.BigEndian.Uint32(r[hashAt:])) >> (32 - bits))
}

// number returns the policy and the first bits of the hash, in the order of keys.
func (r *rawKey) number() uint64 { return binary.BigEndian.Uint64(r[:]) }

func (r *rawKey) compare(s *rawKey) int { return bytes.Compare(r[:], s[:]) }

// span is a range of keys, both ends included.
type span struct{ from, to rawKey }

func (s *span) has(k *rawKey) bool { return s.from.compare(k) <= 0 && k.compare(&s.to) <= 0 }

// hashes returns the span of all keys of a policy whose hashes are in a range.
func hashes(p policy.Index, from, to name.Hash) (s span) {
	s.from = Key{Policy: p, Hash: from}.raw()
	s.to = Key{Policy: p, Hash: to}.raw()
	for i := extraAt; i < keySize; i++ {
		s.to[i] = 0xff
	}
	return s
}

// Partition returns the first and the last hash of a partition of a ring with 2^power
// partitions. Power is from 0 to 32.
func Partition(power int, partition uint32) (from, to name.Hash) {
	first := uint64(partition) << (32 - power)
	binary.BigEndian.PutUint32(from[:], uint32(first))
	binary.BigEndian.PutUint32(to[:], uint32(first+1<<(32-power)-1))
	for i := 4; i < len(to); i++ {
		to[i] = 0xff
	}
	return from, to
}
