package namecheck

import (
	"context"
	"html"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestNames(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := Defaults()
		c.Enabled = true
		change(&c)
		return c
	}
	usual := with(func(*Config) {})
	for _, tt := range []struct {
		cfg    Config
		path   name.Path
		refuse string // in the answer; "": it is let through
	}{
		{usual, name.Path{Account: "a", Container: "c", Object: "o"}, ""},
		{usual, name.Path{}, ""},
		{usual, name.Path{Account: "a", Container: "c", Object: "it's"}, "forbidden chars from '\"`<>"},
		{usual, name.Path{Account: "a", Container: "c<", Object: "o"}, "forbidden chars"},
		{usual, name.Path{Account: "a`"}, "forbidden chars"},
		{usual, name.Path{Account: "a", Container: "c", Object: `"`}, "forbidden chars"},
		{usual, name.Path{Account: "a", Container: "c", Object: strings.Repeat("o", 255-len("/v1/a/c/"))}, ""},
		{usual, name.Path{Account: "a", Container: "c", Object: strings.Repeat("ö", 255-len("/v1/a/c/"))}, ""},
		{usual, name.Path{Account: "a", Container: "c", Object: strings.Repeat("o", 256-len("/v1/a/c/"))}, "longer than the allowed maximum 255"},
		{usual, name.Path{Account: "a", Container: "c", Object: "x/./y"}, "substring from regular expression"},
		{usual, name.Path{Account: "a", Container: "c", Object: "x/../y"}, "substring"},
		{usual, name.Path{Account: "a", Container: "c", Object: "x/.."}, "substring"},
		{usual, name.Path{Account: "a", Container: "c", Object: "."}, "substring"},
		{usual, name.Path{Account: "a", Container: "..", Object: "o"}, "substring"},
		{usual, name.Path{Account: "a", Container: "c", Object: ".x/..y/z."}, ""},
		{with(func(c *Config) { c.Forbidden = "é" }), name.Path{Account: "a", Container: "é"}, "forbidden chars from é"},
		{with(func(c *Config) { c.Forbidden = "é" }), name.Path{Account: "a", Container: "ê'"}, ""},
		{with(func(c *Config) { c.Forbidden = "" }), name.Path{Account: "a", Container: "'"}, ""},
		{with(func(c *Config) { c.MaxLength = 6 }), name.Path{Account: "a", Container: "bc"}, "maximum 6"},
		{with(func(c *Config) { c.Pattern = "" }), name.Path{Account: "a", Container: "c", Object: ".."}, ""},
		{with(func(c *Config) { c.Pattern = "^/v1/a/c$" }), name.Path{Account: "a", Container: "c"}, "expression ^/v1/a/c$"},
		{with(func(c *Config) { c.Pattern = "^/v1/a/c$" }), name.Path{Account: "a", Container: "c", Object: "o"}, ""},
	} {
		last := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Empty(200) })
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			resp := Link(tt.cfg)(last).Serve(t.Context(), &chain.Request{Method: method, Path: tt.path})
			body, err := resp.ReadAll(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			if tt.refuse == "" && resp.Status != 200 || tt.refuse != "" && (resp.Status != 400 || !strings.Contains(html.UnescapeString(string(body)), tt.refuse)) {
				t.Errorf("%s %v: got %d, %q, want it refused with %q", method, tt.path, resp.Status, body, tt.refuse)
			}
		}
	}
	if Link(Defaults()) != nil {
		t.Error("names are checked where nothing switches it on")
	}
}

func TestValidate(t *testing.T) {
	for what, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"the usual":      {Defaults(), ""},
		"nothing":        {Config{MaxLength: 100}, ""},
		"slash":          {Config{Forbidden: "a/", MaxLength: 100}, `key "forbidden_chars": value "a/"`},
		"no length":      {Config{}, `key "maximum_length": value 0`},
		"below 0":        {Config{MaxLength: -1}, `key "maximum_length": value -1`},
		"no pattern":     {Config{MaxLength: 100, Pattern: "(a"}, `key "forbidden_regexp": value "(a"`},
		"of other kinds": {Config{MaxLength: 100, Pattern: "(?=a)"}, `key "forbidden_regexp": value "(?=a)"`},
	} {
		err := tt.cfg.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q in it", what, err, tt.want)
		}
	}
}
