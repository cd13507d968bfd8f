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
	w := &sink{h: http.Header{}}
	for _, tt := range []struct {
		who, token string
		most       float64
	}{{"an owner", token, 5}, {"nobody in particular", "", 4}} { // whose token is not read
		r, _ := plainRequest(tt.token)
		if tt.token == "" {
			r.Header.Del("X-Auth-Token")
		}
		if n := testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) }); n > tt.most {
			t.Errorf("a request of %s that uses no feature costs %v allocations, want at most %v", tt.who, n, tt.most)
		}
	}
}
