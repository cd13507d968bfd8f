package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
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
	for path, has := range map[string]string{"/site": "top", "/site/a": "inside"} {
		if to := page(301, path, "").Header.Get("Location"); to != me.url+path+"/" {
			t.Errorf("%s leads to %s", path, to)
		}
		page(200, path+"/", has)
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

// ruleForm: who has a signed form puts files under its path, as many and as large as it
// says, and is sent to where it says.
func ruleForm(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/inbox", "", "X-Container-Meta-Temp-URL-Key", "key")
	if about := (&api{url: c.url()}).want(t, 200, "GET", "/info", ""); !strings.Contains(string(about.body), `"formpost":{"allowed_digests":["sha256","sha512"]}`) {
		t.Errorf("/info has no formpost: %s", about.body)
	}
	const redirect = "http://127.0.0.1:1/done?a=b"
	post := func(key, redirect, path string, more [][2]string, files ...string) answer {
		t.Helper()
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		expires := fmt.Sprint(time.Now().Add(time.Hour).Unix())
		mac := hmac.New(sha256.New, []byte(key))
		_, _ = io.WriteString(mac, strings.Join([]string{"/v1/AUTH_test" + path, redirect, "1000", "3", expires}, "\n"))
		fields := append(more, [][2]string{{"redirect", redirect}, {"max_file_size", "1000"}, {"max_file_count", "3"}, {"expires", expires}, {"signature", hex.EncodeToString(mac.Sum(nil))}}...)
		for _, f := range fields {
			if err := w.WriteField(f[0], f[1]); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range files {
			name, data, _ := strings.Cut(f, "|")
			to, err := w.CreateFormFile("file", name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(to, data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := request(t, http.MethodPost, me.url+path, &body)
		r.Header.Set("Content-Type", w.FormDataContentType())
		resp, err := http.DefaultTransport.RoundTrip(r) // follows nothing
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer{resp, said}
	}
	said := func(a answer, code int, text, location string) {
		t.Helper()
		if a.StatusCode != code || !strings.Contains(string(a.body), text) || a.Header.Get("Location") != location {
			t.Errorf("got %s, %s, %v, want %d, %q, %q", a.Status, a.body, a.Header, code, text, location)
		}
	}
	said(post("key", "", "/inbox/up-", [][2]string{{"content-type", "a/b"}, {"x_delete_after", "3600"}}, "one|1", "b \u00e9|22"), 201, "201 Created", "")
	a := me.want(t, 200, "GET", "/inbox/up-b%20%C3%A9", "")
	text(t, a, "22")
	has(t, a, "Content-Type", "a/b")
	if a.Header.Get("X-Delete-At") == "" {
		t.Errorf("it has no end: %v", a.Header)
	}
	said(post("key", redirect, "/inbox/", nil, "one|1", "two|2", "three|3", "four|4"), 303, "", redirect+"&status=400&message=max%20file%20count%20exceeded")
	for n, code := range map[string]int{"one": 200, "three": 200, "four": 404} {
		me.want(t, code, "HEAD", "/inbox/"+n, "")
	}
	said(post("key", "", "/inbox/big", nil, "|", "1|"+strings.Repeat("x", 1000), "2|"+strings.Repeat("x", 1001)), 400, "FormPost: max_file_size exceeded", "")
	me.want(t, 200, "HEAD", "/inbox/big1", "")
	me.want(t, 404, "HEAD", "/inbox/big2", "")
	said(post("other", redirect, "/inbox/", nil, "five|5"), 401, "FormPost: Invalid Signature", "")
	me.want(t, 404, "HEAD", "/inbox/five", "")
	me.want(t, 204, "POST", "/inbox", "", "X-Container-Meta-Quota-Count", "1")
	said(post("key", redirect, "/inbox/", nil, "five|5"), 303, "", redirect+"&status=413&message=")
}
