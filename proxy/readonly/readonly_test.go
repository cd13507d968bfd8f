package readonly

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// accounts is what each says.
var accounts = map[string]string{"still": "true", "yes": "yes", "free": "false", "says nothing": ""}

func TestChanges(t *testing.T) {
	on, still := Config{Enabled: true}, Config{Enabled: true, ReadOnly: true}
	deletes := Config{Enabled: true, ReadOnly: true, AllowDeletes: true}
	object := func(account string) name.Path { return name.Path{Account: account, Container: "c", Object: "o"} }
	for _, tt := range []struct {
		cfg    Config
		method string
		path   name.Path
		query  string
		header http.Header
		want   int
	}{
		{on, "PUT", object("still"), "", nil, 405},
		{on, "PUT", object("yes"), "", nil, 405},
		{on, "POST", object("still"), "", nil, 405},
		{on, "DELETE", object("still"), "", nil, 405},
		{on, "GET", object("still"), "", nil, 200},
		{on, "HEAD", object("still"), "", nil, 200},
		{on, "OPTIONS", object("still"), "", nil, 200},
		{on, "PUT", name.Path{Account: "still", Container: "c"}, "", nil, 405},
		{on, "POST", name.Path{Account: "still"}, "", nil, 405},
		{on, "PUT", name.Path{}, "", nil, 200},
		{on, "PUT", object("free"), "", nil, 200},
		{on, "PUT", object("says nothing"), "", nil, 200},
		{on, "PUT", object("broken"), "", nil, 503},
		{on, "GET", object("broken"), "", nil, 200},
		{still, "PUT", object("says nothing"), "", nil, 405},
		{still, "PUT", object("still"), "", nil, 405},
		{still, "PUT", object("free"), "", nil, 200},
		{still, "DELETE", object("says nothing"), "", nil, 405},
		{still, "GET", object("says nothing"), "", nil, 200},
		{still, "PUT", name.Path{Account: "says nothing"}, "extract-archive=tar", nil, 405},
		{still, "POST", name.Path{Account: "says nothing"}, "bulk-delete", nil, 405},
		{still, "DELETE", name.Path{Account: "says nothing"}, "bulk-delete", nil, 405},
		{deletes, "POST", name.Path{Account: "says nothing"}, "bulk-delete", nil, 200},
		{deletes, "DELETE", name.Path{Account: "says nothing"}, "bulk-delete", nil, 200},
		{deletes, "DELETE", object("still"), "", nil, 200},
		{deletes, "POST", object("says nothing"), "", nil, 405},
		{deletes, "PUT", object("says nothing"), "bulk-delete", nil, 405},
		{on, "COPY", object("still"), "", nil, 405},
		{on, "COPY", object("free"), "", nil, 200},
		{on, "COPY", object("still"), "", http.Header{"Destination-Account": {"free"}}, 200},
		{on, "COPY", object("free"), "", http.Header{"Destination-Account": {"still"}}, 405},
		{on, "COPY", object("free"), "", http.Header{"Destination-Account": {"%73till"}}, 405},
		{on, "COPY", object("free"), "", http.Header{"Destination-Account": {"free/c"}}, 412},
		{on, "COPY", object("free"), "", http.Header{"Destination-Account": {"%zz"}}, 412},
		{on, "PUT", object("free"), "", http.Header{"X-Copy-From": {"c/o"}, "X-Copy-From-Account": {"still"}}, 200},
		{on, "PUT", object("free"), "", http.Header{"Destination-Account": {"still"}}, 200},
		// To make an account free again, and nothing else by the same way.
		{on, "POST", name.Path{Account: "still"}, "", http.Header{Header: {"false"}}, 200},
		{on, "POST", name.Path{Account: "still"}, "", http.Header{remove: {"x"}}, 200},
		{on, "POST", name.Path{Account: "still"}, "bulk-delete", http.Header{Header: {"false"}}, 405},
		{on, "PUT", name.Path{Account: "still"}, "", http.Header{Header: {"false"}}, 405},
		{on, "POST", object("still"), "", http.Header{Header: {"false"}}, 405},
	} {
		find := func(_ context.Context, account string) (string, error) {
			said, ok := accounts[account]
			if !ok {
				return "", errs.E(errs.Unavailable, errors.New("no node answers"))
			}
			return said, nil
		}
		last := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Empty(200) })
		resp := Link(tt.cfg, find)(last).Serve(t.Context(), &chain.Request{Method: tt.method, Path: tt.path, Query: tt.query, Header: tt.header})
		body, err := resp.ReadAll(1 << 10)
		if err != nil || resp.Status != tt.want || tt.want == 405 && string(body) != "Writes are disabled for this account." {
			t.Errorf("%+v: %s %v?%s %v: got %d, %q, %v, want %d", tt.cfg, tt.method, tt.path, tt.query, tt.header, resp.Status, body, err, tt.want)
		}
	}
	if Link(Defaults(), nil) != nil {
		t.Error("accounts are asked where nothing switches it on")
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg Config
		key string
	}{
		{Config{}, ""},
		{Config{Enabled: true}, ""},
		{Config{Enabled: true, ReadOnly: true, AllowDeletes: true}, ""},
		{Config{ReadOnly: true}, `key "read_only": value true`},
		{Config{AllowDeletes: true}, `key "allow_deletes": value true`},
	} {
		if err := tt.cfg.Validate(); (err == nil) != (tt.key == "") || err != nil && !strings.Contains(err.Error(), tt.key) {
			t.Errorf("%+v: got %v, want %q in it", tt.cfg, err, tt.key)
		}
	}
}
