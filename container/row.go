package container

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// A Row is an object in its container's listing: three parts, each with the
// stamp of the write it is from. Type and Meta never come before Data, except in
// a tombstone.
type Row struct {
	Data    timestamp.T
	Deleted bool // the data is a tombstone: the rest of it is zero
	Size    int64
	ETag    string
	Listed  int64 // bytes that the listing shows instead of Size; -1 for none

	Type        timestamp.T
	ContentType string // without swift_bytes

	Meta timestamp.T
}

const rowVersion = 1

// rowRoom is what the stored form of most rows fits in, in bytes.
const rowRoom = 64

// Flags of the stored form.
const (
	flagDeleted = 1 << iota
	flagType    // a stamp of the content type follows; else it is the data's
	flagMeta    // a stamp of the metadata follows; else it is the data's
	flagMD5     // the ETag is sixteen bytes; else it is text
	flagListed  // the bytes to list follow
	flagsEnd
)

// NewRow returns the row of an object as a write describes it. A parameter
// swift_bytes of the content type says which size to list.
func NewRow(t timestamp.Packed, size int64, etag, contentType string) Row {
	r := Row{Data: t.Data, Size: size, ETag: etag, Listed: -1}
	r.ContentType, r.Listed = cutSwiftBytes(contentType)
	r.Type, r.Meta = timestamp.Max(t.ContentType, t.Data), timestamp.Max(t.Meta, t.Data)
	return r
}

// NewTombstone returns the row of an object that was deleted.
func NewTombstone(t timestamp.T) Row { return Row{Data: t, Deleted: true, Listed: -1} }

// cutSwiftBytes takes the parameter swift_bytes out of a content type; bytes is
// -1 if there is none.
func cutSwiftBytes(contentType string) (rest string, bytes int64) {
	const param = "swift_bytes="
	for at := strings.IndexByte(contentType, ';'); at >= 0; {
		value := contentType[at+1:]
		next := strings.IndexByte(value, ';')
		if next < 0 {
			next = len(value)
		}
		if n, ok := strings.CutPrefix(strings.TrimSpace(value[:next]), param); ok {
			if size, err := strconv.ParseUint(n, 10, 63); err == nil {
				return contentType[:at] + value[next:], int64(size)
			}
		}
		if next == len(value) {
			break
		}
		at += 1 + next
	}
	return contentType, -1
}

// Join merges two rows part by part, the later of each: at equal stamps a
// tombstone before data, then the greater ETag, size and so on, so that every
// order of the same rows ends in the same one.
func (r *Row) Join(o Row) Row {
	out := *r
	c := compareData(&o, r, timestamp.Max(r.Meta, o.Meta))
	if planted.RowMergedWrong { // breaks: the later one is listed
		c = -c
	}
	if c > 0 {
		out.Data, out.Deleted, out.Size, out.ETag, out.Listed = o.Data, o.Deleted, o.Size, o.ETag, o.Listed
	}
	if cmp.Or(o.Type.Compare(r.Type), cmp.Compare(o.ContentType, r.ContentType)) > 0 {
		out.Type, out.ContentType = o.Type, o.ContentType
	}
	out.Meta = timestamp.Max(r.Meta, o.Meta)
	if out.Deleted {
		out.forget()
	}
	return out
}

// forget drops from a tombstone what came before it, or was taken in by it. Whatever data may yet win
// over the tombstone brings parts that are later still.
func (r *Row) forget() {
	if !r.Type.After(r.Data.Until()) {
		r.Type, r.ContentType = timestamp.T{}, ""
	}
	if !r.Meta.After(r.Data.Until()) {
		r.Meta = timestamp.T{}
	}
}

// settled reports whether the row joined with itself is what it was: a tombstone has nothing left that it would forget.
func (s *scanned) settled() bool {
	r := s.Row
	r.forget()
	return !s.Deleted || r == s.Row && (!r.Type.IsZero() || len(s.contentType) == 0)
}

// compareData orders the data of rows. Meta is the latest stamp of metadata that is known: with
// that an expiry may be void (timestamp.T.Void).
func compareData(a, b *Row, meta timestamp.T) int {
	return cmp.Or(timestamp.Packed{Data: a.Data, Meta: meta}.CompareData(timestamp.Packed{Data: b.Data, Meta: meta}),
		cmp.Compare(bit(a.Deleted, 1), bit(b.Deleted, 1)),
		cmp.Compare(a.ETag, b.ETag), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Listed, b.Listed))
}

func bit(set bool, flag byte) byte {
	if set {
		return flag
	}
	return 0
}

