package node

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/timestamp"
)

// Metadata that is good beside lost data is brought to who has nothing; but not once it is so old that nobody takes it: it would
// be sent in each pass.
func TestMetadataThatNobodyTakesIsNotSent(t *testing.T) {
	f := newFleet(t, 3, 3, onDisk)
	ts := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour))
	x := f.nodes[0]
	f.write(x, "PUT", "o", ts, nil, "body", true)
	f.damage(x, "o")
	f.write(x, "POST", "o", ts.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}, "", true)
	var sent atomic.Int64
	for _, n := range f.nodes[1:] {
		good := n.serving()
		n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				sent.Add(1)
			}
			good.ServeHTTP(w, r)
		}))
	}
	f.pass(x)
	if sent.Load() == 0 {
		t.Error("it was sent to nobody while it was young")
	}
	for range 2 {
		for _, n := range f.nodes {
			n.now = n.now.Add(4 * 24 * time.Hour)
		}
		f.pass(f.nodes...)
	}
	for _, n := range f.nodes[1:] {
		if err := n.store.Reclaim(t.Context(), timestamp.FromTime(n.now.Add(-7*24*time.Hour)), nil); err != nil {
			t.Fatal(err)
		}
	}
	sent.Store(0)
	f.pass(x)
	if n := sent.Load(); n > 0 {
		t.Errorf("it was sent %d times, and nobody takes it", n)
	}
}
