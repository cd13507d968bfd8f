package httpapi

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// Requests inside of one are told apart in the log, counted, and fail by
// themselves.
func TestPart(t *testing.T) {
	inner := backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		switch r.Path {
		case "/panic":
			panic("a bug")
		case "/full":
			return nil, errs.E(errs.NoSpace, "of "+TransID(ctx))
		}
		return &backend.Response{Status: 204}, nil
	})
	failures := &syncBuffer{}
	var texts []string
	url, log, reg := serveBackend(t, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		for _, path := range []string{"/fine", "/full", "/panic"} {
			one := &backend.Request{Method: "PUT", Path: path, Remote: r.Remote}
			one.Header.Add(backend.TransID, "tx"+path)
			resp := Part(ctx, inner, one, slog.New(slog.NewTextHandler(failures, nil)))
			var text []byte
			if resp.Body != nil {
				text, _ = io.ReadAll(resp.Body)
			}
			texts = append(texts, strings.TrimSpace(Reason(resp.Status)+" "+string(text)))
		}
		return &backend.Response{Status: 200}, nil
	})
	do(t, "BATCH", url+"/rows", strings.NewReader("x"), "X-Trans-Id", "outer", "User-Agent", "somebody")
	if got := strings.Join(texts, "; "); got != "No Content; Insufficient Storage Insufficient Storage; Internal Server Error" {
		t.Errorf("the answers are %q", got)
	}
	waitFor(t, func() bool { return strings.Contains(log.String(), "trans_id=outer") })
	for _, line := range []string{
		"trans_id=tx/fine remote=127", "method=PUT path=/full status=507", "path=/panic status=500", "agent=somebody", "method=BATCH path=/rows status=200",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the access log has no %q:\n%s", line, log)
		}
	}
	for _, line := range []string{"trans_id=tx/full method=PUT path=/full status=507", `of tx/full`, `trans_id=tx/panic method=PUT path=/panic panic="a bug"`} {
		if !strings.Contains(failures.String(), line) {
			t.Errorf("the log has no %q:\n%s", line, failures)
		}
	}
	if n, err := testutil.GatherAndCount(reg, "martlet_requests_total"); err != nil || n != 4 {
		t.Errorf("%d counters, %v; want one for each", n, err)
	}
	if resp := Part(t.Context(), inner, &backend.Request{Method: "PUT", Path: "/fine"}, slog.New(slog.DiscardHandler)); resp.Status != 204 {
		t.Errorf("where nobody watches: %+v", resp)
	}
}
