package index

import (
	"encoding/binary"
	"errors"
	"math"

	"martlet/internal/seglog"
	"martlet/internal/timestamp"
)

// Kind says what is under a key.
type Kind uint8

// The kinds, those of states that replicas compare (internal/replwire) by the same
// numbers. Gone is not one of them.
const (
	Absent    Kind = iota // nothing: there is no entry
	Waiting               // metadata whose data has not come
	Data                  // an object, or a fragment
	Tombstone             // it was deleted
	Lost                  // its newest version was damaged, and has not been replaced
	Gone                  // nothing, for replicas and digests, but the log has records of it
	kinds
)

// A Place is where in the log a record is. The zero value is none.
type Place struct {
	Segment uint64
	Offset  int64 // not negative
	Size    int64 // bytes of the record, not negative
}

// Position is where the record begins.
func (p Place) Position() seglog.Position {
	return seglog.Position{Segment: p.Segment, Offset: p.Offset}
}

// IsZero reports whether there is no such record.
func (p Place) IsZero() bool { return p == Place{} }

// An Entry is what the index holds under a key. The zero value is none.
type Entry struct {
	Kind  Kind
	Times timestamp.Packed

	// Tie tells apart states with the same times (see Tie).
	Tie uint64

	Length int64 // of the body, of kind Data; not negative, and zero of others

	Data Place // the record of the data or of the tombstone
	Meta Place // of later metadata
	Mark Place // of what is in quarantine

	// Dead is how many other records of the key are still in the log. Not what a state
	// is, but where: it is no part of the digest.
	Dead uint32

	// Expires is the second since 1970 when an object is to end, by the metadata in force
	// or that of what is waited for: what is later than the year 2106 is of its last
	// second. Zero is never, or not known, as where metadata is lost. It follows from
	// the records, and is no part of the digest.
	Expires uint32

	Blob     bool // the body is not in the record, but in a file that it names
	MetaLost bool // metadata that belongs to the state was damaged
}

const (
	kindMask  = 0x07
	hasExtra  = 1 << 3
	hasType   = 1 << 4
	hasMeta   = 1 << 5
	hasOffset = 1 << 6
	isBlob    = 1 << 7

	dataPlace   = 1 << 0
	metaPlace   = 1 << 1
	markPlace   = 1 << 2
	isMetaLost  = 1 << 3
	hasDead     = 1 << 4
	hasExpiry   = 1 << 5
	placesKnown = dataPlace | metaPlace | markPlace | isMetaLost | hasDead | hasExpiry

	ticksLen = 7
	// maxValue is more than any value has.
	maxValue = 1 + ticksLen + 2*10 + 3*10 + 1 + 4 + 9*10 + 5 + 8 + 10
)

// append appends the value of an entry.
func (e *Entry) append(b []byte) []byte {
	if e.Kind == Absent {
		return append(b, 0)
	}
	t, flags, places := &e.Times, byte(e.Kind), byte(0)
	if t.ContentType.Ticks() != t.Data.Ticks() {
		flags |= hasType
	}
	if t.Meta.Ticks() != t.ContentType.Ticks() {
		flags |= hasMeta
	}
	if t.Data.Offset()|t.ContentType.Offset()|t.Meta.Offset() != 0 {
		flags |= hasOffset
	}
	if e.Blob {
		flags |= isBlob
	}
	var ticks [8]byte
	binary.LittleEndian.PutUint64(ticks[:], uint64(t.Data.Ticks()))
	b = append(append(b, flags), ticks[:ticksLen]...)
	if flags&hasType != 0 {
		b = binary.AppendVarint(b, t.ContentType.Ticks()-t.Data.Ticks())
	}
	if flags&hasMeta != 0 {
		b = binary.AppendVarint(b, t.Meta.Ticks()-t.ContentType.Ticks())
	}
	if flags&hasOffset != 0 {
		b = binary.AppendUvarint(b, t.Data.Offset())
		b = binary.AppendUvarint(b, t.ContentType.Offset())
		b = binary.AppendUvarint(b, t.Meta.Offset())
	}
	all := [...]*Place{&e.Data, &e.Meta, &e.Mark}
	for i, p := range all {
		if !p.IsZero() {
			places |= dataPlace << i
		}
	}
	if e.MetaLost {
		places |= isMetaLost
	}
	if e.Dead != 0 {
		places |= hasDead
	}
	if e.Expires != 0 {
		places |= hasExpiry
	}
	b = append(b, places)
	if e.Expires != 0 {
		b = binary.LittleEndian.AppendUint32(b, e.Expires)
	}
	for _, p := range all {
		if !p.IsZero() {
			b = binary.AppendUvarint(b, p.Segment)
			b = binary.AppendUvarint(b, uint64(p.Offset))
			b = binary.AppendUvarint(b, uint64(p.Size))
		}
	}
	if e.Dead != 0 {
		b = binary.AppendUvarint(b, uint64(e.Dead))
	}
	b = binary.LittleEndian.AppendUint64(b, e.Tie)
	if e.Kind == Data {
		b = binary.AppendUvarint(b, uint64(e.Length))
	}
	return b
}

