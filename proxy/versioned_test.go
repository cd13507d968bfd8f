package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// A version of a write that lost is deleted when the write is made anew, but not where
// somebody else has written at the same time: it would be his that is gone.
func TestLostVersionIsForgotten(t *testing.T) {
	for what, tt := range map[string]struct {
		newer   bool // what was there is newer, and not of the same time
		deletes int
	}{"something newer": {true, nodetest.Nodes / 2}, "the same time": {false, 0}} {
		b := newBench(t)
		var mu sync.Mutex
		first, deletes := "", 0
		for i := range nodetest.Nodes {
			d := fmt.Sprint("d", i)
			b.fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
				if r.Body != nil {
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return nil, err
					}
				}
				mu.Lock()
				defer mu.Unlock()
				sent := r.Header.Get(backend.Timestamp)
				stamp, err := timestamp.Parse(sent)
				if err != nil {
					return nil, err
				}
				if r.Method == http.MethodDelete {
					deletes++
					return nodetest.Status(204, sent), nil
				}
				if first == "" {
					first = sent
				}
				if first == sent && d != "d0" {
					if tt.newer {
						stamp = stamp.Next()
					}
					return nodetest.Status(409, stamp.String()), nil
				}
				resp := nodetest.Status(201, sent)
				resp.Header.Add(backend.VersionID, stamp.Normal())
				return resp, nil
			})
		}
		rq := newTestRequest(t, http.MethodPut, http.Header{"Content-Type": {"a/b"}, backend.NewVersion: {"true"}})
		rq.Grant = func(string, name.Path) bool { return true }
		rq.Length, rq.Body = 1, strings.NewReader("x")
		resp := b.server().Serve(t.Context(), rq.Request)
		resp.Close()
		b.cluster.Wait()
		if resp.Status != 201 || resp.Get(backend.VersionID) == first || deletes != tt.deletes {
			t.Errorf("%s: got %d, %v, %d deletes, want %d", what, resp.Status, resp.Err, deletes, tt.deletes)
		}
	}
}

// Without the hidden container there is no listing of versions, and none is made.
func TestNoHiddenContainer(t *testing.T) {
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		b := newBench(t)
		s := b.server()
		s.infos = newInfoCache(time.Minute, func(_ context.Context, p name.Path) (facts, error) {
			_, hidden := name.VersionedContainer(p.Container)
			return facts{exists: !hidden, at: time.Now()}, nil
		})
		rq := newTestRequest(t, method, http.Header{"Content-Type": {"a/b"}, backend.NewVersion: {"true"}})
		rq.Grant = func(string, name.Path) bool { return true }
		if method == http.MethodPut {
			rq.Length, rq.Body = 1, strings.NewReader("x")
		}
		resp := s.Serve(t.Context(), rq.Request)
		resp.Close()
		b.cluster.Wait()
		if asked := b.fleet.Asked(); resp.Status != http.StatusInternalServerError || len(asked) > 0 {
			t.Errorf("%s: got %d, %v, and asked %v, want 500", method, resp.Status, resp.Err, asked)
		}
	}
}

// A delete that another cluster has had already has its time from there, and does not hide what is
// newer.
func TestDeleteOfAnotherTime(t *testing.T) {
	for what, tt := range map[string]struct {
		stamp  string
		answer int // of the replicas
		want   int
		asked  int
	}{
		"in time":       {"1400000000.00000", 204, 204, 1},
		"something new": {"1400000000.00000", 409, 409, 1},
		"no time":       {"x", 204, 400, 0},
		"far ahead":     {"9999999999.99999", 204, 400, 0},
	} {
		for _, versions := range []bool{false, true} {
			b := newBench(t)
			var mu sync.Mutex
			sent := map[string]int{}
			for i := range nodetest.Nodes {
				b.fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					sent[r.Header.Get(backend.Timestamp)]++
					return nodetest.Status(tt.answer, "1500000000.00000"), nil
				})
			}
			rq := newTestRequest(t, http.MethodDelete, http.Header{chain.Stamp: {tt.stamp}})
			if versions {
				rq.Header[backend.NewVersion] = []string{"true"}
			}
			rq.Grant = func(string, name.Path) bool { return true }
			resp := b.server().Serve(t.Context(), rq.Request)
			resp.Close()
			b.cluster.Wait()
			if resp.Status != tt.want || len(sent) != tt.asked || tt.asked > 0 && sent[tt.stamp] == 0 {
				t.Errorf("%s, with versions %v: got %d, %v, and sent %v, want %d", what, versions, resp.Status, resp.Err, sent, tt.want)
			}
		}
	}
}
