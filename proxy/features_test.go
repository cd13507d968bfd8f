package proxy

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"martlet/proxy/auth"
	"martlet/proxy/cnamelookup/dnstest"
	"martlet/proxy/etagquoter"
	"martlet/proxy/ratelimit"
	"martlet/proxy/readonly"
)

// answered is what a whole proxy answers to a request of the owner of AUTH_test.
func answered(t *testing.T, s *Server, token, line, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// A feature that is off is not there, and one that is on is, also in /info.
func TestSwitches(t *testing.T) {
	for what, tt := range map[string]struct {
		on      func(*Config)
		line    string
		header  []string
		section string // of /info
		off, is int    // status
	}{
		"crossdomain":                    {func(c *Config) { c.CrossDomain.Enabled = true }, "GET /crossdomain.xml", nil, "crossdomain", 412, 200},
		"crossdomain, another method":    {func(c *Config) { c.CrossDomain.Enabled = true }, "PUT /crossdomain.xml", nil, "crossdomain", 412, 412},
		"name check":                     {func(c *Config) { c.NameCheck.Enabled = true }, "GET /v1/AUTH_test/c/a%27b", nil, "name_check", 200, 400},
		"name check, a good name":        {func(c *Config) { c.NameCheck.Enabled = true }, "GET /v1/AUTH_test/c/ab", nil, "name_check", 200, 200},
		"name check, of a copy":          {func(c *Config) { c.NameCheck.Enabled = true }, "COPY /v1/AUTH_test/c/ab", []string{"Destination", "c/a%27b"}, "name_check", 422, 400}, // the object of these nodes is not as its ETag says,
		"name check, where it is not":    {func(c *Config) { c.NameCheck.Enabled = true }, "GET /a%27b", nil, "name_check", 412, 412},
		"read-only, the account":         {func(c *Config) { c.ReadOnly.Enabled = true }, "PUT /v1/AUTH_still/c/o", nil, "read_only", 403, 405},
		"read-only, another account":     {func(c *Config) { c.ReadOnly.Enabled = true }, "POST /v1/AUTH_test/c/o", nil, "read_only", 202, 202},
		"read-only, to read":             {func(c *Config) { c.ReadOnly = readonly.Config{Enabled: true, ReadOnly: true} }, "GET /v1/AUTH_test/c/o", nil, "read_only", 200, 200},
		"read-only, the cluster":         {func(c *Config) { c.ReadOnly = readonly.Config{Enabled: true, ReadOnly: true} }, "POST /v1/AUTH_test/c/o", nil, "read_only", 202, 405},
		"read-only, an archive":          {func(c *Config) { c.ReadOnly = readonly.Config{Enabled: true, ReadOnly: true} }, "PUT /v1/AUTH_test/c?extract-archive=tar", nil, "read_only", 200, 405},
		"read-only, set by an owner":     {func(c *Config) { c.ReadOnly.Enabled = true }, "POST /v1/AUTH_test", []string{"X-Account-Read-Only", "true"}, "read_only", 202, 403},
		"read-only, removed by an owner": {func(c *Config) { c.ReadOnly.Enabled = true }, "POST /v1/AUTH_test", []string{"X-Remove-Account-Read-Only", "x"}, "read_only", 202, 403},
		"quotes":                         {func(c *Config) { c.EtagQuoter.Enabled = true }, "GET /v1/AUTH_test/quoted/o", []string{"If-None-Match", "x"}, "etag_quoter", 200, 200},
		"web site":                       {func(c *Config) { c.StaticWeb.Enabled = true }, "GET /v1/AUTH_test/site", []string{"X-Web-Mode", "true"}, "staticweb", 204, 301},
		"a form":                         {func(c *Config) { c.FormPost.Enabled = true }, "POST /v1/AUTH_test/c/o", []string{"Content-Type", "multipart/form-data; boundary=x"}, "formpost", 202, 400},
		"rates, set by an owner":         {func(c *Config) { c.RateLimit.Enabled = true }, "POST /v1/AUTH_test", []string{"X-Account-Global-Write-Ratelimit", "WHITELIST"}, "ratelimit", 202, 403},
		"rates, reads":                   {func(c *Config) { c.RateLimit.Enabled, c.RateLimit.Account = true, 0.001 }, "GET /v1/AUTH_test/c/o", nil, "ratelimit", 200, 200},
		"CNAMEs": {func(c *Config) {
			c.CNAMELookup.Domains, c.CNAMELookup.Nameservers = []string{"example.com"}, []string{"127.0.0.1:1"}
		}, "GET http://www.a.test/v1/AUTH_test/c/o", nil, "cname_lookup", 200, 400},
		"CNAMEs, a host of the cluster": {func(c *Config) {
			c.CNAMELookup.Domains, c.CNAMELookup.Nameservers = []string{"example.com"}, []string{"127.0.0.1:1"}
		}, "GET http://www.example.com/v1/AUTH_test/c/o", nil, "cname_lookup", 200, 200},
		"domain remap":               {func(c *Config) { c.DomainRemap.Domains = []string{"example.com"} }, "GET http://c.auth-test.example.com/o", nil, "domain_remap", 412, 200},
		"domain remap, too deep":     {func(c *Config) { c.DomainRemap.Domains = []string{"example.com"} }, "GET http://x.c.auth-test.example.com/o", nil, "domain_remap", 412, 400},
		"domain remap, another host": {func(c *Config) { c.DomainRemap.Domains = []string{"example.com"} }, "GET http://a.b/v1/AUTH_test/c/o", nil, "domain_remap", 200, 200},
	} {
		t.Run(what, func(t *testing.T) {
			for _, on := range []bool{false, true} {
				cfg, want := Defaults(), tt.off
				cfg.StaticWeb.Enabled, cfg.FormPost.Enabled = false, false
				if on {
					want = tt.is
					tt.on(&cfg)
				}
				s, token := whole(t, cfg)
				if w := answered(t, s, token, tt.line, "", tt.header...); w.Code != want {
					t.Errorf("on: %v: got %d, %q, want %d", on, w.Code, w.Body, want)
				}
				w := answered(t, s, token, http.MethodGet+" /info", "")
				if got := strings.Contains(w.Body.String(), `"`+tt.section+`":{`); got != on {
					t.Errorf("on: %v: /info has the section %s: %v", on, tt.section, got)
				}
			}
		})
	}
}

// What containers and accounts say of quotes is kept, shown and followed.
func TestQuotedEtags(t *testing.T) {
	const plain = "d41d8cd98f00b204e9800998ecf8427e"
	for _, tt := range []struct {
		enabled, always bool
		line            string
		header, value   string // of the answer
	}{
		{true, false, "GET /v1/AUTH_test/quoted/o", "Etag", `"` + plain + `"`},
		{true, false, "HEAD /v1/AUTH_test/quoted/o", "Etag", `"` + plain + `"`},
		{true, false, "GET /v1/AUTH_test/c/o", "Etag", plain},
		{true, true, "GET /v1/AUTH_test/c/o", "Etag", `"` + plain + `"`},
		{true, false, "PUT /v1/AUTH_test/quoted/o", "Etag", `"` + plain + `"`},
		{true, false, "HEAD /v1/AUTH_test/quoted", "X-Container-Rfc-Compliant-Etags", "true"},
		{true, false, "HEAD /v1/AUTH_test/c", "X-Container-Rfc-Compliant-Etags", ""},
		{false, false, "GET /v1/AUTH_test/quoted/o", "Etag", plain},
		{false, false, "HEAD /v1/AUTH_test/quoted", "X-Container-Rfc-Compliant-Etags", ""},
	} {
		cfg := Defaults()
		cfg.EtagQuoter = etagquoter.Config{Enabled: tt.enabled, Always: tt.always}
		s, token := whole(t, cfg)
		if w := answered(t, s, token, tt.line, ""); w.Code/100 != 2 || w.Header().Get(tt.header) != tt.value {
			t.Errorf("%v, %v: %s: got %d, %s %q, want %q", tt.enabled, tt.always, tt.line, w.Code, tt.header, w.Header().Get(tt.header), tt.value)
		}
	}
}

// What clients say to features is kept under names that only the cluster sets.
func TestKeptForFeatures(t *testing.T) {
	s := &Server{cfg: Defaults()}
	for _, on := range []bool{false, true} {
		s.cfg.EtagQuoter.Enabled, s.cfg.ReadOnly.Enabled, s.cfg.RateLimit.Enabled = on, on, on
		for _, tt := range []struct{ given, value, kept, want string }{
			{etagquoter.AccountHeader, "yes", etagquoter.AccountMeta, "true"},
			{etagquoter.AccountHeader, "no", etagquoter.AccountMeta, "false"},
			{etagquoter.AccountHeader, "", etagquoter.AccountMeta, ""},
			{"X-Remove-Account-Rfc-Compliant-Etags", "x", etagquoter.AccountMeta, ""},
			{etagquoter.ContainerHeader, "1", etagquoter.ContainerMeta, "true"},
			{"X-Remove-Container-Rfc-Compliant-Etags", "x", etagquoter.ContainerMeta, ""},
			{readonly.Header, "on", readonly.Meta, "true"},
			{readonly.Header, "off", readonly.Meta, "false"},
			{"X-Remove-Account-Read-Only", "x", readonly.Meta, ""},
			{ratelimit.Header, "blacklist", ratelimit.Meta, "BLACKLIST"},
			{ratelimit.Header, "2.5", ratelimit.Meta, "2.5"},
			{"X-Remove-Account-Global-Write-Ratelimit", "x", ratelimit.Meta, ""},
		} {
			rq := newTestRequest(t, http.MethodPost, http.Header{tt.given: {tt.value}})
			rq.Identity = &auth.Identity{Reseller: true}
			keep := s.accountMeta
			if strings.Contains(tt.given, "-Container-") {
				keep = s.containerMeta
			}
			meta, err := keep(rq)
			got, ok := meta.Lookup(tt.kept)
			if err != nil || ok != on || ok && got != tt.want || len(meta) > 1 {
				t.Errorf("on: %v: %s: %s: kept %v, %v, want %q", on, tt.given, tt.value, meta, err, tt.want)
			}
		}
	}
}

// One limit holds for all of a proxy, under whichever version of the API requests come.
func TestRatesAreOfTheProxy(t *testing.T) {
	cfg := Defaults()
	cfg.RateLimit.Enabled, cfg.RateLimit.Account, cfg.RateLimit.MaxSleepTime = true, 0.001, 0
	s, token := whole(t, cfg)
	for _, tt := range []struct {
		line string
		want int
	}{
		{"PUT /v1/AUTH_test/c", 201}, {"PUT /v1/AUTH_test/c", 498}, {"PUT /v1.0/AUTH_test/c", 498}, {"DELETE /v1/AUTH_test/d", 498}, {"GET /v1/AUTH_test/c", 204},
	} {
		if w := answered(t, s, token, tt.line, ""); w.Code != tt.want {
			t.Errorf("%s: got %d, %s, want %d", tt.line, w.Code, w.Body, tt.want)
		}
	}
}

// A domain of somebody's leads to the container that the DNS has for it.
func TestDomainsOfOthers(t *testing.T) {
	cfg := Defaults()
	cfg.DomainRemap.Domains, cfg.CNAMELookup.Domains = []string{"example.com"}, []string{"example.com"}
	cfg.CNAMELookup.Nameservers = []string{dnstest.Start(t, dnstest.Names(map[string]string{
		"www.a.test": "c.auth-test.example.com", "deep.a.test": "www.a.test", "odd.a.test": "x.c.auth-test.example.com",
	}))}
	s, token := whole(t, cfg)
	for _, tt := range []struct {
		url  string
		code int
		want string // in the body
	}{
		{"http://www.a.test/o", 200, "/c/o"},
		{"http://www.a.test:8080/o", 200, "/c/o"},
		{"http://deep.a.test/o", 400, "CNAME lookup failed after 1 tries"},
		{"http://none.a.test/o", 400, "CNAME lookup failed to resolve to a valid domain"},
		{"http://odd.a.test/o", 400, "Bad domain in host header"},
		{"http://none.a.test/healthcheck", 200, "OK"},
		{"http://127.0.0.1/v1/AUTH_test/c/o", 200, "/c/o"},
	} {
		w := answered(t, s, token, "GET "+tt.url, "")
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: got %d, %q, want %d, %q", tt.url, w.Code, w.Body, tt.code, tt.want)
		}
	}
}

// Nobody is told where things are unless an operator says so.
func TestEndpointsAreToldOnlyWhereTheyAreOn(t *testing.T) {
	for _, on := range []bool{false, true} {
		cfg := Defaults()
		cfg.ListEndpoints.Enabled = on
		s, token := whole(t, cfg)
		w := answered(t, s, token, "GET /endpoints/v2/AUTH_test/c/o", "")
		if told := w.Code == 200 && strings.Contains(w.Body.String(), "/AUTH_test/c/o"); told != on {
			t.Errorf("on: %v: got %d, %s", on, w.Code, w.Body)
		}
	}
}
