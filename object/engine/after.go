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
//
// Compaction moves one of the records of an entry behind the other, also the one that was
// Alone. So when the log is read from its beginning, the first of them may come upon what
// is dead long since, such as a later version that was dropped. What it makes of that
// does not matter, as long as the second one makes of it what there was: so a time of
// metadata counts only where it is not that of the data there, and metadata that can't
// have been beside that data takes its place.
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
		ctype, meta := own(e.Times.ContentType, e.Times.Data), own(e.Times.Meta, e.Times.Data)
		since := o.Time.Until()
		if !ctype.After(since) && !meta.After(since) {
			e.Dead += dead(e.Meta)
			e.Meta, e.MetaLost = index.Place{}, false
		}
		if !e.MetaLost {
			unmark(&e)
		}
		e.Times = timestamp.Packed{Data: o.Time, ContentType: o.Time, Meta: o.Time}
		if ctype.After(since) {
			e.Times.ContentType = ctype
		}
		if meta.After(since) {
			e.Times.Meta = meta // and with it when the object expires
		} else {
			e.Expires = expires(o.Meta)
		}
	case record.Meta:
		if foreign(o.MetaTime, e.Times.Data) || foreign(o.ContentTypeTime, e.Times.Data) {
			e = index.Entry{Dead: e.Dead + places(&e), Tie: h.Tie}
		}
		e.Dead += dead(e.Meta)
		e.Meta, e.MetaLost = at, false
		if e.Kind == index.Absent {
			e.Kind = index.Waiting
		}
		if e.Kind != index.Lost {
			unmark(&e)
		}
		if !o.MetaTime.IsZero() {
			e.Expires = expires(o.Meta)
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
		}
		if h.Lost&record.LostMeta != 0 {
			e.Dead += dead(e.Meta)
			e.Meta, e.MetaLost = index.Place{}, true
		}
		if e.Kind == index.Absent {
			e.Kind = index.Waiting
		}
		e.Times = timestamp.Packed{Data: o.Time, ContentType: o.ContentTypeTime, Meta: o.MetaTime}
		if later := !own(o.MetaTime, o.Time).IsZero(); later && e.MetaLost || !later && e.Kind == index.Lost {
			e.Expires = 0 // what said so is lost
		}
	}
	return e
}

// own returns a time of an entry if it is that of later metadata, and not just the data's.
func own(t, data timestamp.T) timestamp.T {
	if t != data && t.After(data.Until()) {
		return t
	}
	return timestamp.T{}
}

// foreign reports whether a time of metadata shows that it was never beside that data:
// what is not later than the data is left out when the record is written.
func foreign(t, data timestamp.T) bool { return !t.IsZero() && !t.After(data.Until()) }

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
