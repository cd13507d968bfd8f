package metadb

import (
	"bytes"
	"encoding/binary"

	"martlet/internal/listing"
	"martlet/internal/planted"
	"martlet/internal/policy"
)

// Query asks for a page of the live rows of one space.
type Query struct {
	listing.Params
	Space policy.Index

	// Reserved shows names that begin with a NUL as well, which clients never
	// see.
	Reserved bool
}

// List calls each for every entry of a page, in order: a live row, or with a
// nil row a subdir. Both slices are good only during the call. An error of each
// ends the listing and is returned.
//
// The cost is in proportion to what is returned: markers and prefixes are
// seeked, and what lies beneath a subdir is jumped over. As in Swift a marker
// that equals a subdir is past all of it, and one within a subdir is not past
// the rest, so that the subdir comes again.
func (t *Tx) List(q Query, each func(name, row []byte) error) error {
	c := &cursor{file: t.live.Cursor()}
	if t.over != nil {
		c.over = t.over.inOrder()
	}
	w := newWalk(c, q)
	for n := 0; n < q.Limit && w.valid(); {
		entry, isRow, ok := w.entry()
		if !ok {
			continue
		}
		var row []byte
		if isRow {
			var err error
			if row, err = w.c.row(); err != nil {
				return err
			}
		}
		if err := each(entry, row); err != nil {
			return err
		}
		n++
		if isRow {
			w.step()
		} else {
			w.leap(entry)
		}
	}
	return nil
}

// walk moves over the keys of a page.
type walk struct {
	c          *cursor
	start, end []byte // keys: the first one in, and the first one past; a nil end is none
	prefix     []byte
	delimiter  []byte
	skip       []byte // a subdir of this name is past the marker
	path       bool
	reverse    bool

	key  []byte
	seek []byte // scratch
}

func newWalk(c *cursor, q Query) *walk {
	w := &walk{c: c, prefix: []byte(q.Prefix), delimiter: []byte(q.Delimiter), path: q.HasPath, reverse: q.Reverse}
	if q.HasPath {
		w.prefix, w.delimiter = pathPrefix(q.Path), []byte{'/'}
	}
	after, before := []byte(q.Marker), []byte(q.EndMarker)
	if q.Reverse {
		after, before = before, after
	}
	w.skip = after
	w.start, w.end = bounds(q, w.prefix, after, before)
	if w.reverse {
		w.last(w.end)
	} else {
		w.key = c.seek(w.start)
	}
	if planted.ListingSkipsAtEdge && q.Marker != "" && w.valid() { // breaks: the pages of a listing are all of it
		w.step()
	}
	return w
}

// pathPrefix returns what names in a pseudo-folder begin with.
func pathPrefix(path string) []byte {
	if path == "" {
		return nil
	}
	return append(bytes.TrimRight([]byte(path), "/"), '/')
}

// bounds returns the first key of a page and the first one past it.
func bounds(q Query, prefix, after, before []byte) (start, end []byte) {
	space := binary.BigEndian.AppendUint16(nil, uint16(q.Space))
	first := prefix
	if len(after) > 0 && bytes.Compare(after, prefix) >= 0 {
		first = append(bytes.Clone(after), 0) // the very next name
	}
	if !q.Reserved && (len(first) == 0 || first[0] == 0) {
		first = []byte{1}
	}
	start = append(bytes.Clone(space), first...)
	end = successor(append(bytes.Clone(space), prefix...))
	if len(before) > 0 {
		if key := append(space, before...); end == nil || bytes.Compare(key, end) < 0 {
			end = key
		}
	}
	return start, end
}

// successor returns the first key past all that begin with prefix, nil if there
// is none. It changes prefix.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			prefix[i]++
			return prefix[:i+1]
		}
	}
	return nil
}

func (w *walk) valid() bool {
	if w.key == nil {
		return false
	}
	if w.reverse {
		return bytes.Compare(w.key, w.start) >= 0
	}
	return w.end == nil || bytes.Compare(w.key, w.end) < 0
}

// last moves to the last key before bound.
func (w *walk) last(bound []byte) {
	if bound != nil {
		if w.c.seek(bound) != nil {
			w.key = w.c.prev()
			return
		}
	}
	w.key = w.c.last()
}

func (w *walk) step() {
	if w.reverse {
		w.key = w.c.prev()
	} else {
		w.key = w.c.next()
	}
}

// leap moves past everything beneath a subdir.
func (w *walk) leap(dir []byte) {
	w.seek = append(append(w.seek[:0], w.key[:spaceLen]...), dir...)
	if w.reverse {
		w.last(w.seek)
		return
	}
	if next := successor(w.seek); next != nil {
		w.key = w.c.seek(next)
	} else {
		w.key = nil
	}
}

// entry returns what the present key gives: a row, or a subdir. Where it gives
// nothing it has moved on.
func (w *walk) entry() (entry []byte, isRow, ok bool) {
	name := w.key[spaceLen:]
	if len(w.delimiter) == 0 {
		return name, true, true
	}
	tail := name[len(w.prefix):]
	if w.path && len(tail) == 0 { // the pseudo-folder itself
		w.step()
		return nil, false, false
	}
	i := bytes.Index(tail, w.delimiter)
	if i < 0 {
		return name, true, true
	}
	dir := name[:len(w.prefix)+i+len(w.delimiter)]
	if w.path {
		return w.inPath(name, dir)
	}
	if bytes.Equal(dir, w.skip) {
		w.leap(dir)
		return nil, false, false
	}
	return dir, false, true
}

// inPath is entry for a name with a slash in it, in the mode of path: there are
// no subdirs, only the rows that stand for them.
func (w *walk) inPath(name, dir []byte) (entry []byte, isRow, ok bool) {
	if len(name) == len(dir) {
		return name, true, true
	}
	if w.reverse {
		// The row that stands for dir comes last of all beneath it: move to it,
		// or to what lies before.
		w.seek = append(append(append(w.seek[:0], w.key[:spaceLen]...), dir...), 0)
		w.last(w.seek)
	} else {
		w.leap(dir)
	}
	return nil, false, false
}
