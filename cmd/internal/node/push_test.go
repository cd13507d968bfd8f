package node

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/errs"
	"martlet/ring"
)

// A proxy's clients find nothing where rings are handed out, unless they sign; and then they are
// refused, by a proxy that has no key as by one that has another.
func TestWhoReachesRings(t *testing.T) {
	dir, policies := codedRings(t, 6)
	all, err := openRings(dir, policies)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, clusterkey.NewFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	const aside = http.StatusTeapot // what clients get who are not let near it
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(aside) })
	signature := "1 00000000 1 " + strings.Repeat("0", 32) + " 127.0.0.1:8080 " + strings.Repeat("0", 64)
	for _, tt := range []struct {
		keyFile, path, signature string
		want                     int
		text                     string
	}{
		{"", "/rings", "", aside, ""},
		{"", "/rings/object", "", aside, ""},
		{"", "/rings", signature, 403, "no cluster key (cluster.key_file)"},
		{"", "/rings/object", signature, 403, "no cluster key (cluster.key_file)"},
		{key, "/rings/object", "", aside, ""},
		{key, "/rings/object", signature, 403, "with a key that this node does not have"},
		{key, "/rings/object", "x", 403, "can't be read"},
		{key, "/rings?x", signature, 403, "with a key that this node does not have"},
		{key, "/ringss", signature, aside, ""},
		{key, "//rings", signature, aside, ""},
		{key, "/v1/a/rings/object", signature, aside, ""},
		{key, "/%72ings", signature, aside, ""},
	} {
		c := config.DefaultProxy()
		c.Cluster.KeyFile, c.Rings.Folder = tt.keyFile, dir
		log := slog.New(slog.DiscardHandler)
		p := &Proxy{process: process{log: log}}
		h, err := p.takingRings(c, Options{Log: log, Registry: prometheus.NewRegistry()}, all, policies, next)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "PUT"} {
			r := httptest.NewRequest(method, tt.path, strings.NewReader("no ring"))
			if tt.signature != "" {
				r.Header.Set(clusterkey.Header, tt.signature)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.text) {
				t.Errorf("with key %v, %s of %s, signed %q: %d %q, want %d %q", tt.keyFile != "", method, tt.path, tt.signature, w.Code, w.Body, tt.want, tt.text)
			}
		}
	}
}

// However many requests with a signature that is wrong wait for their answer, who has the key is served.
func TestStrangersTakeNoPlace(t *testing.T) {
	dir, policies := codedRings(t, 6)
	all, err := openRings(dir, policies)
	if err != nil {
		t.Fatal(err)
	}
	c := config.DefaultProxy()
	c.Cluster.KeyFile, c.Rings.Folder = filepath.Join(t.TempDir(), "key"), dir
	if err := os.WriteFile(c.Cluster.KeyFile, clusterkey.NewFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := clusterkey.Open(c.Cluster.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h, err := (&Proxy{process: process{log: log}}).takingRings(c, Options{Log: log, Registry: prometheus.NewRegistry()}, all, policies, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	var strangers sync.WaitGroup
	silent := make(chan struct{})
	for range 2 * proxyPushes {
		body := &unsent{reached: make(chan struct{}), until: silent}
		strangers.Go(func() {
			r := httptest.NewRequest("PUT", "/rings/object", body)
			r.ContentLength = 9
			r.Header.Set(clusterkey.Header, "x")
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
		<-body.reached // the answer is made, and the rest of the body is waited for
	}
	sender := &clusterkey.Sender{Keys: keys, Next: doer(func(r *backend.Request) *backend.Response {
		in := httptest.NewRequest(r.Method, r.Path, nil)
		for _, f := range r.Header {
			in.Header.Add(f.Name, f.Value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, in)
		resp := &backend.Response{Status: w.Code, Length: int64(w.Body.Len()), Body: io.NopCloser(w.Body)}
		for name, values := range w.Header() {
			resp.Header.Add(name, values[0])
		}
		return resp
	})}
	resp, err := sender.Do(t.Context(), "127.0.0.1:8080", &backend.Request{Method: "GET", Path: "/rings"})
	if err != nil || resp.Status != 200 {
		t.Errorf("%+v, %v", resp, err)
	}
	close(silent)
	strangers.Wait()
}

// unsent is a body of which nothing comes.
type unsent struct {
	once    sync.Once
	reached chan struct{} // is closed when it is waited for
	until   chan struct{}
}

func (u *unsent) Read([]byte) (int, error) {
	u.once.Do(func() { close(u.reached) })
	<-u.until
	return 0, io.ErrUnexpectedEOF
}

type doer func(*backend.Request) *backend.Response

func (d doer) Do(_ context.Context, _ string, r *backend.Request) (*backend.Response, error) {
	return d(r), nil
}

// What is beyond the bound is refused, and has a place again when one is free, also after a panic.
func TestAtMost(t *testing.T) {
	var h backend.Handler
	depth := 0
	h = atMost(3, backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		if depth++; depth > 9 {
			return &backend.Response{}, nil
		}
		return h.Serve(ctx, r) // while this one has its place
	}))
	for range 2 {
		depth = 0
		if _, err := h.Serve(t.Context(), &backend.Request{}); !errs.Is(err, errs.Unavailable) || depth != 3 {
			t.Errorf("%v, with %d at one time", err, depth)
		}
	}
	broken := atMost(1, backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) { panic(http.ErrAbortHandler) }))
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it was not served")
				}
			}()
			_, _ = broken.Serve(t.Context(), &backend.Request{}) // it panics
		}()
	}
}

// A ring that erasure coding can't use is refused before it is in use.
func TestRingFitsItsPolicy(t *testing.T) {
	_, policies := codedRings(t, 6)
	other, _ := codedRings(t, 5)
	r, err := ring.Load(filepath.Join(other, "object-1.ring.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"account": true, "object": true, "object-1": false} {
		if err := fits(policies, name, r); (err == nil) != ok || !ok && !errs.Is(err, errs.Conflict) {
			t.Errorf("five replicas for %s: %v", name, err)
		}
	}
}
