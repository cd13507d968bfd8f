package proxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/proxy/versioning"
	"martlet/ring"
)

// Writes that make a version (backend.NewVersion, package versioning), as object servers
// keep them: the version, and in the object's own place a link to it, in one request.

// keepsData reports whether a write is to leave data that is no version as one.
func keepsData(h http.Header) bool { return h[backend.NewVersion] != nil }

// asksForVersion reports whether a write is to make a version: what says that another one is
// current makes none.
func asksForVersion(h http.Header) bool { return keepsData(h) && h[backend.VersionLink] == nil }

// showVersion says which version of an object was read.
func (rq *request) showVersion(c facts, from backend.Header) {
	if !c.versions {
		return
	}
	id := from.Get(backend.VersionID)
	if id == "" {
		id = versioning.Null
	}
	rq.out.Header[backend.VersionID] = []string{id}
	if rq.Method == http.MethodHead && id != versioning.Null {
		rq.out.Header[backend.DataStamp] = []string{from.Get(backend.DataStamp)} // of the link
	}
}

// A versioned is a write that makes a version, on its way.
type versioned struct {
	s     *Server
	rq    *request
	place quorum.Place // of the object
	in    facts        // its container
	fixed bool         // it has its time from another cluster: there is no later one

	// preserved is up to when what has no version is kept as one; nil: not known of any.
	// Requests that are late may still ask for it.
	preserved atomic.Pointer[timestamp.T]
}

// header adds to that of the request for a replica.
func (v *versioned) header(h backend.Header) backend.Header {
	h = append(h, backend.Field{Name: backend.NewVersion, Value: "true"})
	if at := v.preserved.Load(); at != nil {
		h = append(h, backend.Field{Name: backend.Preserved, Value: at.String()})
	}
	return h
}

// newVersioned begins a write that makes a version. Without the hidden container nobody
// would find it in a listing, and it is refused.
func (s *Server) newVersioned(rq *request, place quorum.Place, in facts) (*versioned, error) {
	hidden, err := s.infos.get(rq.ctx, place.Path.Versions())
	if err != nil {
		return nil, err
	}
	if !hidden.exists {
		return nil, &chain.StatusError{Status: http.StatusInternalServerError, Text: "The versions container does not exist. You may want to re-enable object versioning."}
	}
	return &versioned{s: s, rq: rq, place: place, in: in}, nil
}

// look keeps what has no version, before a write that can't be sent twice, or that no
// object server refuses because of it. A link is enough, wherever its version is.
func (v *versioned) look(ctx context.Context) error {
	build := func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodHead, Header: append(v.rq.header(2),
			backend.Field{Name: backend.PolicyIndex, Value: v.in.policy.String()}, backend.Field{Name: backend.Unversioned, Value: backend.AnyData})}
	}
	reply, err := v.s.cluster.ReadNewest(ctx, v.place, build, build)
	if err != nil {
		return err
	}
	defer letGo(reply)
	if reply.Status != http.StatusOK || reply.Header.Get(backend.VersionID) != "" {
		return nil
	}
	at, err := timestamp.Parse(reply.Header.Get(backend.DataStamp))
	if err != nil {
		return errs.E(errs.Op("proxy.version"), errs.Unavailable, err)
	}
	if err := v.preserve(ctx, at); err != nil {
		return err
	}
	v.preserved.Store(&at)
	return nil
}

