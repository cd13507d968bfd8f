package listings

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestFormOf(t *testing.T) {
	for name, tt := range map[string]struct {
		query, accept string
		want          form
		err           bool
	}{
		"nothing said":          {"", "", formText, false},
		"anything":              {"", "*/*", formText, false},
		"format wins":           {"format=json", "text/xml", formJSON, false},
		"format in capitals":    {"format=XML", "", formXML, false},
		"unknown format":        {"format=yaml", "application/json", formJSON, false},
		"json":                  {"", "application/json", formJSON, false},
		"xml":                   {"", "application/xml", formXML, false},
		"text/xml":              {"", "text/xml", formTextXML, false},
		"quality":               {"", "text/plain;q=0.3, application/json;q=0.9", formJSON, false},
		"exact beats wide":      {"", "*/*;q=0.9, text/plain;q=0.1", formJSON, false},
		"application/*":         {"", "application/*", formJSON, false},
		"nothing that is known": {"", "image/png", 0, true},
		"refused":               {"", "text/plain;q=0", 0, true},
		"bad quality":           {"", "application/json;q=x", 0, true},
		"too long":              {"", strings.Repeat("a/b,", 5000), 0, true},
	} {
		r := &chain.Request{Query: tt.query, Header: http.Header{}}
		if tt.accept != "" {
			r.Header.Set("Accept", tt.accept)
		}
		got, err := formOf(r)
		if got != tt.want || (err != nil) != tt.err {
			t.Errorf("%s: formOf(%q, %.40q) = %v, %v, want %v", name, tt.query, tt.accept, got, err, tt.want)
		}
	}
}

// rows answers every request with a listing.
func rows(asked *int) chain.Handler {
	return chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
		*asked++
		resp := chain.Empty(http.StatusOK)
		switch {
		case r.Method == http.MethodHead || r.Path.Object != "":
		case r.Path.Container == "":
			resp.Rows = &chain.Rows{Containers: []listing.Container{{Name: "c&d", Count: 1, Bytes: 2, LastModified: "t", Policy: "p"}}}
		case r.Path.Container == "empty":
			resp.Rows = &chain.Rows{}
		default:
			resp.Rows = &chain.Rows{Objects: []listing.Object{{Name: "o", Hash: "h", Bytes: 3, ContentType: "a/b", LastModified: "t"}}}
		}
		return resp
	})
}

func TestLink(t *testing.T) {
	account, container := name.Path{Account: "a"}, name.Path{Account: "a", Container: "c"}
	for what, tt := range map[string]struct {
		method string
		path   name.Path
		query  string
		status int
		typ    string
		want   string
		asked  int
	}{
		"containers":       {"GET", account, "", 200, "text/plain; charset=utf-8", "c&d\n", 1},
		"in JSON":          {"GET", account, "format=json", 200, "application/json; charset=utf-8", `[{"name": "c&d", "count": 1, "bytes": 2, "last_modified": "t", "storage_policy": "p"}]`, 1},
		"objects":          {"GET", container, "", 200, "text/plain; charset=utf-8", "o\n", 1},
		"objects as XML":   {"GET", container, "format=xml", 200, "application/xml; charset=utf-8", "<object>", 1},
		"none":             {"GET", name.Path{Account: "a", Container: "empty"}, "", 204, "text/plain; charset=utf-8", "", 1},
		"none in JSON":     {"GET", name.Path{Account: "a", Container: "empty"}, "format=json", 200, "application/json; charset=utf-8", "[]", 1},
		"head by Accept":   {"HEAD", container, "", 200, "text/plain; charset=utf-8", "", 1},
		"head":             {"HEAD", container, "format=json", 200, "application/json; charset=utf-8", "", 1},
		"an object":        {"GET", name.Path{Account: "a", Container: "c", Object: "o"}, "format=json", 200, chain.PageType, "", 1},
		"another method":   {"PUT", container, "format=json", 200, chain.PageType, "", 1},
		"no form for it":   {"GET", container, "accept", 406, chain.PageType, "", 0},
		"nor for its head": {"HEAD", container, "accept", 406, chain.PageType, "", 0},
	} {
		asked := 0
		r := &chain.Request{Method: tt.method, Path: tt.path, Query: tt.query, Header: http.Header{}}
		if tt.query == "accept" {
			r.Header.Set("Accept", "image/png")
		}
		resp := Link(rows(&asked)).Serve(t.Context(), r)
		body, err := resp.ReadAll(1 << 20)
		if err != nil || resp.Status != tt.status || resp.Get("Content-Type") != tt.typ || asked != tt.asked {
			t.Errorf("%s: got %d, %q, asked %d times, %v, want %d, %q, %d", what, resp.Status, resp.Get("Content-Type"), asked, err, tt.status, tt.typ, tt.asked)
		}
		if tt.status != 406 && (tt.want == "" && len(body) > 0 || !strings.Contains(string(body), tt.want)) {
			t.Errorf("%s: got %q, want %q", what, body, tt.want)
		}
		// It depends on Accept where the URL says nothing.
		if list := tt.path.Object == "" && !strings.Contains(tt.query, "format") && tt.method != "PUT" && tt.status != 406; list != (resp.Get("Vary") == "Accept") {
			t.Errorf("%s: Vary is %q", what, resp.Get("Vary"))
		}
	}
}

func TestAccepted(t *testing.T) {
	for accept, want := range map[string]string{
		"": "text/plain", "application/json": "application/json", "text/xml": "text/xml", "*/*": "text/plain", "image/png": "", strings.Repeat("a/b,", 5000): "text/plain",
	} {
		got, ok := Accepted(http.Header{"Accept": {accept}})
		if got != want || ok != (want != "") {
			t.Errorf("Accepted(%.40q) = %q, %v, want %q", accept, got, ok, want)
		}
	}
}

func FuzzAccept(f *testing.F) {
	f.Add("text/plain;q=0.5, */*")
	f.Fuzz(func(t *testing.T, accept string) {
		for _, typ := range types {
			if q := quality(accept, typ); q > 1 || q < -1 {
				t.Errorf("quality(%q, %s) = %v", accept, typ, q)
			}
		}
	})
}