var errEntry = errors.New("an entry contradicts itself")

// parse reads what append wrote, and nothing else.
func (e *Entry) parse(b []byte) error {
	*e = Entry{}
	r := reader{b: b}
	flags := r.byte()
	e.Kind = Kind(flags & kindMask)
	if e.Kind == Absent {
		if len(b) != 1 || flags != 0 {
			return errEntry
		}
		return nil
	}
	if e.Kind >= kinds || flags&hasExtra != 0 {
		return errEntry
	}
	e.Blob = flags&isBlob != 0
	var ticks [8]byte
	copy(ticks[:], r.take(ticksLen))
	data := int64(binary.LittleEndian.Uint64(ticks[:]))
	ctype := data
	if flags&hasType != 0 {
		ctype += r.delta()
	}
	meta := ctype
	if flags&hasMeta != 0 {
		meta += r.delta()
	}
	var offsets [3]uint64
	if flags&hasOffset != 0 {
		for i := range offsets {
			offsets[i] = r.uvarint()
		}
		r.bad = r.bad || offsets == [3]uint64{}
	}
	for i, t := range [...]int64{data, ctype, meta} {
		at := timestamp.FromTicks(t)
		r.bad = r.bad || at.Ticks() != t
		at = at.WithOffset(offsets[i])
		switch i {
		case 0:
			e.Times.Data = at
		case 1:
			e.Times.ContentType = at
		case 2:
			e.Times.Meta = at
		}
	}
	places := r.byte()
	if places&hasExpiry != 0 {
		if at := r.take(4); at != nil {
			e.Expires = binary.LittleEndian.Uint32(at)
		}
		r.bad = r.bad || e.Expires == 0
	}
	for i, p := range [...]*Place{&e.Data, &e.Meta, &e.Mark} {
		if places&(dataPlace<<i) != 0 {
			*p = Place{Segment: r.uvarint(), Offset: r.length(), Size: r.length()}
			r.bad = r.bad || p.IsZero()
		}
	}
	e.MetaLost = places&isMetaLost != 0
	if places&hasDead != 0 {
		dead := r.uvarint()
		e.Dead = uint32(dead)
		r.bad = r.bad || dead == 0 || dead > math.MaxUint32
	}
	if tie := r.take(8); tie != nil {
		e.Tie = binary.LittleEndian.Uint64(tie)
	}
	if e.Kind == Data {
		e.Length = r.length()
	}
	if r.bad || len(r.b) != 0 || places&^placesKnown != 0 {
		return errEntry
	}
	return nil
}

// expires returns Expires of an entry's value, without reading the rest of it.
func expires(value []byte) uint32 {
	r := reader{b: value}
	flags := r.byte()
	if flags&kindMask == byte(Absent) {
		return 0
	}
	r.take(ticksLen)
	for _, part := range [...]struct{ flag, numbers byte }{{hasType, 1}, {hasMeta, 1}, {hasOffset, 3}} {
		for range part.numbers * (flags & part.flag / part.flag) {
			r.uvarint()
		}
	}
	if r.byte()&hasExpiry == 0 {
		return 0
	}
	if at := r.take(4); at != nil && !r.bad {
		return binary.LittleEndian.Uint32(at)
	}
	return 0
}

// reader takes parts off the front of bytes, until one is not there.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad = true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// uvarint reads a number in as few bytes as it needs.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) length() int64 {
	v := r.uvarint()
	r.bad = r.bad || int64(v) < 0
	return int64(v)
}

// delta reads a difference that is not zero.
func (r *reader) delta() int64 {
	v := r.uvarint()
	r.bad = r.bad || v == 0
	return int64(v>>1) ^ -int64(v&1)
}
