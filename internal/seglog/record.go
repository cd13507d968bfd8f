package seglog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

const (
	recordMagic = 0x31524c4d // "MLR1"
	fixedSize   = 56
	alignment   = 8

	// BlockSize is how many bytes of a body have a checksum of their own.
	BlockSize = 1 << 16

	// MaxHead bounds the head of a record, in bytes.
	MaxHead = 1 << 20
	// MaxBody bounds the body of a record, in bytes.
	MaxBody = 16 << 20

	sealKind = 255
	// MaxKind is the highest kind that a user's record may have.
	MaxKind = sealKind - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// A Record is what is appended.
type Record struct {
	Kind byte // up to MaxKind
	Key  [16]byte
	Head []byte // up to MaxHead bytes; what is read without the body
	Body []byte // up to MaxBody bytes

	// Urgent may use the room that is kept for when there is no other.
	Urgent bool
}

// Size is how many bytes a record with parts of those lengths takes in a segment.
func Size(head, body int) int64 {
	n := int64(fixedSize) + int64(head) + int64(tableSize(int64(body))) + int64(body)
	return (n + alignment - 1) &^ (alignment - 1)
}

// tableSize is how many bytes the checksums of a body take.
func tableSize(body int64) int { return int((body+BlockSize-1)/BlockSize) * 4 }

var padding [alignment]byte

// before is how many bytes there are before the body.
func (r *Record) before() int { return fixedSize + len(r.Head) + tableSize(int64(len(r.Body))) }

// seal makes what comes before the body, but for what place fills in.
func (r *Record) seal() []byte { return r.appendSealed(nil) }

// appendSealed is seal into memory that has nothing in it, or into new one where there is no room in that.
func (r *Record) appendSealed(b []byte) []byte {
	b = slices.Grow(b, r.before())[:fixedSize]
	clear(b)
	le := binary.LittleEndian
	le.PutUint32(b, recordMagic)
	le.PutUint32(b[20:], uint32(len(r.Head)))
	le.PutUint64(b[24:], uint64(len(r.Body)))
	copy(b[32:], r.Key[:])
	b[52] = r.Kind
	b = append(b, r.Head...)
	for rest := r.Body; len(rest) > 0; {
		n := min(len(rest), BlockSize)
		b = le.AppendUint32(b, checksum(rest[:n]))
		rest = rest[n:]
	}
	le.PutUint32(b[16:], checksum(b[fixedSize:]))
	return b
}

// origin is what each record of a segment is bound to: bytes that somebody had stored
// as the body of one can't be taken for records of their own, whatever they look like.
type origin struct {
	segment uint64
	seed    uint32 // what checksums of the first parts begin with; 0 in a segment of format 1
}

// of returns the origin of a segment's records in the present format.
func (id ID) of(segment uint64) origin { return origin{segment, checksum(id[:])} }

// checksum is that of the first part of a record.
func (o origin) checksum(b []byte) uint32 { return crc32.Update(o.seed, castagnoli, b[8:fixedSize]) }

// place fills in where a record is: what is not known before its turn.
func place(b []byte, o origin, start int64) {
	le := binary.LittleEndian
	le.PutUint64(b[8:], o.segment)
	le.PutUint32(b[48:], uint32(start/alignment))
	le.PutUint32(b[4:], o.checksum(b))
}

// fixed is the first part of a record.
type fixed struct {
	content uint32 // checksum of head and table
	head    int
	body    int64
	key     [16]byte
	start   int64 // of its batch
	kind    byte
}

// size is how many bytes the record takes.
func (f *fixed) size() int64 { return Size(f.head, int(f.body)) }

// before is how many bytes there are before the body.
func (f *fixed) before() int64 { return int64(fixedSize + f.head + tableSize(f.body)) }

// parseFixed reads the first part of a record of a segment. It says why where there
// is none.
func parseFixed(b []byte, o origin) (f fixed, err error) {
	le := binary.LittleEndian
	if len(b) < fixedSize || le.Uint32(b) != recordMagic {
		return f, recordError("no record begins there")
	}
	if o.checksum(b) != le.Uint32(b[4:]) {
		return f, recordError("its checksum does not fit")
	}
	if of := le.Uint64(b[8:]); of != o.segment {
		return f, recordError(fmt.Sprintf("it is of segment %d", of))
	}
	f = fixed{content: le.Uint32(b[16:]), head: int(le.Uint32(b[20:])), start: int64(le.Uint32(b[48:])) * alignment, kind: b[52]}
	body := le.Uint64(b[24:])
	copy(f.key[:], b[32:])
	if f.head > MaxHead || body > MaxBody || b[53]|b[54]|b[55] != 0 {
		return f, recordError("it contradicts itself")
	}
	f.body = int64(body)
	return f, nil
}

// recordError is why a record can't be read.
type recordError string

func (e recordError) Error() string { return string(e) }
