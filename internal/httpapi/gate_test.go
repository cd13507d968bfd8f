package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/errs"
)

func newGate(t *testing.T, cfg GateConfig) *Gate {
	t.Helper()
	g, err := NewGate(prometheus.NewRegistry(), "test", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// gated is a server behind a gate, as a proxy is.
func gated(t *testing.T, g *Gate, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	srv := httptest.NewServer(Observe(g.Wrap(h), Observed{Server: "test", Silence: time.Minute, Log: log}))
	t.Cleanup(srv.Close)
	return srv
}

// idle fails unless the gate is soon as empty as it was.
func (g *Gate) idle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); g.requests.Load() != 0 || g.bytes.Load() != 0; {
		if time.Now().After(end) {
			t.Fatalf("%d requests and %d bytes are still held", g.requests.Load(), g.bytes.Load())
		}
		<-time.After(time.Millisecond)
	}
}

// Ten times as many slow clients as there is room for: those who are in are served,
// the others are told at once, and what load balancers ask is answered.
func TestAFloodOfSlowClients(t *testing.T) {
	const room, crowd = 8, 80
	for what, cfg := range map[string]GateConfig{
		"requests": {Requests: room},
		"bytes":    {Requests: 1000, Bytes: room*100 + 50, Cost: func(*http.Request) int64 { return 100 }},
	} {
		cfg.Free = func(r *http.Request) bool { return r.URL.Path == "/healthcheck" }
		g := newGate(t, cfg)
		srv := gated(t, g, func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(b)
		})
		type answer struct {
			status int
			header http.Header
			body   string
		}
		answers := make(chan answer, crowd)
		var writers []*io.PipeWriter
		var all sync.WaitGroup
		for range crowd {
			r, w := io.Pipe()
			writers = append(writers, w)
			all.Go(func() {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL+"/o", r)
				resp, err := srv.Client().Do(req)
				if err != nil {
					t.Errorf("%s: %v", what, err)
					answers <- answer{}
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				answers <- answer{resp.StatusCode, resp.Header, string(b)}
			})
		}
		for range crowd - room {
			if a := <-answers; a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Errorf("%s: one too many got %d, Retry-After %q", what, a.status, a.header.Get("Retry-After"))
			}
		}
		if n := g.requests.Load(); n != room {
			t.Errorf("%s: %d are in, want %d", what, n, room)
		}
		if !g.Pressed() {
			t.Errorf("%s: a full gate says that there is room", what)
		}
		resp, err := srv.Client().Get(srv.URL + "/healthcheck")
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: /healthcheck is not answered: %v, %v", what, resp, err)
		} else {
			_ = resp.Body.Close()
		}
		for _, w := range writers {
			go func() {
				_, _ = w.Write([]byte("late"))
				_ = w.Close()
			}()
		}
		for range room {
			if a := <-answers; a.status != 200 || a.body != "late" {
				t.Errorf("%s: one who was in got %d %q", what, a.status, a.body)
			}
		}
		all.Wait()
		g.idle(t)
		if g.Pressed() {
			t.Errorf("%s: an empty gate says that it is full", what)
		}
	}
}

// However a request ends, its place is free again.
func TestNoPlaceIsLost(t *testing.T) {
	g := newGate(t, GateConfig{Requests: 2, Bytes: 100, Cost: func(*http.Request) int64 { return 40 }})
	entered := make(chan struct{}, 1)
	srv := gated(t, g, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("broke")
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/hijack":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		case "/gone":
			entered <- struct{}{}
			<-r.Context().Done()
		}
	})
	for _, path := range []string{"/panic", "/abort", "/hijack", "/gone", "/"} {
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			if path == "/gone" {
				go func() { <-entered; cancel() }()
			}
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+path, nil)
			resp, err := srv.Client().Do(req)
			if err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == 503 {
					t.Errorf("%s: refused", path)
				}
			}
			cancel()
			g.idle(t)
		}
	}
}

// One that needs more than there is is served when it is alone.
func TestOneThatNeedsAllTheMemory(t *testing.T) {
	g := newGate(t, GateConfig{Requests: 5, Bytes: 10})
	if !g.enter(100, nil) || g.enter(1, nil) {
		t.Error("alone it is to get in, and nobody else then")
	}
	g.leave(100, nil)
	if !g.enter(1, nil) || g.enter(100, nil) {
		t.Error("with another one it is to stay out")
	}
}

// drip is a peer that gives n bytes each time, after a while.
type drip struct {
	n     int
	every time.Duration
}

