package replwire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"io"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/timestamp"
)

// ObjectKind says what is under a name.
type ObjectKind byte

// The kinds of states of a name.
const (
	Waiting   ObjectKind = 1 // metadata whose data has not come
	Data      ObjectKind = 2
	Tombstone ObjectKind = 3
	Lost      ObjectKind = 4 // its newest version was damaged, and has not been replaced
)

// Object is what a device holds under one name. Two that are equal are the same
// state.
type Object struct {
	Hash name.Hash
	Kind ObjectKind

	// Left is what is good of a state that is Lost, since no more than later metadata was damaged: Data, a
	// Tombstone, or Waiting, where neither had come. It is 0 of all others. Of a Lost state it, and all that is below the times, is
	// known of a device's own names only, and not sent: zero is what is not there, or damaged. LeftMeta says likewise that later metadata is good,
	// where data or a tombstone was damaged.
	Left     ObjectKind
	LeftMeta bool

	Times timestamp.Packed // of Lost, the data's is that of what was lost, if it is known

	MD5    [16]byte // of the data; with Length and CRC zero where there is none
	Length int64    // bytes
	CRC    uint32   // CRC32C of the data

	// SystemSum, MetaSum and TypeSum are checksums (Sum) of the fields that stay as
	// long as the data, of those in force that an update replaces, and of the
	// content type. They tell apart what times do not.
	SystemSum, MetaSum, TypeSum uint64
}

// Sum is a checksum of fields, whatever their order; 0 for none.
func Sum(fields backend.Header) uint64 {
	var sum uint64
	for _, f := range fields {
		h := fnv.New64a()
		_, _ = io.WriteString(h, f.Name) // a hash takes everything
		_, _ = h.Write([]byte{0})
		_, _ = io.WriteString(h, f.Value)
		sum += h.Sum64()
	}
	return sum
}

const objectSize = 16 + 1 + 3*16 + 16 + 8 + 4 + 3*8

// MaxObjects is how many objects a list may hold.
const MaxObjects = (MaxList - headSize - tailSize) / objectSize

// AppendObject appends a record to a list that was begun with Begin.
func AppendObject(b []byte, o *Object) []byte {
	be := binary.BigEndian
	if o.Kind == Lost {
		o = &Object{Hash: o.Hash, Kind: Lost, Times: o.Times}
	}
	b = append(append(b, o.Hash[:]...), byte(o.Kind))
	for _, t := range [...]timestamp.T{o.Times.Data, o.Times.ContentType, o.Times.Meta} {
		b = be.AppendUint64(be.AppendUint64(b, uint64(t.Ticks())), t.Offset())
	}
	b = be.AppendUint64(append(b, o.MD5[:]...), uint64(o.Length))
	b = be.AppendUint32(b, o.CRC)
	return be.AppendUint64(be.AppendUint64(be.AppendUint64(b, o.SystemSum), o.MetaSum), o.TypeSum)
}

// AppendNothing appends to a list of what is under some names, which has more, that it has come up to one under which there is nothing. Nothing comes
// behind it in that list. It is for askers that say that they understand it (NothingHeader).
func AppendNothing(b []byte, h name.Hash) []byte { return AppendObject(b, &Object{Hash: h}) }

// ParseNamed is ParseObjects of a list of what is under some names. It has been looked for those up to end, whatever is in the list; end counts only where
// there is more.
func ParseNamed(b []byte, from, to name.Hash) (list []Object, end name.Hash, more bool, err error) {
	if list, more, err = parseObjects(b, from, to, true); err != nil || len(list) == 0 {
		return nil, name.Hash{}, false, err
	}
	last := list[len(list)-1]
	if last.Kind == 0 {
		list = list[:len(list)-1]
	}
	return list, last.Hash, more, nil
}

// ParseObjects reads a list of objects: in order of hash, each once, all between
// from and to. The error wraps ErrList.
func ParseObjects(b []byte, from, to name.Hash) (list []Object, more bool, err error) {
	return parseObjects(b, from, to, false)
}

