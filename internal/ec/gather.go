package ec

import (
	"errors"
	"fmt"
	"io"

	"github.com/minio/crc64nvme"

	"martlet/internal/errs"
)

// A Part is an archive from a frame on.
type Part struct {
	Header Header

	// Frames has the frame of the segment that was asked for, and those behind it. It is
	// closed once it is not needed any more, if it is an io.Closer.
	Frames io.Reader
}

// A Source gives out the archives to read, from the frame of a segment on: as many as
// are needed at first, and another one for each that turns out not to be good. Those that
// come first are used first. It returns io.EOF when there are no more, which it must at
// some time; any other error is that of one archive, and the next is asked for.
type Source func(segment int64) (Part, error)

// A Fault is why an archive was not read any further.
type Fault struct {
	Index   int   // of the fragment; -1 where its header was not there
	Segment int64 // at which
	Err     error
}

// gather reads k good fragments of one segment after the other. The fields number and
// below are of the segment that was read last.
type gather struct {
	code   *Code
	write  Write
	source Source
	buf    *buffer
	parts  []part // by index; reader is nil where there is none
	faults []Fault

	number int64
	length int
	last   bool
}

type part struct {
	reader io.Reader
	seed   uint64
}

// gather returns one that begins with the frame of a segment.
func (c *Code) gather(w Write, first int64, source Source) *gather {
	return &gather{code: c, write: w, source: source, number: first - 1}
}

// next reads the next segment; after an error it must not be called again. Fragments are in buf.shards where they are there, and
// have no length where they are not.
func (g *gather) next() error {
	if g.buf == nil {
		most := int64(g.code.Segment)
		if g.write.Size >= 0 {
			most = min(most, g.write.Size)
		}
		g.buf, g.parts = g.code.buffer(most), make([]part, g.code.Fragments())
	}
	g.number++
	g.length = -1
	have := 0
	for i := range g.parts {
		g.buf.shards[i] = g.buf.slots[i][fragmentAt:fragmentAt]
		if g.parts[i].reader != nil && g.read(i) {
			have++
		}
	}
	for have < g.code.Data {
		p, err := g.source(g.number)
		if err == io.EOF {
			g.close()
			return g.tooFew(have)
		}
		if err != nil {
			g.faults = append(g.faults, Fault{Index: -1, Segment: g.number, Err: err})
			continue
		}
		if i, ok := g.take(p); ok && g.read(i) {
			have++
		}
	}
	return nil
}

func (g *gather) tooFew(have int) error {
	why := make([]error, 0, len(g.faults))
	for _, f := range g.faults {
		why = append(why, fmt.Errorf("index %d at segment %d: %w", f.Index, f.Segment, f.Err))
	}
	err := fmt.Errorf("%w: %d of %d at segment %d", ErrTooFew, have, g.code.Data, g.number)
	if len(why) > 0 {
		err = fmt.Errorf("%w: %w", err, errors.Join(why...))
	}
	return errs.E(errs.Op("ec.read"), errs.Unavailable, err)
}

// take checks whether a part is one of the write, and not there yet.
func (g *gather) take(p Part) (index int, ok bool) {
	h := &p.Header
	var err error
	switch {
	case h.Check() != nil:
		err = h.Check()
	case h.Layout != g.code.Layout:
		err = fmt.Errorf("%w: it is of %v in segments of %d bytes", ErrForeign, h.Shape, h.Segment)
	case h.Write != g.write:
		err = fmt.Errorf("%w: it is of write %x", ErrForeign, h.Write.ID)
	case g.parts[h.Index].reader != nil:
		err = fmt.Errorf("%w: one of its index is there", ErrForeign)
	default:
		g.parts[h.Index] = part{p.Frames, h.sum()}
		return h.Index, true
	}
	closeReader(p.Frames)
	g.faults = append(g.faults, Fault{h.Index, g.number, err})
	return h.Index, false
}

// read reads the frame of an index and drops the part if it isn't good.
func (g *gather) read(i int) bool {
	err := g.frame(i)
	if err == nil {
		return true
	}
	closeReader(g.parts[i].reader)
	g.parts[i].reader = nil
	g.faults = append(g.faults, Fault{i, g.number, err})
	return false
}

func (g *gather) frame(i int) error {
	l, p, slot := g.code.Layout, &g.parts[i], g.buf.slots[i]
	most := l.Segment
	if g.length >= 0 {
		most = g.length
	} else if g.write.Size >= 0 {
		most = l.length(g.write.Size, g.number)
	}
	n, err := io.ReadFull(p.reader, slot[frameAt:fragmentAt+l.fragment(most)])
	if n < frameHead || err != nil && err != io.ErrUnexpectedEOF {
		return shortOr(err)
	}
	f := parseFrame(slot[frameAt:])
	if err := f.check(l, g.write.Size, g.number); err != nil {
		return err
	}
	size := l.fragment(f.length)
	if n < frameHead+size {
		return ErrShort
	}
	if n > frameHead+size {
		return frameError(g.number, errors.New("there are bytes behind the last frame"))
	}
	sum := crc64nvme.Update(p.seed, slot[frameAt:frameAt+8])
	if crc64nvme.Update(sum, slot[fragmentAt:fragmentAt+size]) != f.sum {
		return frameError(g.number, errSum)
	}
	if g.length >= 0 && (g.length != f.length || g.last != f.last) {
		return frameError(g.number, errors.New("other fragments are of a segment of another length"))
	}
	g.length, g.last = f.length, f.last
	g.buf.shards[i] = slot[fragmentAt : fragmentAt+size]
	return nil
}

func shortOr(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrShort
	}
	return err
}

// close closes what is being read and gives the memory back.
func (g *gather) close() {
	for i := range g.parts {
		closeReader(g.parts[i].reader)
		g.parts[i].reader = nil
	}
	if g.buf != nil {
		g.code.give(g.buf)
		g.buf = nil
	}
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		_ = c.Close() // all that was wanted has been read
	}
}