// repeat does what the answers to a write ask for, and writes again where that helps.
// What a majority has taken stands; but data that one of the others would lose by it is
// kept as a version first, unless a majority has had something newer in its place. That a
// few have is not enough: it may be of a write that was given up because of this very data.
func (v *versioned) repeat(ctx context.Context, answers []quorum.Answer, again func() []quorum.Answer) ([]quorum.Answer, error) {
	var plain timestamp.T
	for i := range answers {
		plain = timestamp.Max(plain, stampIn(&answers[i], backend.Unversioned))
	}
	if plain.IsZero() {
		return answers, nil
	}
	newer := 0
	for i := range answers {
		if plain.Before(stampIn(&answers[i], backend.Superseded)) {
			newer++
		}
	}
	if newer < v.place.Quorum() {
		if err := v.preserve(ctx, plain); err != nil {
			return nil, err
		}
	}
	v.preserved.Store(&plain)
	if again == nil {
		best, err := v.place.Best(answers, nil)
		if err == nil && best.Status/100 != 2 { // some may have it
			err = errs.E(errs.Op("proxy.version"), errs.Unavailable, "data without a version came in between")
		}
		return answers, err
	}
	bySlot := map[int]quorum.Answer{}
	for _, list := range [][]quorum.Answer{again(), answers} {
		for _, a := range list { // who has taken it refuses it now: it is there
			if _, ok := bySlot[a.Slot]; !ok || a.Header.Has(backend.VersionID) {
				bySlot[a.Slot] = a
			}
		}
	}
	return slices.Collect(maps.Values(bySlot)), nil
}

func stampIn(a *quorum.Answer, field string) timestamp.T {
	t, err := timestamp.Parse(a.Header.Get(field))
	if err != nil {
		return timestamp.T{}
	}
	return t
}

// preserve keeps the data of an object from before it had versions as the version of its
// time. When it returns nil a majority has that on stable storage, or had it already.
func (v *versioned) preserve(ctx context.Context, at timestamp.T) error {
	const op errs.Op = "proxy.preserve"
	ctx = context.WithoutCancel(ctx) // half of the write may have been done
	reply, err := v.s.cluster.Read(ctx, v.place, func(int, *ring.Device) *backend.Request {
		h := v.rq.header(2)
		h.Add(backend.PolicyIndex, v.in.policy.String())
		h.Add(backend.Unversioned, at.String())
		return &backend.Request{Method: http.MethodGet, Header: h}
	})
	if err != nil {
		return err
	}
	path := v.place.Path.Version(at)
	place, err := v.s.cluster.Object(v.in.policy, path)
	if err != nil {
		letGo(reply)
		return err
	}
	if reply.Status != http.StatusOK {
		letGo(reply)
		if v.there(ctx, place) {
			return nil // somebody else has kept it, and put his own in its place
		}
		return errs.E(op, errs.Unavailable, fmt.Errorf("status %d of what is to be kept", reply.Status))
	}
	header := http.Header{}
	for _, f := range reply.Header {
		n := http.CanonicalHeaderKey(f.Name)
		header[n] = append(header[n], f.Value)
	}
	kept := storedHeaders(header)
	kept.Add(backend.ContentType, reply.Header.Get(backend.ContentType))
	tell := quorum.Updates(place, v.s.cluster.Container(path.Account, path.Container))
	up := v.s.upload(place, func(slot int, stamp string) backend.Header {
		h := v.rq.header(len(kept) + len(tell[slot]) + 5)
		h.Add(backend.Timestamp, stamp)
		h.Add(backend.PolicyIndex, v.in.policy.String())
		return append(append(h, kept...), tell[slot]...)
	})
	up.stamp, up.etag, up.coded = at, reply.Header.Get(backend.ETag), v.s.codedUpload(v.rq, v.in.policy, func(timestamp.T) name.Path { return path })
	if err := up.coded.as(reply.Header); err != nil {
		letGo(reply)
		return err
	}
	data, length, err := v.s.wholeBody(ctx, v.in.policy, v.place.Path, reply)
	if err != nil {
		return err
	}
	up.length = length
	var content io.Reader = data
	if data == nil {
		up.length, content = 0, newBytes(nil)
	} else {
		defer data.Close() //nolint:errcheck // it was read to its end, or failed
	}
	sent, err := up.run(ctx, content)
	if err != nil {
		return err
	}
	// Who has it, or has it no more since it was deleted as a version, says so by a conflict.
	best, err := place.Best(sent.answers, map[int]int{http.StatusConflict: http.StatusCreated})
	if err != nil {
		return err
	}
	if best.Status/100 != 2 && best.Status != http.StatusConflict {
		return errs.E(op, errs.Unavailable, refusal(best))
	}
	return nil
}

