package object

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// head describes an object as get would send it.
func (s *Server) head(ctx context.Context, c *call) (*backend.Response, error) {
	state, err := c.store.Stat(ctx, c.at)
	if err != nil {
		return nil, err
	}
	if err := c.visible(state); err != nil {
		return nil, err
	}
	as, _, err := whole(&state)
	if err != nil {
		return nil, err
	}
	l, isLink, known := c.follow(as)
	if known != nil {
		return known, nil
	}
	link := state
	if isLink {
		if state, err = c.store.Stat(ctx, c.versionAt(l.ID)); err != nil {
			return nil, err
		}
		if state.Kind == engine.Absent || state.Kind == engine.Deleted {
			return c.elsewhere(&link, &state), nil
		}
		if err := c.visible(state); err != nil {
			return nil, err
		}
		if as, _, err = whole(&state); err != nil {
			return nil, err
		}
	}
	resp := &c.answer(as).resp
	if resp.Status == 200 {
		resp.Length = as.Length
	}
	if isLink {
		followed(&resp.Header, l, &link, &state)
	}
	return resp, nil
}

// get sends an object or ranges of it. What it sends has been checked; damage
// that is found on the way ends the body with an error. Of an object whose data is in
// fragments it sends no body, whatever range is asked for, but what it says of them.
func (s *Server) get(ctx context.Context, c *call) (*backend.Response, error) {
	r, err := c.store.Open(ctx, c.at)
	if err != nil {
		return nil, err
	}
	if l, isLink := linkOf(r.State()); isLink || c.Header.Has(backend.Unversioned) {
		return c.getLink(ctx, r, l)
	}
	return c.send(r)
}

// send sends what a reader has, and sees to it that it is closed.
func (c *call) send(r *engine.Reader) (*backend.Response, error) {
	resp, err := c.respond(r)
	if err != nil || resp.Body == nil {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}
	return resp, err
}

// getLink is get of an object that may be a link, of which r has the data.
func (c *call) getLink(ctx context.Context, r *engine.Reader, l backend.Link) (*backend.Response, error) {
	link := *r.State()
	_, isLink, known := c.follow(&link)
	if known == nil && !isLink {
		return c.send(r)
	}
	err := r.Close()
	switch {
	case known != nil || err != nil:
		return known, err
	case c.gone(&link):
		return nil, c.refuse(errs.NotFound, link)
	}
	if r, err = c.store.Open(ctx, c.versionAt(l.ID)); err != nil {
		var stored *engine.StateError
		if errs.Is(err, errs.NotFound) && errors.As(err, &stored) {
			return c.elsewhere(&link, &stored.State), nil
		}
		return nil, err
	}
	state := *r.State()
	resp, err := c.send(r)
	if err == nil {
		followed(&resp.Header, l, &link, &state)
	}
	return resp, err
}

func (c *call) respond(r *engine.Reader) (*backend.Response, error) {
	state := r.State()
	if err := c.visible(*state); err != nil {
		return nil, err
	}
	state, coded, err := whole(state)
	if err != nil {
		return nil, err
	}
	a := c.answer(state)
	resp, v := &a.resp, &a.is
	if resp.Status != 200 || coded { // what it sends of that the proxy reads from fragments
		return resp, nil
	}
	cond := &a.cond
	if c.ignoresRange(state) {
		cond.Range = ""
	}
	spans, extent := cond.Spans(*v, state.Length)
	b := &a.body
	b.reader = r
	switch {
	case extent == conditional.Unsatisfiable:
		resp.Status = 416
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", state.Length))
		return resp, nil
	case extent == conditional.Whole:
		a.part[0].Span = conditional.Span{N: state.Length}
		b.parts = a.part[:]
	case len(spans) == 1:
		resp.Status = 206
		resp.Header.Set("Content-Range", conditional.ContentRange(spans[0], state.Length))
		a.part[0].Span = spans[0]
		b.parts = a.part[:]
	default:
		resp.Status = 206
		boundary := c.boundary()
		b.parts = conditional.Multipart(spans, boundary, state.ContentType, state.Length)
		resp.Header.Set(backend.ContentType, conditional.MultipartType(boundary))
	}
	resp.Length, resp.Body = conditional.Length(b.parts), b
	return resp, b.prime()
}

// ignoresRange reports whether the object has a field that makes ranges
// meaningless here: the proxy computes them for what the object stands for.
func (c *call) ignoresRange(s *engine.State) bool {
	for field, rest := firstOf(c.Header.Get(hdrNoRangeIf)); field != ""; field, rest = firstOf(rest) {
		if s.System.Has(field) || s.Meta.Has(field) {
			return true
		}
	}
	return false
}

func (c *call) boundary() string {
	if b := c.Header.Get(hdrBoundary); b != "" && len(b) <= 70 && !strings.ContainsAny(b, "\r\n\"; ") {
		return b
	}
	return strings.ToLower(rand.Text())
}

// found is an answer that may have a body, and what that needs, in one allocation.
type found struct {
	resp backend.Response
	cond conditional.Request    // what is asked
	is   conditional.Validators // of what there is
	body body
	part [1]conditional.Part
}

// answer evaluates the preconditions and returns an answer without a body: 200,
// 304 or 412, with the headers of the object.
func (c *call) answer(s *engine.State) *found {
	newest := s.Newest()
	h, etag := describe(s, newest)
	a := &found{resp: backend.Response{Status: 200, Header: h}, is: conditional.Validators{ETag: c.etag(s, etag), Modified: newest.CeilSecond()}}
	resp := &a.resp
	if c.replication && s.ContentTypeTime != s.Time {
		resp.Header.Add(hdrTypeStamp, s.ContentTypeTime.String())
	}
	a.cond = conditional.From(c.Header.Get)
	switch a.cond.Check(a.is) {
	case conditional.NotModified:
		resp.Status = 304
	case conditional.Failed:
		resp.Status = 412
	}
	return a
}

// etag returns what conditions are compared with: the object's own, or what the
// first of the named fields that it has says.
func (c *call) etag(s *engine.State, own string) string {
	for field, rest := firstOf(c.Header.Get(hdrEtagIsAt)); field != ""; field, rest = firstOf(rest) {
		if v := s.System.Get(field); v != "" {
			return v
		}
		if v := s.Meta.Get(field); v != "" {
			return v
		}
	}
	return own
}

// describe returns the headers of an object, and its ETag.
func describe(s *engine.State, newest timestamp.T) (h backend.Header, etag string) {
	// All of their texts are parts of one.
	var room [160]byte
	b := hex.AppendEncode(room[:0], s.MD5[:])
	digest := len(b)
	b = newest.CeilSecond().AppendFormat(b, http.TimeFormat)
	modified := len(b)
	b = s.Time.AppendTo(b)
	data := len(b)
	text := string(newest.AppendTo(b))
	etag = text[:digest]
	normal, _, _ := strings.Cut(text[data:], "_") // without the offset

	h = make(backend.Header, 0, 9+len(s.System)+len(s.Meta))
	h = append(h,
		backend.Field{Name: backend.ContentType, Value: s.ContentType},
		backend.Field{Name: backend.ETag, Value: etag},
		backend.Field{Name: "Last-Modified", Value: text[digest:modified]},
		backend.Field{Name: "Accept-Ranges", Value: "bytes"},
		backend.Field{Name: backend.Timestamp, Value: normal},
		backend.Field{Name: backend.BackendStamp, Value: text[data:]},
		backend.Field{Name: backend.DataStamp, Value: text[modified:data]},
		backend.Field{Name: hdrDurable, Value: text[modified:data]},
	)
	return append(append(h, s.System...), s.Meta...), etag
}
