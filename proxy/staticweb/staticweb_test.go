package staticweb

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/listings"
)

// world is a core with one container, /a/c, that does what the real one promises to features.
type world struct {
	site          Site
	objects       map[string]string // data by name, behind its content type and a bar
	reads, lists  bool              // whether anybody may
	fails         map[string]int    // status by "METHOD name"
	asked         []string          // "METHOD name?query", and " range" where one is
	shared, query string            // of a temporary URL
}

func (w *world) find(context.Context, name.Path) Site         { return w.site }
func (w *world) linked(*chain.Request) (prefix, query string) { return w.shared, w.query }
func (w *world) may(r *chain.Request, anybody bool) bool {
	return r.Identity != nil || r.Grant != nil || anybody
}
func (w *world) rows(prefix, delimiter string) (l []listing.Object) { // sorted
	var names []string
	for n := range w.objects {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if !strings.HasPrefix(n, prefix) {
			continue
		}
		row := listing.Object{Name: n, Bytes: 2048, ContentType: "text/plain", LastModified: "2026-01-02T03:04:05.678900", Hash: "h"}
		if sub, _, ok := strings.Cut(n[len(prefix):], "/"); ok && delimiter != "" {
			row = listing.Object{Name: prefix + sub + "/", Subdir: true}
		}
		if len(l) == 0 || l[len(l)-1] != row {
			l = append(l, row)
		}
	}
	return l
}

func (w *world) Serve(_ context.Context, r *chain.Request) *chain.Response {
	line := r.Method + " " + r.Path.Object
	if r.Query != "" {
		line += "?" + r.Query
	}
	if r.Header["Range"] != nil {
		line += " range"
	}
	w.asked = append(w.asked, line)
	defer func() { // a handler may
		r.Path = name.Path{Account: "another's"}
		clear(r.Header)
	}()
	code := w.fails[r.Method+" "+r.Path.Object]
	switch {
	case code != 0:
		return chain.Text(code, "")
	case !w.may(r, w.lists) && r.Path.Object == "", !w.may(r, w.reads):
		resp := chain.Text(http.StatusUnauthorized, "")
		resp.Header["Www-Authenticate"] = []string{"who"}
		return resp
	case r.Path.Object == "" && r.Method == http.MethodHead:
		return chain.Empty(http.StatusNoContent)
	case r.Path.Object == "":
		q, _ := url.ParseQuery(r.Query)
		resp := chain.Empty(http.StatusOK)
		resp.Rows = &chain.Rows{Objects: w.rows(q.Get("prefix"), q.Get("delimiter"))}
		return resp
	}
	o, ok := w.objects[r.Path.Object]
	if !ok {
		return chain.Text(http.StatusNotFound, "")
	}
	typ, data, _ := strings.Cut(o, "|")
	return chain.Plain(http.StatusOK, typ, data)
}

