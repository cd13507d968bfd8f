package workload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/check/history"
)

// What certainly did nothing, and what may have been done.
func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		kind   history.Kind
		status int
		whole  bool
		want   history.Outcome
	}{
		{history.Put, 201, true, history.Acked},
		{history.Post, 202, true, history.Acked},
		{history.Delete, 204, true, history.Acked},
		{history.Put, 201, false, history.Refused}, // it was told what cannot be: nothing of it may be seen
		{history.Put, 0, false, history.Refused},
		{history.Put, 503, false, history.Refused},
		{history.Put, 0, true, history.Unknown},
		{history.Put, 408, true, history.Unknown},
		{history.Put, 499, true, history.Unknown},
		{history.Put, 500, true, history.Unknown},
		{history.Put, 503, true, history.Unknown},
		{history.Put, 404, true, history.Unknown},
		{history.Put, 409, true, history.Unknown},
		{history.Put, 412, true, history.Unknown},
		{history.Put, 422, true, history.Refused},
		{history.Put, 401, true, history.Refused},
		{history.Delete, 404, true, history.Unknown},
		{history.Post, 404, true, history.Unknown},
		{history.Copy, 404, true, history.Refused},
	} {
		op := history.Op{Kind: tt.kind}
		if settle(&op, tt.status, tt.whole); op.Outcome != tt.want || op.Status != tt.status {
			t.Errorf("%v, %d, whole %v: %v, want %v", tt.kind, tt.status, tt.whole, op.Outcome, tt.want)
		}
	}
}

// Whether all of an upload can have been sent is known to the byte, and settled when it is asked for.
func TestSending(t *testing.T) {
	for _, tt := range []struct {
		size, cut int64
		chunked   bool
		read      int64 // bytes, then once more if that was all
		whole     bool
	}{
		{10, 10, false, 10, true},
		{10, 10, false, 9, false},
		{10, 10, true, 10, false}, // its end has not been sent
		{10, 10, true, 11, true},
		{10, 3, false, 10, false},
		{10, 0, true, 11, false},
	} {
		s := &sending{size: tt.size, cut: tt.cut, from: bytes.NewReader(make([]byte, tt.size))}
		var err error
		for range tt.read {
			if _, err = s.Read(make([]byte, 1)); err != nil {
				break
			}
		}
		if errors.Is(err, errCut) != (tt.cut < tt.size) {
			t.Errorf("%+v: %v", tt, err)
		}
		if got := s.whole(tt.chunked); got != tt.whole {
			t.Errorf("%+v: %v", tt, got)
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errCut) {
			t.Errorf("%+v: afterwards %d bytes are read, %v", tt, n, err)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		s           span
		size, at, n int64
	}{
		{span{0, 0}, 10, 0, 1},
		{span{2, 20}, 10, 2, 8},
		{span{9, 9}, 10, 9, 1},
		{span{10, 12}, 10, 0, 0},
		{span{4, -1}, 10, 4, 6},
		{span{-1, 3}, 10, 7, 3},
		{span{-1, 30}, 10, 0, 10},
		{span{-1, 30}, 0, 0, 0},
		{span{0, 0}, 0, 0, 0},
	} {
		if at, n := tt.s.of(tt.size); n != tt.n || n > 0 && at != tt.at {
			t.Errorf("%v of %d: %d from %d, want %d from %d", tt.s, tt.size, n, at, tt.n, tt.at)
		}
	}
}

// A recorder answers everything in one way, and remembers what it was asked.
type recorder struct {
	status int

	mu   sync.Mutex // guards all that follows
	said []string
}

func (r *recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	n := int64(0)
	if q.Body != nil {
		n, _ = io.Copy(io.Discard, q.Body)
		_ = q.Body.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf("%s %s %d %d %s %s %s %s", q.Method, q.URL, q.ContentLength, n, q.Header.Get("Range"), q.Header.Get("Etag"), q.Header.Get("Destination"), q.Header.Get("X-Copy-From")))
	return &http.Response{StatusCode: r.status, Header: http.Header{"X-Container-Object-Count": {"0"}}, Body: io.NopCloser(strings.NewReader("")), Request: q}, nil
}

// What a client does follows from the seed, whatever it is answered.
func TestSeed(t *testing.T) {
	asked := func(seed uint64, status int) []string {
		cfg := Defaults()
		cfg.Endpoints, cfg.Token, cfg.Account, cfg.Seed, cfg.Clients, cfg.Rate, cfg.Largest = []string{"http://proxy"}, "t", "/v1/AUTH_a", seed, 1, 0, 300<<10
		r := &recorder{status: 204}
		cfg.Transport = r
		cfg.Log = history.NewLog(nil, history.Header{})
		w, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.status = status
		c := w.clients[0]
		ctx := t.Context()
		for range 200 {
			c.step(ctx)
		}
		return r.said
	}
	once := asked(7, 503)
	if len(once) < 200 || !slices.Equal(once, asked(7, 503)) {
		t.Errorf("twice the same seed, and not the same %d requests", len(once))
	}
	if slices.Equal(once, asked(8, 503)) {
		t.Error("another seed, and the same requests")
	}
}

// Sizes and operations are within their bounds, and each kind comes about as often as it should.
func TestPresets(t *testing.T) {
	for name, p := range presets {
		r := rand.New(rand.NewPCG(1, 2))
		var kinds [history.List + 1]int
		most := int64(0)
		for range 4000 {
			kinds[p.pick(r)]++
			size := p.sizes(r, 2<<20)
			if most = max(most, size); size < 0 || size > 2<<20+4096 {
				t.Fatalf("%q: a size of %d", name, size)
			}
		}
		for k, w := range p.weights {
			if (kinds[k] == 0) != (w == 0) {
				t.Errorf("%q: %d times %v, whose weight is %d", name, kinds[k], history.Kind(k), w)
			}
		}
		if p.names > 0 && most == 0 {
			t.Errorf("%q: no body has a byte", name)
		}
	}
	if slices.Contains(Presets(), "") || len(Presets()) != len(presets)-1 {
		t.Errorf("they are called %q", Presets())
	}
}

func TestConfigRefused(t *testing.T) {
	good := func() Config {
		cfg := Defaults()
		cfg.Endpoints, cfg.Log = []string{"http://127.0.0.1:1"}, history.NewLog(nil, history.Header{})
		return cfg
	}
	for says, change := range map[string]func(*Config){
		"no endpoint":     func(c *Config) { c.Endpoints = nil },
		"a token without": func(c *Config) { c.Token = "t" },
		"0 clients":       func(c *Config) { c.Clients = 0 },
		"0 names":         func(c *Config) { c.Names = 0 },
		"a rate of -1":    func(c *Config) { c.Rate = -1 },
		"bodies of up to": func(c *Config) { c.Largest = -1 },
		"a timeout of 0s": func(c *Config) { c.Timeout = 0 },
		"no log":          func(c *Config) { c.Log = nil },
		"no workload":     func(c *Config) { c.Preset = "everything" },
		"sign in":         func(c *Config) { c.Timeout = time.Nanosecond },
	} {
		cfg := good()
		change(&cfg)
		if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}
