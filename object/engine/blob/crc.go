package blob

import (
	"hash/crc32"
	"sync"
)

// shiftBlock moves a CRC32C past a whole block of zeros: the checksum of A and
// a block B behind it is the shifted checksum of A, xor that of B. So the
// checksum of the whole comes out of those of the blocks without a second look
// at the data. The shift is linear; one table for each byte of the checksum.
var shiftBlock = sync.OnceValue(func() *[4][256]uint32 {
	var bit [32]uint32
	for i := range bit {
		bit[i] = shift(1<<i, BlockSize)
	}
	var t [4][256]uint32
	for i := range t {
		for v := range t[i] {
			for j := range 8 {
				if v>>j&1 == 1 {
					t[i][v] ^= bit[8*i+j]
				}
			}
		}
	}
	return &t
})

var zeros [BlockSize]byte

// shift moves a checksum past n zeros, n at most BlockSize.
func shift(crc uint32, n int) uint32 { return ^crc32.Update(^crc, castagnoli, zeros[:n]) }

// join returns the checksum of what whole is of, followed by n bytes whose
// checksum is part.
func join(whole, part uint32, n int) uint32 {
	if n != BlockSize {
		return shift(whole, n) ^ part
	}
	t := shiftBlock()
	return t[0][byte(whole)] ^ t[1][byte(whole>>8)] ^ t[2][byte(whole>>16)] ^ t[3][byte(whole>>24)] ^ part
}

// summer takes the checksums of a stream: of its blocks and of the whole.
type summer struct {
	table  []uint32
	whole  uint32 // of the blocks in table
	part   uint32 // of the block under way
	length int64
	ended  bool // the last block is in table as well
}

func (s *summer) add(p []byte) {
	for len(p) > 0 {
		fill := int(s.length % BlockSize)
		n := min(len(p), BlockSize-fill)
		s.part = crc32.Update(s.part, castagnoli, p[:n])
		s.length += int64(n)
		if fill+n == BlockSize {
			s.end(BlockSize)
		}
		p = p[n:]
	}
}

func (s *summer) end(n int) {
	s.table = append(s.table, s.part)
	s.whole = join(s.whole, s.part, n)
	s.part = 0
}

// sum returns the checksum of all there was so far.
func (s *summer) sum() uint32 {
	if tail := int(s.length % BlockSize); tail > 0 && !s.ended {
		return join(s.whole, s.part, tail)
	}
	return s.whole
}

// finish ends the last block.
func (s *summer) finish() {
	if tail := int(s.length % BlockSize); tail > 0 && !s.ended {
		s.end(tail)
	}
	s.ended = true
}
