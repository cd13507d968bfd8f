package ec

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/minio/crc64nvme"

	"martlet/internal/errs"
)

// A Part is an archive from a frame on.
type Part struct {
	Header Header

	// Frames has the frame of the segment that was asked for, and those behind it. It is read by
	// a goroutine of its own, up to a frame ahead. It is closed once it is not needed any more, if it is an
	// io.Closer, never while it is read. A Read that is under way then is waited for, unless it is an Interrupter.
	Frames io.Reader
}

// An Interrupter can be told, by another goroutine than the one that reads, to end a Read that is
// under way, and that no more are wanted.
type Interrupter interface{ Interrupt() }

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

// gather reads k good fragments of one segment after the other: all that it has archives of
// at once, so that a slow one does not hold up the others, and those of the next segment while its
// caller has to do with one. The fields number and below are of the segment that was read last.
type gather struct {
	code   *Code
	write  Write
	end    int64 // the first segment that is not wanted
	source Source
	buf    *buffer
	parts  []part // by index
	faults []Fault

	results chan result // has room for all
	under   int         // how many frames are being read
	spare   *buffer     // of the segment ahead; nil before there is one
	ahead   bool        // its frames are being read
	readers sync.WaitGroup

	number int64
	length int
	last   bool
}

// part is what is read of an index.
type part struct {
	reader io.Reader // nil where there is none
	seed   uint64
	tasks  chan<- []byte // where its goroutine is to read a frame to
	busy   bool          // it is reading
}

// result is how the reading of a frame ended.
type result struct {
	index, n int
	err      error
}

// gather returns one that begins with the frame of a segment, and wants those before end.
func (c *Code) gather(w Write, first, end int64, source Source) *gather {
	return &gather{code: c, write: w, end: end, source: source, number: first - 1}
}

// next reads the next segment; after an error it must not be called again. Fragments are in buf.shards where they are there, and
// have no length where they are not.
func (g *gather) next() error {
	g.number++
	g.length = -1
	g.turn()
	have := 0
	for have < g.code.Data {
		if have+g.under == g.code.Data {
			if g.good(g.result()) {
				have++
			}
			continue
		}
		p, err := g.source(g.number)
		if err == io.EOF {
			have += g.stop()
			g.close()
			return g.tooFew(have)
		}
		if err != nil {
			g.faults = append(g.faults, Fault{Index: -1, Segment: g.number, Err: err})
			continue
		}
		if i, ok := g.take(p); ok {
			g.begin(i, g.buf, g.number)
		}
	}
	if g.number+1 < g.end && !g.last {
		g.readAhead()
	}
	return nil
}

// turn makes the segment that comes next the one that is read.
func (g *gather) turn() {
	switch {
	case g.buf == nil:
		n := g.code.Fragments()
		g.buf, g.parts, g.results = g.newBuffer(), make([]part, n), make(chan result, n)
	case g.ahead:
		g.buf, g.spare, g.ahead = g.spare, g.buf, false
	}
	for i := range g.buf.shards {
		g.buf.shards[i] = g.buf.slots[i][fragmentAt:fragmentAt]
	}
}

// result waits for one of the frames that are being read.
func (g *gather) result() result {
	r := <-g.results
	g.under--
	g.parts[r.index].busy = false
	return r
}

// interrupt has the reading of frames end, as soon as it can.
func (g *gather) interrupt() {
	for i := range g.parts {
		if in, ok := g.parts[i].reader.(Interrupter); ok && g.parts[i].busy {
			in.Interrupt()
		}
	}
}

// stop ends the reading of frames and returns how many of them were good.
func (g *gather) stop() (good int) {
	g.interrupt()
	for g.under > 0 {
		if g.good(g.result()) {
			good++
		}
	}
	return good
}

func (g *gather) newBuffer() *buffer {
	most := int64(g.code.Segment)
	if g.write.Size >= 0 {
		most = min(most, g.write.Size)
	}
	return g.code.buffer(most)
}

// readAhead begins with the segment behind the one that was read.
func (g *gather) readAhead() {
	if g.spare == nil {
		g.spare = g.newBuffer()
	}
	g.ahead = true
	for i := range g.parts {
		if g.parts[i].reader != nil {
			g.begin(i, g.spare, g.number+1)
		}
	}
}

// begin has the frame of an index read, that of segment number.
func (g *gather) begin(i int, into *buffer, number int64) {
	l, most := g.code.Layout, g.code.Segment
	if g.write.Size >= 0 {
		most = l.length(g.write.Size, number)
	}
	p := &g.parts[i]
	p.busy = true
	g.under++
	p.tasks <- into.slots[i][frameAt : fragmentAt+l.fragment(most)]
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
		g.read(h, p.Frames)
		return h.Index, true
	}
	closeReader(p.Frames)
	g.faults = append(g.faults, Fault{h.Index, g.number, err})
	return h.Index, false
}

// read starts the goroutine that reads an archive, frame by frame as it is told to.
func (g *gather) read(h *Header, frames io.Reader) {
	tasks := make(chan []byte, 1)
	g.parts[h.Index] = part{reader: frames, seed: h.sum(), tasks: tasks}
	index, results := h.Index, g.results
	g.readers.Go(func() {
		for into := range tasks {
			n, err := io.ReadFull(frames, into)
			results <- result{index, n, err}
		}
	})
}

// drop lets go of an archive.
func (g *gather) drop(i int) {
	p := &g.parts[i]
	if p.reader != nil {
		close(p.tasks)
		closeReader(p.reader)
		*p = part{}
	}
}

// good takes in a frame that was read and drops the part if it isn't good.
func (g *gather) good(r result) bool {
	err := g.check(r)
	if err == nil {
		return true
	}
	g.drop(r.index)
	g.faults = append(g.faults, Fault{r.index, g.number, err})
	return false
}

func (g *gather) check(r result) error {
	l, slot, n := g.code.Layout, g.buf.slots[r.index], r.n
	if n < frameHead || r.err != nil && r.err != io.ErrUnexpectedEOF {
		return shortOr(r.err)
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
	sum := crc64nvme.Update(g.parts[r.index].seed, slot[frameAt:frameAt+8])
	if crc64nvme.Update(sum, slot[fragmentAt:fragmentAt+size]) != f.sum {
		return frameError(g.number, errSum)
	}
	if g.length >= 0 && (g.length != f.length || g.last != f.last) {
		return frameError(g.number, errors.New("other fragments are of a segment of another length"))
	}
	g.length, g.last = f.length, f.last
	g.buf.shards[r.index] = slot[fragmentAt : fragmentAt+size]
	return nil
}

func shortOr(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrShort
	}
	return err
}

// close ends what is being read and gives the memory back.
func (g *gather) close() {
	g.interrupt()
	for g.under > 0 {
		g.result() // what was ended says nothing
	}
	for i := range g.parts {
		g.drop(i)
	}
	g.readers.Wait()
	for _, b := range []*buffer{g.buf, g.spare} {
		if b != nil {
			g.code.give(b)
		}
	}
	g.buf, g.spare, g.ahead = nil, nil, false
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		_ = c.Close() // all that was wanted has been read
	}
}
