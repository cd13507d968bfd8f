package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/splice"
	"martlet/ring"
)

// A resumed is the body of an object that goes on from another replica, at the
// same byte and of the same version, when the one that sends it fails. Only when
// no replica can go on does the reader see the failure.
type resumed struct {
	ctx     context.Context //nolint:containedctx // of the request that the body answers
	cluster *quorum.Cluster
	log     *slog.Logger
	place   quorum.Place
	policy  policy.Index

	body   io.ReadCloser
	from   *ring.Device
	others []*ring.Device // still to be tried; nil before the first failure
	failed bool           // others has been filled in

	ask   string // the client's Range where the answer has several parts, with boundary
	bound string
	first int64 // offset in the object of the answer's first byte
	size  int64 // of the answer in bytes
	sent  int64 // how much of it has been read
	stamp string
	etag  string
}

// resume makes a body that goes on elsewhere of a reply to a GET. A reply that it
// can't go on from is left as it is.
func (s *Server) resume(rq *request, place quorum.Place, p policy.Index, boundary string, reply quorum.Reply) io.ReadCloser {
	r := &resumed{
		ctx: rq.ctx, cluster: s.cluster, log: s.log, place: place, policy: p, body: reply.Body, from: reply.Device,
		size: reply.Length, stamp: reply.Header.Get(backend.DataStamp), etag: reply.Header.Get(backend.ETag),
	}
	switch {
	case r.stamp == "" || reply.Length < 0:
		return reply.Body
	case reply.Status == http.StatusOK:
	case strings.HasPrefix(reply.Header.Get(backend.ContentType), "multipart/byteranges"):
		r.ask, r.bound = rq.Header.Get("Range"), boundary
	default:
		var last, whole int64
		if _, err := fmt.Sscanf(reply.Header.Get("Content-Range"), "bytes %d-%d/%d", &r.first, &last, &whole); err != nil {
			return reply.Body
		}
	}
	return r
}

// Close lets the connection go.
func (r *resumed) Close() error { return r.body.Close() }

// Read reads the next bytes, from wherever they are to be had.
func (r *resumed) Read(p []byte) (int, error) {
	for {
		if n, err := r.took(r.body.Read(p)); n > 0 || err != nil {
			return n, err
		}
	}
}

// Splice is Read into a pipe.
func (r *resumed) Splice(p *splice.Pipe) (int, error) {
	from, ok := r.body.(splice.Source)
	if !ok {
		return 0, splice.ErrUnable
	}
	n, err := from.Splice(p)
	if errors.Is(err, splice.ErrUnable) {
		return 0, err
	}
	if n, err = r.took(n, err); n == 0 && err == nil {
		return 0, splice.ErrUnable // it goes on elsewhere
	}
	return n, err
}

// took takes note of what was read, and sees to it that the rest comes from elsewhere where
// reading failed. 0 without an error says that it is to be read again.
func (r *resumed) took(n int, err error) (int, error) {
	r.sent += int64(n)
	if errors.Is(err, io.EOF) && r.sent < r.size {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case r.ctx.Err() != nil:
		return n, errs.E(errs.Aborted, context.Cause(r.ctx))
	}
	return n, r.goOn(err)
}

// goOn finds a replica that has the same version, and opens it at the byte that
// comes next.
func (r *resumed) goOn(why error) error {
	r.cluster.Broke(r.from)
	if !r.failed {
		r.failed = true
		r.others = r.cluster.Others(r.place, r.from)
	}
	_ = r.body.Close() // it failed already
	r.body = io.NopCloser(strings.NewReader(""))
	said := []error{fmt.Errorf("%s/%s: %w", r.from.Addr(), r.from.Name, why)}
	for len(r.others) > 0 && r.ctx.Err() == nil {
		d := r.others[0]
		r.others = r.others[1:]
		body, err := r.open(d)
		if err != nil {
			said = append(said, fmt.Errorf("%s/%s: %w", d.Addr(), d.Name, err))
			continue
		}
		r.log.LogAttrs(r.ctx, slog.LevelWarn, "object goes on from another replica", slog.String("trans_id", httpapi.TransID(r.ctx)),
			slog.String("path", r.place.Path.String()), slog.Int64("at", r.sent), slog.String("device", d.Addr()+"/"+d.Name), slog.Any("err", why))
		r.from, r.body = d, body
		return nil
	}
	return errs.E(errs.Op("proxy.resume"), errs.Unavailable, errors.Join(said...))
}

// open asks a replica for the rest.
func (r *resumed) open(d *ring.Device) (io.ReadCloser, error) {
	// What expires while it is read is read to its end.
	h := backend.Header{{Name: backend.PolicyIndex, Value: r.policy.String()}, {Name: backendOpenExpired, Value: "true"}}
	want := r.size - r.sent
	if r.ask != "" {
		want = r.size
		h.Add("Range", r.ask)
		h.Add(backendBoundary, r.bound)
	} else {
		at := r.first + r.sent
		h.Add("Range", "bytes="+strconv.FormatInt(at, 10)+"-"+strconv.FormatInt(at+want-1, 10))
	}
	resp, err := r.cluster.From(r.ctx, r.place, d, &backend.Request{Method: http.MethodGet, Header: h})
	if err != nil {
		return nil, err
	}
	if resp.Body == nil {
		return nil, fmt.Errorf("status %d without a body", resp.Status)
	}
	if resp.Status != http.StatusPartialContent || resp.Header.Get(backend.DataStamp) != r.stamp || resp.Header.Get(backend.ETag) != r.etag || resp.Length != want {
		return nil, errors.Join(fmt.Errorf("status %d, another version or length", resp.Status), resp.Body.Close())
	}
	if r.ask != "" { // the parts begin anew: what the client has is skipped
		if _, err := io.CopyN(io.Discard, resp.Body, r.sent); err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
	}
	if planted.ResumeOffByOne { // breaks: it goes on at the same byte
		return oneFurther(resp.Body), nil
	}
	return resp.Body, nil
}

// oneFurther is a body without its first byte, and with another one behind it: what planted.ResumeOffByOne does.
func oneFurther(body io.ReadCloser) io.ReadCloser {
	_, _ = io.CopyN(io.Discard, body, 1) // what fails does so again
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(body, strings.NewReader("\x00")), body}
}
