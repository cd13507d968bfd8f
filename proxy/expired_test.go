package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
)

// What is past its time is shown only where the operator lets clients ask for it
// and one does.
func TestOpenExpired(t *testing.T) {
	for what, tt := range map[string]struct {
		allow bool
		asks  string
		want  bool
	}{"may and does": {true, "True", true}, "may": {true, "no", false}, "does": {false, "true", false}} {
		for method, success := range map[string]int{http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 202} {
			b := newBench(t)
			var asked, opened atomic.Int32
			for i := range nodetest.Nodes {
				b.fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
					asked.Add(1)
					if r.Header.Get("X-Backend-Open-Expired") != "true" {
						return nodetest.Status(404, "1000000000.00001"), nil
					}
					opened.Add(1)
					return nodetest.Status(map[bool]int{true: 202, false: 200}[r.Method == http.MethodPost], "1000000000.00001"), nil
				})
			}
			s := b.server()
			s.cfg.AllowOpenExpired = tt.allow
			rq := newTestRequest(t, method, http.Header{"X-Open-Expired": {tt.asks}, "X-Newest": {"true"}})
			rq.Grant = func(string, name.Path) bool { return true }
			want, resp := map[bool]int{true: success, false: 404}[tt.want], s.Serve(t.Context(), rq.Request)
			resp.Close()
			b.cluster.Wait()
			if resp.Status != want || tt.want && opened.Load() != asked.Load() {
				t.Errorf("%s: %s is %d, want %d; %d of %d requests open what has expired", what, method, resp.Status, want, opened.Load(), asked.Load())
			}
		}
	}
}

// An object that expires while it is read is read to its end.
func TestExpiresWhileItIsRead(t *testing.T) {
	b := newBench(t)
	data := strings.Repeat("0123456789", 30_000)
	b.fleet.Script("d0", breaking(data, resumeStamp, 50_000))
	for _, d := range []string{"d1", "d2"} {
		b.fleet.Script(d, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Header.Get("X-Backend-Open-Expired") != "true" {
				return nodetest.Status(404, resumeStamp), nil
			}
			return breaking(data, resumeStamp, -1)(ctx, r)
		})
	}
	if got, err := readAll(t, b, nil, io.ReadAll); got != data || err != nil {
		t.Errorf("%d bytes, %v, want the %d", len(got), err, len(data))
	}
}
