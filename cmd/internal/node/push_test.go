package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
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
