package containersync

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/realms"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/gatekeeper"
)

// asked is a request about the container or an object of it, as it comes out of the gate.
func asked(t *testing.T, method, target string, header ...string) *chain.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	p, err := name.Parse(strings.TrimPrefix(u.EscapedPath(), "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	r := &chain.Request{Method: method, Path: p, Query: u.RawQuery, Header: http.Header{}, Length: -1, Client: &http.Request{URL: u}, Identity: &auth.Identity{User: "a:b"}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// link is the feature, and what got behind it.
func link(t *testing.T, cfg Config, find Find) (h chain.Handler, behind *[]*chain.Request) {
	t.Helper()
	cfg.Realms = map[string]realms.Realm{"us": {Key: "new", Key2: "old", Clusters: map[string]string{"a": "http://a/v1"}}}
	book, err := realms.New(cfg.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	behind = new([]*chain.Request)
	return Link(cfg, book, find)(chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
		*behind = append(*behind, r)
		return chain.Empty(200)
	})), behind
}

// keyed is containers of which all have a key.
func keyed(context.Context, name.Path, bool) (Facts, error) { return Facts{Key: "user"}, nil }

func TestSigned(t *testing.T) {
	sign := func(method, path, stamp, realmKey, key string) string {
		return "US nonce " + realms.Sign(method, path, stamp, "nonce", realmKey, key)
	}
	const target, at = "/v1/a/c%20d/%C3%A4/o", "1400000000.00000"
	for what, tt := range map[string]struct {
		method, target, auth, stamp string
		want                        int
	}{
		"by the key":             {"PUT", target, sign("PUT", target, at, "new", "user"), at, 200},
		"by the second":          {"DELETE", target, sign("DELETE", target, at, "old", "user"), at, 200},
		"in lower case":          {"PUT", target, strings.Replace(sign("PUT", target, at, "new", "user"), "US", "us", 1), at, 200},
		"without a stamp":        {"HEAD", target, sign("HEAD", target, "0", "new", "user"), "", 200},
		"with a query":           {"HEAD", target + "?symlink=get", sign("HEAD", target, at, "new", "user"), at, 200},
		"with one that deletes":  {"DELETE", target + "?multipart-manifest=delete", sign("DELETE", target, at, "new", "user"), at, 200},
		"encoded otherwise":      {"PUT", "/v1/a/c%20d/%c3%a4%2Fo", sign("PUT", target, at, "new", "user"), at, 200},
		"another method":         {"PUT", target, sign("DELETE", target, at, "new", "user"), at, 401},
		"another path":           {"PUT", target, sign("PUT", target+"x", at, "new", "user"), at, 401},
		"another time":           {"PUT", target, sign("PUT", target, at, "new", "user"), "1400000001.00000", 401},
		"another realm's key":    {"PUT", target, sign("PUT", target, at, "x", "user"), at, 401},
		"another container's":    {"PUT", target, sign("PUT", target, at, "new", "x"), at, 401},
		"an unknown realm":       {"PUT", target, strings.Replace(sign("PUT", target, at, "new", "user"), "US", "UK", 1), at, 401},
		"not three words":        {"PUT", target, "US nonce", at, 401},
		"nothing":                {"PUT", target, "", at, 401},
		"a signature of nothing": {"PUT", target, "US nonce ", at, 401},
	} {
		h, behind := link(t, Defaults(), keyed)
		r := asked(t, tt.method, tt.target, hdrAuth, tt.auth)
		if tt.stamp != "" {
			r.Header.Set(gatekeeper.InboundTimestamp, tt.stamp)
		}
		resp := h.Serve(t.Context(), r)
		if resp.Status != tt.want {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.want)
			continue
		}
		if tt.want == 401 {
			if got := resp.Get("Www-Authenticate"); got != `SwiftContainerSync realm="a"` || len(*behind) > 0 {
				t.Errorf("%s: asked for %q, %d requests go on", what, got, len(*behind))
			}
			continue
		}
		got := (*behind)[0]
		if _, query, _ := strings.Cut(tt.target, "?"); (got.Query == "") != (query == "" || tt.method == "DELETE") {
			t.Errorf("%s: goes on with the query %q", what, got.Query)
		}
		if got.Header.Get(chain.Stamp) != tt.stamp || got.Header[chain.Replayed] == nil || got.Identity != nil {
			t.Errorf("%s: goes on with %v as %v", what, got.Header, got.Identity)
		}
		for p, may := range map[name.Path]bool{
			{Account: "a", Container: "c d", Object: "o"}: true, {Account: "a", Container: "c", Object: "o"}: false, {Account: "b", Container: "c d", Object: "o"}: false,
			{Account: "a", Container: "c d"}: false, {Account: "a"}: false,
		} {
			if got.Grant("PUT", p) != may {
				t.Errorf("%s: it may write %v: %v", what, p, !may)
			}
		}
	}
}

