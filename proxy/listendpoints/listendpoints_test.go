package listendpoints

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func find(_ context.Context, p name.Path) (Place, error) {
	if p.Container == "nowhere" {
		return Place{}, errs.E(errs.NotFound)
	}
	at := Place{Partition: 7, Devices: []Device{{"10.0.0.1:6200", "d1"}, {"[fd00::1]:6200", "d2"}}}
	if p.Object != "" {
		at.Policy = "3"
	}
	return at, nil
}

func TestEndpoints(t *testing.T) {
	usual, deep := Config{Path: "/endpoints/"}, Config{Path: "/a/where"}
	for _, tt := range []struct {
		cfg    Config
		line   string
		status int
		want   string // the body, or a part of it where it is refused
	}{
		{usual, "GET /endpoints/a", 200, `["http://10.0.0.1:6200/d1/7/a","http://[fd00::1]:6200/d2/7/a"]`},
		{usual, "GET /endpoints/a/", 200, `["http://10.0.0.1:6200/d1/7/a","http://[fd00::1]:6200/d2/7/a"]`},
		{usual, "GET /endpoints/v1/a/c", 200, `["http://10.0.0.1:6200/d1/7/a/c","http://[fd00::1]:6200/d2/7/a/c"]`},
		{usual, "GET /endpoints/v1.0/a/c/o/p", 200, `["http://10.0.0.1:6200/d1/7/a/c/o/p","http://[fd00::1]:6200/d2/7/a/c/o/p"]`},
		{usual, "GET /endpoints/1/a/c/%C3%A9%20%2F%25", 200, `["http://10.0.0.1:6200/d1/7/a/c/%C3%A9%20/%25","http://[fd00::1]:6200/d2/7/a/c/%C3%A9%20/%25"]`},
		{usual, "GET /endpoints/v2/a", 200, `{"endpoints":["http://10.0.0.1:6200/d1/7/a","http://[fd00::1]:6200/d2/7/a"],"headers":{}}`},
		{usual, "GET /endpoints/2.0/a/c/o", 200, `{"endpoints":["http://10.0.0.1:6200/d1/7/a/c/o","http://[fd00::1]:6200/d2/7/a/c/o"],"headers":{"X-Backend-Storage-Policy-Index":"3"}}`},
		{deep, "GET /a/where/v_3/c", 200, `["http://10.0.0.1:6200/d1/7/v_3/c","http://[fd00::1]:6200/d2/7/v_3/c"]`},
		{usual, "GET /endpoints/", 400, "No account specified"},
		{usual, "GET /endpoints/v1", 400, "No account specified"},
		{usual, "GET /endpoints/v2/", 400, "No account specified"},
		{usual, "GET /endpoints//a", 400, "No account specified"},
		{usual, "GET /endpoints/v3/a", 400, "Unsupported version"},
		{usual, "GET /endpoints/vNaN/a", 400, "Unsupported version"},
		{usual, "GET /endpoints/v1/a//o", 400, "The path is not of"},
		{usual, "GET /endpoints/v1/a/%FF", 400, "The path is not of"},
		{usual, "GET /endpoints/v1/a/%00", 400, "The path is not of"},
		{usual, "GET /endpoints/v1/a/nowhere/o", 404, "<h1>"},
		{usual, "HEAD /endpoints/v1/a", 405, "<h1>"},
		{usual, "PUT /endpoints/v1/a", 405, "<h1>"},
	} {
		method, target, _ := strings.Cut(tt.line, " ")
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		resp := New(tt.cfg, find).Serve(t.Context(), &chain.Request{Method: method, Client: &http.Request{Method: method, URL: u}})
		body, err := resp.ReadAll(1 << 10)
		if err != nil || resp.Status != tt.status || string(body) != tt.want && (tt.status == 200 || !strings.Contains(string(body), tt.want)) {
			t.Errorf("%s: got %d, %s, %v, want %d, %s", tt.line, resp.Status, body, err, tt.status, tt.want)
		}
		if typ := resp.Get("Content-Type"); (typ == "application/json") != (tt.status == 200) || (resp.Get("Allow") == "GET") != (tt.status == 405) {
			t.Errorf("%s: %d with %v", tt.line, resp.Status, resp.Header)
		}
	}
}

func TestValidate(t *testing.T) {
	for path, ok := range map[string]bool{
		"/endpoints/": true, "/endpoints": true, "/v1x/": true, "/a/b": true, "": false, "/": false, "endpoints": false, "/v1": false, "/v1/x/": false, "/auth/x": false, "/a b": false, "/a?b": false, "/a//b": false, "http://h/a": false,
	} {
		if err := (Config{Path: path}).Validate("v1", "/auth/"); (err == nil) != ok {
			t.Errorf("%q: got %v, want good: %v", path, err, ok)
		}
	}
}
