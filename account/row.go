package account

import (
	"cmp"
	"encoding/binary"
	"math"

	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// A Row is a container in its account's listing.
type Row struct {
	Put    timestamp.T // the container's latest PUT
	Delete timestamp.T // and its latest DELETE

	// Stamp is when one of the container's replicas said the following. The
	// latest word counts, whichever replica's it is.
	Stamp   timestamp.T
	Policy  policy.Index
	Objects int64
	Bytes   int64
}

const rowVersion = 1

// Deleted reports whether the container is gone: it was deleted after it was
// made, and holds nothing.
func (r *Row) Deleted() bool { return r.Delete.After(r.Put) && r.Objects == 0 }

// Join merges two words on one container: the latest PUT, the latest DELETE,
// and of the counts the latest; those of equal stamps by size, so that every
// order of the same words ends in the same row.
func (r *Row) Join(o Row) Row {
	out := *r
	if compareCounts(&o, r) > 0 {
		out = o
	}
	out.Put = timestamp.Max(r.Put, o.Put)
	out.Delete = timestamp.Max(r.Delete, o.Delete)
	return out
}

func compareCounts(a, b *Row) int {
	return cmp.Or(a.Stamp.Compare(b.Stamp), cmp.Compare(a.Objects, b.Objects),
		cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Policy, b.Policy))
}

// Append appends the stored form.
func (r *Row) Append(b []byte) []byte {
	b = append(b, rowVersion)
	b = metadb.AppendStamp(metadb.AppendStamp(metadb.AppendStamp(b, r.Put), r.Delete), r.Stamp)
	b = binary.AppendUvarint(b, uint64(r.Policy))
	b = binary.AppendUvarint(b, uint64(r.Objects))
	return binary.AppendUvarint(b, uint64(r.Bytes))
}

// DecodeRow reads what Append writes; what it can't read is metadb.ErrDecode.
func DecodeRow(b []byte) (Row, error) {
	d := metadb.NewDecoder(b)
	d.Version(rowVersion)
	r := Row{Put: d.Stamp(), Delete: d.Stamp(), Stamp: d.Stamp()}
	index := d.Uvarint()
	if index > math.MaxUint16 {
		d.Fail()
	}
	r.Policy = policy.Index(index)
	r.Objects, r.Bytes = d.Size(), d.Size()
	return r, d.Err()
}

// schema tells metadb what the rows of an account are.
type schema struct{}

func (schema) Folder() string { return "accounts" }

func (schema) Join(a, b []byte) ([]byte, error) {
	x, err := DecodeRow(a)
	if err != nil {
		return nil, err
	}
	y, err := DecodeRow(b)
	if err != nil {
		return nil, err
	}
	joined := x.Join(y)
	return joined.Append(nil), nil
}

// Weigh does not look at the account's own delete: a deleted account is not
// listed at all.
func (schema) Weigh(_ policy.Index, row []byte, _ timestamp.T) (metadb.Weight, error) {
	r, err := DecodeRow(row)
	return metadb.Weight{Live: !r.Deleted(), Policy: r.Policy, Objects: r.Objects, Bytes: r.Bytes}, err
}

// Newest is also of the latest word: a container that still speaks of itself is not forgotten.
func (schema) Newest(row []byte) (timestamp.T, error) {
	r, err := DecodeRow(row)
	return timestamp.Max(r.Stamp, timestamp.Max(r.Put, r.Delete)), err
}

// entry appends a row of the listing.
func entry(b []byte, name string, row []byte) ([]byte, error) {
	c := listing.Container{Name: name, Subdir: row == nil}
	if row != nil {
		r, err := DecodeRow(row)
		if err != nil {
			return b, err
		}
		c.Count, c.Bytes, c.PolicyIndex, c.LastModified = r.Objects, r.Bytes, r.Policy, r.Put.ISO()
	}
	return listing.AppendContainer(b, &c), nil
}