// Append appends the stored form.
func (r *Row) Append(b []byte) []byte {
	var md5 [16]byte
	isMD5 := packMD5(&md5, r.ETag)
	b = append(b, rowVersion, bit(r.Deleted, flagDeleted)|bit(r.Type != r.Data, flagType)|
		bit(r.Meta != r.Data, flagMeta)|bit(isMD5, flagMD5)|bit(r.Listed >= 0, flagListed))
	b = metadb.AppendStamp(b, r.Data)
	if r.Type != r.Data {
		b = metadb.AppendStamp(b, r.Type)
	}
	if r.Meta != r.Data {
		b = metadb.AppendStamp(b, r.Meta)
	}
	b = binary.AppendUvarint(b, uint64(r.Size))
	if r.Listed >= 0 {
		b = binary.AppendUvarint(b, uint64(r.Listed))
	}
	if isMD5 {
		b = append(b, md5[:]...)
	} else {
		b = metadb.AppendString(b, r.ETag)
	}
	return append(b, r.ContentType...)
}

// packMD5 reads an ETag that is an MD5 in lower case.
func packMD5[text string | []byte](to *[16]byte, etag text) bool {
	if len(etag) != 2*len(to) {
		return false
	}
	for i := range len(etag) {
		if 'A' <= etag[i] && etag[i] <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(to[:], []byte(etag))
	return err == nil
}

// DecodeRow reads what Append writes; what it can't read is metadb.ErrDecode.
func DecodeRow(b []byte) (Row, error) {
	s, err := scanRow(b)
	return s.full(), err
}

// scanned is a row as it is stored, of which the texts were not copied: Row has neither the ETag nor the content type. It is
// good as long as what it was read from.
type scanned struct {
	Row
	md5, etag   []byte // one of the two
	contentType []byte
}

// full returns the row with its texts.
func (s *scanned) full() Row {
	r := s.Row
	if s.md5 != nil {
		var text [32]byte
		hex.Encode(text[:], s.md5)
		r.ETag = string(text[:])
	} else {
		r.ETag = string(s.etag)
	}
	r.ContentType = string(s.contentType)
	return r
}

// scanRow is DecodeRow for who has no use for the texts, which most have not: nothing is allocated for it.
func scanRow(b []byte) (scanned, error) {
	d := metadb.NewDecoder(b)
	d.Version(rowVersion)
	flags := d.Byte()
	r := scanned{Row: Row{Deleted: flags&flagDeleted != 0, Data: d.Stamp(), Listed: -1}}
	r.Type, r.Meta = r.Data, r.Data
	if flags&flagType != 0 {
		r.Type = d.Stamp()
	}
	if flags&flagMeta != 0 {
		r.Meta = d.Stamp()
	}
	r.Size = d.Size()
	if flags&flagListed != 0 {
		r.Listed = d.Size()
	}
	if flags&flagMD5 != 0 {
		r.md5 = d.Bytes(16)
	} else {
		r.etag = d.Bytes(d.Size())
	}
	r.contentType = d.Bytes(d.Left())
	var md5 [16]byte
	if flags >= flagsEnd || flags&flagType != 0 && r.Type == r.Data || flags&flagMeta != 0 && r.Meta == r.Data ||
		flags&flagMD5 == 0 && packMD5(&md5, r.etag) {
		d.Fail() // not the one form that a row has
	}
	return r, d.Err()
}

// schema tells metadb what the rows of a container are. Their space is the
// policy that their object lies in.
type schema struct{ synced, misplaced *noted }

func (schema) Folder() string { return "containers" }

func (schema) Join(a, b []byte) ([]byte, error) {
	s, err := scanRow(a)
	if err != nil {
		return nil, err
	}
	same := bytes.Equal(a, b)
	if same && s.settled() {
		return bytes.Clone(a), nil
	}
	x := s.full()
	y := x
	if !same {
		if y, err = DecodeRow(b); err != nil {
			return nil, err
		}
	}
	joined := x.Join(y)
	return joined.Append(make([]byte, 0, rowRoom)), nil
}

// Weigh hides rows that are no newer than the container's delete: it was empty
// then, and whoever makes it anew finds it empty.
func (schema) Weigh(space policy.Index, row []byte, deleted timestamp.T) (metadb.Weight, error) {
	r, err := scanRow(row)
	return metadb.Weight{Live: !r.Deleted && r.Data.After(deleted), Policy: space, Objects: 1, Bytes: r.Size}, err
}

// Newest is of all three parts: a tombstone may have metadata that is later than it.
func (schema) Newest(row []byte) (timestamp.T, error) {
	r, err := scanRow(row)
	return timestamp.Packed{Data: r.Data, ContentType: r.Type, Meta: r.Meta}.Happened(), err
}

// entry appends a row of the listing.
func entry(b []byte, name string, row []byte) ([]byte, error) {
	o := listing.Object{Name: name, Subdir: row == nil}
	if row != nil {
		r, err := DecodeRow(row)
		if err != nil {
			return b, err
		}
		o.Hash, o.Bytes, o.ContentType = r.ETag, r.Size, r.ContentType
		o.LastModified = timestamp.Max(r.Data, r.Meta).ISO()
		if r.Listed >= 0 {
			o.Bytes = r.Listed
		}
	}
	return listing.AppendObject(b, &o), nil
}
