package seglog

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"

	"martlet/internal/errs"
)

// An Entry is what Scan finds: a record, or damage.
type Entry struct {
	At   Position
	Kind byte
	Key  [16]byte
	Head []byte // the entry's own
	Body int64  // its length

	// Damage says that something was between At and To that can't be read, and
	// that there may have been records.
	Damage bool
	To     Position
}

// Size is how many bytes the record takes.
func (e *Entry) Size() int64 { return Size(len(e.Head), int(e.Body)) }

// Scan yields what is in the log from a position on, in its order: the position of a
// record, one behind a record, or the zero Position for all. Bodies are not read. It
// ends with what was durable when it came to the last segment. An error ends it.
func (l *Log) Scan(from Position) iter.Seq2[Entry, error] {
	const op errs.Op = "seglog.scan"
	return func(yield func(Entry, error) bool) {
		for _, n := range l.Segments() {
			if n < from.Segment {
				continue
			}
			start := int64(firstRecord)
			if n == from.Segment {
				start = max(start, from.Offset)
			}
			s, end := l.segment(n)
			if s == nil {
				continue // removed meanwhile
			}
			w := window{file: s.file, origin: s.origin, end: end}
			if !w.scan(start, func(e Entry) bool { return yield(e, nil) }) {
				return
			}
			if w.err != nil {
				yield(Entry{}, errs.E(op, errs.Subject(l.dir.file(segmentName(n))), kindOf(w.err), w.err))
				return
			}
		}
	}
}

// Segments returns the numbers of the segments that there are, in order.
func (l *Log) Segments() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := make([]uint64, 0, len(l.segments))
	for n := range l.segments {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// A Segment is one file of the log.
type Segment struct {
	Number uint64
	Size   int64 // bytes, up to the end of the last record
	Sealed bool  // nothing is appended to it any more
}

// Stat returns the segments that there are, in order.
func (l *Log) Stat() []Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Segment, 0, len(l.segments))
	for n, s := range l.segments {
		list = append(list, Segment{n, s.end, s.sealed})
	}
	slices.SortFunc(list, func(a, b Segment) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// IsSealed reports whether there is a segment of that number to which nothing is appended.
func (l *Log) IsSealed(n uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[n]
	return s != nil && s.sealed
}

// Size returns how many bytes a segment has, up to the end of its last record; 0 if there is none.
func (l *Log) Size(n uint64) int64 {
	_, end := l.segment(n)
	return end
}

// segment returns a segment and where it ends now; nil if there is none.
func (l *Log) segment(n uint64) (*segment, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.segments[n]
	if s == nil {
		return nil, 0
	}
	return s, s.end
}

// scan tells of what is in a segment from a position on. It is false when the caller
// wants no more.
func (w *window) scan(at int64, yield func(Entry) bool) bool {
	segment := w.origin.segment
	for at < w.end {
		f, head, err := w.record(at)
		if err == nil {
			if f.kind != sealKind && !yield(Entry{
				At: Position{segment, at}, Kind: f.kind, Key: f.key, Head: slices.Clone(head), Body: f.body,
			}) {
				return false
			}
			at += f.size()
			continue
		}
		if w.err != nil {
			return true
		}
		next, _ := w.find(at+alignment, func(*fixed) bool { return true })
		if w.err != nil {
			return true
		}
		if !yield(Entry{At: Position{segment, at}, Damage: true, To: Position{segment, next}}) {
			return false
		}
		at = next
	}
	return true
}

// window reads a file in large pieces.
type window struct {
	file   io.ReaderAt
	origin origin
	end    int64 // what is behind it does not count
	buf    []byte
	at     int64 // where buf begins
	err    error // of the file: not that there is no record
}

const windowSize = 1 << 20

// get returns n bytes from an offset on, fewer at the end. They are good until the
// next call.
func (w *window) get(at int64, n int) []byte {
	if at+int64(n) > w.end {
		n = int(max(0, w.end-at))
	}
	if at < w.at || at+int64(n) > w.at+int64(len(w.buf)) {
		size := int(min(int64(max(n, windowSize)), w.end-at))
		if cap(w.buf) < size {
			w.buf = make([]byte, size)
		}
		w.buf, w.at = w.buf[:size], at
		if got, err := w.file.ReadAt(w.buf, at); err != nil {
			w.buf = w.buf[:got]
			if err != io.EOF {
				w.err = err
			}
		}
	}
	b := w.buf[min(at-w.at, int64(len(w.buf))):]
	return b[:min(n, len(b))]
}

// record reads what of a record comes before its body.
func (w *window) record(at int64) (f fixed, head []byte, err error) {
	f, err = parseFixed(w.get(at, fixedSize), w.origin)
	if err != nil {
		return f, nil, err
	}
	if at+f.size() > w.end {
		return f, nil, recordError("it goes on behind the end")
	}
	front := w.get(at, int(f.before()))
	if int64(len(front)) < f.before() || checksum(front[fixedSize:]) != f.content {
		return f, nil, recordError("the checksum of its head does not fit")
	}
	return f, front[fixedSize : fixedSize+f.head], nil
}

// find looks for the next record of which want is true, or returns the end.
func (w *window) find(at int64, want func(*fixed) bool) (int64, bool) {
	for at+fixedSize <= w.end && w.err == nil {
		piece := w.get(at, windowSize)
		n := 0
		for n+4 <= len(piece) && binary.LittleEndian.Uint32(piece[n:]) != recordMagic {
			n += alignment
		}
		at += int64(n)
		if n+4 > len(piece) {
			continue
		}
		if f, _, err := w.record(at); err == nil && want(&f) {
			return at, true
		}
		at += alignment
	}
	return w.end, false
}

// verify reads a body and compares its checksums.
func (w *window) verify(at int64, f *fixed) error {
	front := slices.Clone(w.get(at, int(f.before())))
	table := front[fixedSize+f.head:]
	for done := int64(0); done < f.body; done += BlockSize {
		n := int(min(BlockSize, f.body-done))
		block := w.get(at+f.before()+done, n)
		if len(block) < n || checksum(block) != binary.LittleEndian.Uint32(table[done/BlockSize*4:]) {
			return recordError(fmt.Sprintf("bytes %d to %d of its body do not fit their checksum", done, done+int64(n)))
		}
	}
	return nil
}

// tail finds where a segment that was not sealed ends: behind the last record of
// which everything is there, bodies included.
func tail(s *segment) (end int64, err error) {
	w := window{file: s.file, origin: s.origin, end: s.end}
	at := int64(firstRecord)
	for at < w.end {
		f, _, err := w.record(at)
		if err == nil {
			err = w.verify(at, &f)
		}
		if w.err != nil {
			return 0, w.err
		}
		if err == nil {
			at += f.size()
			continue
		}
		// Torn, unless somebody wrote a later batch behind it.
		next, found := w.find(at+alignment, func(f *fixed) bool { return f.start > at })
		if w.err != nil {
			return 0, w.err
		}
		if !found {
			return at, nil
		}
		at = next
	}
	return min(at, w.end), nil
}
