package cors

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

const (
	good = "http://good.example"
	bad  = "http://bad.example"
)

var object = name.Path{Account: "AUTH_a", Container: "c", Object: "o"}

// core answers as the core does: what there is to OPTIONS, and an object with
// metadata to the rest.
var core = chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
	resp := chain.Plain(200, "text/plain", "data")
	if r.Method == http.MethodOptions {
		resp = chain.Empty(200)
		resp.Header["Allow"] = []string{"DELETE, GET, HEAD, OPTIONS, POST, PUT"}
		return resp
	}
	resp.Header["X-Object-Meta-Color"], resp.Header["X-Other"] = []string{"red"}, []string{"hidden"}
	if r.Header["Test-Vary"] != nil {
		resp.Header["Vary"] = r.Header["Test-Vary"]
	}
	return resp
})

func ask(t *testing.T, cfg Config, rules Rules, method string, p name.Path, header http.Header) *chain.Response {
	t.Helper()
	h := Link(cfg, func(_ context.Context, of name.Path, _ bool) Rules {
		if want := (name.Path{Account: p.Account, Container: p.Container}); of != want {
			t.Errorf("the rules of %v are asked for, want %v", of, want)
		}
		return rules
	})(core)
	return h.Serve(t.Context(), &chain.Request{Method: method, Path: p, Header: header})
}

func TestActual(t *testing.T) {
	loose, cluster := Defaults(), Defaults()
	loose.Strict = false
	cluster.AllowOrigin = []string{good}
	anyone := Defaults()
	anyone.AllowOrigin = []string{"*"}
	for what, tt := range map[string]struct {
		cfg    Config
		rules  Rules
		origin string
		allow  string // "" is none
		vary   string
	}{
		"named":                    {Defaults(), Rules{AllowOrigin: "http://other " + good}, good, good, "Origin"},
		"not named":                {Defaults(), Rules{AllowOrigin: good}, bad, "", ""},
		"another case":             {Defaults(), Rules{AllowOrigin: good}, "http://GOOD.example", "", ""},
		"a part of it":             {Defaults(), Rules{AllowOrigin: good}, "http://good", "", ""},
		"nobody":                   {Defaults(), Rules{}, good, "", ""},
		"everybody":                {Defaults(), Rules{AllowOrigin: "*"}, bad, "*", ""},
		"everybody among others":   {Defaults(), Rules{AllowOrigin: good + " *"}, bad, bad, "Origin"},
		"blanks":                   {Defaults(), Rules{AllowOrigin: "  * "}, bad, "*", ""},
		"of the cluster":           {cluster, Rules{}, good, good, "Origin"},
		"not of the cluster":       {cluster, Rules{}, bad, "", ""},
		"all of the cluster":       {anyone, Rules{}, bad, bad, "Origin"},
		"not strict":               {loose, Rules{AllowOrigin: good}, bad, bad, "Origin"},
		"not strict, nobody named": {loose, Rules{}, bad, bad, "Origin"},
		"not strict, everybody":    {loose, Rules{AllowOrigin: "*"}, bad, "*", ""},
		"no origin":                {loose, Rules{AllowOrigin: "*"}, "", "", ""},
	} {
		resp := ask(t, tt.cfg, tt.rules, http.MethodGet, object, http.Header{"Origin": {tt.origin}})
		if got := resp.Get(hdrAllowOrigin); got != tt.allow || resp.Get("Vary") != tt.vary || (resp.Get(hdrExposeHeaders) == "") != (tt.allow == "") {
			t.Errorf("%s: allowed is %q, Vary %q, exposed %q, want %q, %q", what, got, resp.Get("Vary"), resp.Get(hdrExposeHeaders), tt.allow, tt.vary)
		}
		if resp.Status != 200 {
			t.Errorf("%s: got %d", what, resp.Status)
		}
	}
}

// The account has no owner of rules, and no answers for scripts.
func TestOnlyContainersAndObjects(t *testing.T) {
	cfg := Defaults()
	cfg.Strict = false
	if resp := ask(t, cfg, Rules{AllowOrigin: "*"}, http.MethodGet, name.Path{Account: "AUTH_a"}, http.Header{"Origin": {good}}); resp.Get(hdrAllowOrigin) != "" {
		t.Error("an account's listing is for scripts")
	}
	if resp := ask(t, cfg, Rules{AllowOrigin: "*"}, http.MethodGet, name.Path{Account: "AUTH_a", Container: "c"}, http.Header{"Origin": {good}}); resp.Get(hdrAllowOrigin) != "*" {
		t.Error("a container's listing is not for scripts")
	}
}

