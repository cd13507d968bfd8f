package index

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"martlet/internal/policy"
)

// leastEntry is how many bytes an entry has that says "dropped".
const leastEntry = 1 + 1 + 16

// sealBlock completes a block that is filled up to a length.
func sealBlock(b []byte, length int, run uint64, number int64, p policy.Index, count int) {
	clear(b[length:])
	le := binary.LittleEndian
	le.PutUint32(b[4:], uint32(run))
	le.PutUint32(b[8:], uint32(number))
	le.PutUint16(b[12:], uint16(p))
	le.PutUint16(b[14:], uint16(count))
	le.PutUint32(b, checksum(b[4:]))
}

// block is one that was read and found whole.
type block struct {
	policy policy.Index
	count  int
	rest   []byte
}

// openBlock checks a block.
func openBlock(b []byte, run uint64, number int64) (block, error) {
	le := binary.LittleEndian
	if le.Uint32(b) != checksum(b[4:]) || le.Uint32(b[4:]) != uint32(run) || le.Uint32(b[8:]) != uint32(number) {
		return block{}, fmt.Errorf("block %d does not fit its checksum", number)
	}
	return block{policy.Index(le.Uint16(b[12:])), int(le.Uint16(b[14:])), b[blockHead:]}, nil
}

// cut takes one entry off the front: flags, hash, version and part if there are any,
// and the rest of the value.
func (b *block) cut() (flags byte, hash, extra, rest []byte, err error) {
	if len(b.rest) < leastEntry {
		return 0, nil, nil, nil, errEntry
	}
	length, flags := int(b.rest[0]), b.rest[1]
	hash = b.rest[2:leastEntry]
	rest = b.rest[leastEntry:]
	if flags&hasExtra != 0 {
		if len(rest) < extraLen {
			return 0, nil, nil, nil, errEntry
		}
		extra, rest = rest[:extraLen], rest[extraLen:]
	}
	if length < 1 || len(rest) < length-1 {
		return 0, nil, nil, nil, errEntry
	}
	rest, b.rest = rest[:length-1], rest[length-1:]
	b.count--
	return flags, hash, extra, rest, nil
}

// skip passes over an entry.
func (b *block) skip() error {
	n := leastEntry - 1 + int(b.rest[0])
	if b.rest[1]&hasExtra != 0 {
		n += extraLen
	}
	if b.rest[0] < 1 || len(b.rest) < n {
		return errEntry
	}
	b.rest = b.rest[n:]
	b.count--
	return nil
}

// next reads one entry; the value is appended to b.
func (b *block) next(value []byte) (r record, more bool, err error) {
	if b.count == 0 {
		return r, false, nil
	}
	flags, hash, extra, rest, err := b.cut()
	if err != nil {
		return r, false, err
	}
	binary.BigEndian.PutUint16(r.key[:], uint16(b.policy))
	copy(r.key[hashAt:], hash)
	copy(r.key[extraAt:], extra)
	r.value = append(append(value, flags&^hasExtra), rest...)
	return r, true, nil
}

// find looks for a key; the value is appended to value, and nil if there is none.
func (b *block) find(k *rawKey, value []byte) ([]byte, error) {
	if b.policy != k.policy() {
		return nil, nil
	}
	want, wantExtra := k[hashAt:extraAt], k.extra()
	short := isZero(wantExtra)
	front := binary.BigEndian.Uint64(want)
	for b.count > 0 {
		// Nearly all entries are passed over for the first half of their hash.
		if len(b.rest) >= leastEntry && binary.BigEndian.Uint64(b.rest[2:]) < front {
			if err := b.skip(); err != nil {
				return nil, err
			}
			continue
		}
		flags, hash, extra, rest, err := b.cut()
		if err != nil {
			return nil, err
		}
		switch c := bytes.Compare(hash, want); {
		case c > 0:
			return nil, nil
		case c == 0 && (extra == nil && short || extra != nil && bytes.Equal(extra, wantExtra)):
			return append(append(value, flags&^hasExtra), rest...), nil
		}
	}
	return nil, nil
}
