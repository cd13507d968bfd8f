package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
)

// newBytes is a body in memory that can be sent again.
func newBytes(b []byte) io.Reader { return bytes.NewReader(b) }

func (s *Server) objectPut(rq *request) error {
	if err := s.allowObject(rq, rq.Method, rq.Path); err != nil {
		return err
	}
	if rq.Header[chain.OnlyAsk] != nil {
		if _, err := s.container(rq.ctx, rq.Path); err != nil {
			return err
		}
		rq.empty(http.StatusNoContent)
		return nil
	}
	if err := s.checkPut(rq.Request); err != nil {
		return err
	}
	if rq.Header[chain.DeleteMarker] != nil {
		rq.Header.Set("Content-Type", backend.DeleteMarker)
	}
	put := body{
		path: rq.Path, header: rq.Header, etag: strings.Trim(strings.ToLower(rq.Header.Get("Etag")), `"`),
		content: rq.Body, length: rq.Length,
	}
	if put.content == nil {
		put.content = newBytes(nil)
	}
	done, err := s.store(rq, put)
	if errors.Is(err, errLost) && rq.Header[chain.Stamp] != nil {
		rq.text(http.StatusAccepted, "") // as Swift: there is nothing left to be done
		return nil
	}
	if err != nil {
		return err
	}
	h := rq.out.Header
	h.Set("Etag", done.etag)
	h.Set("Last-Modified", done.stamp.CeilSecond().Format(http.TimeFormat))
	if asksForVersion(rq.Header) {
		h[backend.VersionID] = []string{done.stamp.Normal()}
	}
	rq.empty(http.StatusCreated)
	return nil
}

// checkPut checks everything about a PUT that can be known before its body.
func (s *Server) checkPut(r *chain.Request) error {
	guessType(r.Header, r.Path.Object)
	if err := s.checkStored(r.Header, limits.Body{Length: r.Length, Chunked: r.HasBody() && r.Length < 0}, r.Path.Object); err != nil {
		return err
	}
	return s.expiry(r.Header)
}

// checkStored checks the header that a new version of an object is stored with,
// be it uploaded or copied.
func (s *Server) checkStored(h http.Header, length limits.Body, object string) error {
	err := s.cfg.Limits.CheckCreation(limits.Creation{
		Name: object, Body: length, ContentType: h.Get("Content-Type"), Header: h,
	})
	if err != nil {
		return err
	}
	if v := h.Get("If-None-Match"); v != "" && strings.TrimSpace(v) != "*" {
		return errs.Refuse(errs.Invalid, "If-None-Match of a PUT can only be *")
	}
	return nil
}

// knownTypes are the types that clients of this API expect where other lists
// say otherwise.
var knownTypes = map[string]string{".wav": "audio/x-wav"}

// guessType gives an object that has no content type the one that its name
// suggests.
func guessType(h http.Header, object string) {
	if h.Get("Content-Type") != "" && !chain.Truth(h.Get("X-Detect-Content-Type")) {
		return
	}
	ending := strings.ToLower(path.Ext(object))
	t, known := knownTypes[ending]
	if !known {
		t, _, _ = strings.Cut(mime.TypeByExtension(ending), ";")
	}
	if t == "" {
		t = "application/octet-stream"
	}
	h.Set("Content-Type", t)
}

// body is an object to be stored.
type body struct {
	path    name.Path
	header  http.Header // what is kept of it is picked from here
	etag    string      // the MD5 that it must have; "" is any
	content io.Reader
	length  int64 // -1 is unknown
}

// stallLimit is how long one replica may hold up an upload that has a quorum
// without it. It is then left out, and gets its copy by replication.
const stallLimit = 2 * time.Second

// storedObject is what came of storing one.
type storedObject struct {
	etag  string
	size  int64
	stamp timestamp.T
}

// needAbsent makes sure that no replica has an object, with an error of kind
// errs.Precondition where one does. Without it a replica that lacks the object
// would take the write that the others refuse, and hand it on to them later.
func (s *Server) needAbsent(rq *request, place quorum.Place, p policy.Index) error {
	reply, err := s.readObject(rq, http.MethodHead, place, p, nil, false)
	if err != nil {
		return err
	}
	defer letGo(reply)
	if reply.Status != http.StatusNotFound {
		return errs.E(errs.Op("proxy.put"), errs.Precondition)
	}
	return nil
}

