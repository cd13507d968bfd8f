package cnamelookup

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// zone is a Resolver with names in memory.
type zone struct {
	names map[string]string
	ttl   time.Duration
	asked []string
}

func (z *zone) CNAME(_ context.Context, domain string) (string, time.Duration, error) {
	z.asked = append(z.asked, domain)
	target := z.names[domain]
	if target == "!" {
		return "", 0, errors.New("no answer")
	}
	return target, z.ttl, nil
}

// visit sends a request for a host, and returns what is said: the host that its URL has
// behind the feature, or why it is refused.
func visit(t *testing.T, h func(next http.Handler, refused func(string) http.Handler) http.Handler, host, path string) string {
	t.Helper()
	got := ""
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = "to " + r.URL.Host
		if r.Host != host || r.URL.Path != path {
			t.Errorf("%s: the request is for %s of %s now", host, r.URL.Path, r.Host)
		}
	})
	refused := func(text string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got = text })
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Host = host
	h(next, refused).ServeHTTP(httptest.NewRecorder(), r)
	if r.URL.Host != "" {
		t.Errorf("%s: the request of somebody else was changed", host)
	}
	return got
}

func TestHosts(t *testing.T) {
	names := map[string]string{
		"www.a.test": "c.auth-a.example.com", "dot.a.test": "c.Example.COM.", "one.a.test": "two.a.test", "two.a.test": "three.a.test", "three.a.test": "c.b.c",
		"self.a.test": "self.a.test", "round.a.test": "about.a.test", "about.a.test": "round.a.test", "broken.a.test": "!", "elsewhere.a.test": "www.other.test", "near.a.test": "cexample.com",
	}
	const none, after2 = "CNAME lookup failed to resolve to a valid domain", "CNAME lookup failed after 2 tries"
	for host, want := range map[string]string{
		"www.a.test": "to c.auth-a.example.com", "WWW.a.Test": "to c.auth-a.example.com", "www.a.test.": "to c.auth-a.example.com", "www.a.test:8080": "to c.auth-a.example.com:8080", "dot.a.test": "to c.example.com",
		"two.a.test": "to c.b.c", "one.a.test": after2, "round.a.test": after2,
		"self.a.test": none, "none.a.test": none, "broken.a.test": none, "elsewhere.a.test": none, "near.a.test": none, "a..b": none, strings.Repeat("x", 300): none,
		"c.example.com": "to ", "example.com": "to ", "C.Example.com:80": "to ", "x.b.c": "to ", "1.2.3.4": "to ", "1.2.3.4:80": "to ", "[::1]": "to ", "[::1]:80": "to ", "": "to ",
	} {
		z := &zone{names: names, ttl: time.Minute}
		cfg := Config{Domains: []string{"example.com", ".b.c"}, Depth: 2}
		got := visit(t, func(next http.Handler, refused func(string) http.Handler) http.Handler {
			return Handler(cfg, z, next, refused)
		}, host, "/o")
		if got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
		if want == "to " && len(z.asked) > 0 {
			t.Errorf("%s: the DNS was asked for %q", host, z.asked)
		}
	}
	for path, cfg := range map[string]Config{"/healthcheck": {Domains: []string{"example.com"}, Depth: 1}, "/o": Defaults()} {
		got := visit(t, func(next http.Handler, refused func(string) http.Handler) http.Handler {
			return Handler(cfg, &zone{}, next, refused)
		}, "none.a.test", path)
		if got != "to " {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// What the DNS says is remembered for as long as it says, and no longer than an hour.
func TestWhatIsRemembered(t *testing.T) {
	for what, tt := range map[string]struct {
		target string
		ttl    time.Duration
		known  time.Duration
	}{
		"a minute":     {"c.example.com", time.Minute, time.Minute},
		"a day":        {"c.example.com", 24 * time.Hour, time.Hour},
		"not at all":   {"c.example.com", 0, 0},
		"there's none": {"", 0, time.Minute},
		"no answer":    {"!", time.Minute, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			z := &zone{names: map[string]string{"www.a.test": tt.target}, ttl: tt.ttl}
			var h http.Handler
			ask := func() (lookups int) {
				before := len(z.asked)
				visit(t, func(next http.Handler, refused func(string) http.Handler) http.Handler {
					if h == nil {
						h = Handler(Config{Domains: []string{"example.com"}, Depth: 1}, z, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), refused)
					}
					return h
				}, "www.a.test", "/o")
				return len(z.asked) - before
			}
			if n := ask(); n != 1 {
				t.Errorf("%s: the first asks %d times", what, n)
			}
			if tt.known > 0 {
				time.Sleep(tt.known - time.Millisecond) // of the bubble
				if n := ask(); n != 0 {
					t.Errorf("%s: it is forgotten early", what)
				}
				time.Sleep(time.Millisecond) // of the bubble
			}
			if n := ask(); n != 1 {
				t.Errorf("%s: it is remembered for longer", what)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for what, tt := range map[string]struct {
		cfg Config
		ok  bool
	}{
		"off":              {Defaults(), true},
		"usual":            {Config{Domains: []string{"example.com", ".b.c"}, Depth: 2, Nameservers: []string{"127.0.0.1", "::1", "[::1]", "[::1]:5353", "127.0.0.1:5353"}}, true},
		"no domain":        {Config{Domains: []string{"."}, Depth: 1}, false},
		"a port":           {Config{Domains: []string{"a.b:80"}, Depth: 1}, false},
		"no depth":         {Config{}, false},
		"too deep":         {Config{Depth: 21}, false},
		"a name server":    {Config{Depth: 1, Nameservers: []string{"ns.example.com"}}, false},
		"one with no port": {Config{Depth: 1, Nameservers: []string{"127.0.0.1:"}}, false},
	} {
		if err := tt.cfg.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want good: %v", what, err, tt.ok)
		}
	}
}
