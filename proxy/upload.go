package proxy

import (
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/limits"
	"martlet/ring"
)

const (
	// chunkSize is how much of a body is read before it is handed to the
	// replicas, in bytes. A body that ends within the first chunk is sent whole
	// and not streamed.
	chunkSize = 256 << 10
	// queueLen is how many chunks a replica may be behind the client before the
	// client waits for it, and how many stay in memory for a handoff to take
	// over.
	queueLen = 4
	// longestFill is how long a slow client's bytes are gathered before they go
	// on: replicas take a long silence for a proxy that is gone.
	longestFill = time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A chunk is a part of a body, shared by the replicas that it goes to and
// returned to the pool by the last of them.
type chunk struct {
	buf  []byte // chunkSize long
	n    int
	held atomic.Int32
}

var chunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}

func newChunk() *chunk {
	c := chunks.Get().(*chunk) //nolint:forcetypeassert // the pool holds nothing else
	c.n = 0
	c.held.Store(1)
	return c
}

func (c *chunk) data() []byte { return c.buf[:c.n] }

func (c *chunk) release() {
	if c.held.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// fill reads until the chunk is full or the body ends; last says that it did.
// Where most is not 0 it makes do with what came in that time, if anything did.
func (c *chunk) fill(body io.Reader, most time.Duration) (last bool, err error) {
	began := time.Now()
	for c.n < len(c.buf) {
		n, err := body.Read(c.buf[c.n:])
		c.n += n
		if err == io.EOF { // not errors.Is: a failure may have one in it
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if most > 0 && c.n > 0 && time.Since(began) >= most {
			break
		}
	}
	return false, nil
}

// digest is the checksums of a body as it passes.
type digest struct {
	md5  hash.Hash
	crc  uint32
	size int64
}

func newDigest() *digest { return &digest{md5: md5.New()} }

func (d *digest) add(p []byte) {
	d.md5.Write(p)
	d.crc = crc32.Update(d.crc, castagnoli, p)
	d.size += int64(len(p))
}

func (d *digest) etag() string { return hex.EncodeToString(d.md5.Sum(nil)) }

// commit is what closes the body towards the replicas: without it none keeps it.
func (d *digest) commit(etag string) backend.Header {
	return backend.Header{{Name: backend.CommitETag, Value: etag}, {Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", d.crc)}}
}

// An upload is one body on its way to the replicas of an object.
type upload struct {
	cluster *quorum.Cluster
	place   quorum.Place
	stamp   timestamp.T
	fixed   bool                                             // it is the stamp of another cluster: there is no other
	header  func(slot int, stamp timestamp.T) backend.Header // of the request for a replica, without the commit
	etag    string                                           // what the client says the MD5 is; "" where it doesn't
	length  int64                                            // that the body has; -1 is unknown
	limits  limits.Limits
	stall   time.Duration // how long a replica may hold up a quorum of others
	silence time.Duration // how long one may that they need
	grace   time.Duration // how long the last replicas are waited for
}

// stored is a body that the replicas have answered for.
type stored struct {
	etag    string
	size    int64
	answers []quorum.Answer

	// again sends the same body once more under another stamp. It is nil where
	// the body has passed and is no longer there.
	again func(ctx context.Context, stamp timestamp.T) []quorum.Answer
}

// run sends the body. When it returns without an error, every replica has
// answered or is not waited for any more: what the answers amount to is for the
// caller to say. When it returns an error, no replica was given the commit, and
// none keeps anything.
func (u *upload) run(ctx context.Context, body io.Reader) (stored, error) {
	first := newChunk()
	last, err := first.fill(body, 0)
	if err != nil {
		first.release()
		return stored{}, err
	}
	sums := newDigest()
	sums.add(first.data())
	if last {
		defer first.release()
		return u.whole(ctx, first, sums)
	}
	return u.stream(ctx, first, sums, body)
}

// check compares a finished body with what the client announced.
func (u *upload) check(sums *digest) (etag string, err error) {
	if sums.size > int64(u.limits.MaxFileSize) {
		return "", u.limits.TooLarge()
	}
	if u.length >= 0 && sums.size != u.length { // it would be kept as if it were the whole
		return "", errs.E(errs.Op("proxy.put"), errs.Aborted, fmt.Errorf("%d bytes came of %d: %w", sums.size, u.length, io.ErrUnexpectedEOF))
	}
	etag = sums.etag()
	if u.etag != "" && u.etag != etag {
		return "", errs.Refuse(errs.Mismatch, "ETag %s is not the MD5 of the body, %s", u.etag, etag)
	}
	return etag, nil
}

// whole sends a body that is in memory, in one request to each replica.
func (u *upload) whole(ctx context.Context, c *chunk, sums *digest) (stored, error) {
	etag, err := u.check(sums)
	if err != nil {
		return stored{}, err
	}
	// A replica that is not waited for may still be sending: it gets bytes of
	// its own, since the chunk goes back to the pool.
	data := append([]byte(nil), c.data()...)
	commit := sums.commit(etag)
	send := func(ctx context.Context, stamp timestamp.T) []quorum.Answer {
		return u.cluster.Write(ctx, u.place, func(slot int, _ *ring.Device) *backend.Request {
			h := append(u.header(slot, stamp), commit...)
			return &backend.Request{Method: "PUT", Header: h, Length: int64(len(data)), Body: newBytes(data)}
		})
	}
	return stored{etag, sums.size, send(ctx, u.stamp), send}, nil
}

// stream sends a body of any length chunk by chunk.
func (u *upload) stream(ctx context.Context, first *chunk, sums *digest, body io.Reader) (stored, error) {
	work, abort := context.WithCancel(context.WithoutCancel(ctx)) // the commit outlives the client
	n := len(u.place.Primaries)
	fan := &fanout{up: u, results: make(chan quorum.Answer, n), spare: u.cluster.Spare(u.place), abort: abort, under: make([]quorum.Under, n)}
	for slot, d := range u.place.Primaries {
		r := &replica{slot: slot, device: d, queue: make(chan *chunk, queueLen), gone: make(chan struct{})}
		fan.replicas = append(fan.replicas, r)
		u.cluster.Go(func() { fan.results <- fan.run(work, r) })
	}
	if err := fan.feed(first, sums, body); err != nil {
		fan.drop()
		return stored{}, err
	}
	etag, err := u.check(sums)
	if err != nil {
		fan.drop()
		return stored{}, err
	}
	fan.trailer = sums.commit(etag)
	for _, r := range fan.replicas {
		close(r.queue) // the commit: fan.trailer is read behind it
	}
	answers := u.place.Gather(ctx, fan.results, u.grace)
	u.cluster.Late(ctx, answers, fan.under)
	return stored{etag: etag, size: sums.size, answers: answers}, nil
}

// fanout is the replicas that one body is streamed to.
type fanout struct {
	up       *upload
	replicas []*replica
	results  chan quorum.Answer
	spare    *quorum.Handoffs
	under    []quorum.Under
	trailer  backend.Header // set before the queues are closed
	abort    context.CancelFunc
}

// feed reads the body and hands each chunk to every replica that is still
// there. It fails when the client does, or when too few replicas are left for a
// quorum.
func (f *fanout) feed(c *chunk, sums *digest, body io.Reader) error {
	for {
		left := f.hand(c)
		c.release()
		if left < f.up.place.Quorum() {
			return f.lost()
		}
		if sums.size > int64(f.up.limits.MaxFileSize) {
			return f.up.limits.TooLarge()
		}
		c = newChunk()
		last, err := c.fill(body, longestFill)
		sums.add(c.data())
		if err == nil && last && c.n == 0 {
			c.release()
			return nil
		}
		if err != nil {
			c.release()
			return err
		}
	}
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
		if left <= f.up.place.Quorum() {
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
	best, err := f.up.place.Best(answers, nil)
	if err != nil {
		return err
	}
	return refusal(best)
}

// drop breaks every stream off: no replica has the commit.
func (f *fanout) drop() {
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
	stalled bool          // feed waits for it no more; feed's own
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
	var sent []*chunk // while there are at most queueLen of them
	defer func() {
		for _, c := range sent {
			c.release()
		}
	}()
	replayable := true
	keep := func(c *chunk) {
		if sent = append(sent, c); len(sent) <= queueLen {
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

// finish lets feed know that the replica takes no more, and returns what is
// still queued to the pool.
func (f *fanout) finish(r *replica) {
	close(r.gone)
	f.up.cluster.Go(func() {
		for c := range r.queue { // ends when feed or drop closes it
			c.release()
		}
	})
}

// attempt streams to one device: first what was sent before, then what comes.
// took is given each chunk that was taken from the queue.
func (f *fanout) attempt(ctx context.Context, r *replica, d *ring.Device, before []*chunk, took func(*chunk)) quorum.Answer {
	req := &backend.Request{Method: "PUT", Header: f.up.header(r.slot, f.up.stamp), Length: -1}
	f.up.cluster.Address(ctx, f.up.place, d, req)
	f.under[r.slot].Set(d)
	s, err := f.up.cluster.Client().Open(ctx, d.Addr(), req)
	if err != nil {
		return f.up.cluster.Answered(r.slot, d, nil, err)
	}
	defer s.Abort()
	for _, c := range before {
		if _, err := s.Write(c.data()); err != nil {
			return f.broken(ctx, r.slot, d, s, err)
		}
	}
	for c := range r.queue {
		_, err := s.Write(c.data())
		took(c)
		if err != nil {
			return f.broken(ctx, r.slot, d, s, err)
		}
	}
	if r.dropped.Load() {
		return quorum.Answer{Device: d, Slot: r.slot, Err: errs.E(errs.Op("proxy.upload"), errs.Aborted, "dropped before the commit")}
	}
	resp, err := s.Commit(f.trailer)
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
