// Package record is what the store of objects writes into the log of a device: the
// heads of its records, byte by byte.
//
// A record of the log has a kind, a key, a head and a body (internal/seglog). The key
// is the hash of the name, the body the object's data, where the record holds it. The
// head says all else, so that an index can be made from heads alone. What follows
// from a record for what is stored under the hash is the engine's.
//
// # Format, version 1
//
// Numbers are little endian; a time is its ticks and its offset, 8 bytes each; text is
// that of package blob. All heads but those of Compacted and Journal begin with
//
//	0  1  format, 1
//	1  1  flags: 1 alone
//	2  2  policy
//	4  4  Data and Blob: CRC32C of the data; Quarantine: what is lost, 1 data,
//	      2 metadata; zero else
//	8  8  tie, of the state that the record leaves
//
// and go on, from byte 16, with
//
//	Data        time 16, MD5 16, length 8, text
//	Blob        time 16, MD5 16, length 8, number of the file 8, text
//	Meta        time of the metadata 16, of the content type 16, text
//	Tombstone   time 16, text
//	Purge       times of data, content type and metadata that were there 48
//	Quarantine  times of data, content type and metadata 48, length of the reason as
//	            uvarint, the reason, text
//
// That of Compacted:
//
//	 0  1  format, 1
//	 1  1  flags: 2 the last of its segment
//	 2 14  zero
//	16  8  segment
//	24  8  from that offset on
//	32  8  up to that one
//
// That of Journal, whose key is the hash of a database's path:
//
//	0  1  format, 1
//	1  1  owner, 1 to 3
//	2  2  zero
//	4  4  length of the update
//	8  8  zero
//
// and then the update, in a format of its owner.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
)

// Kind is the kind of a record. Numbers are never given out anew.
type Kind uint8

// The kinds. 5 to 7 were meant for fragments, which need none: see DESIGN.md of the engine.
const (
	Data       Kind = 1  // a version, with its data as the body
	Blob       Kind = 2  // a version whose data is in a file
	Meta       Kind = 3  // later metadata, content type, or both: all there is beside the data
	Tombstone  Kind = 4  // the record of a delete
	Purge      Kind = 8  // all that was there was dropped, because others have it
	Quarantine Kind = 9  // parts of what was there are damaged
	Journal    Kind = 10 // an update of a database
	Compacted  Kind = 11 // what was alive of a part of a segment has been appended again
)

// String returns a word.
func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Blob:
		return "blob"
	case Meta:
		return "metadata"
	case Tombstone:
		return "tombstone"
	case Purge:
		return "purge"
	case Quarantine:
		return "quarantine"
	case Journal:
		return "journal"
	case Compacted:
		return "compacted"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// OfObject reports whether the key of a record of the kind is the hash of an object's name.
func (k Kind) OfObject() bool { return k != Journal && k != Compacted }

// Owners of records of kind Journal. Numbers are never given out anew.
const (
	Accounts   = 1
	Containers = 2

	// Owners is one more than the greatest owner there may be.
	Owners = 4
)

// Lost says which parts of a state are lost.
type Lost uint8

// The parts.
const (
	LostData Lost = 1 << iota
	LostMeta
)

// A Head is the head of a record. Fields that its kind does not have are zero.
type Head struct {
	Kind   Kind
	Policy policy.Index

	// Alone says that nothing of what earlier records say of the hash is in force
	// any more.
	Alone bool

	// Tie tells the state that the record leaves from others with the same times:
	// index.Tie.
	Tie uint64

	File uint64 // of a Blob: part of the name of its file

	// Object is what is said of the object. Its own Kind is not used, nor is its Hash:
	// that is the record's key. Of a Purge and a Quarantine it has the times of
	// what was there.
	Object blob.Header

	Lost   Lost   // of a Quarantine
	Reason string // of a Quarantine

	// Of Compacted: the part of the segment, and whether it is the last one.
	Segment  uint64
	From, To int64
	Last     bool

	// Of a Journal: whose it is, and what it says to him, of the bytes that were parsed.
	Owner  byte
	Update []byte
}

const (
	format    = 1
	flagAlone = 1
	flagLast  = 2
	common    = 16
	timeSize  = 16

	// MaxReason bounds the reason of a Quarantine, in bytes.
	MaxReason = 1 << 10
)

// ErrHead is wrapped by errors about heads that can't be read. They are of kind
// errs.Corrupt.
var ErrHead = errors.New("bad head of a record")

// Append appends the head. The error wraps blob.ErrTooMuch where what is said of the
// object is more than blob.MaxText bytes.
func (h *Head) Append(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	start := len(b)
	var front [common]byte
	front[0] = format
	switch h.Kind {
	case Journal:
		front[1] = h.Owner
		le.PutUint32(front[4:], uint32(len(h.Update)))
		return append(append(b, front[:]...), h.Update...), nil
	case Compacted:
		if h.Last {
			front[1] = flagLast
		}
		b = append(b, front[:]...)
		b = le.AppendUint64(b, h.Segment)
		b = le.AppendUint64(b, uint64(h.From))
		return le.AppendUint64(b, uint64(h.To)), nil
	}
	if h.Alone {
		front[1] = flagAlone
	}
	le.PutUint16(front[2:], uint16(h.Policy))
	le.PutUint64(front[8:], h.Tie)
	b = append(b, front[:]...)
	o := &h.Object
	switch h.Kind {
	case Data, Blob:
		le.PutUint32(b[start+4:], o.CRC)
		b = append(appendTime(b, o.Time), o.MD5[:]...)
		b = le.AppendUint64(b, uint64(o.Length))
		if h.Kind == Blob {
			b = le.AppendUint64(b, h.File)
		}
	case Meta:
		b = appendTime(appendTime(b, o.MetaTime), o.ContentTypeTime)
	case Tombstone:
		b = appendTime(b, o.Time)
	case Purge:
		return appendTimes(b, o), nil
	case Quarantine:
		le.PutUint32(b[start+4:], uint32(h.Lost))
		b = appendTimes(b, o)
		reason := h.Reason[:min(len(h.Reason), MaxReason)]
		b = append(binary.AppendUvarint(b, uint64(len(reason))), reason...)
	}
	from := len(b)
	b = o.AppendText(b)
	if n := len(b) - from; n > blob.MaxText {
		return b[:start], fmt.Errorf("%w: %d bytes of text", blob.ErrTooMuch, n)
	}
	return b, nil
}