// forgetVersion deletes a version that replicas have of a write which lost, and was made
// anew with a later stamp or is said to have failed. Where that fails there is one version
// more. The tombstone's time is before any later one, so that it can't hide what that has
// written. Where somebody else has written at the very same time it may be his: it stays.
func (v *versioned) forgetVersion(ctx context.Context, answers []quorum.Answer, stamp timestamp.T) {
	another := func(a quorum.Answer) bool {
		return a.Status == http.StatusConflict && !a.Header.Has(backend.VersionID) && a.Stamp() == stamp
	}
	if !slices.ContainsFunc(answers, hasVersion) || slices.ContainsFunc(answers, another) {
		return
	}
	path := v.place.Path.Version(stamp)
	place, err := v.s.cluster.Object(v.in.policy, path)
	if err != nil {
		return
	}
	tell := quorum.Updates(place, v.s.cluster.Container(path.Account, path.Container))
	until := stamp.WithOffset(1).String()
	v.s.cluster.Write(context.WithoutCancel(ctx), place, func(slot int, _ *ring.Device) *backend.Request {
		h := v.rq.header(len(tell[slot]) + 2)
		h.Add(backend.Timestamp, until)
		h.Add(backend.PolicyIndex, v.in.policy.String())
		return &backend.Request{Method: http.MethodDelete, Header: append(h, tell[slot]...)}
	})
}

// there reports whether a version is there, or was and is deleted.
func (v *versioned) there(ctx context.Context, version quorum.Place) bool {
	reply, err := v.s.cluster.Read(ctx, version, func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodHead, Header: append(v.rq.header(1), backend.Field{Name: backend.PolicyIndex, Value: v.in.policy.String()})}
	})
	if err != nil {
		return false
	}
	defer letGo(reply)
	return reply.Status == http.StatusOK || reply.Status == http.StatusNotFound && reply.Header.Has(backend.BackendStamp)
}

// hasVersion reports whether a replica has the version that it was sent, be it that
// something newer is in the object's place.
func hasVersion(a quorum.Answer) bool { return a.Header.Has(backend.VersionID) }

// kept reports whether a majority has the version that it was sent.
func (v *versioned) kept(answers []quorum.Answer) bool {
	n := 0
	for _, a := range answers {
		if hasVersion(a) {
			n++
		}
	}
	return n >= v.place.Quorum()
}

// attempt is one go of a write that makes a version: its time, what was answered, and what
// that amounts to.
type attempt struct {
	stamp   timestamp.T
	answers []quorum.Answer
	best    quorum.Answer
}

// conclude returns what a write comes to of which first are the answers; send, unless it is
// nil, sends the same once more under another stamp. Where something newer was there it is
// sent above that. What is newer then was written meanwhile, so that the version is one
// that came before it, as if this write had been the faster of the two: it is done when a
// majority has the version on stable storage.
func (v *versioned) conclude(ctx context.Context, stamp timestamp.T, first []quorum.Answer, send func(timestamp.T) []quorum.Answer, done int, treat map[int]int) (attempt, error) {
	settle := func(stamp timestamp.T, answers []quorum.Answer) (a attempt, err error) {
		a.stamp = stamp
		a.answers, a.best, err = v.settle(ctx, stamp, send, answers, treat)
		return a, err
	}
	a, err := settle(stamp, first)
	if err != nil || a.best.Status != http.StatusConflict {
		return a, err
	}
	if send == nil || v.fixed {
		v.forgetVersion(ctx, a.answers, a.stamp)
		return a, nil
	}
	later := v.s.stamps.After(quorum.Newest(a.answers))
	again, err := settle(later, send(later))
	if err != nil {
		return again, err
	}
	v.forgetVersion(ctx, a.answers, a.stamp)
	switch {
	case again.best.Status != http.StatusConflict:
	case v.kept(again.answers):
		again.best = quorum.Answer{Status: done}
	default:
		v.forgetVersion(ctx, again.answers, again.stamp)
	}
	return again, nil
}

