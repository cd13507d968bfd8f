package proxy

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/quorum"
	"martlet/ring"
)

// fanout is the devices that one body is streamed to: the same to each, or to each
// fragments of its own.
type fanout struct {
	up       *upload // for its limits, and what it waits for
	place    quorum.Place
	header   func(slot int) backend.Header // of the request for a slot
	length   int64                         // of each body, as far as is known before it comes; -1 is unknown
	queue    int                           // how many chunks a replica may be behind, and how many stay for a handoff
	pulse    time.Duration                 // how long a stream that waits for its next chunk is silent; 0 is as long as it takes
	replicas []*replica
	results  chan quorum.Answer
	spare    *quorum.Handoffs
	under    []quorum.Under
	trailer  func(slot int) backend.Header // set before the queues are closed
	abort    context.CancelFunc
	asked    func(slot int, d *ring.Device) // told of each device that is tried; nil where nobody wants to know
}

// fan makes the streams of an upload to a place; start opens them.
func (u *upload) fan(place quorum.Place, header func(slot int) backend.Header) *fanout {
	n := len(place.Primaries)
	return &fanout{
		up: u, place: place, header: header, length: -1, queue: queueLen,
		results: make(chan quorum.Answer, n), spare: u.cluster.Spare(place), under: make([]quorum.Under, n),
	}
}

// start opens the streams. They end by commit or by drop, whatever becomes of the client.
func (f *fanout) start(ctx context.Context) {
	work, abort := context.WithCancel(context.WithoutCancel(ctx))
	f.abort = abort
	for slot, d := range f.place.Primaries {
		r := &replica{slot: slot, device: d, queue: make(chan *chunk, f.queue), gone: make(chan struct{})}
		f.replicas = append(f.replicas, r)
		f.up.cluster.Go(func() { f.results <- f.run(work, r) })
	}
}

// commit closes each body with its trailer and returns the answers, as quorum.Place.Gather
// does.
func (f *fanout) commit(ctx context.Context, trailer func(slot int) backend.Header) []quorum.Answer {
	f.trailer = trailer
	for _, r := range f.replicas {
		close(r.queue) // f.trailer is read behind it
	}
	answers := f.place.Gather(ctx, f.results, f.up.grace)
	f.up.cluster.Late(ctx, answers, f.under)
	return answers
}

// feed reads the body, of which c has come, hands each chunk to every replica that is still
// there, and sums it up. It fails when the client does, or when too few replicas are left for a
// quorum.
func (f *fanout) feed(c *chunk, sums *digest, body io.Reader) error {
	last := false
	for {
		c.held.Add(1)
		if err := f.give(c); err != nil { // first, so that they have something to do meanwhile
			c.release()
			return err
		}
		sums.addLater(c, last)
		if sums.size > int64(f.up.limits.MaxFileSize) {
			return f.up.limits.TooLarge()
		}
		c = nextChunk(sums.size)
		var err error
		last, err = c.fill(body, longestFill)
		if err != nil || last && c.n == 0 {
			c.release()
			return err
		}
	}
}

// give hands a chunk out, which is not the caller's any more. It fails when too few replicas
// are left.
func (f *fanout) give(c *chunk) error {
	left := f.hand(c)
	c.release()
	if left < f.place.Quorum() {
		return f.lost()
	}
	return nil
}

// hand gives every replica a chunk and returns how many took it. One that stalls
// is left out, soon where the others are a quorum without it.
func (f *fanout) hand(c *chunk) int {
	var room [8]*replica
	takers := room[:0]
	for _, r := range f.replicas {
		if r.takes() {
			takers = append(takers, r)
		}
	}
	left := len(takers)
	for _, r := range takers {
		wait := f.up.stall
		if left <= f.place.Quorum() {
			wait = f.up.silence
		}
		if !r.hand(c, wait) {
			left--
		}
	}
	return left
}

// lost says why too few replicas are left, from the answers of those that have
// gone.
func (f *fanout) lost() error {
	var answers []quorum.Answer
	for _, r := range f.replicas {
		select {
		case <-r.gone:
			answers = append(answers, <-f.results) // follows at once
		default:
		}
	}
	best, err := f.place.Best(answers, nil)
	if err != nil {
		return err
	}
	return refusal(best)
}

// drop breaks every stream off, if they were started: no replica has the commit.
func (f *fanout) drop() {
	if f.abort == nil {
		return
	}
	f.abort()
	for _, r := range f.replicas {
		r.dropped.Store(true)
		close(r.queue)
	}
}