// parseObjects is ParseObjects, of a list that may end with what AppendNothing appends if that is said.
func parseObjects(b []byte, from, to name.Hash, nothing bool) (list []Object, more bool, err error) {
	records, count, more, err := Open(b, Objects)
	if err != nil {
		return nil, false, err
	}
	if count*objectSize != len(records) {
		return nil, false, bad("%d objects in %d bytes", count, len(records))
	}
	list = make([]Object, count)
	for i := range list {
		o, record := &list[i], records[i*objectSize:][:objectSize]
		if copy(o.Hash[:], record); nothing && more && i == count-1 && bytes.Equal(record, AppendNothing(nil, o.Hash)) {
			// That is all there is to it.
		} else if err := o.parse(record); err != nil {
			return nil, false, err
		}
		if bytes.Compare(o.Hash[:], from[:]) < 0 || bytes.Compare(o.Hash[:], to[:]) > 0 {
			return nil, false, bad("hash %s is outside of %s to %s", o.Hash, from, to)
		}
		if i > 0 && bytes.Compare(list[i-1].Hash[:], o.Hash[:]) >= 0 {
			return nil, false, bad("hash %s comes after %s", o.Hash, list[i-1].Hash)
		}
	}
	return list, more, nil
}

func (o *Object) parse(b []byte) error {
	be := binary.BigEndian
	copy(o.Hash[:], b)
	o.Kind = ObjectKind(b[16])
	ok := o.Kind >= Waiting && o.Kind <= Lost
	for i, t := range [...]*timestamp.T{&o.Times.Data, &o.Times.ContentType, &o.Times.Meta} {
		ticks := int64(be.Uint64(b[17+16*i:]))
		*t = timestamp.FromTicks(ticks).WithOffset(be.Uint64(b[25+16*i:]))
		ok = ok && t.Ticks() == ticks
	}
	copy(o.MD5[:], b[65:])
	o.Length = int64(be.Uint64(b[81:]))
	o.CRC = be.Uint32(b[89:])
	o.SystemSum, o.MetaSum, o.TypeSum = be.Uint64(b[93:]), be.Uint64(b[101:]), be.Uint64(b[109:])
	if o.Kind != Data {
		ok = ok && o.Length == 0 && o.CRC == 0 && o.MD5 == [16]byte{} && o.SystemSum == 0
	}
	switch o.Kind {
	case Data, Tombstone:
		ok = ok && !o.Times.Data.IsZero()
	case Waiting:
		ok = ok && o.Times.Data.IsZero()
	}
	if !ok || o.Length < 0 || o.Times.ContentType.Before(o.Times.Data) || o.Times.Meta.Before(o.Times.Data) {
		return bad("object %s contradicts itself", o.Hash)
	}
	return nil
}

// Lack is what of one state another lacks.
type Lack uint8

// The parts of a state.
const (
	LackData Lack = 1 << iota // data or tombstone
	LackMeta                  // later metadata or content type
)

// Lacks returns what of the state a peer lacks, which holds theirs; nil is
// nothing. Where the two say different things at one time and it does not show
// which is the greater, the peer lacks it: merging settles it. What is lost here
// can't be given.
func (o *Object) Lacks(theirs *Object) Lack { return o.lacks(theirs, true) }

// SurelyLacks leaves out what Lacks is in doubt of: it is for who knows that the
// peer has refused what it was sent because it has something not less.
func (o *Object) SurelyLacks(theirs *Object) Lack { return o.lacks(theirs, false) }