func (d drip) Read(p []byte) (int, error) {
	<-time.After(d.every)
	return copy(p, strings.Repeat("x", d.n)), nil
}
func (d drip) Close() error                    { return nil }
func (d drip) SetReadDeadline(time.Time) error { return nil }
func (d drip) SetWriteDeadline(time.Time) error {
	return nil
}
func (d drip) Header() http.Header { return http.Header{} }
func (d drip) WriteHeader(int)     {}
func (d drip) Write(p []byte) (int, error) {
	<-time.After(d.every)
	return len(p), nil
}

// A client that trickles is cut off while others want its room, and only then.
// What the cluster takes its time for is not held against it.
func TestATrickle(t *testing.T) {
	for what, tt := range map[string]struct {
		drip    drip
		pressed bool
		rate    int64
		busy    time.Duration // of the server, between two reads
		cut     bool
	}{
		"too slow":           {drip{1, 50 * time.Second}, true, 64, 0, true},
		"nobody waits":       {drip{1, 50 * time.Second}, false, 64, 0, false},
		"no bound":           {drip{1, 50 * time.Second}, true, 0, 0, false},
		"fast enough":        {drip{100, time.Second}, true, 64, 0, false},
		"the cluster's time": {drip{1, time.Millisecond}, true, 64, time.Minute, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := quiet{conn: tt.drip, limit: time.Minute, least: tt.rate, pressed: func() bool { return tt.pressed }}
			b := &requestBody{body: tt.drip, q: &q, from: &http.Request{ContentLength: -1}}
			w := &Writer{ResponseWriter: tt.drip, q: q, status: 200}
			var inErr, outErr error
			for range 200 {
				if inErr == nil {
					_, inErr = b.Read(make([]byte, 1000))
				}
				if outErr == nil {
					_, outErr = w.Write(make([]byte, tt.drip.n))
				}
				<-time.After(tt.busy) // of the bubble's clock
			}
			if got := errs.Is(inErr, errs.Timeout); got != tt.cut {
				t.Errorf("%s: reading ended with %v, want cut off: %v", what, inErr, tt.cut)
			}
			if got := errors.Is(outErr, errTrickle); got != tt.cut {
				t.Errorf("%s: writing ended with %v, want cut off: %v", what, outErr, tt.cut)
			}
		})
	}
}

// One client with far more requests than there is room for leaves room for others,
// and what it leaves is shared by those that come.
func TestAClientThatWantsEverything(t *testing.T) {
	for what, cfg := range map[string]GateConfig{
		"places": {Requests: 900},
		"memory": {Requests: 1_000_000, Bytes: 900, Cost: func(*http.Request) int64 { return 1 }},
	} {
		cfg.Client = func(r *http.Request) string { return r.URL.Path }
		g := newGate(t, cfg)
		var cost int64
		if cfg.Cost != nil {
			cost = 1
		}
		in := map[string]int{}
		come := func(who string, times int) {
			r := httptest.NewRequest(http.MethodGet, "http://h"+who, nil)
			for range times {
				if g.enter(cost, g.share(r)) {
					in[who]++
				}
			}
		}
		leave := func(who string, times int) {
			r := httptest.NewRequest(http.MethodGet, "http://h"+who, nil)
			for range times {
				g.leave(cost, g.share(r))
				in[who]--
			}
		}
		come("/greedy", 5000)
		if in["/greedy"] != 800 {
			t.Errorf("%s: one alone has %d of 900 in, want eight ninths", what, in["/greedy"])
		}
		come("/modest", 20)
		if in["/modest"] != 20 {
			t.Errorf("%s: another one has %d of its 20 in beside it", what, in["/modest"])
		}
		for range 2000 { // both go on for ever, and want all they can have
			leave("/greedy", 2)
			come("/greedy", 10)
			leave("/modest", 1)
			come("/modest", 10)
		}
		if a, b := in["/greedy"], in["/modest"]; a > 460 || b < 380 || a+b > 900 {
			t.Errorf("%s: in the end one has %d in and the other %d, want as much for each", what, a, b)
		}
		come("/new", 1)
		if in["/new"] != 1 {
			t.Errorf("%s: a third one finds no room", what)
		}
		if testutil.ToFloat64(g.refused[forShare]) == 0 {
			t.Errorf("%s: refusals for a share are not counted", what)
		}
		for who, n := range in {
			leave(who, n)
		}
		for i := range g.shares {
			if s := &g.shares[i]; s.requests.Load() != 0 || s.bytes.Load() != 0 {
				t.Errorf("%s: %d requests and %d bytes of a share are still held", what, s.requests.Load(), s.bytes.Load())
			}
		}
		g.idle(t)
	}
}
