package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/cmd/internal/check/history"
)

func asURL(err error, to **url.Error) bool { return errors.As(err, to) }

// A span is a range as a client asks for it: from a byte up to one, the last counted; from -1 is the last n bytes, to -1 all that
// comes.
type span struct{ from, to int64 }

func (s span) String() string {
	switch {
	case s.from < 0:
		return fmt.Sprintf("-%d", s.to)
	case s.to < 0:
		return fmt.Sprintf("%d-", s.from)
	}
	return fmt.Sprintf("%d-%d", s.from, s.to)
}

// of returns which bytes of a body of some size that is; none where n is 0.
func (s span) of(size int64) (at, n int64) {
	switch {
	case s.from < 0:
		n = min(s.to, size)
		return size - n, n
	case s.from >= size:
		return 0, 0
	case s.to < 0:
		return s.from, size - s.from
	}
	return s.from, min(s.to, size-1) - s.from + 1
}

// An asking is what is special about a read.
type asking struct {
	spans  []span
	match  string // If-Match
	differ string // If-None-Match
	newest bool
}

// spans chooses one range, or sometimes two.
func (c *client) spans() []span {
	r := c.chance
	at := func() int64 { return max(0, c.w.mix.sizes(r, c.w.cfg.Largest)-1-r.Int64N(100)) }
	one := func() span {
		a, n := at(), r.Int64N(100_000)
		switch r.IntN(5) {
		case 0:
			return span{-1, 1 + n}
		case 1:
			return span{a, -1}
		}
		return span{a, a + n}
	}
	list := []span{one()}
	if r.IntN(5) == 0 {
		list = append(list, one())
	}
	return list
}

// read sends a GET of all or of a part, or a HEAD.
func (c *client) read(ctx context.Context, n history.Name, kind history.Kind) {
	a := asking{newest: c.chance.IntN(10) == 0}
	condition, of, old := c.chance.IntN(8), c.chance.Int64(), c.chance.IntN(100)
	if kind == history.Range {
		a.spans = c.spans()
	}
	if old < c.w.mix.versions {
		if v, ok := c.w.versions.some(of); ok {
			n = v
		}
	}
	op := c.start(kind, n)
	if kind == history.Get && condition < 2 {
		if etag := c.w.bodies.some(of); condition == 0 {
			a.match = etag
		} else {
			a.differ = etag
		}
	}
	ctx, cancel := c.w.patience(ctx, c.w.cfg.Largest)
	defer cancel()
	var err error
	op.Status, _, op.Seen, err = c.w.see(ctx, c.proxy, n, kind, a)
	op.Outcome = history.Acked
	if err != nil {
		op.Outcome, op.Note = history.Unknown, brief(err)
	}
	c.end(&op)
}

// see sends a read and returns the status and the header of the answer, and what was seen in it.
func (w *Workload) see(ctx context.Context, proxy int, n history.Name, kind history.Kind, a asking) (int, http.Header, *history.Seen, error) {
	resp, err := w.http.Do(w.reading(ctx, proxy, n, kind, a))
	if err != nil {
		return 0, nil, nil, err
	}
	defer drain(resp)
	seen, err := w.observe(resp, kind, a)
	return resp.StatusCode, resp.Header, seen, err
}

// reading makes the request of a read.
func (w *Workload) reading(ctx context.Context, proxy int, n history.Name, kind history.Kind, a asking) *http.Request {
	method := http.MethodGet
	if kind == history.Head {
		method = http.MethodHead
	}
	var query url.Values
	if n.Version != "" {
		query = url.Values{"version-id": {n.Version}}
	}
	r := w.request(ctx, proxy, method, n.Container, n.Object, query)
	if a.newest {
		r.Header.Set("X-Newest", "true")
	}
	if len(a.spans) > 0 {
		texts := make([]string, len(a.spans))
		for i, s := range a.spans {
			texts[i] = s.String()
		}
		r.Header.Set("Range", "bytes="+strings.Join(texts, ","))
	}
	if a.match != "" {
		r.Header.Set("If-Match", `"`+a.match+`"`)
	}
	if a.differ != "" {
		r.Header.Set("If-None-Match", `"`+a.differ+`"`)
	}
	return r
}

// observe reads an answer to its end and returns what was seen in it; nil where that is nothing. An error is that of an
// answer that was broken off, or that is none.
func (w *Workload) observe(resp *http.Response, kind history.Kind, a asking) (*history.Seen, error) {
	switch resp.StatusCode {
	case http.StatusNotFound:
		return &history.Seen{State: history.State{Missing: true}}, nil
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
	default:
		return nil, errors.New(resp.Status)
	}
	good := resp.StatusCode/100 == 2
	if !good && resp.Header.Get("Etag") == "" {
		return nil, nil //nolint:nilnil // an answer that shows nothing is none that is wrong
	}
	seen, b := w.shown(resp.Header, good)
	if seen.Wrong != "" {
		return seen, nil
	}
	var err error
	switch resp.StatusCode {
	case http.StatusOK:
		err = w.whole(resp, kind, a, seen, b)
	case http.StatusPartialContent:
		err = w.part(resp, a, seen, b)
	default:
		seen.Wrong = denied(resp, a, b)
	}
	return seen, err
}

