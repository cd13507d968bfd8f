package domainremap

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHosts(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := Defaults()
		c.Domains = []string{"example.com", ".b.c"}
		change(&c)
		return c
	}
	usual := with(func(*Config) {})
	mangles := with(func(c *Config) { c.Mangle = true })
	for _, tt := range []struct {
		cfg             Config
		host, uri, want string // "": it is refused
	}{
		{usual, "AUTH_a.example.com", "/", "/v1/AUTH_a/"},
		{usual, "c.AUTH_a.example.com", "/", "/v1/AUTH_a/c/"},
		{usual, "c.AUTH_a.example.com:8080", "/o", "/v1/AUTH_a/c/o"},
		{usual, "c.AUTH_a.b.c", "/o/p", "/v1/AUTH_a/c/o/p"},
		{usual, "c.auth-a-b.EXAMPLE.com", "/o", "/v1/AUTH_a-b/c/o"},
		{usual, "c.auth_a-b.example.com", "/o", "/v1/AUTH_a-b/c/o"},
		{usual, "AUTH_a.example.com", "/c/o%2Fp%20q?format=json", "/v1/AUTH_a/c/o%2Fp%20q?format=json"},
		{usual, "c.AUTH_a.example.com", "//o", "/v1/AUTH_a/c//o"},
		{usual, "c.AUTH_a.example.com", "/v1/AUTH_a/c/o", "/v1/AUTH_a/c/v1/AUTH_a/c/o"},
		{usual, "c.AUTH_a.example.com", "/info", "/v1/AUTH_a/c/info"},
		{usual, "c.AUTH_a.example.com", "/healthcheck", "/healthcheck"},
		{usual, "example.com", "/v1/AUTH_a/c", "/v1/AUTH_a/c"},
		{usual, "other.com", "/v1/AUTH_a/c", "/v1/AUTH_a/c"},
		{usual, "AUTH_aexample.com", "/o", "/o"},
		{usual, "[::1]:80", "/o", "/o"},
		{usual, "c.KEY_a.example.com", "/o", "/o"},
		{usual, "x.c.AUTH_a.example.com", "/o", ""},
		{usual, ".AUTH_a.example.com", "/o", ""},
		{usual, "c..example.com", "/o", ""},
		{usual, "c%2F.AUTH_a.example.com", "/o", ""},
		{usual, "www.other.com", "http://c.AUTH_a.example.com:8080/o", "/v1/AUTH_a/c/o"},
		{with(func(c *Config) { c.Default = "AUTH" }), "c.a.example.com", "/o", "/v1/AUTH_a/c/o"},
		{with(func(c *Config) { c.Default = "AUTH_" }), "c.auth-a.example.com", "/o", "/v1/AUTH_a/c/o"},
		{with(func(c *Config) { c.Prefixes = nil }), "c.a-b.example.com", "/o", "/v1/a-b/c/o"},
		{with(func(c *Config) { c.Prefixes = []string{"PRE", "Auth_"} }), "c.auth-a.example.com", "/o", "/v1/Auth_a/c/o"},
		{with(func(c *Config) { c.Root = "/v1.0/" }), "c.AUTH_a.example.com", "/o", "/v1.0/AUTH_a/c/o"},
		{mangles, "c.AUTH_a.example.com", "/v1/o", "/v1/AUTH_a/c/o"},
		{mangles, "c.AUTH_a.example.com", "/v1/o%2Fp", "/v1/AUTH_a/c/o%2Fp"},
		{mangles, "c.AUTH_a.example.com", "/v1", "/v1/AUTH_a/c/"},
		{mangles, "c.AUTH_a.example.com", "/v1x/o", "/v1/AUTH_a/c/v1x/o"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, tt.uri, nil)
		r.Host = tt.host
		before, got := r.URL.String(), ""
		next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = r.URL.EscapedPath()
			if r.URL.RawQuery != "" {
				got += "?" + r.URL.RawQuery
			}
		})
		refused := false
		Handler(tt.cfg, next, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { refused = true })).ServeHTTP(httptest.NewRecorder(), r)
		if got != tt.want || refused != (tt.want == "") {
			t.Errorf("%s%s: got %q, refused: %v, want %q", tt.host, tt.uri, got, refused, tt.want)
		}
		if r.URL.String() != before {
			t.Errorf("%s%s: the request of the client is %s now", tt.host, tt.uri, r.URL)
		}
	}
}

func TestValidate(t *testing.T) {
	versions := []string{"v1", "v1.0"}
	for what, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"the usual":   {Defaults(), ""},
		"two domains": {Config{Domains: []string{"a.b", ".c"}, Root: "/v1.0"}, ""},
		"a port":      {Config{Domains: []string{"a.b", "c:80"}, Root: "v1"}, `key "storage_domain": value "c:80"`},
		"no domain":   {Config{Domains: []string{""}, Root: "v1"}, `key "storage_domain": value ""`},
		"prefix":      {Config{Prefixes: []string{"A", "B/"}, Root: "v1"}, `key "reseller_prefixes": value "B/"`},
		"default":     {Config{Default: "A.B", Root: "v1"}, `key "default_reseller_prefix": value "A.B"`},
		"version":     {Config{Root: "v2"}, `key "path_root": value "v2"`},
		"no version":  {Config{}, `key "path_root": value ""`},
	} {
		err := tt.cfg.Validate(versions)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q in it", what, err, tt.want)
		}
	}
}
