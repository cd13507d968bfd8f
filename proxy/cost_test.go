//go:build !race

package proxy

import (
	"net/http"
	"testing"
)

// The bound is the project's; BenchmarkChain shows the time. Under the race
// detector pools drop what is put into them, which is no allocation of the chain's.
func TestTheChainAllocatesLittle(t *testing.T) {
	_, last := plainRequest("")
	h, token := chained(t, last)
	r, _ := plainRequest(token)
	w := &sink{h: http.Header{}}
	if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > 5 {
		t.Errorf("a request that uses no feature costs %v allocations, want at most 5", n)
	}
}
