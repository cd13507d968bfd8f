package ec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"martlet/internal/errs"
	"martlet/internal/planted"
)

// An Encoder makes archives of an object that is written to it. It holds one segment
// and its fragments, in memory of its code's that Close gives back.
type Encoder struct {
	code *Code
	head Header
	emit func([][]byte) error

	seeds  []uint64 // the checksum of the header of each index
	buf    *buffer
	each   int   // bytes of a fragment, as the segment is laid out in buf
	most   int   // bytes that the segment is to have
	fill   int   // bytes that it has
	number int64 // of the segment
	next   [1]byte
	err    error
}

var errClosed = errors.New("the encoder is closed")

// Encode returns an Encoder for a write. For each segment emit is given what comes next
// in the archive of each index, the header with what comes first; it must not keep
// it. If emit fails, so does all that follows. The error is of kind errs.Invalid.
//
// Where the size is known, an object of up to 64 KiB takes memory in proportion to that.
func (c *Code) Encode(w Write, emit func(archives [][]byte) error) (*Encoder, error) {
	if err := c.checkSize(w.Size); err != nil {
		return nil, errs.E(errs.Op("ec.encode"), err)
	}
	e := &Encoder{code: c, head: Header{Layout: c.Layout, Write: w}, emit: emit, seeds: make([]uint64, c.Fragments())}
	most := int64(c.Segment)
	if w.Size >= 0 {
		most = min(most, w.Size)
	}
	e.buf = c.buffer(most)
	for i := range e.seeds {
		e.head.Index = i
		b := e.head.Append(e.buf.slots[i][headerAt:headerAt])
		e.seeds[i] = binary.LittleEndian.Uint64(b[sumAt:])
	}
	e.begin(0)
	return e, nil
}

// begin lays out the next segment.
func (e *Encoder) begin(number int64) {
	e.number, e.fill, e.most = number, 0, e.code.Segment
	if size := e.head.Write.Size; size >= 0 {
		e.most = e.code.length(size, number)
	}
	e.each = e.code.fragment(e.most)
}

// room returns where the next bytes of the segment go, after the segment before has been
// handed on if it is full.
func (e *Encoder) room() ([]byte, error) {
	if e.fill == e.most {
		size := e.head.Write.Size
		if size >= 0 && e.number == e.code.Segments(size)-1 {
			return nil, e.fail(errs.E(errs.Mismatch, fmt.Sprintf("there are more than the %d bytes that were announced", size)))
		}
		if e.number == maxFrames-1 {
			return nil, e.fail(errs.E(errs.TooLarge, fmt.Sprintf("there are more than %d bytes", e.code.MaxSize())))
		}
		if err := e.seal(false); err != nil {
			return nil, err
		}
		e.begin(e.number + 1)
	}
	i := e.fill / e.each
	return e.buf.slots[i][fragmentAt+e.fill-i*e.each : fragmentAt+min(e.each, e.most-i*e.each)], nil
}

// fail gives the memory back; all calls fail from now on.
func (e *Encoder) fail(err error) error {
	if e.buf != nil {
		e.code.give(e.buf)
		e.buf = nil
	}
	e.err = errs.E(errs.Op("ec.encode"), err)
	return e.err
}

// Write takes the next bytes of the object. A segment is handed on once there is a byte
// behind it. More bytes than the size are errs.Mismatch.
func (e *Encoder) Write(p []byte) (n int, err error) {
	if e.err != nil {
		return 0, e.err
	}
	for len(p) > 0 {
		room, err := e.room()
		if err != nil {
			return n, err
		}
		c := copy(room, p)
		e.fill += c
		n += c
		p = p[c:]
	}
	return n, nil
}

// ReadFrom takes all that r has, without another copy on the way.
func (e *Encoder) ReadFrom(r io.Reader) (n int64, err error) {
	if e.err != nil {
		return 0, e.err
	}
	for {
		// Whether a full segment is the last one only the byte behind it tells, unless the size does.
		room := e.next[:]
		peek := e.fill == e.most && (e.head.Write.Size < 0 || e.number == e.code.Segments(e.head.Write.Size)-1)
		if !peek {
			if room, err = e.room(); err != nil {
				return n, err
			}
		}
		c, err := r.Read(room)
		n += int64(c)
		if !peek {
			e.fill += c
		} else if _, failed := e.Write(room[:c]); failed != nil {
			return n - int64(c), failed
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, e.fail(err)
		}
	}
}

// Close hands on the last segment: the archives are whole then, if it returns nil. Fewer bytes
// than the size are errs.Mismatch. Calls after it fail.
func (e *Encoder) Close() error {
	if e.err != nil {
		return e.err
	}
	size := e.head.Write.Size
	if got := e.number*int64(e.code.Segment) + int64(e.fill); size >= 0 && got != size {
		return e.fail(errs.E(errs.Mismatch, fmt.Sprintf("there are %d bytes, and %d were announced", got, size)))
	}
	if err := e.seal(true); err != nil {
		return err
	}
	_ = e.fail(errClosed)
	return nil
}

// Abort gives the memory back of an encoder that is not closed. After Close it does nothing.
func (e *Encoder) Abort() {
	if e.err == nil {
		_ = e.fail(errClosed)
	}
}

// seal encodes the segment and hands it on.
func (e *Encoder) seal(last bool) error {
	b, k := e.buf, e.code.Data
	each := e.code.fragment(e.fill)
	e.spread(each)
	for i, pos := range b.slots[:k] {
		clear(pos[fragmentAt+min(each, max(0, e.fill-i*each)) : fragmentAt+each])
	}
	if each > 0 {
		for i, slot := range b.slots {
			b.shards[i] = slot[fragmentAt : fragmentAt+each]
		}
		if err := e.code.rs.Encode(b.shards); err != nil {
			return e.fail(err)
		}
		if planted.ParityWrong { // breaks: any k fragments give the object
			for _, parity := range b.shards[k:] {
				parity[0] ^= 0xff
			}
		}
	}
	start := frameAt
	if e.number == 0 {
		start = headerAt
	}
	for i, slot := range b.slots {
		frame{length: e.fill, last: last, number: e.number}.put(slot[frameAt:], e.seeds[i], slot[fragmentAt:fragmentAt+each])
		b.out[i] = slot[start : fragmentAt+each]
	}
	if err := e.emit(b.out); err != nil {
		return e.fail(err)
	}
	return nil
}

// spread moves the bytes of a segment that came out shorter than it was laid out for,
// from the last on: each goes to a place that only bytes behind it were at.
func (e *Encoder) spread(each int) {
	if each == e.each {
		return
	}
	slots := e.buf.slots
	for end := e.fill; end > 0; {
		from, to := (end-1)/e.each, (end-1)/each
		begin := max(from*e.each, to*each)
		copy(slots[to][fragmentAt+begin-to*each:], slots[from][fragmentAt+begin-from*e.each:fragmentAt+end-from*e.each])
		end = begin
	}
	e.each = each
}
