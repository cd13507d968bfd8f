package segments

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"martlet/internal/conditional"
	"martlet/proxy/chain"
)

// Whole is a large object as a client sees it.
type Whole struct {
	ETag string // without quotes
	Size int64
	// Pieces hands out what a stretch of it is made of.
	Pieces func(span conditional.Span) Pieces
}

// Answer sends a large object, or ranges of it. resp is the answer that has its
// header and no body yet; its preconditions are settled.
func Answer(ctx context.Context, next chain.Handler, r *chain.Request, resp *chain.Response, w Whole, l Limits) *chain.Response {
	cond := conditional.From(r.Header.Get)
	modified, _ := http.ParseTime(resp.Get("Last-Modified"))
	spans, extent := cond.Spans(conditional.Validators{ETag: w.ETag, Modified: modified}, w.Size)
	switch {
	case extent == conditional.Unsatisfiable:
		no := chain.Text(http.StatusRequestedRangeNotSatisfiable, "")
		for n, v := range resp.Header {
			if n != "Content-Type" {
				no.Header[n] = v
			}
		}
		no.Header["Content-Range"] = []string{fmt.Sprintf("bytes */%d", w.Size)}
		return no
	case extent == conditional.Whole:
		return Part(ctx, next, r, resp, w, conditional.Span{N: w.Size}, l)
	case len(spans) == 1:
		resp.Status = http.StatusPartialContent
		resp.Header["Content-Range"] = []string{contentRange(spans[0], w.Size)}
		return Part(ctx, next, r, resp, w, spans[0], l)
	}
	m := newMulti(spans, resp.Get("Content-Type"), w)
	resp.Status, resp.Length = http.StatusPartialContent, m.length
	resp.Header["Content-Type"] = []string{"multipart/byteranges;boundary=" + m.boundary}
	return begin(ctx, next, r, resp, m, l)
}

// Part sends one stretch of a large object.
func Part(ctx context.Context, next chain.Handler, r *chain.Request, resp *chain.Response, w Whole, span conditional.Span, l Limits) *chain.Response {
	resp.Length = span.N
	return begin(ctx, next, r, resp, w.Pieces(span), l)
}

func begin(ctx context.Context, next chain.Handler, r *chain.Request, resp *chain.Response, pieces Pieces, l Limits) *chain.Response {
	body, refused := Open(ctx, next, r, pieces, l)
	if refused != nil {
		return refused
	}
	resp.Body = body
	return resp
}

func contentRange(s conditional.Span, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.Off, s.Off+s.N-1, size)
}

// multi is several ranges as multipart/byteranges: the lines between them are
// pieces, too.
type multi struct {
	boundary string
	length   int64
	of       Whole
	parts    []part
	now      Pieces // of the part whose text is out
}

type part struct {
	text string
	span conditional.Span
}

func newMulti(spans []conditional.Span, contentType string, w Whole) *multi {
	var chance [16]byte
	_, _ = rand.Read(chance[:]) // never fails
	m := &multi{boundary: hex.EncodeToString(chance[:]), of: w}
	lead := ""
	for _, s := range spans {
		text := fmt.Sprintf("%s--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", lead, m.boundary, contentType, contentRange(s, w.Size))
		m.parts = append(m.parts, part{text, s})
		lead = "\r\n"
	}
	m.parts = append(m.parts, part{text: "\r\n--" + m.boundary + "--"})
	for _, p := range m.parts {
		m.length += int64(len(p.text)) + p.span.N
	}
	return m
}

// Next hands out the text of a part, and then its pieces.
func (m *multi) Next(ctx context.Context) (Piece, error) {
	if m.now != nil {
		p, err := m.now.Next(ctx)
		if err != io.EOF { // not errors.Is: a failure may have one in it
			return p, err
		}
		m.now = nil
	}
	if len(m.parts) == 0 {
		return Piece{}, io.EOF
	}
	next := m.parts[0]
	m.parts = m.parts[1:]
	if next.span.N > 0 {
		m.now = m.of.Pieces(next.span)
	}
	return Piece{Data: []byte(next.text), N: int64(len(next.text))}, nil
}

// Precondition settles the conditions of a request about a large object whose
// validators the storage nodes do not know. It returns nil where it goes on.
func Precondition(r *chain.Request, resp *chain.Response, etag string) *chain.Response {
	cond := conditional.From(r.Header.Get)
	modified, err := http.ParseTime(resp.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	switch cond.Check(conditional.Validators{ETag: strings.Trim(etag, `"`), Modified: modified}) {
	case conditional.NotModified:
		return &chain.Response{Status: http.StatusNotModified, Header: resp.Header}
	case conditional.Failed:
		no := chain.Text(http.StatusPreconditionFailed, "")
		for n, v := range resp.Header {
			if n != "Content-Type" {
				no.Header[n] = v
			}
		}
		return no
	}
	return nil
}
