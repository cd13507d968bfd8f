package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"martlet/internal/backend"
)

// Part answers a request that came inside of another, whose context ctx is, as
// Observe and Backend would have if it had come alone: with the transaction id
// that it brings, its line in the access log, its count, a status for its error,
// and an end to panics. The answer's body is for the caller to close.
func Part(ctx context.Context, h backend.Handler, r *backend.Request, log *slog.Logger) *backend.Response {
	began := time.Now()
	outer := watchedIn(ctx)
	ctx = WithTransID(ctx, r.Header.Get(backend.TransID))
	resp := part(ctx, h, r, log)
	if o := outer.by; o != nil {
		took := time.Since(began)
		if o.Metrics != nil {
			o.Metrics.count(r.Method, resp.Status, took)
		}
		remote, agent := outer.sender()
		o.access(ctx, line{r.Method, r.Path, remote, agent, resp.Status, 0, resp.Length, took, false})
	}
	return resp
}

func part(ctx context.Context, h backend.Handler, r *backend.Request, log *slog.Logger) (resp *backend.Response) {
	defer func() {
		if p := recover(); p != nil {
			if !isAbort(p) {
				logPanic(ctx, log, r.Method, r.Path, p)
			}
			resp = &backend.Response{Status: http.StatusInternalServerError}
		}
	}()
	resp, err := h.Serve(ctx, r)
	if err != nil {
		resp = failure(ctx, log, r.Method, r.Path, err)
	}
	return resp
}