func (o *Object) lacks(theirs *Object, doubt bool) Lack {
	if o.Kind == Lost {
		return 0
	}
	if planted.TombstoneNotReplicated && o.Kind == Tombstone { // breaks: a replica that has missed a DELETE hears of it
		return 0
	}
	if theirs == nil {
		theirs = &Object{}
	}
	var lack Lack
	if o.Kind != Waiting && o.dataBeats(theirs, doubt) {
		lack |= LackData
	}
	// Metadata that is not later than the data came with it.
	data := timestamp.Max(o.Times.Data.Until(), theirs.Times.Data.Until())
	if o.Times.Meta.After(data) && (theirs.Kind == Lost || beats(o.Times.Meta, theirs.Times.Meta, doubt && o.MetaSum != theirs.MetaSum)) ||
		o.Times.ContentType.After(data) && (theirs.Kind == Lost || beats(o.Times.ContentType, theirs.Times.ContentType, doubt && o.TypeSum != theirs.TypeSum)) {
		lack |= LackMeta
	}
	if planted.PostNotReplicated { // breaks: a replica that has missed a POST hears of it
		lack &^= LackMeta
	}
	return lack
}

// LacksLeft returns what a peer lacks of what is good of a state: that is all of it, unless it is Lost. What was lost beside it has its time
// still, by which it is told whether an end is void.
func (o *Object) LacksLeft(theirs *Object) Lack {
	was := *o
	switch {
	case o.Kind != Lost:
		return o.Lacks(theirs)
	case o.Left == Data || o.Left == Tombstone:
		was.Kind = o.Left
		return was.Lacks(theirs) & LackData
	case o.Left == 0 && o.LeftMeta:
		was.Kind = Waiting
		return was.Lacks(theirs) & LackMeta
	}
	return 0
}

// Replaced reports whether nothing more is to be had of what was lost here: what theirs shows of the name is as new in
// all that is known of it. For data or a tombstone that is one of those; for metadata that had waited for
// its data it is metadata, or what makes it void. Of what was lost without a time that is never certain.
//
// What is good beside it counts as always: it may be the last there is, and where theirs says something else of just that time it may be
// the greater. Of what is damaged the time alone decides. Whether it was data or a tombstone no mark tells, and the object
// server takes data of just that time for the replacement of either: so the device would, if it were pushed that.
func (o *Object) Replaced(theirs *Object) bool {
	if o.Kind != Lost || theirs == nil || theirs.Kind == Lost || o.Newest().IsZero() {
		return false
	}
	was := *o
	if was.Kind = o.Left; o.Left == 0 {
		if o.Times.Data.IsZero() {
			return false
		}
		was.Kind, was.SystemSum = Data, theirs.SystemSum
	}
	was.MetaSum, was.TypeSum = cmp.Or(o.MetaSum, theirs.MetaSum), cmp.Or(o.TypeSum, theirs.TypeSum)
	return was.Lacks(theirs) == 0
}

// Newest is the latest time of anything known of the name.
func (o *Object) Newest() timestamp.T { return o.Times.Newest() }

// beats reports whether what was said at a time is greater, or at one time may be.
func beats(a, b timestamp.T, mayBe bool) bool {
	c := a.Compare(b)
	return c > 0 || c == 0 && mayBe
}

// dataBeats reports whether the data or tombstone is the greater one, or with doubt
// may be, or replaces one that was lost.
func (o *Object) dataBeats(theirs *Object, doubt bool) bool {
	if c := o.Times.CompareData(theirs.Times); c != 0 {
		if planted.OlderOverNewer { // breaks: only what is newer is pushed
			return !o.Times.Data.IsZero()
		}
		return c > 0
	}
	if theirs.Kind == Lost {
		return true
	}
	if c := cmp.Or(
		cmp.Compare(o.Kind, theirs.Kind),
		bytes.Compare(o.MD5[:], theirs.MD5[:]),
		cmp.Compare(o.Length, theirs.Length),
		cmp.Compare(o.CRC, theirs.CRC),
	); c != 0 {
		return c > 0
	}
	// What came with the data shows only where nothing later took its place.
	return doubt && o.Kind == Data && (o.SystemSum != theirs.SystemSum ||
		o.MetaSum != theirs.MetaSum && o.Times.Meta == theirs.Times.Meta && o.Times.Meta == o.Times.Data ||
		o.TypeSum != theirs.TypeSum && o.Times.ContentType == theirs.Times.ContentType && o.Times.ContentType == o.Times.Data)
}