// deleteVersioned leaves a version that says that the object was deleted, and a tombstone.
// When it returns nil a majority has both on stable storage.
func (s *Server) deleteVersioned(rq *request, c facts, place quorum.Place) error {
	stamp, fixed, err := s.stamp(rq.Request)
	if err != nil {
		return err
	}
	v, err := s.newVersioned(rq, place, c)
	if err != nil {
		return err
	}
	v.fixed = fixed
	tell := quorum.Updates(place, s.cluster.Container(place.Path.Account, place.Path.Container))
	send := func(stamp timestamp.T) []quorum.Answer {
		return s.cluster.Write(rq.ctx, place, func(slot int, _ *ring.Device) *backend.Request {
			h := rq.header(len(tell[slot]) + 4)
			h.Add(backend.Timestamp, stamp.String())
			h.Add(backend.PolicyIndex, c.policy.String())
			return &backend.Request{Method: http.MethodDelete, Header: v.header(append(h, tell[slot]...))}
		})
	}
	done := map[int]int{http.StatusNotFound: http.StatusNoContent}
	deleted, err := v.conclude(rq.ctx, stamp, send(stamp), send, http.StatusNoContent, done)
	switch {
	case err != nil:
		return err
	case deleted.best.Status == http.StatusConflict:
		return errLost
	}
	rq.out.Header[backend.VersionID] = []string{deleted.stamp.Normal()}
	deleted.best.Body = nil
	return rq.done(deleted.best)
}

// settle returns what the answers to a write amount to, after repeat.
func (v *versioned) settle(ctx context.Context, stamp timestamp.T, send func(timestamp.T) []quorum.Answer, answers []quorum.Answer, treat map[int]int) ([]quorum.Answer, quorum.Answer, error) {
	var again func() []quorum.Answer
	if send != nil {
		again = func() []quorum.Answer { return send(stamp) }
	}
	answers, err := v.repeat(ctx, answers, again)
	if err != nil {
		return answers, quorum.Answer{}, err
	}
	best, err := v.place.Best(answers, treat)
	if err != nil && v.kept(answers) { // some have something newer in the object's place, and some have not
		if at := slices.IndexFunc(answers, func(a quorum.Answer) bool { return a.Status == http.StatusConflict }); at >= 0 {
			return answers, answers[at], nil
		}
	}
	return answers, best, err
}

// containerFacts finds what versioning has to know of a container.
func (s *Server) containerFacts(ctx context.Context, container name.Path, fresh bool) (versioning.Facts, error) {
	known, err := s.infos.look(fresh)(ctx, container)
	f := versioning.Facts{Exists: known.exists, Header: known.header}
	if !known.exists {
		f.Policy = s.policies.Default().Name
	} else if p, ok := s.policies.ByIndex(known.policy); ok {
		f.Policy, f.Deprecated = p.Name, p.Deprecated
	}
	return f, err
}

// counting is the header of a container whose versions count as well. They are looked for
// when somebody asks what is used.
type counting struct {
	backend.Header
	versions func() (facts, error)
}

// Get returns the first value of a field.
func (c counting) Get(field string) string {
	value := c.Header.Get(field)
	used, err := strconv.ParseInt(value, 10, 64)
	if field != bytesUsed || err != nil {
		return value
	}
	hidden, err := c.versions()
	if err != nil || !hidden.exists {
		return value
	}
	more, _ := strconv.ParseInt(hidden.header.Get(bytesUsed), 10, 64) // the container server's
	return strconv.FormatInt(used+more, 10)
}

const bytesUsed = "X-Container-Bytes-Used"

// withVersions returns the header of an account or a container, with the bytes that
// versions have.
func (s *Server) withVersions(ctx context.Context, p name.Path, known facts, fresh bool) interface{ Get(name string) string } {
	if p.Container == "" || !known.versions {
		return known.header
	}
	return counting{known.header, func() (facts, error) {
		ctx, stop := context.WithTimeout(ctx, countsWithin)
		defer stop()
		return s.infos.look(fresh)(ctx, p.Versions())
	}}
}
