package ec

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"martlet/internal/errs"
)

// A Part is an archive from a frame on.
type Part struct {
	Header Header

	// Frames has the frame of the segment that was asked for, and those behind it. It is read by
	// a goroutine of its own, up to a frame ahead, unless it is a Buffered and has all of a frame. It is
	// closed once it is not needed any more, if it is an io.Closer, never while it is read. A Read that
	// is under way then is waited for, unless it is an Interrupter.
	Frames io.Reader
}

// A Buffered knows how many bytes it can give without waiting for any. What it has it is asked for
// by the goroutine that wants it, which costs less than to have another one do it.
type Buffered interface{ Buffered() int }

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
	recipe *recipe // that was used last

	spare   *buffer // of the segment ahead; nil before there is one
	ahead   bool    // its frames are being read
	readers sync.WaitGroup

	mu    sync.Mutex
	ended sync.Cond // of mu: what is being read has ended, or something of it was not good
	under int       // how many frames goroutines are reading; changed under mu, and only by who calls next
	want  int       // how many of them are enough; likewise
	done  set       // of their indexes, those of frames that were read; guarded by mu
	bad   bool      // one of these is not good; guarded by mu
	each  bool      // who waits wants to know of each; guarded by mu
	tick  bool      // it has waited for as long as it wanted to; guarded by mu

	hedge *hedging // nil where nothing is asked for beside what is late

	number int64
	length int
	last   bool
	have   int // how many good fragments there are
}

// part is what is read of an index.
type part struct {
	reader   io.Reader // nil where there is none
	buffered Buffered  // the same; nil if it doesn't know
	seed     uint64
	tasks    chan<- task   // for its goroutine; nil before there is one
	busy     bool          // that is reading
	began    time.Time     // when it was told to, where there is a hedge
	frame    frame         // what it has read last, guarded by the gather's mu
	err      error         // what was wrong with that, likewise
	took     time.Duration // since began, likewise
}

// gather returns one that begins with the frame of a segment, and wants those before end.
func (c *Code) gather(w Write, first, end int64, source Source) *gather {
	g := &gather{code: c, write: w, end: end, source: source, number: first - 1}
	g.ended.L = &g.mu
	return g
}

// next reads the next segment; after an error it must not be called again. Fragments are in buf.shards where they are there, and
// have no length where they are not.
func (g *gather) next() error {
	g.number++
	g.length, g.have = -1, 0
	if g.hedge != nil {
		g.hedge.begin()
	}
	g.turn()
	g.beginAll()
	for g.have < g.code.Data {
		if g.have+g.reading() >= g.code.Data {
			g.wait()
			continue
		}
		p, ok, err := g.ask()
		switch {
		case err == io.EOF && g.hedge != nil && g.hedge.late != 0:
			g.hedge.late, g.hedge.none = 0, true // what is late is waited for
		case err == io.EOF:
			g.stop()
			g.close()
			return g.tooFew()
		case err != nil:
			g.faults = append(g.faults, Fault{Index: -1, Segment: g.number, Err: err})
		case !ok:
			g.takeIn(g.harvested())
		default:
			if i, ok := g.take(p); ok {
				g.begin(i)
			}
		}
	}
	g.leave()
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
		g.buf, g.parts = g.newBuffer(), make([]part, n)
	case g.ahead:
		g.buf, g.spare, g.ahead = g.spare, g.buf, false
	}
	for i := range g.buf.shards {
		g.buf.shards[i] = nil
	}
}

func (g *gather) newBuffer() *buffer {
	most := int64(g.code.Segment)
	if g.write.Size >= 0 {
		most = min(most, g.write.Size)
	}
	return g.code.buffer(most)
}

// frame returns how long the frame of a segment is, or may be at most.
func (g *gather) frame(number int64) int {
	most := g.code.Segment
	if g.write.Size >= 0 {
		most = g.code.length(g.write.Size, number)
	}
	return int(g.code.frame(most))
}

// task is the reading of the frame of an index, that of segment number.
func (g *gather) task(i int, into *buffer, number int64) task {
	return task{into.slots[i][frameAt : frameAt+g.frame(number)], number}
}

// beginAll begins with the frames that are not being read already, with those first that are to be waited for.
func (g *gather) beginAll() {
	for i := range g.parts {
		if p := &g.parts[i]; p.reader != nil && !p.busy && !p.has(g.frame(g.number)) {
			g.begin(i)
		}
	}
	for i := range g.parts {
		if p := &g.parts[i]; p.reader != nil && !p.busy {
			g.begin(i)
		}
	}
}

// begin has a frame of the segment read: here if it is there already, else by the goroutine of its index.
func (g *gather) begin(i int) {
	t := g.task(i, g.buf, g.number)
	if p := &g.parts[i]; p.has(len(t.into)) {
		f, err := t.read(p.reader, g.code.Layout, g.write.Size, p.seed)
		g.accept(i, f, err)
		return
	}
	g.send(i, t)
}

// readAhead begins with the segment behind the one that was read. What is there already can wait.
func (g *gather) readAhead() {
	for i := range g.parts {
		if p := &g.parts[i]; p.reader == nil || p.has(g.frame(g.number+1)) {
			continue
		}
		if g.spare == nil {
			g.spare = g.newBuffer()
		}
		g.ahead = true
		g.send(i, g.task(i, g.spare, g.number+1))
	}
}

