package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/md5lanes"
	"martlet/internal/planted"
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
	// largeChunk is that of the chunks of a large body once more than what smallChunks hold has come of it, so that none of those
	// is kept for a handoff, nor anything kept beside them: half as many chunks are half as many turns for all that have to do with
	// them, and twice as much waits for the MD5, in hardly more memory.
	largeChunk  = 512 << 10
	smallChunks = 2*queueLen + 1
	// queueLen is how many chunks a replica may be behind the client before the
	// client waits for it, and how many stay in memory for a handoff to take
	// over.
	queueLen = 4
	// longestFill is how long a slow client's bytes are gathered before they go
	// on: replicas take a long silence for a proxy that is gone.
	longestFill = time.Second
	// hashBehind is how many chunks of a body wait for the MD5, so that those of several clients are taken together. They
	// are the latest, which may be in a replica's queue as well, so that no more are in memory for it than may be anyhow.
	hashBehind = queueLen
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A chunk is a part of a body, shared by the streams that it goes to and
// returned to its pool by the last of them.
type chunk struct {
	buf   []byte // chunkSize or largeChunk long, or a segment's fragments
	n     int
	parts [][]byte // what each stream gets of it; nil where all get the same
	pool  *sync.Pool
	held  atomic.Int32
}

var (
	chunks      = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, largeChunk)} }}
)

func newChunk() *chunk { return chunkOf(&chunks) }

// nextChunk is one behind so many bytes of a body.
func nextChunk(behind int64) *chunk {
	if behind <= smallChunks*chunkSize {
		return newChunk()
	}
	return chunkOf(&largeChunks)
}

func chunkOf(pool *sync.Pool) *chunk {
	c := pool.Get().(*chunk) //nolint:forcetypeassert // the pools hold nothing else
	c.n, c.pool = 0, pool
	c.held.Store(1)
	return c
}

func (c *chunk) data() []byte { return c.buf[:c.n] }

// of returns what the stream of a slot gets.
func (c *chunk) of(slot int) []byte {
	if c.parts != nil {
		return c.parts[slot]
	}
	return c.data()
}

func (c *chunk) release() {
	if c.held.Add(-1) == 0 {
		c.pool.Put(c)
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
	md5  *md5lanes.Hash
	crc  uint32
	size int64
}

func newDigest(with *md5lanes.Group) *digest { return &digest{md5: with.New()} }

func (d *digest) add(p []byte) {
	_, _ = d.md5.Write(p) // never fails
	d.count(p)
}

// addLater takes over a chunk, maybe the last: its MD5 may wait. That of one which others follow, and which is not full, does not: its
// client is slow, and would hold the memory of as many chunks as may wait for a few bytes.
func (d *digest) addLater(c *chunk, last bool) {
	if c.n < len(c.buf) && !last {
		d.add(c.data())
		c.release()
		return
	}
	d.count(c.data())
	d.md5.Later(c.data(), c.release)
}

func (d *digest) count(p []byte) {
	d.crc = crc32.Update(d.crc, castagnoli, p)
	d.size += int64(len(p))
}

func (d *digest) etag() string { return hex.EncodeToString(d.md5.Sum(nil)) }

// commit is what closes the body towards the replicas: without it none keeps it.
func (d *digest) commit(etag string) backend.Header {
	var crc [crc32.Size]byte
	binary.BigEndian.PutUint32(crc[:], d.crc)
	return backend.Header{{Name: backend.CommitETag, Value: etag}, {Name: backend.CommitCRC, Value: hex.EncodeToString(crc[:])}}
}

// An upload is one body on its way to the replicas of an object.
type upload struct {
	cluster *quorum.Cluster
	place   quorum.Place
	stamp   timestamp.T
	fixed   bool                                        // it is the stamp of another cluster: there is no other
	header  func(slot int, stamp string) backend.Header // of the request for a replica, without the commit
	etag    string                                      // what the client says the MD5 is; "" where it doesn't
	length  int64                                       // that the body has; -1 is unknown
	limits  limits.Limits
	stall   time.Duration // how long a replica may hold up a quorum of others
	silence time.Duration // how long one may that they need
	grace   time.Duration // how long the last replicas are waited for
	coded   *codedUpload  // where the policy erasure-codes; nil is replicas
	hashes  *md5lanes.Group
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
// none keeps anything that could ever be read.
func (u *upload) run(ctx context.Context, body io.Reader) (stored, error) {
	first := newChunk()
	last, err := first.fill(body, 0)
	if err != nil {
		first.release()
		return stored{}, err
	}
	sums := newDigest(u.hashes)
	switch {
	case u.coded != nil && !(last && int64(first.n) <= u.coded.policy.WholeUpTo):
		sums.add(first.data())
		return u.encode(ctx, first, sums, last, body)
	case last:
		defer first.release()
		sums.add(first.data())
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
		return "", u.otherLength(sums)
	}
	etag = sums.etag()
	if u.etag != "" && u.etag != etag && !planted.ETagNotChecked { // breaks: what is not what the client has sent is refused
		return "", errs.Refuse(errs.Mismatch, "ETag %s is not the MD5 of the body, %s", u.etag, etag)
	}
	return etag, nil
}

func (u *upload) otherLength(sums *digest) error {
	return errs.E(errs.Op("proxy.put"), errs.Aborted, fmt.Errorf("%d bytes came of %d: %w", sums.size, u.length, io.ErrUnexpectedEOF))
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
		text := stamp.String()
		return u.cluster.Write(ctx, u.place, func(slot int, _ *ring.Device) *backend.Request {
			r := &struct { // one piece of memory
				backend.Request
				body bytes.Reader
			}{Request: backend.Request{Method: "PUT", Header: append(u.header(slot, text), commit...), Length: int64(len(data))}}
			r.body.Reset(data)
			r.Body = &r.body
			return &r.Request
		})
	}
	return stored{etag, sums.size, send(ctx, u.stamp), send}, nil
}

// stream sends a body of any length chunk by chunk, of which first is not the caller's any more.
func (u *upload) stream(ctx context.Context, first *chunk, sums *digest, body io.Reader) (stored, error) {
	defer sums.md5.Drop() // chunks wait in it where the upload fails
	text := u.stamp.String()
	fan := u.fan(u.place, func(slot int) backend.Header { return u.header(slot, text) })
	fan.length = u.length
	fan.start(ctx) // the commit outlives the client
	if err := fan.feed(first, sums, body); err != nil {
		fan.drop()
		return stored{}, err
	}
	etag, err := u.check(sums)
	if err != nil {
		fan.drop()
		return stored{}, err
	}
	commit := sums.commit(etag)
	return stored{etag: etag, size: sums.size, answers: fan.commit(ctx, func(int) backend.Header { return commit })}, nil
}
