package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/conditional"
	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// wholeBody returns the body of what a GET of all of an object was answered with by a storage
// node, and its length: of an erasure-coded object it reads the fragments. It takes the reply over:
// who calls it closes the body, which may be nil of an object of no bytes, and on an error nothing is open.
func (s *Server) wholeBody(ctx context.Context, p policy.Index, path name.Path, reply quorum.Reply) (body io.ReadCloser, length int64, err error) {
	o, err := s.coded.Object(p, path, reply.Header)
	switch {
	case err != nil:
		letGo(reply)
		return nil, 0, err
	case o == nil:
		return reply.Body, reply.Length, nil
	}
	letGo(reply)
	body, err = o.Open(ctx, 0, o.Size)
	return body, o.Size, err
}

// A read of an object whose data is in fragments (internal/ec/DESIGN.md). Conditions were judged by
// the storage node that has the commit; ranges are worked out here, as object servers do for
// those that they have whole.

// newerTries is how often a read goes on to a newer version, if what it was told of can't be read.
const newerTries = 3

// decode makes of the answer to a read of an object what it would be if storage nodes had the
// object whole, and reports whether its data is in fragments. Where too few of these are left, which
// may be since the node is behind and the version was superseded, all replicas are asked, and if there
// is a newer one it is read instead, or the answer is what they say of it. Nothing older ever is.
func (s *Server) decode(rq *request, place quorum.Place, p policy.Index, reply *quorum.Reply) (coded bool, err error) {
	for tries := 0; ; tries++ {
		coded, err = s.decodeOne(rq, p, place.Path, reply)
		if err == nil || !errors.Is(err, ec.ErrTooFew) || rq.ctx.Err() != nil || tries == newerTries {
			return coded, err
		}
		newer, readErr := s.readObject(rq, rq.Method, place, p, rq.Header, true)
		if readErr != nil {
			return false, errs.E(errs.Op("proxy.decode"), errs.Unavailable, errors.Join(err, readErr))
		}
		if !supersedes(newer.Response, reply.Response) {
			letGo(newer)
			return false, err
		}
		s.log.LogAttrs(rq.ctx, slog.LevelWarn, "a version of an object can't be read, and there is a newer one", slog.String("trans_id", httpapi.TransID(rq.ctx)),
			slog.String("path", place.Path.String()), slog.Any("err", err))
		*reply = newer
	}
}

// supersedes reports whether an answer is of something that came after what another is of, or
// was written at the same time by somebody else.
func supersedes(a, of *backend.Response) bool {
	newer, err := timestamp.Parse(a.Header.Get(backend.DataStamp))
	if err != nil {
		newer, err = timestamp.Parse(a.Header.Get(backend.BackendStamp))
	}
	old, oldErr := timestamp.Parse(of.Header.Get(backend.DataStamp))
	if err != nil || oldErr != nil {
		return false
	}
	another := a.Status < 300 && a.Header.Get(backend.CodedWrite) != of.Header.Get(backend.CodedWrite)
	return newer.After(old) || newer == old && another
}

func (s *Server) decodeOne(rq *request, p policy.Index, path name.Path, reply *quorum.Reply) (coded bool, err error) {
	if reply.Status != http.StatusOK {
		return false, nil
	}
	o, err := s.coded.Object(p, path, reply.Header)
	if err != nil || o == nil {
		if err != nil {
			letGo(*reply)
		}
		return false, err
	}
	letGo(*reply)
	resp := &backend.Response{Status: http.StatusOK, Header: reply.Header, Length: o.Size}
	if rq.Method == http.MethodHead {
		reply.Response = resp
		return true, nil
	}
	resp.Header = slices.Clone(reply.Header) // what was read stays as it was said
	b := &decoded{ctx: rq.ctx, object: o, parts: ranges(rq, o, resp)}
	if resp.Status == http.StatusRequestedRangeNotSatisfiable {
		reply.Response = resp
		return true, nil
	}
	resp.Length = conditional.Length(b.parts)
	var memory int64
	for _, part := range b.parts {
		memory = max(memory, o.Memory(part.Span.Off, part.Span.N))
	}
	var client *http.Request
	if rq.Request != nil {
		client = rq.Client
	}
	release, ok := s.gate.Charge(client, memory)
	if !ok {
		return false, errs.E(errs.Op("proxy.decode"), errs.Unavailable, "no room for the buffers of another object")
	}
	b.release = release
	if err := b.begin(); err != nil {
		return false, errors.Join(err, b.Close())
	}
	resp.Body = b
	reply.Response = resp
	return true, nil
}

