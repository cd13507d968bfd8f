package crossdomain

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"martlet/proxy/chain"
)

func TestDocument(t *testing.T) {
	otherwise := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Text(412, "") })
	head := "<?xml version=\"1.0\"?>\n<!DOCTYPE cross-domain-policy SYSTEM \"http://www.adobe.com/xml/dtds/cross-domain-policy.dtd\" >\n<cross-domain-policy>\n"
	for _, tt := range []struct {
		policy []string
		method string
		status int
		inside string
	}{
		{Defaults().Policy, http.MethodGet, 200, `<allow-access-from domain="*" secure="false" />`},
		{[]string{`<allow-access-from domain="a.b" />`, `<site-control permitted-cross-domain-policies="all" />`}, http.MethodGet, 200, "<allow-access-from domain=\"a.b\" />\n<site-control permitted-cross-domain-policies=\"all\" />"},
		{nil, http.MethodGet, 200, ""},
		{Defaults().Policy, http.MethodHead, 412, ""},
		{Defaults().Policy, http.MethodPut, 412, ""},
		{Defaults().Policy, http.MethodOptions, 412, ""},
	} {
		resp := New(Config{Policy: tt.policy}, otherwise).Serve(t.Context(), &chain.Request{Method: tt.method})
		body, err := resp.ReadAll(1 << 10)
		if err != nil || resp.Status != tt.status {
			t.Errorf("%s of %q: got %d, %v, want %d", tt.method, tt.policy, resp.Status, err, tt.status)
		}
		if want := head + tt.inside + "\n</cross-domain-policy>"; tt.status == 200 && (string(body) != want || resp.Get("Content-Type") != "application/xml; charset=UTF-8") {
			t.Errorf("%s of %q: got %q, %q, want %q", tt.method, tt.policy, resp.Get("Content-Type"), body, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		policy []string
		ok     bool
	}{
		{nil, true},
		{Defaults().Policy, true},
		{[]string{"<a>", "</a>"}, true},
		{[]string{"<!-- of ours -->"}, true},
		{[]string{"<a>"}, false},
		{[]string{"</cross-domain-policy>"}, false},
		{[]string{"</cross-domain-policy><cross-domain-policy>"}, false},
		{[]string{`<allow-access-from domain=* />`}, false},
		{[]string{"a & b"}, false},
	} {
		err := Config{Policy: tt.policy}.Validate()
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), `key "cross_domain_policy": value [`) {
			t.Errorf("%q: got %v, want it to be good: %v", tt.policy, err, tt.ok)
		}
	}
}