// What a container says is asked for again before somebody is refused, and nobody is let in where it
// can't be known, or there is no key.
func TestWhatTheContainerSays(t *testing.T) {
	const target = "/v1/a/c/o"
	header := "US n " + realms.Sign("PUT", target, "0", "n", "new", "user")
	empty := "US n " + realms.Sign("PUT", target, "0", "n", "new", "")
	for what, tt := range map[string]struct {
		auth  string
		known map[bool]string // by whether it is asked for anew
		err   error
		want  int
		looks int
	}{
		"known":        {header, map[bool]string{false: "user"}, nil, 200, 1},
		"changed":      {header, map[bool]string{false: "old", true: "user"}, nil, 200, 2},
		"another":      {header, map[bool]string{false: "old", true: "old"}, nil, 401, 2},
		"none":         {empty, map[bool]string{}, nil, 401, 2},
		"no container": {header, nil, errs.E(errs.NotFound), 401, 2},
		"not known":    {header, nil, errs.E(errs.Unavailable), 503, 1},
	} {
		looks := 0
		h, behind := link(t, Defaults(), func(_ context.Context, p name.Path, fresh bool) (Facts, error) {
			looks++
			if p != (name.Path{Account: "a", Container: "c"}) {
				t.Errorf("%s: asked for %v", what, p)
			}
			return Facts{Key: tt.known[fresh]}, tt.err
		})
		resp := h.Serve(t.Context(), asked(t, "PUT", target, hdrAuth, tt.auth))
		if resp.Status != tt.want || looks != tt.looks || (len(*behind) == 1) != (tt.want == 200) {
			t.Errorf("%s: got %d after %d looks, want %d after %d", what, resp.Status, looks, tt.want, tt.looks)
		}
	}
}

// Requests with a container's key and no signature are other clusters' where that is switched on.
func TestKeys(t *testing.T) {
	for what, tt := range map[string]struct {
		accept     bool
		key, stamp string
		want       int
		replayed   bool
	}{
		"off": {false, "user", "1", 200, false}, "on": {true, "user", "1", 200, true}, "another key": {true, "x", "1", 401, false}, "no time": {true, "user", "", 200, false},
	} {
		cfg := Defaults()
		cfg.AcceptKeys = tt.accept
		h, behind := link(t, cfg, keyed)
		r := asked(t, "PUT", "/v1/a/c/o", hdrKey, tt.key)
		if tt.stamp != "" {
			r.Header.Set(gatekeeper.InboundTimestamp, tt.stamp)
		}
		resp := h.Serve(t.Context(), r)
		if got := len(*behind) == 1 && (*behind)[0].Header[chain.Replayed] != nil; resp.Status != tt.want || got != tt.replayed {
			t.Errorf("%s: got %d, replayed %v", what, resp.Status, got)
		}
	}
}

func TestWhereTo(t *testing.T) {
	for what, tt := range map[string]struct {
		full  bool
		facts Facts
		err   error
		to    string
		want  int
	}{
		"a realm":            {true, Facts{}, nil, "//us/a/x/y", 200},
		"a host":             {true, Facts{}, nil, "http://h/v1/x/y", 200},
		"a host, not wanted": {false, Facts{}, nil, "http://h/v1/x/y", 400},
		"an unknown realm":   {true, Facts{}, nil, "//uk/a/x/y", 400},
		"taken back":         {false, Facts{Versioned: true}, nil, "", 200},
		"as good as that":    {true, Facts{}, nil, "/", 200},
		"with versions":      {true, Facts{Versioned: true}, nil, "//us/a/x/y", 400},
		"a new container":    {true, Facts{}, errs.E(errs.NotFound), "//us/a/x/y", 200},
		"not known":          {true, Facts{}, errs.E(errs.Unavailable, errors.New("x")), "//us/a/x/y", 503},
	} {
		for _, method := range []string{"PUT", "POST"} {
			cfg := Defaults()
			cfg.AllowFullURLs, cfg.AllowedHosts = tt.full, []string{"h"}
			h, behind := link(t, cfg, func(context.Context, name.Path, bool) (Facts, error) { return tt.facts, tt.err })
			resp := h.Serve(t.Context(), asked(t, method, "/v1/a/c", hdrTo, tt.to))
			if resp.Status != tt.want || (len(*behind) == 1) != (tt.want == 200) {
				t.Errorf("%s, %s: got %d, want %d", what, method, resp.Status, tt.want)
			}
			if len(*behind) == 1 && (*behind)[0].Grant != nil {
				t.Errorf("%s: somebody else than its sender may do it", what)
			}
		}
	}
}

// Who has nothing to do with it pays nothing.
func TestOthersPayNothing(t *testing.T) {
	book, err := realms.New(realms.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp := chain.Empty(200)
	h := Link(Defaults(), book, nil)(chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return resp }))
	for _, target := range []string{"/v1/a", "/v1/a/c", "/v1/a/c/o"} {
		r := asked(t, "PUT", target)
		if n := testing.AllocsPerRun(100, func() { h.Serve(t.Context(), r) }); n != 0 {
			t.Errorf("%s: %v allocations", target, n)
		}
	}
}
