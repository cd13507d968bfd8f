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
	resp, _ := c.answer(as)
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
	resp, v := c.answer(state)
	if resp.Status != 200 || coded { // what it sends of that the proxy reads from fragments
		return resp, nil
	}
	cond := conditional.From(c.Header)
	if c.ignoresRange(state) {
		cond.Range = ""
	}
	spans, extent := cond.Spans(v, state.Length)
	b := &body{reader: r}
	switch {
	case extent == conditional.Unsatisfiable:
		resp.Status = 416
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", state.Length))
		return resp, nil
	case extent == conditional.Whole:
		b.parts = []conditional.Part{{Span: conditional.Span{N: state.Length}}}
	case len(spans) == 1:
		resp.Status = 206
		resp.Header.Set("Content-Range", conditional.ContentRange(spans[0], state.Length))
		b.parts = []conditional.Part{{Span: spans[0]}}
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
	for _, field := range list(c.Header.Get(hdrNoRangeIf)) {
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

// answer evaluates the preconditions and returns an answer without a body: 200,
// 304 or 412, with the headers of the object.
func (c *call) answer(s *engine.State) (*backend.Response, conditional.Validators) {
	newest := s.Newest()
	v := conditional.Validators{ETag: c.etag(s), Modified: newest.CeilSecond()}
	resp := &backend.Response{Status: 200, Header: describe(s, newest)}
	if c.replication && s.ContentTypeTime != s.Time {
		resp.Header.Add(hdrTypeStamp, s.ContentTypeTime.String())
	}
	cond := conditional.From(c.Header)
	switch cond.Check(v) {
	case conditional.NotModified:
		resp.Status = 304
	case conditional.Failed:
		resp.Status = 412
	}
	return resp, v
}

// etag returns what conditions are compared with: the object's, or what the
// first of the named fields that it has says.
func (c *call) etag(s *engine.State) string {
	for _, field := range list(c.Header.Get(hdrEtagIsAt)) {
		if v := s.System.Get(field); v != "" {
			return v
		}
		if v := s.Meta.Get(field); v != "" {
			return v
		}
	}
	return hex.EncodeToString(s.MD5[:])
}

// describe returns the headers of an object.
func describe(s *engine.State, newest timestamp.T) backend.Header {
	h := make(backend.Header, 0, 9+len(s.System)+len(s.Meta))
	data := s.Time.String()
	h = append(h,
		backend.Field{Name: backend.ContentType, Value: s.ContentType},
		backend.Field{Name: backend.ETag, Value: hex.EncodeToString(s.MD5[:])},
		backend.Field{Name: "Last-Modified", Value: newest.CeilSecond().Format(http.TimeFormat)},
		backend.Field{Name: "Accept-Ranges", Value: "bytes"},
		backend.Field{Name: backend.Timestamp, Value: newest.Normal()},
		backend.Field{Name: backend.BackendStamp, Value: newest.String()},
		backend.Field{Name: backend.DataStamp, Value: data},
		backend.Field{Name: hdrDurable, Value: data},
	)
	return append(append(h, s.System...), s.Meta...)
}