func appendTime(b []byte, t timestamp.T) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Ticks()))
	return binary.LittleEndian.AppendUint64(b, t.Offset())
}

func appendTimes(b []byte, o *blob.Header) []byte {
	return appendTime(appendTime(appendTime(b, o.Time), o.ContentTypeTime), o.MetaTime)
}

// Parse reads the head of a record of a kind. Nothing in it is part of b.
func Parse(kind byte, b []byte) (Head, error) { return ParseInto(kind, b, nil) }

// ParseInto does what Parse does, for who reads many heads and has room for the fields
// of headers: they are there if they fit into what it could hold.
func ParseInto(kind byte, b []byte, room backend.Header) (h Head, err error) {
	h.Kind = Kind(kind)
	r := reader{rest: b}
	front := r.take(common)
	if r.bad {
		return Head{}, headError("it is too short")
	}
	if front[0] != format {
		return Head{}, headError(fmt.Sprintf("it is of format %d, which is not known", front[0]))
	}
	le := binary.LittleEndian
	switch h.Kind {
	case Journal:
		h.Owner, h.Update = front[1], r.rest
		if h.Owner == 0 || h.Owner >= Owners || !zero(front[2:4]) || !zero(front[8:]) || uint64(le.Uint32(front[4:])) != uint64(len(r.rest)) {
			return Head{}, headError("it contradicts itself")
		}
		return h, nil
	case Compacted:
		h.Last = front[1] == flagLast
		h.Segment, h.From, h.To = r.number(), int64(r.number()), int64(r.number())
		if r.bad || len(r.rest) > 0 || front[1]&^flagLast != 0 || !zero(front[2:]) || h.From < 0 || h.To < h.From {
			return Head{}, headError("it contradicts itself")
		}
		return h, nil
	}
	h.Alone = front[1] == flagAlone
	h.Policy = policy.Index(le.Uint16(front[2:]))
	h.Tie = le.Uint64(front[8:])
	word, used := le.Uint32(front[4:]), false
	o := &h.Object
	switch h.Kind {
	case Data, Blob:
		o.CRC, used = word, true
		o.Time = r.time()
		copy(o.MD5[:], r.take(len(o.MD5)))
		o.Length = int64(r.number())
		if h.Kind == Blob {
			h.File = r.number()
		}
		r.bad = r.bad || o.Length < 0 || o.Length > blob.MaxLength
	case Meta:
		o.MetaTime, o.ContentTypeTime = r.time(), r.time()
	case Tombstone:
		o.Time = r.time()
	case Purge, Quarantine:
		o.Time, o.ContentTypeTime, o.MetaTime = r.time(), r.time(), r.time()
		if h.Kind == Purge {
			r.bad = r.bad || len(r.rest) > 0
			break
		}
		h.Lost, used = Lost(word), true
		r.bad = r.bad || word == 0 || word&^uint32(LostData|LostMeta) != 0
		h.Reason = r.text(MaxReason)
	default:
		return Head{}, headError(fmt.Sprintf("kind %d is not known", kind))
	}
	if r.bad || front[1]&^flagAlone != 0 || !used && word != 0 {
		return Head{}, headError("it contradicts itself")
	}
	if h.Kind != Purge {
		if err := o.ParseText(r.rest, room); err != nil {
			return Head{}, headError(err.Error())
		}
	}
	return h, nil
}

// Peek returns what Parse says of the kind of a record and, where it has one, of its policy, for who wants no more of most. It refuses what
// is of a later version as Parse does, but does not see all that contradicts itself.
func Peek(kind byte, b []byte) (Kind, policy.Index, error) {
	switch k := Kind(kind); k {
	case Data, Blob, Meta, Tombstone:
		if len(b) >= common && b[0] == format && b[1]&^flagAlone == 0 {
			return k, policy.Index(binary.LittleEndian.Uint16(b[2:])), nil
		}
	}
	h, err := Parse(kind, b) // it has little, or says what is wrong
	return h.Kind, h.Policy, err
}

func headError(why string) error {
	return errs.E(errs.Op("record.parse"), errs.Corrupt, fmt.Errorf("%w: %s", ErrHead, why))
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// reader takes parts off the front of bytes, until one is not there.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) time() timestamp.T {
	ticks, offset := int64(r.number()), r.number()
	t := timestamp.FromTicks(ticks)
	r.bad = r.bad || t.Ticks() != ticks
	return t.WithOffset(offset)
}

func (r *reader) text(most uint64) string {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > most || size > 1 && r.rest[size-1] == 0 {
		r.bad, r.rest = true, nil
		return ""
	}
	r.rest = r.rest[size:]
	return string(r.take(int(n)))
}