// send gives a task to the goroutine of an index.
func (g *gather) send(i int, t task) {
	p := &g.parts[i]
	if p.tasks == nil {
		g.start(i)
	}
	p.busy = true
	if g.hedge != nil {
		p.began = time.Now()
	}
	g.mu.Lock()
	g.under++
	g.mu.Unlock()
	p.tasks <- t
}

// start starts the goroutine that reads an archive, frame by frame as it is told to.
func (g *gather) start(i int) {
	p := &g.parts[i]
	tasks := make(chan task, 1)
	p.tasks = tasks
	r, seed, layout, size := p.reader, p.seed, g.code.Layout, g.write.Size
	g.readers.Go(func() {
		for t := range tasks {
			f, err := t.read(r, layout, size, seed)
			g.over(i, f, err)
		}
	})
}

// over says that a goroutine has read a frame. Nobody is woken before that is of use: all that are being
// read are needed, unless another is to be asked for in the place of one.
func (g *gather) over(i int, f frame, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &g.parts[i]
	p.frame, p.err = f, err
	g.done |= 1 << i
	g.bad = g.bad || err != nil
	if g.hedge != nil {
		p.took = time.Since(p.began)
		select {
		case g.hedge.wake <- struct{}{}:
		default:
		}
	}
	if g.enough() {
		g.ended.Signal()
	}
}

// enough reports whether who waits for frames has something to do. It is called with mu held.
func (g *gather) enough() bool {
	return g.bad || g.done.len() >= g.want || g.each && g.done != 0
}

// collect returns of which indexes goroutines have read a frame, once these are all that it takes or one is not good.
func (g *gather) collect() set {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.want = min(g.under, max(g.code.Data-g.have, 1))
	for !g.enough() {
		g.ended.Wait()
	}
	return g.harvest()
}

// harvested returns of which indexes goroutines have read a frame by now.
func (g *gather) harvested() set {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.harvest()
}

// harvest is harvested with mu held.
func (g *gather) harvest() set {
	done := g.done
	g.under -= done.len()
	g.done, g.bad = 0, false
	for i := range g.parts {
		g.parts[i].busy = g.parts[i].busy && !done.has(i)
	}
	return done
}

// wait takes in what goroutines have read.
func (g *gather) wait() {
	if g.hedge != nil && !g.hedge.none {
		g.waitOrHedge()
		return
	}
	g.takeIn(g.collect())
}

// takeIn takes in frames that were read, those that were late only where they are needed still.
func (g *gather) takeIn(done set) {
	var late set
	if g.hedge != nil {
		late = g.hedge.late & done
		g.hedge.late &^= done
	}
	for _, some := range [...]set{done &^ late, late} {
		for i := range g.parts {
			if !some.has(i) {
				continue
			}
			if g.have == g.code.Data {
				g.drop(i)
				continue
			}
			if p := &g.parts[i]; g.hedge != nil && p.err == nil {
				g.hedge.took = max(g.hedge.took, p.took)
			}
			g.accept(i, g.parts[i].frame, g.parts[i].err)
		}
	}
}

// accept takes in a frame that was read, and drops the part if it isn't good.
func (g *gather) accept(i int, f frame, err error) {
	if err == nil && g.length >= 0 && (g.length != f.length || g.last != f.last) {
		err = frameError(g.number, errors.New("other fragments are of a segment of another length"))
	}
	if err != nil {
		g.drop(i)
		g.faults = append(g.faults, Fault{i, g.number, err})
		return
	}
	g.length, g.last = f.length, f.last
	g.buf.shards[i] = g.buf.slots[i][fragmentAt : fragmentAt+g.code.fragment(f.length)]
	g.have++
}

// restore makes fragments of the segment that are not there.
func (g *gather) restore(want set) (err error) {
	g.recipe, err = g.code.restore(g.buf, want, g.recipe)
	return err
}

// interrupt has the reading of frames end, as soon as it can.
func (g *gather) interrupt() {
	for i := range g.parts {
		if in, ok := g.parts[i].reader.(Interrupter); ok && g.parts[i].busy {
			in.Interrupt()
		}
	}
}

// stop ends the reading of frames, and takes in those that were read.
func (g *gather) stop() {
	g.interrupt()
	for g.under > 0 {
		g.takeIn(g.collect())
	}
}

func (g *gather) tooFew() error {
	why := make([]error, 0, len(g.faults))
	for _, f := range g.faults {
		why = append(why, fmt.Errorf("index %d at segment %d: %w", f.Index, f.Segment, f.Err))
	}
	err := fmt.Errorf("%w: %d of %d at segment %d", ErrTooFew, g.have, g.code.Data, g.number)
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
		buffered, _ := p.Frames.(Buffered)
		g.parts[h.Index] = part{reader: p.Frames, buffered: buffered, seed: h.sum()}
		return h.Index, true
	}
	closeReader(p.Frames)
	g.faults = append(g.faults, Fault{h.Index, g.number, err})
	return h.Index, false
}

// drop lets go of an archive.
func (g *gather) drop(i int) {
	p := &g.parts[i]
	if p.reader != nil {
		if p.tasks != nil {
			close(p.tasks)
		}
		closeReader(p.reader)
		*p = part{}
	}
}

// close ends what is being read and gives the memory back.
func (g *gather) close() {
	g.interrupt()
	for g.under > 0 {
		g.collect() // what was ended says nothing
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
	if g.hedge != nil && g.hedge.timer != nil {
		g.hedge.timer.Stop()
	}
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		_ = c.Close() // all that was wanted has been read
	}
}
