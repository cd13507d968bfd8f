package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What a request turns out to need besides is charged while there is room, to its client as
// well, and given back; who is alone has it in any case.
func TestGateCharge(t *testing.T) {
	g, err := NewGate(prometheus.NewRegistry(), "test", GateConfig{
		Requests: 100, Bytes: 1000, Cost: func(*http.Request) int64 { return 10 }, Client: func(r *http.Request) string { return r.URL.Path },
	})
	if err != nil {
		t.Fatal(err)
	}
	in := func(path string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if !g.enter(10, g.share(r)) {
			t.Fatal(path, "was refused")
		}
		return r
	}
	a := in("/a")
	alone, ok := g.Charge(a, 5000)
	if !ok {
		t.Fatal("one that is alone was refused")
	}
	alone()
	b := in("/b")
	if _, ok := g.Charge(b, 5000); ok {
		t.Error("there is not so much")
	}
	first, ok := g.Charge(a, 500)
	if !ok {
		t.Error("there is room for 500")
	}
	if _, ok := g.Charge(b, 600); ok {
		t.Error("there is no room for 600 more")
	}
	in("/a")
	if _, ok := g.Charge(a, 450); ok {
		t.Error("that is more than a share")
	}
	if _, ok := g.Charge(b, 400); !ok {
		t.Error("there is room for 400 of another")
	}
	first()
	if got := g.bytes.Load(); got != 430 || g.share(a).bytes.Load() != 20 {
		t.Errorf("%d bytes are charged, %d to the first", got, g.share(a).bytes.Load())
	}
	if _, ok := (*Gate)(nil).Charge(nil, 1); !ok {
		t.Error("without a gate there is no bound")
	}
	if release, ok := g.Charge(nil, 10); !ok {
		t.Error("nobody's request was refused")
	} else {
		release()
	}
}