// visits sends a request to a world, and returns the answer and its body.
func (w *world) visits(t *testing.T, line string, header http.Header, id *auth.Identity, cfg Config) (*chain.Response, string) {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	p, err := name.Parse(strings.TrimPrefix(u.EscapedPath(), "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	if header == nil {
		header = http.Header{}
	}
	r := &chain.Request{
		Method: method, Path: p, Query: u.RawQuery, Header: header, Identity: id,
		Client: &http.Request{Method: method, URL: u, RequestURI: target, Host: "h:1"},
	}
	if w.query != "" {
		r.Grant = func(string, name.Path) bool { return true }
	}
	resp := chain.Join(w, Link(cfg, w.find, w.linked), listings.Link).Serve(t.Context(), r)
	body, err := resp.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

var owner = &auth.Identity{User: "a:b"}

// pages is a site with a bit of everything.
func pages() *world {
	return &world{
		site:  Site{Index: "index.html", Error: "error.html", Listings: "true"},
		reads: true, lists: true,
		objects: map[string]string{
			"index.html": "text/html|top", "404error.html": "text/html|not here", "401error.html": "text/html|not you",
			"a": "text/plain|aa", "with/index.html": "text/html|inside", "without/o": "text/plain|o",
			"mark": "application/directory|", "mark/o": "text/plain|o", "mark/": "application/directory|",
			"my": "my/dir|", "my/o": "text/plain|o", "big": "application/directory|not empty",
		},
	}
}

func TestSites(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*world)
		line   string
		status int
		want   string // in the body, or the Location of a redirect
	}{
		"the index":                      {nil, "GET /v1/a/c/", 200, "top"},
		"the index, without a slash":     {nil, "GET /v1/a/c", 301, "http://h:1/v1/a/c/"},
		"a query is not kept":            {nil, "GET /v1/a/c?x=y", 301, "http://h:1/v1/a/c/"},
		"the index of a folder":          {nil, "GET /v1/a/c/with/", 200, "inside"},
		"that without a slash":           {nil, "GET /v1/a/c/with", 301, "http://h:1/v1/a/c/with/"},
		"an object":                      {nil, "GET /v1/a/c/a", 200, "aa"},
		"a folder without an index":      {nil, "GET /v1/a/c/without/", 200, "Listing of /v1/a/c/without/"},
		"that without a slash is looked": {nil, "GET /v1/a/c/without", 301, "http://h:1/v1/a/c/without/"},
		"nothing":                        {nil, "GET /v1/a/c/none", 404, "not here"},
		"nothing, with a slash":          {nil, "GET /v1/a/c/none/", 404, "not here"},
		"no such page of errors":         {func(w *world) { w.site.Error = "x" }, "GET /v1/a/c/none", 404, "<h1>"},
		"no pages of errors":             {func(w *world) { w.site.Error = "" }, "GET /v1/a/c/none/", 404, "<h1>"},
		"what stands for a folder":       {nil, "GET /v1/a/c/mark", 301, "http://h:1/v1/a/c/mark/"},
		"the same with a slash":          {nil, "GET /v1/a/c/mark/", 200, `<a href="./o">o</a>`},
		"of another type":                {nil, "GET /v1/a/c/my", 200, ""},
		"of a type that stands for one":  {func(w *world) { w.site.DirType = "my/dir" }, "GET /v1/a/c/my", 301, "http://h:1/v1/a/c/my/"},
		"a folder's type with data":      {nil, "GET /v1/a/c/big", 200, "not empty"},
		"names are quoted":               {func(w *world) { w.objects["é #?/x"] = "a|b" }, "GET /v1/a/c/%C3%A9%20%23%3F", 301, "http://h:1/v1/a/c/%C3%A9%20%23%3F/"},

		"no index: the listing":              {func(w *world) { w.site.Index = "" }, "GET /v1/a/c/", 200, "Listing of /v1/a/c/"},
		"an index that is not there":         {func(w *world) { w.site.Index = "i" }, "GET /v1/a/c/", 200, "Listing of /v1/a/c/"},
		"that without a slash is redirected": {func(w *world) { w.site.Index = "i" }, "GET /v1/a/c", 301, "http://h:1/v1/a/c/"},
		"no listings":                        {func(w *world) { w.site.Listings, w.site.Error = "", "" }, "GET /v1/a/c/without/", 404, "shows no listings"},
		"no listings, a page of errors":      {func(w *world) { w.site.Listings = "" }, "GET /v1/a/c/without/", 404, "not here"},
		"listings are off":                   {func(w *world) { w.site.Listings, w.site.Error, w.site.Index = "no", "", "" }, "GET /v1/a/c/", 404, "shows no listings"},
		"nobody may list: the index":         {func(w *world) { w.lists = false }, "GET /v1/a/c/", 200, "top"},
		"nobody may list":                    {func(w *world) { w.lists, w.site.Index = false, "i" }, "GET /v1/a/c/", 401, "not you"},
		"nobody may list, no slash":          {func(w *world) { w.lists, w.site.Index = false, "i" }, "GET /v1/a/c", 401, "not you"},
		"nobody may list a folder":           {func(w *world) { w.lists = false }, "GET /v1/a/c/without/", 401, "not you"},
		"nobody may know of a folder":        {func(w *world) { w.lists = false }, "GET /v1/a/c/without", 404, "not here"},
		"nobody may read":                    {func(w *world) { w.reads, w.lists = false, false }, "GET /v1/a/c", 401, "<h1>"},
		"nobody may read an object":          {func(w *world) { w.reads = false }, "GET /v1/a/c/a", 401, "<h1>"},
		"it is no site":                      {func(w *world) { w.site = Site{Error: "error.html"} }, "GET /v1/a/c/none", 404, "<h1>"},
		"it is no site: the container":       {func(w *world) { w.site = Site{} }, "GET /v1/a/c", 200, "without/o"},
		"an object fails":                    {func(w *world) { w.fails = map[string]int{"GET a": 503} }, "GET /v1/a/c/a", 503, "<h1>"},
		"an index fails":                     {func(w *world) { w.fails = map[string]int{"GET with/index.html": 503} }, "GET /v1/a/c/with/", 503, "<h1>"},
		"an index of all fails":              {func(w *world) { w.fails = map[string]int{"GET index.html": 503} }, "GET /v1/a/c/", 503, "<h1>"},
		"the listing fails":                  {func(w *world) { w.fails = map[string]int{"GET ": 503} }, "GET /v1/a/c/without/", 503, "<h1>"},
		"the listing fails, no slash":        {func(w *world) { w.fails = map[string]int{"GET ": 503} }, "GET /v1/a/c/without", 503, "<h1>"},
		"a page of errors fails":             {func(w *world) { w.fails = map[string]int{"GET 404error.html": 503} }, "GET /v1/a/c/none", 404, "<h1>"},
		"the client has it":                  {func(w *world) { w.fails = map[string]int{"GET index.html": 304} }, "GET /v1/a/c/", 304, ""},
		"another method":                     {nil, "PUT /v1/a/c/none", 404, "<h1>"},
		"HEAD of the index":                  {nil, "HEAD /v1/a/c/", 200, "top"}, // Face leaves the body out
		"HEAD of a listing":                  {nil, "HEAD /v1/a/c/without/", 200, "Listing"},
		"HEAD of nothing":                    {nil, "HEAD /v1/a/c/none", 404, "not here"},
	} {
		w := pages()
		if tt.change != nil {
			tt.change(w)
		}
		resp, body := w.visits(t, tt.line, nil, nil, Defaults())
		if got := body + resp.Get("Location"); resp.Status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s: got %d, %q, want %d, %q", what, tt.line, resp.Status, got, tt.status, tt.want)
		}
		if resp.Status == 401 && resp.Get("Www-Authenticate") == "" {
			t.Errorf("%s: a 401 does not say what is asked for", what)
		}
	}
}