func TestExposed(t *testing.T) {
	cfg := Defaults()
	cfg.ExposeHeaders = []string{"X-Of-Cluster"}
	resp := ask(t, cfg, Rules{AllowOrigin: "*", ExposeHeaders: "X-One  ETag x-two"}, http.MethodGet, object, http.Header{"Origin": {good}})
	got := strings.Split(resp.Get(hdrExposeHeaders), ", ")
	want := append(slices.Clone(usual), "x-of-cluster", "x-one", "x-two", "x-object-meta-color")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	resp = ask(t, cfg, Rules{AllowOrigin: good}, http.MethodGet, object, http.Header{"Origin": {good}, "Test-Vary": {"Accept"}})
	if resp.Get("Vary") != "Accept, Origin" {
		t.Errorf("Vary is %q", resp.Get("Vary"))
	}
}

func TestPreflight(t *testing.T) {
	for what, tt := range map[string]struct {
		rules           Rules
		origin, method  string
		headers         string
		status          int
		allow, vary     string
		age, allowedHdr string
	}{
		"named":                {Rules{AllowOrigin: good, MaxAge: "999"}, good, "GET", "", 200, good, "Origin", "999", ""},
		"everybody":            {Rules{AllowOrigin: "*"}, bad, "PUT", "", 200, "*", "", "", ""},
		"headers":              {Rules{AllowOrigin: "*"}, bad, "PUT", "x-a, X-B,,x-a", 200, "*", hdrAskedHeaders, "", "x-a, X-B"},
		"headers of an origin": {Rules{AllowOrigin: good}, good, "PUT", "x-a", 200, good, "Origin, " + hdrAskedHeaders, "", "x-a"},
		"not named":            {Rules{AllowOrigin: good}, bad, "GET", "", 401, "", "", "", ""},
		"nobody":               {Rules{}, good, "GET", "", 401, "", "", "", ""},
		"no method":            {Rules{AllowOrigin: "*"}, good, "", "", 401, "", "", "", ""},
		"another method":       {Rules{AllowOrigin: "*"}, good, "MOVE", "", 401, "", "", "", ""},
		"a method in parts":    {Rules{AllowOrigin: "*"}, good, "GE", "", 401, "", "", "", ""},
	} {
		for _, strict := range []bool{true, false} { // it makes no difference here
			cfg := Defaults()
			cfg.Strict = strict
			header := http.Header{"Origin": {tt.origin}}
			if tt.method != "" {
				header[hdrAskedMethod] = []string{tt.method}
			}
			if tt.headers != "" {
				header[hdrAskedHeaders] = []string{tt.headers}
			}
			resp := ask(t, cfg, tt.rules, http.MethodOptions, object, header)
			if resp.Status != tt.status || resp.Get(hdrAllowOrigin) != tt.allow || resp.Get("Vary") != tt.vary || resp.Get(hdrMaxAge) != tt.age ||
				resp.Get(hdrAllowHeaders) != tt.allowedHdr || resp.Get(hdrExposeHeaders) != "" || !strings.Contains(resp.Get("Allow"), "GET") {
				t.Errorf("%s: got %d, %v", what, resp.Status, resp.Header)
			}
			if ok := tt.status == 200; (resp.Get(hdrAllowMethods) != "") != ok || (resp.Get("Www-Authenticate") == "") != ok {
				t.Errorf("%s: got %v", what, resp.Header)
			}
		}
	}
}

// OPTIONS of anybody else is answered as without the feature.
func TestPlainOptions(t *testing.T) {
	if resp := ask(t, Defaults(), Rules{}, http.MethodOptions, object, http.Header{}); resp.Status != 200 || resp.Get(hdrAllowOrigin) != "" {
		t.Errorf("got %d, %v", resp.Status, resp.Header)
	}
}

func FuzzCORS(f *testing.F) {
	f.Add("OPTIONS", good, "GET", "x-a, x-b", good+" *", "x y", "5")
	f.Add("GET", bad, "", "", "", "", "")
	f.Fuzz(func(t *testing.T, method, origin, asked, headers, allow, expose, age string) {
		rules := Rules{AllowOrigin: allow, MaxAge: age, ExposeHeaders: expose}
		resp := ask(t, Defaults(), rules, method, object, http.Header{"Origin": {origin}, hdrAskedMethod: {asked}, hdrAskedHeaders: {headers}})
		named := slices.Contains(words(allow), origin) || slices.Contains(words(allow), "*")
		if resp.Get(hdrAllowOrigin) != "" && !named {
			t.Errorf("origin %q is allowed by %q", origin, allow)
		}
		if resp.Status != 200 && (method != http.MethodOptions || origin == "") {
			t.Errorf("%s of %q: got %d", method, origin, resp.Status)
		}
	})
}
