package copies

import (
	"bytes"
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/replicator/reconciler"
	"martlet/ring"
)

// chunkSize is how much of a body is in memory at one time, in bytes. What is no longer is sent whole.
const chunkSize = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sums is the checksums of a body as it passes.
type sums struct {
	md5  hash.Hash
	crc  uint32
	size int64
}

func (s *sums) add(p []byte) {
	s.md5.Write(p)
	s.crc = crc32.Update(s.crc, castagnoli, p)
	s.size += int64(len(p))
}

// commit is what closes a body that has passed, if it is the object's: without it nobody keeps any of it.
func (s *sums) commit(o *reconciler.Object) (backend.Header, error) {
	etag := hex.EncodeToString(s.md5.Sum(nil))
	if want := o.Header.Get(backend.ETag); s.size != o.Length || etag != want {
		return nil, errs.E(errs.Corrupt, fmt.Errorf("%d bytes of MD5 %s came of an object of %d bytes and MD5 %s", s.size, etag, o.Length, want))
	}
	return backend.Header{{Name: backend.CommitETag, Value: etag}, {Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", s.crc)}}, nil
}

// Put implements reconciler.Objects. Of what is read a chunk is in memory; nobody keeps anything of it before all of it has come and
// is found to be what it should be.
func (c *Copies) Put(ctx context.Context, p policy.Index, path name.Path, o reconciler.Object, stamp timestamp.T) error {
	place, err := c.cluster.Object(p, path)
	if err != nil {
		return err
	}
	if of, _ := c.policies.ByIndex(p); of.Coded() && o.Length > of.WholeUpTo {
		return errs.E(errs.Op("copies.put"), errs.Subject(path.String()), errs.Unavailable, fmt.Errorf("%d bytes are to be in fragments under policy %d, which are not made yet", o.Length, p))
	}
	u := &upload{c: c, place: place, stamp: stamp, fields: append(head(stamp, p), stored(o.Header)...), tell: c.tell(place), o: &o, sums: sums{md5: md5.New()}}
	if o.Body == nil {
		o.Body = io.NopCloser(bytes.NewReader(nil))
	}
	first := make([]byte, min(o.Length+1, chunkSize))
	n, err := io.ReadFull(o.Body, first)
	first = first[:n]
	u.sums.add(first)
	var answers []quorum.Answer
	switch {
	case err == nil:
		answers, err = u.stream(ctx, first)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && int64(n) == o.Length:
		answers, err = u.whole(ctx, first)
	}
	if err != nil {
		return errs.E(errs.Op("copies.put"), errs.Subject(path.String()), errs.Unavailable, err)
	}
	return enough("copies.put", place, answers, func(a *quorum.Answer) bool { return isLater(a, stamp) })
}

// upload is one object on its way to the replicas of a place.
type upload struct {
	c      *Copies
	place  quorum.Place
	stamp  timestamp.T
	fields backend.Header
	tell   []backend.Header
	o      *reconciler.Object
	sums   sums
}

func (u *upload) request(slot int) *backend.Request {
	h := make(backend.Header, 0, len(u.fields)+len(u.tell[slot])+2)
	return &backend.Request{Method: http.MethodPut, Header: append(append(h, u.fields...), u.tell[slot]...), Length: -1}
}

// whole sends a body that is in memory.
func (u *upload) whole(ctx context.Context, body []byte) ([]quorum.Answer, error) {
	commit, err := u.sums.commit(u.o)
	if err != nil {
		return nil, err
	}
	return u.c.cluster.Write(ctx, u.place, func(slot int, _ *ring.Device) *backend.Request {
		r := u.request(slot)
		r.Header = append(r.Header, commit...)
		r.Length, r.Body = int64(len(body)), bytes.NewReader(body)
		return r
	}), nil
}

// stream sends a body a chunk at a time, each to all replicas before the next. A device that can't be reached is replaced by
// a handoff, and so is one that has refused when the first chunk is sent; one that fails later is left out. Where that leaves too
// few, the next pass finds those that fail behind others.
func (u *upload) stream(ctx context.Context, chunk []byte) ([]quorum.Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := make([]*stream, len(u.place.Primaries))
	spare := u.c.cluster.Spare(u.place)
	for slot, d := range u.place.Primaries {
		streams[slot] = &stream{u: u, slot: slot, route: spare.Route(d)}
	}
	defer func() {
		for _, s := range streams {
			s.drop()
		}
	}()
	each(streams, func(s *stream) { s.open(ctx, chunk) })
	buf := make([]byte, chunkSize)
	for u.goesOn(streams) {
		n, err := io.ReadFull(u.o.Body, buf)
		u.sums.add(buf[:n])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && u.sums.size == u.o.Length
		if err != nil && !last {
			return nil, err // broken off: nobody keeps anything
		}
		each(streams, func(s *stream) { s.send(ctx, buf[:n]) })
		if last {
			commit, err := u.sums.commit(u.o)
			if err != nil {
				return nil, err
			}
			each(streams, func(s *stream) { s.commit(ctx, commit) })
			break
		}
	}
	answers := make([]quorum.Answer, len(streams))
	for i, s := range streams {
		answers[i] = s.answer
	}
	return answers, nil
}

// each does something with all streams that have not ended, at the same time.
func each(streams []*stream, do func(*stream)) {
	var all sync.WaitGroup
	for _, s := range streams {
		if !s.ended {
			all.Go(func() { do(s) })
		}
	}
	all.Wait()
}

// goesOn reports whether there is anybody to send to, and a majority can come of it.
func (u *upload) goesOn(streams []*stream) bool {
	open, good := 0, 0
	for _, s := range streams {
		switch {
		case !s.ended:
			open++
		case isLater(&s.answer, u.stamp):
			good++
		}
	}
	return open > 0 && open+good >= u.place.Quorum()
}

// stream is the upload to one replica.
type stream struct {
	u      *upload
	slot   int
	route  *quorum.Route
	device *ring.Device
	to     *direct.Stream // nil while there is none
	ended  bool
	answer quorum.Answer // once it has, or of a device that was replaced
}

// open finds a device that takes the first chunk.
func (s *stream) open(ctx context.Context, chunk []byte) {
	for s.device = s.route.Next(); s.device != nil && ctx.Err() == nil; s.device = s.route.Next() {
		r := s.u.request(s.slot)
		s.u.c.cluster.Address(ctx, s.u.place, s.device, r)
		to, err := s.u.c.cluster.Client().Open(ctx, s.device.Addr(), r)
		if err != nil {
			s.answer = s.u.c.cluster.Answered(s.slot, s.device, nil, err)
			continue
		}
		s.to, s.ended = to, false
		s.send(ctx, chunk)
		if !s.ended || s.answer.Final() {
			return
		}
	}
	s.ended = true
}

// send sends a chunk. Where that fails the stream has ended.
func (s *stream) send(ctx context.Context, chunk []byte) {
	if _, err := s.to.Write(chunk); err != nil {
		var resp *backend.Response
		if errors.Is(err, direct.ErrAnswered) {
			resp, err = s.to.Response()
		}
		s.end(ctx, resp, err)
	}
}

func (s *stream) commit(ctx context.Context, commit backend.Header) {
	resp, err := s.to.Commit(commit)
	s.end(ctx, resp, err)
}

func (s *stream) end(ctx context.Context, resp *backend.Response, err error) {
	if err != nil && ctx.Err() != nil {
		s.answer = quorum.Answer{Device: s.device, Slot: s.slot, Err: err} // broken off here, not there
	} else {
		s.answer = s.u.c.cluster.Answered(s.slot, s.device, resp, err)
	}
	s.drop()
}

// drop breaks off what has not ended.
func (s *stream) drop() {
	if s.to != nil {
		s.to.Abort()
	}
	s.to, s.ended = nil, true
}
