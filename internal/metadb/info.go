package metadb

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// ID tells one incarnation of a database from another of the same path: change
// numbers count within one.
type ID [16]byte

// String returns thirty-two hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Info is what a database knows of itself beside metadata and rows.
type Info struct {
	Path        name.Path // whose replica it is
	Incarnation ID        // chosen when the file is made

	Policy      policy.Index
	PolicyAt    timestamp.T // when it was chosen; where that is not said, when the database was made
	PolicyAfter timestamp.T // the DELETE that the choice followed; zero in the first life

	Created       timestamp.T // when it was first made
	Put           timestamp.T // the latest PUT
	Delete        timestamp.T // the latest DELETE
	StatusChanged timestamp.T // when it last was made, deleted or made again
}

// join returns what two replicas know together: the first creation, the latest of
// the other stamps, and of two policies the one of the later life; in one life the
// one that was chosen first, so that rows follow those that came earlier. Path and
// incarnation are i's.
func (i Info) join(j Info) Info {
	out := i
	if out.Created.IsZero() || !j.Created.IsZero() && j.Created.Before(out.Created) {
		out.Created = j.Created
	}
	out.Put = timestamp.Max(i.Put, j.Put)
	out.Delete = timestamp.Max(i.Delete, j.Delete)
	out.StatusChanged = timestamp.Max(i.StatusChanged, j.StatusChanged)
	if cmp.Or(j.PolicyAfter.Compare(i.PolicyAfter), i.PolicyAt.Compare(j.PolicyAt), cmp.Compare(i.Policy, j.Policy)) > 0 {
		out.Policy, out.PolicyAt, out.PolicyAfter = j.Policy, j.PolicyAt, j.PolicyAfter
	}
	return out
}

// Report is what the owner of a listing was last told about a database.
type Report struct {
	Put, Delete    timestamp.T
	Objects, Bytes int64
}

// Field is one item of metadata. An empty value is one that was deleted, kept
// so that the delete reaches every replica.
type Field struct {
	Name  string // in the form that Canonical returns
	Value string
	Stamp timestamp.T
}

// join returns the one of two values of a name that wins: the later, at equal
// stamps the deleted one, then the greater.
func (f Field) join(g Field) Field {
	switch c := f.Stamp.Compare(g.Stamp); {
	case c < 0, c == 0 && f.Value != "" && (g.Value == "" || g.Value > f.Value):
		return g
	}
	return f
}

// Canonical returns the form in which a name of metadata is stored and shown:
// each letter that begins a word between dashes in upper case, the others in
// lower case. What is beyond ASCII stays as it is.
func Canonical(s string) string {
	b := []byte(s)
	first := true
	for i, c := range b {
		switch {
		case first && 'a' <= c && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !first && 'A' <= c && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		first = c == '-'
	}
	return string(b)
}

const (
	infoVersion   = 2 // 1 had no PolicyAt and PolicyAfter
	reportVersion = 1
	fieldVersion  = 1
	statVersion   = 1
)

func appendInfo(b []byte, i *Info) []byte {
	b = append(b, infoVersion)
	b = AppendString(b, i.Path.Account)
	b = AppendString(b, i.Path.Container)
	b = append(b, i.Incarnation[:]...)
	b = binary.AppendUvarint(b, uint64(i.Policy))
	for _, t := range []timestamp.T{i.Created, i.Put, i.Delete, i.StatusChanged, i.PolicyAt, i.PolicyAfter} {
		b = AppendStamp(b, t)
	}
	return b
}

func decodeInfo(b []byte) (Info, error) {
	d := NewDecoder(b)
	var i Info
	version := d.Version(infoVersion)
	i.Path.Account = d.String()
	i.Path.Container = d.String()
	copy(i.Incarnation[:], d.Bytes(int64(len(i.Incarnation))))
	i.Policy = decodePolicy(&d)
	i.Created, i.Put, i.Delete, i.StatusChanged = d.Stamp(), d.Stamp(), d.Stamp(), d.Stamp()
	switch {
	case version > 1:
		i.PolicyAt, i.PolicyAfter = d.Stamp(), d.Stamp()
	case !i.Delete.IsZero() && i.Put.After(i.Delete) && i.StatusChanged.After(i.Delete):
		i.PolicyAt, i.PolicyAfter = i.StatusChanged, i.Delete
	default:
		i.PolicyAt = i.Created
	}
	return i, d.Err()
}

func decodePolicy(d *Decoder) policy.Index {
	n := d.Uvarint()
	if n > math.MaxUint16 {
		d.Fail()
		return 0
	}
	return policy.Index(n)
}

func appendReport(b []byte, r Report) []byte {
	b = append(b, reportVersion)
	b = AppendStamp(AppendStamp(b, r.Put), r.Delete)
	return binary.AppendVarint(binary.AppendVarint(b, r.Objects), r.Bytes)
}

func decodeReport(b []byte) (Report, error) {
	d := NewDecoder(b)
	d.Version(reportVersion)
	r := Report{Put: d.Stamp(), Delete: d.Stamp()}
	r.Objects, r.Bytes = unzigzag(d.Uvarint()), unzigzag(d.Uvarint())
	return r, d.Err()
}

func appendField(b []byte, f *Field) []byte {
	return AppendString(AppendStamp(append(b, fieldVersion), f.Stamp), f.Value)
}

func decodeField(name, b []byte) (Field, error) {
	d := NewDecoder(b)
	d.Version(fieldVersion)
	f := Field{Name: string(name), Stamp: d.Stamp()}
	f.Value = d.String()
	return f, d.Err()
}

func appendStat(b []byte, s Stat) []byte {
	b = append(b, statVersion)
	return binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, s.Rows), s.Objects), s.Bytes)
}

func decodeStat(b []byte) (Stat, error) {
	d := NewDecoder(b)
	d.Version(statVersion)
	s := Stat{unzigzag(d.Uvarint()), unzigzag(d.Uvarint()), unzigzag(d.Uvarint())}
	return s, d.Err()
}

func unzigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }
