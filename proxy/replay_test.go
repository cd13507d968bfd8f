package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
	"martlet/proxy/chain"
)

// A write that another cluster has had already has the time that it had there, and loses against what is
// newer, once and for all.
func TestAWriteOfAnotherCluster(t *testing.T) {
	const at, newer = "1400000000.00001", "1400000000.00002"
	for what, tt := range map[string]struct {
		method, stamp string
		there         bool // something newer is
		want          int
		sent          string // the time of all that is sent
	}{
		"PUT":               {"PUT", at, false, 201, at},
		"DELETE":            {"DELETE", at, false, 204, at},
		"POST":              {"POST", at, false, 202, at},
		"an older PUT":      {"PUT", at, true, 202, at},
		"an older DELETE":   {"DELETE", at, true, 409, at},
		"an older POST":     {"POST", at, true, 409, at},
		"PUT of no time":    {"PUT", "yesterday", false, 400, ""},
		"DELETE of no time": {"DELETE", "", false, 400, ""},
		"PUT of time zero":  {"PUT", "0", false, 400, ""},
	} {
		b := newBench(t)
		var mu sync.Mutex
		var sent []string
		for i := range nodetest.Nodes {
			b.fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
				if r.Body != nil {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return nil, err
					}
				}
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, r.Header.Get(backend.Timestamp))
				if tt.there {
					return nodetest.Status(409, newer), nil
				}
				return nodetest.Status(map[string]int{"PUT": 201, "DELETE": 204, "POST": 202}[tt.method], at), nil
			})
		}
		rq := newTestRequest(t, tt.method, http.Header{"Content-Type": {"a/b"}, chain.Stamp: {tt.stamp}})
		rq.Grant = func(string, name.Path) bool { return true }
		if tt.method == http.MethodPut {
			rq.Length, rq.Body = 1, strings.NewReader("x")
		}
		resp := b.server().Serve(t.Context(), rq.Request)
		resp.Close()
		b.cluster.Wait()
		if resp.Status != tt.want {
			t.Errorf("%s: got %d, %v, want %d", what, resp.Status, resp.Err, tt.want)
		}
		if all := slices.Compact(sent); tt.sent == "" && len(all) > 0 || tt.sent != "" && !slices.Equal(all, []string{tt.sent}) || len(sent) > 3 {
			t.Errorf("%s: sent %v, want %s three times", what, sent, tt.sent)
		}
	}
}
