package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// copyBlock is the size of the buffers that bodies are copied through, in bytes.
const copyBlock = 64 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBlock); return &b }}

// Backend carries a backend.Handler over net/http, where it stands beside what is
// served by that; storage nodes have a server of their own (package lean). It expects
// to stand inside Observe.
func Backend(h backend.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := h.Serve(r.Context(), inbound(r))
		if err != nil {
			resp = failure(r.Context(), log, r.Method, r.RequestURI, err)
		}
		if err := answer(r.Context(), w, r.Method, resp); err != nil {
			logBroken(r.Context(), log, r.Method, r.RequestURI, err)
			panic(http.ErrAbortHandler)
		}
	})
}

func logBroken(ctx context.Context, log *slog.Logger, method, uri string, err error) {
	log.LogAttrs(ctx, slog.LevelWarn, "answer broke off", slog.String("trans_id", TransID(ctx)),
		slog.String("method", method), slog.String("path", logPath(uri)), slog.Any("err", err))
}

// inbound turns net/http's request into the conversation's own.
func inbound(r *http.Request) *backend.Request {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	req := &backend.Request{
		Method: r.Method, Path: path, Query: query, Length: r.ContentLength, Remote: r.RemoteAddr,
		Header: make(backend.Header, 0, len(r.Header)),
	}
	for name, values := range r.Header {
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	if r.ContentLength == 0 {
		return req
	}
	req.Body = r.Body
	if body, ok := r.Body.(*requestBody); ok {
		body.atEOF = func() {
			for name, values := range body.from.Trailer {
				for _, v := range values {
					req.Trailer.Add(name, v)
				}
			}
		}
	}
	return req
}

// Failure makes the answer to a request that failed, as Backend does, for handlers that have
// to see every answer: it logs what is the server's own fault.
func Failure(ctx context.Context, log *slog.Logger, r *backend.Request, err error) *backend.Response {
	return failure(ctx, log, r.Method, target(r), err)
}

// failure makes the answer to a request that failed, and logs what is the
// server's own fault.
func failure(ctx context.Context, log *slog.Logger, method, uri string, err error) *backend.Response {
	code := Status(err)
	if code >= 500 {
		log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("trans_id", TransID(ctx)), slog.String("method", method),
			slog.String("path", logPath(uri)), slog.Int("status", code), slog.Any("err", err))
	}
	return plain(code, errs.PublicOf(err))
}

// plain is an answer of text, or of the status's words where there is none.
func plain(code int, text string) *backend.Response {
	if text == "" {
		text = Reason(code)
	}
	resp := &backend.Response{Status: code, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}
	resp.Header.Add(backend.ContentType, "text/plain; charset=utf-8")
	return resp
}

// answer sends a response. An error means that the client has not got the whole
// of it.
func answer(ctx context.Context, w http.ResponseWriter, method string, resp *backend.Response) error {
	if resp.Body != nil {
		defer func() { _ = resp.Body.Close() }() // it was only read from
	}
	h := w.Header()
	for _, f := range resp.Header {
		key := http.CanonicalHeaderKey(f.Name)
		h[key] = append(h[key], f.Value)
	}
	if bodyless(resp.Status) {
		w.WriteHeader(resp.Status)
		return nil
	}
	h["Content-Length"] = []string{strconv.FormatInt(resp.Length, 10)}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // net/http must not guess one from the bytes
	}
	w.WriteHeader(resp.Status)
	if method == http.MethodHead || resp.Length == 0 {
		return nil
	}
	if resp.Body == nil {
		return errors.New("a response has a length and no body")
	}
	return CopyBody(ctx, w, resp.Body, resp.Length)
}

func bodyless(code int) bool {
	return code == http.StatusNoContent || code == http.StatusNotModified || code < 200
}
