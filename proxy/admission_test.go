package proxy

import (
	"net/http"
	"net/url"
	"testing"

	"martlet/internal/conf"
	"martlet/internal/policy"
)

func TestCost(t *testing.T) {
	const most = plainCost + (4+2)*512<<10 // a queue full of the chunks of large bodies, one being sent and one being filled
	for what, tt := range map[string]struct {
		r    http.Request
		want int64
	}{
		"read":            {http.Request{Method: "GET"}, 64<<10 + 40<<10 + 32<<10}, // copied through, held back until it is whole, the header
		"empty":           {http.Request{Method: "PUT"}, plainCost},
		"small":           {http.Request{Method: "PUT", ContentLength: 1}, plainCost + 2*chunkSize},
		"a chunk":         {http.Request{Method: "PUT", ContentLength: chunkSize}, plainCost + 2*chunkSize},
		"some chunks":     {http.Request{Method: "PUT", ContentLength: 3 * chunkSize}, plainCost + 3*chunkSize},
		"all small":       {http.Request{Method: "PUT", ContentLength: smallChunks * chunkSize}, plainCost + smallChunks*chunkSize},
		"one large":       {http.Request{Method: "PUT", ContentLength: smallChunks*chunkSize + 1}, most},
		"large":           {http.Request{Method: "PUT", ContentLength: 5 << 30}, most},
		"unknown":         {http.Request{Method: "PUT", ContentLength: -1}, most},
		"bulk":            {http.Request{Method: "POST", ContentLength: -1}, most},
		"copy":            {http.Request{Method: "COPY"}, most},
		"copy from":       {http.Request{Method: "PUT", Header: http.Header{"X-Copy-From": {"c/o"}}}, most},
		"copy from, read": {http.Request{Method: "GET", Header: http.Header{"X-Copy-From": {"c/o"}}}, plainCost},
	} {
		if got := cost(&tt.r); got != tt.want {
			t.Errorf("%s: %d, want %d", what, got, tt.want)
		}
	}
}

// Where policies erasure-code, a body may come to the one that takes the most: the segments of
// an upload, each with its parity, are more than chunks.
func TestCostOfErasureCoding(t *testing.T) {
	set, err := policy.NewSet([]policy.Policy{
		{Index: 0, Name: "gold", Default: true}, {Index: 1, Name: "a", Data: 4, Parity: 2, WholeUpTo: 8 << 10}, {Index: 2, Name: "b", Data: 2, Parity: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	of, err := newCodings(set)
	if err != nil {
		t.Fatal(err)
	}
	const segment = 2 << 20 // with the parity of 2+2
	for what, tt := range map[string]struct {
		r           http.Request
		least, most int64
	}{
		"read":       {http.Request{Method: "GET"}, plainCost, plainCost},
		"empty":      {http.Request{Method: "PUT"}, plainCost, plainCost},
		"small":      {http.Request{Method: "PUT", ContentLength: 100 << 10}, segment, segment + 1<<20},
		"large":      {http.Request{Method: "PUT", ContentLength: 5 << 30}, 7 * segment, 8 * segment},
		"2 segments": {http.Request{Method: "PUT", ContentLength: 2 << 20}, 3 * segment, 4 * segment},
		"unknown":    {http.Request{Method: "PUT", ContentLength: -1}, 7 * segment, 8 * segment},
		"bulk":       {http.Request{Method: "POST", ContentLength: 10}, 7 * segment, 8 * segment},
		"copy":       {http.Request{Method: "COPY"}, 7 * segment, 8 * segment},
		"copy from":  {http.Request{Method: "PUT", Header: http.Header{"X-Copy-From": {"c/o"}}}, 7 * segment, 8 * segment},
	} {
		if got := of.cost(&tt.r); got < tt.least || got > tt.most {
			t.Errorf("%s: %d, want %d to %d", what, got, tt.least, tt.most)
		}
		if got, want := (codings)(nil).cost(&tt.r), cost(&tt.r); got != want {
			t.Errorf("%s, without such policies: %d, want %d", what, got, want)
		}
	}
}

func TestAdmissionFitsTheMachine(t *testing.T) {
	c := Defaults()
	if n, b := c.Admission(); n < 512 || n > 16384 || b < 64<<20 {
		t.Errorf("by default %d requests and %d bytes", n, b)
	}
	c.MaxRequests, c.MaxBufferBytes = 7, conf.Size(9<<20)
	if n, b := c.Admission(); n != 7 || b != 9<<20 {
		t.Errorf("what was set is %d requests and %d bytes", n, b)
	}
}

// Requests about one account are one client's, wherever they come from; those about
// none are those of their address.
func TestWhoseRequestItIs(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/AUTH_a/c/o": "AUTH_a", "/v1/AUTH_a": "AUTH_a", "/v1.0/AUTH_b/": "AUTH_b", "/v1/": "192.0.2.1", "/auth/v1.0": "192.0.2.1", "/": "192.0.2.1", "/vx/a": "192.0.2.1",
	} {
		r := http.Request{URL: &url.URL{Path: path}, RemoteAddr: "192.0.2.1:1234"}
		if got := client(&r); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestConnectionsFitTheMachine(t *testing.T) {
	c := Defaults()
	if n := c.Connections(); n < 1024 || n > 65536 {
		t.Errorf("by default %d", n)
	}
	if c.MaxConnections = 7; c.Connections() != 7 {
		t.Errorf("what was set is %d", c.Connections())
	}
}
