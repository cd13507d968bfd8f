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
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/lockstep"
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
	if o.Body == nil {
		o.Body = io.NopCloser(bytes.NewReader(nil))
	}
	if of, _ := c.policies.ByIndex(p); of.Coded() && o.Length > of.WholeUpTo {
		return c.encode(ctx, of, place, o, stamp)
	}
	u := &upload{c: c, place: place, stamp: stamp, fields: append(head(stamp, p), stored(o.Header)...), tell: c.tell(place), o: &o, sums: sums{md5: md5.New()}}
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

// stream sends a body a chunk at a time.
func (u *upload) stream(ctx context.Context, chunk []byte) ([]quorum.Answer, error) {
	up := lockstep.New(u.c.cluster, lockstep.What{
		Place: u.place, Request: func(slot int, _ *ring.Device) *backend.Request {
			r := u.request(slot)
			r.Header.Add(backend.Announced, strconv.FormatInt(u.o.Length, 10))
			return r
		},
		Good: func(a *quorum.Answer) bool { return isLater(a, u.stamp) },
	})
	defer up.Drop()
	goesOn := up.Send(ctx, func(int) []byte { return chunk })
	buf := make([]byte, chunkSize)
	for goesOn {
		n, err := io.ReadFull(u.o.Body, buf)
		u.sums.add(buf[:n])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && u.sums.size == u.o.Length
		if err != nil && !last {
			return nil, err // broken off: nobody keeps anything
		}
		goesOn = up.Send(ctx, func(int) []byte { return buf[:n] })
		if last {
			commit, err := u.sums.commit(u.o)
			if err != nil {
				return nil, err
			}
			up.Commit(ctx, func(int) backend.Header { return commit })
			break
		}
	}
	return up.Answers(), nil
}
