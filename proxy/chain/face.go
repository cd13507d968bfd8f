package chain

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"martlet/internal/httpapi"
	"martlet/internal/name"
)

// A Face carries a Handler over net/http. It expects to stand inside
// httpapi.Observe.
type Face struct {
	Handler Handler
	Log     *slog.Logger

	// Path finds what a request is about, a zero Path for nothing. It may be nil.
	Path func(r *http.Request) name.Path
}

// ServeHTTP answers one request. A body that breaks off breaks the connection
// off, so that a part of it never looks like the whole.
func (f *Face) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	x := &exchange{r: Request{Method: hr.Method, Query: hr.URL.RawQuery, Header: hr.Header, Length: hr.ContentLength, Body: hr.Body, Client: hr}}
	r := &x.r
	if r.Length == 0 && hr.Header["Content-Length"] == nil {
		r.Length, r.Body = -1, nil
	}
	if f.Path != nil {
		r.Path = f.Path(hr)
	}
	ctx := hr.Context()
	resp := f.Handler.Serve(ctx, r)
	defer resp.Close()
	if resp.Err != nil && (resp.Status >= 500 || resp.Status == httpapi.StatusClientGone) {
		f.failed(ctx, hr, resp)
	}
	if err := x.send(ctx, w, hr.Method, resp); err != nil {
		f.Log.LogAttrs(ctx, slog.LevelWarn, "answer broke off", slog.String("trans_id", httpapi.TransID(ctx)),
			slog.String("method", hr.Method), slog.String("path", hr.URL.Path), slog.Any("err", err))
		panic(http.ErrAbortHandler) // never end a broken body as if it were whole
	}
}

// failed logs what is the cluster's fault, and what a client did not wait for.
func (f *Face) failed(ctx context.Context, hr *http.Request, resp *Response) {
	level := slog.LevelError
	if resp.Status == httpapi.StatusClientGone {
		level = slog.LevelWarn
	}
	f.Log.LogAttrs(ctx, level, "request failed", slog.String("trans_id", httpapi.TransID(ctx)),
		slog.String("method", hr.Method), slog.String("path", hr.URL.Path), slog.Int("status", resp.Status), slog.Any("err", resp.Err))
}

// exchange is one request and what its answer needs, in one allocation.
type exchange struct {
	r      Request
	length [1]string // as a header field has it
}

// send sends a response. An error means that the client has not got the whole of
// it.
func (x *exchange) send(ctx context.Context, w http.ResponseWriter, method string, resp *Response) error {
	h := w.Header()
	for n, v := range resp.Header {
		h[n] = v
	}
	switch {
	case resp.Status == http.StatusNoContent:
		h[lengthOfNothing] = nothing
	case resp.Length >= 0 && resp.Status != http.StatusNotModified:
		x.length[0] = strconv.FormatInt(resp.Length, 10)
		h["Content-Length"] = x.length[:]
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // net/http must not guess one from the bytes
	}
	if resp.Duplex {
		httpapi.Duplex(w)
	}
	w.WriteHeader(resp.Status)
	if method == http.MethodHead || resp.Body == nil || resp.Status == http.StatusNoContent || resp.Status == http.StatusNotModified {
		return nil
	}
	if resp.Status >= http.StatusBadRequest {
		// net/http cancels the context where it can't read on from a client, be it for
		// silence. Such a one is told why all the same.
		ctx = context.WithoutCancel(ctx)
	}
	if resp.Length < 0 {
		return httpapi.CopyBody(ctx, flushing{w, http.NewResponseController(w)}, resp.Body, -1)
	}
	return httpapi.CopyBody(ctx, w, resp.Body, resp.Length)
}

// lengthOfNothing is Content-Length as a 204 has it. Clients of this API look for
// it; net/http, which goes by the RFC, takes the field away where its name is in
// canonical form. It says nothing that could be wrong: a 204 has no body.
const lengthOfNothing = "content-length"

// nothing is its value. It is shared, and never changed.
var nothing = []string{"0"}

// flushing sends at once what is written: a body of unknown length may come in
// drops that are to keep a connection alive.
type flushing struct {
	io.Writer
	rc *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// FromHTTP makes a Handler of an http.Handler whose answers are short.
func FromHTTP(h http.Handler) Handler {
	return HandlerFunc(func(_ context.Context, r *Request) *Response {
		w := &recorder{resp: &Response{Header: http.Header{}}}
		h.ServeHTTP(w, r.Client)
		w.WriteHeader(http.StatusOK)
		w.resp.Length, w.resp.Body = int64(w.body.Len()), io.NopCloser(&w.body)
		w.resp.Header.Del("Content-Length")
		return w.resp
	})
}

// recorder keeps an answer in memory.
type recorder struct {
	resp *Response
	body bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.resp.Header }

func (w *recorder) WriteHeader(code int) {
	if w.resp.Status == 0 {
		w.resp.Status = code
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}
