package engine

import (
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// after returns what a record makes of the entry of its key. It is all there is to
// the meaning of the log: what is stored, what is replayed after a crash, and what an
// index that was lost is made of, all come about by it, and by compacted.
//
// It decides nothing: whoever appends a record has compared it with what was there, and
// the one that comes later in the log is in force. A record that is not Alone leaves
// what others say of other parts: later metadata beside data, the mark of what is
// lost beside both.
func after(old *index.Entry, h *record.Head, at index.Place) index.Entry {
	e := *old
	if h.Alone || e.Kind == index.Gone {
		e = index.Entry{Dead: e.Dead + places(&e)}
	}
	e.Tie = h.Tie
	o := &h.Object
	switch h.Kind {
	case record.Data, record.Blob, record.Tombstone:
		e.Dead += dead(e.Data)
		e.Data, e.Length, e.Blob = at, o.Length, h.Kind == record.Blob
		e.Kind = index.Data
		if h.Kind == record.Tombstone {
			e.Kind = index.Tombstone
		}
		later := e.Times.Meta.After(o.Time) || e.Times.ContentType.After(o.Time)
		if !later {
			e.Dead += dead(e.Meta)
			e.Meta, e.MetaLost = index.Place{}, false
		}
		if !e.MetaLost {
			unmark(&e)
		}
		e.Times.Data = o.Time
		e.Times.ContentType = timestamp.Max(o.Time, e.Times.ContentType)
		e.Times.Meta = timestamp.Max(o.Time, e.Times.Meta)
		if !later {
			e.Times.ContentType, e.Times.Meta = o.Time, o.Time
		}
	case record.Meta:
		e.Dead += dead(e.Meta)
		e.Meta, e.MetaLost = at, false
		if e.Kind == index.Absent {
			e.Kind = index.Waiting
		}
		if e.Kind != index.Lost {
			unmark(&e)
		}
		e.Times.Meta = timestamp.Max(e.Times.Data, o.MetaTime)
		e.Times.ContentType = timestamp.Max(e.Times.Data, o.ContentTypeTime)
	case record.Purge:
		e = index.Entry{Kind: index.Gone, Data: at, Dead: e.Dead + places(&e)}
	case record.Quarantine:
		unmark(&e)
		e.Mark = at
		if h.Lost&record.LostData != 0 {
			e.Dead += dead(e.Data)
			e.Kind, e.Data, e.Length, e.Blob = index.Lost, index.Place{}, 0, false
			e.Times.Data = o.Time
		}
		if h.Lost&record.LostMeta != 0 {
			e.Dead += dead(e.Meta)
			e.Meta, e.MetaLost = index.Place{}, true
		}
		if e.Kind == index.Absent {
			e.Kind = index.Waiting
		}
		e.Times.ContentType = timestamp.Max(e.Times.ContentType, o.ContentTypeTime)
		e.Times.Meta = timestamp.Max(e.Times.Meta, o.MetaTime)
	}
	return e
}

// unmark takes the mark of a quarantine away.
func unmark(e *index.Entry) {
	e.Dead += dead(e.Mark)
	e.Mark = index.Place{}
}

// dead is by how much a record that is in force no more is counted.
func dead(p index.Place) uint32 {
	if p.IsZero() {
		return 0
	}
	return 1
}

// places is how many records an entry is made of.
func places(e *index.Entry) uint32 { return dead(e.Data) + dead(e.Meta) + dead(e.Mark) }

// alone reports whether nothing but a record itself will be in force after it.
func alone(old *index.Entry, h *record.Head) bool {
	e := after(old, h, index.Place{Segment: 1})
	return places(&e) == 1
}

// compacted returns what is left of an entry when a record of its key is about to go with
// its segment: what is in force there is forgotten, and what is not was one of the dead.
func compacted(old *index.Entry, at seglog.Position) index.Entry {
	e := *old
	switch {
	case is(e.Data, at):
		if e = (index.Entry{Dead: e.Dead}); e.Dead > 0 {
			e.Kind = index.Gone
		}
	case is(e.Meta, at):
		// Only metadata that waits for its data is forgotten.
		if e = (index.Entry{Dead: e.Dead}); e.Dead > 0 {
			e.Kind = index.Gone
		}
	case e.Dead > 0:
		e.Dead--
		if e.Kind == index.Gone && e.Dead == 0 && e.Data.IsZero() {
			e = index.Entry{}
		}
	}
	return e
}

// is reports whether a place is that of a position.
func is(p index.Place, at seglog.Position) bool {
	return p.Segment == at.Segment && p.Offset == at.Offset && !p.IsZero()
}
