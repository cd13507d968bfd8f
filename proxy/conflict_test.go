package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
)

// A write that finds something newer, of a proxy whose clock is ahead, is sent once
// more above it; where that is not possible, or does not help, it is a 409, and
// never said to be stored. Swift says 202 there and drops it.
func TestAWriteThatLoses(t *testing.T) {
	ahead := timestamp.FromTime(time.Now().Add(time.Minute))
	for what, tt := range map[string]struct {
		method      string
		size        int
		once, twice int // what it comes to where it loses once, and always
	}{
		"PUT":              {http.MethodPut, 100, 201, 409},
		"PUT of much data": {http.MethodPut, 2 * queueLen * chunkSize, 409, 409},
		"POST":             {http.MethodPost, 0, 202, 409},
		"DELETE":           {http.MethodDelete, 0, 204, 409},
	} {
		for always, want := range map[bool]int{false: tt.once, true: tt.twice} {
			b := newBench(t)
			for i := range nodetest.Nodes {
				b.fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
					if r.Body != nil {
						if _, err := io.Copy(io.Discard, r.Body); err != nil {
							return nil, err
						}
					}
					stamp, err := timestamp.Parse(r.Header.Get(backend.Timestamp))
					switch {
					case err != nil:
						return nil, err
					case always:
						return nodetest.Status(409, stamp.Next().String()), nil
					case !ahead.Before(stamp):
						return nodetest.Status(409, ahead.String()), nil
					}
					return nodetest.Status(tt.once, stamp.String()), nil
				})
			}
			data := randomBytes(tt.size)
			rq := newTestRequest(t, tt.method, http.Header{"Content-Type": {"a/b"}})
			rq.Grant = func(string, name.Path) bool { return true }
			if tt.method == http.MethodPut {
				rq.Length, rq.Body = int64(tt.size), bytes.NewReader(data)
			}
			resp := b.server().Serve(t.Context(), rq.Request)
			resp.Close()
			b.cluster.Wait()
			if resp.Status != want {
				t.Errorf("%s, always %v: got %d, %v, want %d", what, always, resp.Status, resp.Err, want)
			}
			if modified, err := http.ParseTime(resp.Get("Last-Modified")); want == 201 && (err != nil || modified.Before(ahead.Time().Truncate(time.Second))) {
				t.Errorf("%s: Last-Modified is %v, %v, want it behind %v", what, modified, err, ahead.Time())
			}
		}
	}
}