// A replica is one stream of a fanout.
type replica struct {
	slot    int
	device  *ring.Device
	queue   chan *chunk
	gone    chan struct{} // closed when it takes no more chunks
	dropped atomic.Bool   // the queue was closed without a commit
	stalled bool          // hand waits for it no more; the feeder's own
}

// takes reports whether the replica still takes chunks.
func (r *replica) takes() bool {
	select {
	case <-r.gone:
		return false
	default:
		return !r.stalled
	}
}

// hand gives the replica a chunk. It waits for a stalled one once, no longer
// than stall, and then leaves it out.
func (r *replica) hand(c *chunk, stall time.Duration) bool {
	c.held.Add(1)
	select {
	case r.queue <- c:
		return true
	case <-r.gone:
		c.release()
		return false
	default:
	}
	timer := time.NewTimer(stall)
	defer timer.Stop()
	select {
	case r.queue <- c:
		return true
	case <-r.gone:
	case <-timer.C:
		r.dropped.Store(true)
	}
	r.stalled = true
	c.release()
	return false
}

// run sends what the queue holds to the replica's device, or to a handoff while
// everything that was sent is still in memory, and returns the answer.
func (f *fanout) run(ctx context.Context, r *replica) quorum.Answer {
	defer f.finish(r)
	var sent []*chunk // while there are at most f.queue of them
	defer func() {
		for _, c := range sent {
			c.release()
		}
	}()
	replayable := true
	keep := func(c *chunk) {
		if sent = append(sent, c); len(sent) <= f.queue {
			return
		}
		replayable = false
		for _, old := range sent {
			old.release()
		}
		sent = nil
	}
	var a quorum.Answer
	route := f.spare.Route(r.device)
	for d := route.Next(); d != nil; d = route.Next() {
		a = f.attempt(ctx, r, d, sent, func(c *chunk) {
			if replayable {
				keep(c)
			} else {
				c.release()
			}
		})
		if a.Final() || ctx.Err() != nil || r.dropped.Load() || !replayable {
			break
		}
	}
	return a
}

// finish lets the feeder know that the replica takes no more, and returns what is
// still queued to the pool.
func (f *fanout) finish(r *replica) {
	close(r.gone)
	f.up.cluster.Go(func() {
		for c := range r.queue { // ends when commit or drop closes it
			c.release()
		}
	})
}

// attempt streams to one device: first what was sent before, then what comes.
// took is given each chunk that was taken from the queue.
func (f *fanout) attempt(ctx context.Context, r *replica, d *ring.Device, before []*chunk, took func(*chunk)) quorum.Answer {
	req := &backend.Request{Method: "PUT", Header: f.header(r.slot), Length: -1}
	if f.length >= 0 {
		req.Header.Add(backend.Announced, strconv.FormatInt(f.length, 10))
	}
	f.up.cluster.Address(ctx, f.place, d, req)
	f.under[r.slot].Set(d)
	if f.asked != nil {
		f.asked(r.slot, d)
	}
	s, err := f.up.cluster.Client().Open(ctx, d.Addr(), req)
	if err != nil {
		return f.up.cluster.Answered(r.slot, d, nil, err)
	}
	defer s.Abort()
	out := &pulsing{to: s, every: f.pulse}
	for _, c := range before {
		if err := out.write(c.of(r.slot)); err != nil {
			return f.broken(ctx, r.slot, d, s, err)
		}
	}
	for {
		c, err := out.next(r.queue)
		if c != nil {
			err = out.write(c.of(r.slot))
			took(c)
		}
		if err != nil {
			return f.broken(ctx, r.slot, d, s, err)
		}
		if c == nil {
			break
		}
	}
	if r.dropped.Load() {
		return quorum.Answer{Device: d, Slot: r.slot, Err: errs.E(errs.Op("proxy.upload"), errs.Aborted, "dropped before the commit")}
	}
	if err := out.flush(); err != nil {
		return f.broken(ctx, r.slot, d, s, err)
	}
	resp, err := s.Commit(f.trailer(r.slot))
	return f.up.cluster.Answered(r.slot, d, resp, err)
}

// broken is a stream that ended before its body did: the server answered
// early, or went away.
func (f *fanout) broken(ctx context.Context, slot int, d *ring.Device, s *direct.Stream, err error) quorum.Answer {
	if ctx.Err() != nil {
		return quorum.Answer{Device: d, Slot: slot, Err: err} // broken off here, not there
	}
	if !errors.Is(err, direct.ErrAnswered) {
		return f.up.cluster.Answered(slot, d, nil, err)
	}
	resp, err := s.Response()
	return f.up.cluster.Answered(slot, d, resp, err)
}