// shown is what the header of an answer shows.
func (w *Workload) shown(h http.Header, all bool) (*history.Seen, content) {
	seen := &history.Seen{}
	etag := strings.Trim(h.Get("Etag"), `"`)
	b, ok := w.bodies.of(etag)
	if !ok {
		seen.Wrong = fmt.Sprintf("returned the ETag %q, which is of no body that was written", etag)
		return seen, b
	}
	seen.Body, seen.Size = b.id, b.size
	if t := h.Get("Content-Type"); strings.HasPrefix(t, typeStem) {
		seen.Data, ok = number(t[len(typeStem):])
	} else if all && !strings.HasPrefix(t, "multipart/byteranges") {
		ok = false
	}
	if !ok {
		seen.Wrong = fmt.Sprintf("returned the type %q, which no write has given", h.Get("Content-Type"))
		return seen, b
	}
	if m := h.Get(markField); m != "" || all {
		if seen.Mark, ok = number(m); !ok {
			seen.Wrong = fmt.Sprintf("returned the mark %q, which no write has given", m)
		}
	}
	return seen, b
}

// number reads the number of a write.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0
}

// whole reads all of an object.
func (w *Workload) whole(resp *http.Response, kind history.Kind, a asking, seen *history.Seen, b content) error {
	etag := strings.Trim(resp.Header.Get("Etag"), `"`)
	switch {
	case resp.ContentLength >= 0 && resp.ContentLength != b.size:
		seen.Wrong = fmt.Sprintf("returned a length of %d with the ETag of write %d, which stored %d bytes", resp.ContentLength, b.id, b.size)
	case a.match != "" && etag != a.match:
		seen.Wrong = "returned another body than that which its condition wants"
	case a.differ != "" && etag == a.differ:
		seen.Wrong = "returned the body that its condition does not want"
	}
	if seen.Wrong != "" || kind == history.Head {
		return nil
	}
	wrong, err := w.bodies.compare(resp.Body, b, 0, b.size)
	if wrong != "" {
		seen.Wrong = "returned " + wrong
	}
	return err
}

// part reads a range, or more than one.
func (w *Workload) part(resp *http.Response, a asking, seen *history.Seen, b content) error {
	t := resp.Header.Get("Content-Type")
	if !strings.HasPrefix(t, "multipart/byteranges") {
		if len(a.spans) == 1 {
			at, n := a.spans[0].of(b.size)
			if want := fmt.Sprintf("bytes %d-%d/%d", at, at+n-1, b.size); n == 0 || resp.Header.Get("Content-Range") != want {
				seen.Wrong = fmt.Sprintf("was asked for %s and returned the range %q of write %d, which has %d bytes", a.spans[0], resp.Header.Get("Content-Range"), b.id, b.size)
				return nil
			}
		}
		return w.ranged(resp.Body, resp.Header.Get("Content-Range"), seen, b)
	}
	if len(a.spans) < 2 {
		seen.Wrong = "was asked for one range and returned several"
		return nil
	}
	_, params, err := mime.ParseMediaType(t)
	if err != nil {
		return err
	}
	for parts := multipart.NewReader(resp.Body, params["boundary"]); ; {
		p, err := parts.NextRawPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil // there was a last part
		case err != nil:
			return err
		}
		if data, ok := number(strings.TrimPrefix(p.Header.Get("Content-Type"), typeStem)); !ok || seen.Data != 0 && seen.Data != data {
			seen.Wrong = fmt.Sprintf("returned a part of type %q", p.Header.Get("Content-Type"))
		} else {
			seen.Data = data
		}
		if err := w.ranged(p, p.Header.Get("Content-Range"), seen, b); err != nil || seen.Wrong != "" {
			return err
		}
	}
}

// ranged reads the bytes of one range.
func (w *Workload) ranged(from io.Reader, header string, seen *history.Seen, b content) error {
	var first, last, size int64
	if n, _ := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &size); n != 3 || size != b.size || first < 0 || last < first || last >= size {
		seen.Wrong = fmt.Sprintf("returned the range %q of write %d, which has %d bytes", header, b.id, b.size)
		return nil
	}
	wrong, err := w.bodies.compare(from, b, first, last-first+1)
	if wrong != "" {
		seen.Wrong = "returned " + wrong
	}
	return err
}

// denied says what is wrong with an answer that has no body because of a condition or a range.
func denied(resp *http.Response, a asking, b content) string {
	etag := strings.Trim(resp.Header.Get("Etag"), `"`)
	switch resp.StatusCode {
	case http.StatusNotModified:
		if etag != a.differ {
			return fmt.Sprintf("returned 304 of the ETag %q, and was asked for others than %q", etag, a.differ)
		}
	case http.StatusPreconditionFailed:
		if a.match == "" || etag == a.match {
			return fmt.Sprintf("returned 412 of the ETag %q, and was asked for %q", etag, a.match)
		}
	default:
		for _, s := range a.spans {
			if _, n := s.of(b.size); n > 0 {
				return fmt.Sprintf("returned 416 to %s of write %d, which has %d bytes", s, b.id, b.size)
			}
		}
	}
	return ""
}