// store writes a new version of an object. When it returns without an error, a
// majority of the replicas have the bytes and the record of them on stable
// storage; under a policy of erasure coding enough devices have fragments, and
// as many replicas as it needs the record. An error of kind errs.Unavailable leaves open whether the version
// turns up later; after any other the old one stands.
func (s *Server) store(rq *request, b body) (storedObject, error) {
	c, place, err := s.objectPlace(rq, b.path)
	if err != nil {
		return storedObject{}, err
	}
	stamp, fixed, err := s.stamp(rq.Request)
	if err != nil {
		return storedObject{}, err
	}
	place = place.Locally()
	tell := quorum.Updates(place, s.cluster.Container(b.path.Account, b.path.Container))
	kept := storedHeaders(b.header)
	contentType := b.header.Get("Content-Type")
	if size := b.header.Get(chain.ListedBytes); size != "" {
		contentType += sizeParam + size
	}
	kept.Add(backend.ContentType, contentType)
	if b.header.Get("If-None-Match") != "" {
		if err := s.needAbsent(rq, place, c.policy); err != nil {
			return storedObject{}, err
		}
		kept.Add("If-None-Match", "*")
	}
	var v *versioned
	if keepsData(b.header) {
		if v, err = s.newVersioned(rq, place, c); err != nil {
			return storedObject{}, err
		}
		v.fixed = fixed
		asks := asksForVersion(b.header)
		if !asks || b.length < 0 || b.length >= chunkSize {
			if err := v.look(rq.ctx); err != nil {
				return storedObject{}, err
			}
		}
		if !asks {
			v = nil
		}
	}
	up := s.upload(place, func(slot int, stamp string) backend.Header {
		h := rq.header(len(kept) + len(tell[slot]) + 8)
		h.Add(backend.Timestamp, stamp)
		h.Add(backend.PolicyIndex, c.policy.String())
		if v != nil {
			h = v.header(h)
		}
		return append(append(h, kept...), tell[slot]...)
	})
	up.etag, up.length, up.fixed = b.etag, b.length, fixed
	up.coded = s.codedUpload(rq, c.policy, func(stamp timestamp.T) name.Path {
		if v != nil {
			return b.path.Version(stamp)
		}
		return b.path
	})
	if fixed {
		up.stamp = stamp
		up.coded.fixed(stamp, b.etag, b.length)
	}
	sent, err := up.run(rq.ctx, b.content)
	if up.coded != nil && fixed && refusedFragments(err) && s.taken(rq, place, c, stamp) {
		err = errLost // the other cluster has sent it before
	}
	if err != nil {
		return storedObject{}, err
	}
	stamp, best, err := s.conclude(rq.ctx, up, sent, v)
	switch {
	case err != nil:
		return storedObject{}, err
	case best.Status == http.StatusConflict:
		return storedObject{}, errLost
	case best.Status/100 != 2:
		best.Body = nil
		return storedObject{}, refusal(best)
	}
	return storedObject{sent.etag, sent.size, stamp}, nil
}

// upload makes an upload to a place, with a stamp of its own.
func (s *Server) upload(place quorum.Place, header func(slot int, stamp string) backend.Header) *upload {
	return &upload{
		cluster: s.cluster, place: place, length: -1, limits: s.cfg.Limits, stamp: s.stamps.Next(), header: header,
		hashes: s.hashes,
		stall:  min(stallLimit, s.cfg.NodeTimeout.D()), silence: s.cfg.NodeTimeout.D(), grace: s.cfg.PostQuorumTimeout.D(),
	}
}

// conclude returns the answer that stands for an upload, and the stamp of what was stored.
// Where something newer was there, or on some replicas and the others have taken it, it is sent once more above that; v is nil where it makes
// no version.
func (s *Server) conclude(ctx context.Context, up *upload, sent stored, v *versioned) (timestamp.T, quorum.Answer, error) {
	if v != nil {
		var again func(timestamp.T) []quorum.Answer
		if sent.again != nil {
			again = func(stamp timestamp.T) []quorum.Answer { return sent.again(ctx, stamp) }
		}
		done, err := v.conclude(ctx, up.stamp, sent.answers, again, http.StatusCreated, nil)
		return done.stamp, done.best, err
	}
	best, err := up.place.Best(sent.answers, nil)
	lost := err == nil && best.Status == http.StatusConflict || err != nil && up.place.Outrun(sent.answers, up.stamp, nil)
	if planted.ConflictAcknowledged && lost { // breaks: what was dropped is never said to be stored
		best.Status = http.StatusCreated
		return up.stamp, best, nil
	}
	if !lost || sent.again == nil || up.fixed {
		return up.stamp, best, err
	}
	stamp := s.stamps.After(quorum.Newest(sent.answers))
	best, err = up.place.Best(sent.again(ctx, stamp), nil)
	return stamp, best, err
}
