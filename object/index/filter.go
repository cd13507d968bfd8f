package index

import (
	"encoding/binary"
	"math/bits"
)

// filter says of most hashes that are not in a run that they are not. A hash sets
// bits of one line of 64 bytes, so that asking costs one miss of the cache.
type filter []byte

const (
	filterLine  = 64
	filterBits  = 10 // an entry
	filterTests = 6
)

func newFilter(entries int64) filter {
	lines := (entries*filterBits + 8*filterLine - 1) / (8 * filterLine)
	return make(filter, max(1, lines)*filterLine)
}

// places returns the line of a key's hash and what chooses the bits in it. The first
// bits of the hash are left out: a device has few partitions.
func (f filter) places(k *rawKey) (line []byte, choice uint64) {
	low := binary.LittleEndian.Uint64(k[hashAt+8:])
	high, _ := bits.Mul64(uint64(binary.LittleEndian.Uint32(k[hashAt+4:]))<<32, uint64(len(f)/filterLine))
	return f[high*filterLine:][:filterLine], low
}

func (f filter) add(k *rawKey) {
	line, choice := f.places(k)
	for range filterTests {
		line[choice&63] |= 1 << (choice >> 6 & 7)
		choice >>= 9
	}
}

func (f filter) has(k *rawKey) bool {
	line, choice := f.places(k)
	for range filterTests {
		if line[choice&63]&(1<<(choice>>6&7)) == 0 {
			return false
		}
		choice >>= 9
	}
	return true
}
