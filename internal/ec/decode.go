package ec

import (
	"errors"
	"fmt"
	"io"

	"martlet/internal/errs"
)

// A Decoder reads a range of an object. It holds a segment, and the next one if there is one, in memory of
// its code's that Close gives back.
type Decoder struct {
	g    *gather
	off  int64 // in the object, of the next byte
	rest int64 // bytes to read; negative for all there are
	// The bytes of the segment that are still to be read.
	from, to int
	ended    bool
	err      error
}

var errDecoderClosed = errors.New("the decoder is closed")

// Decode returns a reader of n bytes of an object from off on, or of all from there on if
// n is negative. It needs only the segments that these are in, and asks for archives when it
// is read, from the first of these segments on.
//
// A range that is not within the object is errs.Range; where the size is not known
// that turns out when the end is read, before any byte of the last segment. An object has to
// have a byte in the segment of off, so who reads a range has to know the size. Where
// fewer than k good fragments of a segment are left the error is errs.Unavailable and wraps
// ErrTooFew and all Faults.
func (c *Code) Decode(w Write, off, n int64, source Source) (*Decoder, error) {
	const op errs.Op = "ec.decode"
	if err := c.checkSize(w.Size); err != nil {
		return nil, errs.E(op, err)
	}
	if off < 0 || off > c.MaxSize() || n > c.MaxSize()-off {
		return nil, errs.E(op, errs.Range, fmt.Sprintf("%d bytes from %d on", n, off))
	}
	d := &Decoder{off: off, rest: max(n, -1)}
	if w.Size >= 0 {
		if off > w.Size || n > w.Size-off {
			return nil, errs.E(op, errs.Range, fmt.Sprintf("%d bytes from %d on of %d", n, off, w.Size))
		}
		if n < 0 {
			d.rest = w.Size - off
		}
	}
	d.ended = d.rest == 0
	first, end := c.Span(off, d.rest)
	if d.rest < 0 {
		end = maxFrames // the last one says so
	}
	d.g = c.gather(w, first, end, source)
	return d, nil
}

// Hedge has archives asked for beside those that are late with a frame. It is called before anything is read.
func (d *Decoder) Hedge(h Hedge) { d.g.hedge = &hedging{Hedge: h, wake: make(chan struct{}, 1)} }

// Faults returns why archives were not read any further.
func (d *Decoder) Faults() []Fault { return d.g.faults }

// Prime reads the first segment that is needed, so that an error there is known before any byte
// is given out.
func (d *Decoder) Prime() error {
	if err := d.fill(); err != io.EOF {
		return err
	}
	return nil
}

// Close ends reading. What was read of is closed, and the memory given back.
func (d *Decoder) Close() error {
	if d.err == nil {
		d.err = errs.E(errs.Op("ec.decode"), errDecoderClosed)
	}
	d.from, d.to = 0, 0
	d.g.close()
	return nil
}

// fill reads the next segment, unless there are bytes left of the one before. It returns
// io.EOF at the end of the range.
func (d *Decoder) fill() error {
	if d.from < d.to {
		return nil
	}
	if d.err != nil {
		return d.err
	}
	if d.ended {
		return d.end(io.EOF)
	}
	g, segment := d.g, int64(d.g.code.Segment)
	if err := g.next(); err != nil {
		return d.end(err)
	}
	start := g.number * segment
	to := int64(g.length)
	if d.rest >= 0 {
		to = min(to, d.off+d.rest-start)
	}
	if left := start + int64(g.length) - d.off; g.last && (left < 0 || d.rest > left) {
		return d.end(errs.E(errs.Op("ec.decode"), errs.Range, fmt.Sprintf("the object has %d bytes", start+int64(g.length))))
	}
	if g.length > 0 {
		if err := g.restore(g.code.data()); err != nil {
			return d.end(errs.E(errs.Op("ec.decode"), err))
		}
	}
	d.from, d.to = int(d.off-start), int(to)
	n := int64(d.to - d.from)
	d.off += n
	if d.rest >= 0 {
		d.rest -= n
	}
	d.ended = g.last || d.rest == 0
	if n == 0 {
		return d.end(io.EOF)
	}
	return nil
}

func (d *Decoder) end(err error) error {
	d.err = err
	d.g.close()
	return err
}

// piece returns the next bytes of the segment that lie together.
func (d *Decoder) piece() []byte {
	each := d.g.code.fragment(d.g.length)
	i := d.from / each
	return d.g.buf.shards[i][d.from-i*each : min(each, d.to-i*each)]
}

// Read reads the next bytes. Each is of a segment that was checked as a whole.
func (d *Decoder) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := d.fill(); err != nil {
		return 0, err
	}
	for n < len(p) && d.from < d.to {
		c := copy(p[n:], d.piece())
		n += c
		d.from += c
	}
	return n, nil
}

// WriteTo writes all there is to w, without another copy on the way.
func (d *Decoder) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if err := d.fill(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		for d.from < d.to {
			c, err := w.Write(d.piece())
			n += int64(c)
			d.from += c
			if err != nil {
				return n, err
			}
		}
	}
}
