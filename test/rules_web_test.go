package test

import (
	"strings"
	"testing"
	"time"
)

// ruleSite: a container is a web site for who sends no token, as far as its ACL lets
// them, and by a temporary URL as far as that goes.
func ruleSite(t *testing.T, c *cluster, me *api) {
	if about := (&api{url: c.url()}).want(t, 200, "GET", "/info", ""); !strings.Contains(string(about.body), `"staticweb":{}`) {
		t.Errorf("/info has no staticweb: %s", about.body)
	}
	me.want(t, 201, "PUT", "/site", "", "X-Container-Read", ".r:*", "X-Container-Meta-Web-Index", "index.html", "X-Container-Meta-Web-Error", "error.html")
	for n, body := range map[string]string{"index.html": "top", "404error.html": "not here", "401error.html": "not you", "a/index.html": "inside", "b/o%20%25": "data"} {
		me.want(t, 201, "PUT", "/site/"+n, body)
	}
	anybody := &api{url: me.url}
	page := func(code int, path, has string, header ...string) answer {
		t.Helper()
		got := anybody.want(t, code, "GET", path, "", header...)
		if !strings.Contains(string(got.body), has) {
			t.Errorf("%s: no %q in %s", path, has, got.body)
		}
		return got
	}
	for _, path := range []string{"/site", "/site/a"} { // the client follows
		if got := page(200, path, map[string]string{"/site": "top", "/site/a": "inside"}[path]); got.Request.URL.String() != me.url+path+"/" {
			t.Errorf("%s led to %s", path, got.Request.URL)
		}
	}
	has(t, page(206, "/site/a/", "sid", "Range", "bytes=2-4"), "Content-Range", "bytes 2-4/6", "Content-Type", "text/html")
	has(t, anybody.want(t, 200, "HEAD", "/site/a/", ""), "Content-Length", "6")
	page(404, "/site/none", "not here")
	page(404, "/site/b/", "not here") // there are no listings
	if got := me.want(t, 200, "GET", "/site/", ""); !strings.Contains(string(got.body), "index.html\n") {
		t.Errorf("its owner gets a page: %s", got.body)
	}

	me.want(t, 204, "POST", "/site", "", "X-Container-Meta-Web-Listings", "true", "X-Container-Meta-Web-Index", "")
	has(t, page(401, "/site/", "not you"), "Www-Authenticate", `Swift realm="AUTH_test"`)
	me.want(t, 204, "POST", "/site", "", "X-Container-Read", ".r:*,.rlistings")
	has(t, page(200, "/site/b/", `<a href="./o%20%25">o %</a>`), "X-Backend-Content-Generator", "-", "Content-Type", "text/html; charset=UTF-8")
	page(200, "/site/?format=json", `<a href="./b/">b/</a>`)
	has(t, anybody.want(t, 200, "HEAD", "/site/b/", ""), "Content-Type", "text/html; charset=UTF-8")
	if got := me.want(t, 200, "GET", "/site/", "", "X-Web-Mode", "true"); !strings.Contains(string(got.body), "<html>") {
		t.Errorf("its owner gets no page: %s", got.body)
	}

	me.want(t, 204, "POST", "/site", "", "X-Container-Read", "", "X-Container-Meta-Temp-URL-Key", "key")
	page(401, "/site/b/", "")
	query := "?temp_url_prefix=b/&" + signedQuery("key", "GET", "prefix:/v1/AUTH_test/site/b/", time.Now().Add(time.Hour).Unix())
	got := page(200, "/site/b/"+query, `<a href="./o%20%25?temp_url_prefix=b/&amp;`)
	has(t, got, "Content-Disposition", "inline")
	_, link, _ := strings.Cut(string(got.body), `<a href="./o%20%25`)
	link, _, _ = strings.Cut(link, `"`)
	text(t, page(200, "/site/b/o%20%25"+strings.ReplaceAll(link, "&amp;", "&"), "data"), "data")
	page(401, "/site/"+query, "")
}