// ranges works out what of an object is asked for, and says so in the answer.
func ranges(rq *request, o *ecread.Object, resp *backend.Response) []conditional.Part {
	modified, _ := http.ParseTime(resp.Header.Get("Last-Modified"))
	v := conditional.Validators{ETag: cmp.Or(firstOf(resp.Header, rq.Header.Get(chain.EtagIsAt)), resp.Header.Get(backend.ETag)), Modified: modified}
	ask := conditional.From(rq.Header.Get)
	for field := range strings.SplitSeq(rq.Header.Get(chain.IgnoreRangeIf), ",") {
		if resp.Header.Has(strings.TrimSpace(field)) {
			ask.Range = "" // it is worked out for what the object stands for
		}
	}
	spans, extent := ask.Spans(v, o.Size)
	switch {
	case extent == conditional.Unsatisfiable:
		resp.Status, resp.Length = http.StatusRequestedRangeNotSatisfiable, 0
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return nil
	case extent == conditional.Whole:
		return []conditional.Part{{Span: conditional.Span{N: o.Size}}}
	case len(spans) == 1:
		resp.Status = http.StatusPartialContent
		resp.Header.Set("Content-Range", conditional.ContentRange(spans[0], o.Size))
		return []conditional.Part{{Span: spans[0]}}
	}
	resp.Status = http.StatusPartialContent
	contentType, boundary := resp.Header.Get(backend.ContentType), cmp.Or(rq.boundary, newBoundary())
	resp.Header.Set(backend.ContentType, conditional.MultipartType(boundary))
	return conditional.Multipart(spans, boundary, contentType, o.Size)
}

// firstOf returns the value of the first of the listed fields that an object has, "" where
// it has none.
func firstOf(h backend.Header, list string) string {
	for field := range strings.SplitSeq(list, ",") {
		if v := h.Get(strings.TrimSpace(field)); v != "" {
			return v
		}
	}
	return ""
}

// decoded is the body of an answer: parts of an object that are read one after the other.
type decoded struct {
	ctx     context.Context //nolint:containedctx // of the request that the body answers
	object  *ecread.Object
	parts   []conditional.Part
	text    string        // what is left of the first part's
	data    io.ReadCloser // its bytes; nil before they are open
	release func()        // what they were charged for
}

// begin opens the first part, so that what is wrong there is an answer of its own.
func (b *decoded) begin() (err error) {
	b.text = b.parts[0].Text
	if span := b.parts[0].Span; span.N > 0 {
		b.data, err = b.object.Open(b.ctx, span.Off, span.N)
	}
	return err
}

// Read reads the next bytes. io.EOF says that all were read.
func (b *decoded) Read(p []byte) (int, error) {
	for len(b.parts) > 0 {
		if b.text != "" {
			n := copy(p, b.text)
			b.text = b.text[n:]
			return n, nil
		}
		if b.data != nil {
			n, err := b.data.Read(p)
			if n > 0 || err != io.EOF {
				return n, err
			}
			err = b.data.Close()
			if b.data = nil; err != nil {
				return 0, err
			}
		}
		if b.parts = b.parts[1:]; len(b.parts) > 0 {
			if err := b.begin(); err != nil {
				return 0, err
			}
		}
	}
	return 0, io.EOF
}

// Close ends all that is under way.
func (b *decoded) Close() (err error) {
	if b.data != nil {
		err = b.data.Close()
		b.data = nil
	}
	if b.release != nil {
		b.release()
		b.release = nil
	}
	b.parts = nil
	return err
}
