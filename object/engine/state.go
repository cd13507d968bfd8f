package engine

import (
	"bytes"
	"cmp"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
	"martlet/object/index"
)

// Kind says what is under a name.
type Kind uint8

// The kinds of states.
const (
	Absent  Kind = iota // nothing, or metadata whose data has not come
	Live                // an object
	Deleted             // a tombstone
	Lost                // its newest version was damaged, and has not been replaced
)

// State is what all writes to a name have come to.
type State struct {
	Kind Kind

	// Time is that of the data or tombstone, of a lost version if it is known.
	// ContentTypeTime and MetaTime are never before it.
	Time, ContentTypeTime, MetaTime timestamp.T

	// DataLost says that data or a tombstone was damaged, which makes the state Lost. MetaLost says that later
	// metadata was which belongs to the state: what Meta and ContentType say, of whatever Kind, may not be all. With
	// data that makes the state Lost as well, and what there is to say of the data is good.
	DataLost, MetaLost bool

	Length int64    // bytes
	MD5    [16]byte // of the data, as its writer said
	CRC    uint32   // CRC32C of the data

	Name        name.Path
	ContentType string
	System      backend.Header // fields that stay as long as the data
	Meta        backend.Header // fields that an update replaces
}

// Newest returns the latest time of anything known of the name.
func (s *State) Newest() timestamp.T { return s.Packed().Newest() }

// Packed returns the three times.
func (s *State) Packed() timestamp.Packed {
	return timestamp.Packed{Data: s.Time, ContentType: s.ContentTypeTime, Meta: s.MetaTime}
}

// A StateError says which state stands against a call. It is in the chain of
// errors of kind NotFound, Stale and Corrupt.
type StateError struct{ State State }

func (e *StateError) Error() string {
	t := e.State.Newest()
	switch e.State.Kind {
	case Live:
		return "stored at " + t.String()
	case Deleted:
		return "deleted at " + t.String()
	case Lost:
		return "damaged and in quarantine"
	}
	return "nothing stored"
}

func refuse(op errs.Op, at Location, kind errs.Kind, s State) error {
	return errs.E(op, errs.Subject(at.String()), kind, &StateError{s})
}

// parts is what the records of one name say. The Kind of one that is not there
// is 0.
type parts struct {
	data blob.Header // data or tombstone
	meta blob.Header // metadata, or the mark that it was lost
	lost blob.Header // the mark that data was lost
}

// dataLost reports whether the newest data is in quarantine. A version at the
// time of the lost one is its replacement.
func (p *parts) dataLost() bool {
	return p.lost.Kind != 0 && (p.data.Kind == 0 || p.lost.Time.After(p.data.Time))
}

// metaLost reports whether metadata that matters is in quarantine. Of a mark
// without times that is not known, so it is.
func (p *parts) metaLost() bool {
	newest := timestamp.Max(p.meta.MetaTime, p.meta.ContentTypeTime)
	return p.meta.Kind == blob.Lost && (newest.IsZero() || newest.After(p.data.Time.Until()))
}

// state joins the parts.
func (p *parts) state() State {
	d := &p.data
	s := State{Time: d.Time, ContentTypeTime: d.Time, MetaTime: d.Time, Name: d.Name, MetaLost: p.metaLost()}
	switch {
	case p.dataLost():
		s.Kind, s.DataLost, s.Time, s.Name = Lost, true, timestamp.Max(p.lost.Time, d.Time), p.lost.Name
		s.ContentTypeTime, s.MetaTime = s.Time, s.Time
	case d.Kind == blob.Tombstone:
		s.Kind = Deleted
	case d.Kind == blob.Data:
		s.Kind, s.Length, s.MD5, s.CRC = Live, d.Length, d.MD5, d.CRC
		s.ContentType, s.System, s.Meta = d.ContentType, d.System, d.Meta
	}
	if s.Kind == Live && s.MetaLost {
		s.Kind = Lost
	}
	if p.meta.Kind == 0 {
		return s
	}
	if s.Name == (name.Path{}) {
		s.Name = p.meta.Name
	}
	since := s.Time.Until()
	if p.meta.ContentTypeTime.After(since) {
		s.ContentTypeTime, s.ContentType = p.meta.ContentTypeTime, p.meta.ContentType
	}
	if p.meta.MetaTime.After(since) {
		s.MetaTime, s.Meta = p.meta.MetaTime, p.meta.Meta
	}
	return s
}

// tieOf returns what tells a state from others with the same times (index.Tie).
func tieOf(s *State) uint64 {
	if s.Kind == Lost || s.MetaLost {
		return 0
	}
	return index.Tie(s.MD5, s.Length, s.CRC, replwire.Sum(s.System), replwire.Sum(s.Meta),
		replwire.Sum(backend.Header{{Value: s.ContentType}}))
}

// compareData orders data and tombstones of one name: the greater one stays. Meta is the
// latest time of metadata that is known.
func compareData(a, b *blob.Header, meta timestamp.T) int {
	return cmp.Or(
		compareTimes(a, b, meta),
		cmp.Compare(a.Kind, b.Kind), // a tombstone is more than data
		bytes.Compare(a.MD5[:], b.MD5[:]),
		cmp.Compare(a.Length, b.Length),
		cmp.Compare(a.CRC, b.CRC),
		cmp.Compare(a.ContentType, b.ContentType),
		compareFields(a.System, b.System),
		compareFields(a.Meta, b.Meta),
	)
}

// compareTimes is compareData by the times alone, where of one no more is known.
func compareTimes(a, b *blob.Header, meta timestamp.T) int {
	return timestamp.Packed{Data: a.Time, Meta: meta}.CompareData(timestamp.Packed{Data: b.Time, Meta: meta})
}

func compareFields(a, b backend.Header) int {
	for i := range min(len(a), len(b)) {
		if c := cmp.Or(cmp.Compare(a[i].Name, b[i].Name), cmp.Compare(a[i].Value, b[i].Value)); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// joinMeta returns what of two files of metadata stays beside data that has taken in
// metadata up to a time, and whether that is not just what a said.
func joinMeta(a, b *blob.Header, data timestamp.T) (blob.Header, bool) {
	j, changed := *a, false
	j.Kind = blob.Meta
	if b.MetaTime.After(data) && cmp.Or(b.MetaTime.Compare(a.MetaTime), compareFields(b.Meta, a.Meta)) > 0 {
		j.MetaTime, j.Meta, changed = b.MetaTime, b.Meta, true
	}
	if b.ContentTypeTime.After(data) && cmp.Or(b.ContentTypeTime.Compare(a.ContentTypeTime), cmp.Compare(b.ContentType, a.ContentType)) > 0 {
		j.ContentTypeTime, j.ContentType, changed = b.ContentTypeTime, b.ContentType, true
	}
	if !j.MetaTime.After(data) {
		j.MetaTime, j.Meta = timestamp.T{}, nil
	}
	if !j.ContentTypeTime.After(data) {
		j.ContentTypeTime, j.ContentType = timestamp.T{}, ""
	}
	return j, changed
}

// repairs reports whether metadata b replaces what the mark says was lost.
func repairs(mark, b *blob.Header, data timestamp.T) bool {
	covers := func(lost, got timestamp.T) bool { return !lost.After(data) || !got.Before(lost) }
	return covers(mark.MetaTime, b.MetaTime) && covers(mark.ContentTypeTime, b.ContentTypeTime)
}