// With a token there is a site only where it is asked for.
func TestWebMode(t *testing.T) {
	for _, tt := range []struct {
		mode, line string
		site       Site
		id         *auth.Identity
		status     int
		want       string
	}{
		{"", "GET /v1/a/c/", Site{Index: "index.html"}, owner, 200, "without/o"},
		{"no", "GET /v1/a/c/", Site{Index: "index.html"}, owner, 200, "without/o"},
		{"true", "GET /v1/a/c/", Site{Index: "index.html"}, owner, 200, "top"},
		{"true", "GET /v1/a/c", Site{}, owner, 404, "<h1>"},
		{"true", "GET /v1/a/c/a", Site{}, owner, 200, "aa"},
		{"true", "GET /v1/a/c", Site{}, nil, 401, "<h1>"},
		{"true", "GET /v1/a", Site{}, owner, 404, "<h1>"},
	} {
		w := pages()
		w.site, w.lists = tt.site, false
		resp, body := w.visits(t, tt.line, http.Header{"X-Web-Mode": {tt.mode}}, tt.id, Defaults())
		if tt.line == "GET /v1/a" {
			if len(w.asked) != 1 || w.asked[0] != "GET " {
				t.Errorf("an account: asked %q, want nothing of a site", w.asked)
			}
			continue
		}
		if resp.Status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s, %q, %v: got %d, %q, want %d, %q", tt.line, tt.mode, tt.site, resp.Status, body, tt.status, tt.want)
		}
	}
}

// What a client asks of an object it asks of the index page; of no other.
func TestRangesAreOfTheIndex(t *testing.T) {
	w := pages()
	w.visits(t, "GET /v1/a/c/with/", http.Header{"Range": {"bytes=0-1"}}, nil, Defaults())
	if want := []string{"GET with/ range", "GET with/index.html range"}; !slices.Equal(w.asked, want) {
		t.Errorf("asked %q, want %q", w.asked, want)
	}
	w = pages()
	w.visits(t, "GET /v1/a/c/none", http.Header{"Range": {"bytes=0-1"}}, nil, Defaults())
	if want := []string{"GET none range", "HEAD none/index.html", "GET ?limit=1&delimiter=/&prefix=none%2F&format=json", "GET 404error.html"}; !slices.Equal(w.asked, want) {
		t.Errorf("asked %q, want %q", w.asked, want)
	}
}

func TestLocation(t *testing.T) {
	for what, tt := range map[string]struct {
		base, raw, host, want string
	}{
		"of the request":          {"", "/v1/a/c/with?q", "h", "http://h/v1/a/c/with/"},
		"of the operator":         {"https://www.example.com:1/x", "/v1/a/c/with", "h", "https://www.example.com:1/v1/a/c/with/"},
		"a host that is a path":   {"", "/with", "c.a.example.com", "http://c.a.example.com/with/"},
		"two slashes lead not on": {"", "//evil.example.com/with", "c.a.example.com", "http://c.a.example.com//evil.example.com/with/"},
		"a whole URL":             {"", "http://h/v1/a/c/with", "h", "http://h/v1/a/c/with/"},
		"no host":                 {"", "/v1/a/c/with", "", "/v1/a/c/with/"},
		"what must be encoded is": {"", "/v1/a/c/\"<é", "h", "http://h/v1/a/c/%22%3C%C3%A9/"},
	} {
		v := &visit{feature: &feature{cfg: Config{URLBase: tt.base}}}
		v.r.Client = &http.Request{RequestURI: tt.raw, Host: tt.host, URL: &url.URL{Path: "/v1/a/c/with"}}
		if got := v.location(); got != tt.want {
			t.Errorf("%s: got %s, want %s", what, got, tt.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for base, ok := range map[string]bool{"": true, "https://a": true, "http://a:1": true, "a": false, "//a": false, "ftp://a": false, "https://": false, "https://%zz": false} {
		if err := (Config{URLBase: base}).Validate(); (err == nil) != ok {
			t.Errorf("%q: got %v, want good: %v", base, err, ok)
		}
	}
	if Link(Config{}, nil, nil) != nil {
		t.Error("it is there where it is off")
	}
}
