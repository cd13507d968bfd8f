package seglog

import (
	"errors"
	"io"
	"slices"
	"sort"

	"martlet/internal/errs"
)

// A Walk reads the records of one segment in order, and has what it has read in memory until it is told to
// let go of it: for who wants the bodies of some of them, and knows of which when he has seen many.
// It is not safe for concurrent use.
type Walk struct {
	log     *Log
	segment *segment
	end     int64 // of the segment
	at      int64 // of the record that is next
	ahead   int64 // bytes to read at once

	room  []byte    // what is in memory is in the first used bytes of it
	used  int       //
	parts []stretch // in order, one behind the other in room
}

// stretch is a part of a segment that is in memory.
type stretch struct {
	at   int64 // in the segment
	from int   // in room
	size int
}

func (s *stretch) end() int64 { return s.at + int64(s.size) }

const (
	// worthSkipping is from how many bytes on a body is passed over, and read by itself if somebody wants it: a
	// read costs as much as that many bytes of another one.
	worthSkipping = 32 << 10

	aheadOfSmall = 128 << 10 // bytes read at once where bodies are small
	aheadOfLarge = 4 << 10   // and where one was passed over
)

// Walk returns one of a segment, from a position on as Scan takes it, with room for what is in memory: it
// takes more only for a single record that is larger. The error is of kind errs.NotFound where there is no such segment.
func (l *Log) Walk(from Position, room []byte) (*Walk, error) {
	s, end := l.segment(from.Segment)
	if s == nil {
		return nil, errs.E(errs.Op("seglog.walk"), errs.Subject(from.String()), errs.NotFound, "there is no such segment")
	}
	return &Walk{log: l, segment: s, end: end, at: max(firstRecord, from.Offset), ahead: aheadOfSmall, room: room}, nil
}

// errFull says that there is no room for the next record.
var errFull = errors.New("no room is left")

// Next returns what is next, as Scan has it, but that the head is good only until Keep is called. Where more is
// false the segment has ended, or what is in memory leaves no room: then Keep makes some.
func (w *Walk) Next() (e Entry, more bool, err error) {
	const op errs.Op = "seglog.walk"
	for w.at < w.end {
		f, head, err := w.record()
		if errors.Is(err, errFull) {
			return Entry{}, false, nil
		}
		if isRecordError(err) {
			if e, err = w.damage(); err == nil {
				return e, true, nil
			}
		}
		if err != nil {
			return Entry{}, false, errs.E(op, errs.Subject(w.log.dir.file(segmentName(w.segment.number))), kindOf(err), err)
		}
		at := Position{w.segment.number, w.at}
		w.at += f.size()
		w.ahead = aheadOfSmall
		if f.body > worthSkipping {
			w.ahead = aheadOfLarge
		}
		if f.kind != sealKind {
			return Entry{At: at, Kind: f.kind, Key: f.key, Head: head, Body: f.body}, true, nil
		}
	}
	return Entry{}, false, nil
}

// isRecordError reports whether an error says that there is no record.
func isRecordError(err error) bool {
	if err == nil {
		return false // it costs nothing where nothing is wrong
	}
	var no recordError
	return errors.As(err, &no)
}

// Ended reports whether the segment has nothing more.
func (w *Walk) Ended() bool { return w.at >= w.end }

// Record returns a record that is in memory as a whole, in which it stays, as Read does. It reports whether it is there,
// and is what it should be: where it is not, Read says what is wrong.
func (w *Walk) Record(at Position, size int64) (r Record, ok bool) {
	i := w.part(at.Offset)
	if at.Segment != w.segment.number || i < 0 || size < fixedSize || at.Offset+size > w.parts[i].end() {
		return r, false
	}
	p := &w.parts[i]
	r, err := parse(w.room[p.from+int(at.Offset-p.at):][:size:size], w.segment.origin)
	return r, err == nil
}

// Keep lets go of all that comes before an offset, and goes on from there: that of a record, or one behind a record.
func (w *Walk) Keep(from int64) {
	w.at = max(firstRecord, from)
	i := sort.Search(len(w.parts), func(i int) bool { return w.parts[i].end() > from })
	w.parts = slices.Delete(w.parts, 0, i)
	if len(w.parts) == 0 || w.parts[0].at > from {
		w.parts, w.used = w.parts[:0], 0
		return
	}
	if p := &w.parts[0]; p.at < from {
		cut := int(from - p.at)
		p.at, p.from, p.size = from, p.from+cut, p.size-cut
	}
	gone := w.parts[0].from
	w.used = copy(w.room, w.room[gone:w.used])
	for i := range w.parts {
		w.parts[i].from -= gone
	}
}

// record reads the next record, and all of it unless its body is worth skipping.
func (w *Walk) record() (f fixed, head []byte, err error) {
	b, err := w.get(fixedSize)
	if err != nil {
		return f, nil, err
	}
	if f, err = parseFixed(b, w.segment.origin); err != nil {
		return f, nil, err
	}
	if w.at+f.size() > w.end {
		return f, nil, recordError("it goes on behind the end")
	}
	want := f.before()
	if f.body <= worthSkipping {
		want = f.size()
	}
	if b, err = w.get(want); err != nil {
		return f, nil, err
	}
	if int64(len(b)) < f.before() || checksum(b[fixedSize:f.before()]) != f.content {
		return f, nil, recordError("the checksum of its head does not fit")
	}
	return f, b[fixedSize : fixedSize+f.head], nil
}

// get has n bytes from where the walk is in memory, fewer at the end of the file.
func (w *Walk) get(n int64) ([]byte, error) {
	n = min(n, w.end-w.at)
	i := w.part(w.at)
	if i < 0 || w.parts[i].end() < w.at {
		w.drop(i + 1)
		i++
		w.parts = append(w.parts, stretch{at: w.at, from: w.used})
	}
	p := &w.parts[i]
	if lacks := n - (p.end() - w.at); lacks > 0 {
		w.drop(i + 1)
		more := min(max(lacks, w.ahead), w.end-p.end(), int64(len(w.room)-w.used))
		if more < lacks {
			if p.at != w.at || i > 0 {
				return nil, errFull
			}
			w.room = append(w.room[:w.used], make([]byte, lacks)...)
			more = lacks
		}
		got, err := w.segment.file.ReadAt(w.room[w.used:][:more], p.end())
		w.used += got
		p.size += got
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	b := w.room[p.from+int(w.at-p.at) : p.from+p.size]
	return b[:min(n, int64(len(b)))], nil
}

// part returns which is the last that begins at an offset or before it; -1 for none.
func (w *Walk) part(at int64) int {
	if last := len(w.parts) - 1; last >= 0 && w.parts[last].at <= at {
		return last
	}
	return sort.Search(len(w.parts), func(i int) bool { return w.parts[i].at > at }) - 1
}

// drop lets go of all parts but the first ones.
func (w *Walk) drop(n int) {
	if n == len(w.parts) {
		return
	}
	w.used = w.parts[n].from
	w.parts = w.parts[:n]
}

// damage passes over what is no record.
func (w *Walk) damage() (Entry, error) {
	by := window{file: w.segment.file, origin: w.segment.origin, end: w.end}
	next, _ := by.find(w.at+alignment, func(*fixed) bool { return true })
	if by.err != nil {
		return Entry{}, by.err
	}
	e := Entry{At: Position{w.segment.number, w.at}, Damage: true, To: Position{w.segment.number, next}}
	w.at = next
	return e, nil
}
