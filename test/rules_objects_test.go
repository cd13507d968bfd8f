package test

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listed is what a listing in JSON shows, names and subdirs.
func listed(t *testing.T, a *api, path string) string {
	t.Helper()
	var got []string
	for _, r := range rowsOf(t, a.want(t, 200, "GET", path, "")) {
		if sub, ok := r["subdir"]; ok {
			got = append(got, fmt.Sprint(sub))
		} else {
			got = append(got, fmt.Sprint(r["name"]))
		}
	}
	return strings.Join(got, " ")
}

// rulePages: the answers are those of the database of Swift's own.
func rulePages(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/pages", "")
	for _, o := range []string{"a", "b/1", "b/2", "b/c/3", "d", "e--1", "e--2", "f", "%2Flead", "x//y", "x/z"} {
		me.want(t, 201, "PUT", "/pages/"+o, "")
	}
	for query, want := range map[string]string{
		"delimiter=/&limit=3":                   "/ a b/",
		"reverse=1&delimiter=/&limit=3":         "x/ f e--2",
		"delimiter=/&marker=b/1":                "b/ d e--1 e--2 f x/",
		"delimiter=/&marker=b/":                 "d e--1 e--2 f x/",
		"delimiter=/&marker=b/zzz":              "d e--1 e--2 f x/",
		"reverse=1&delimiter=/&marker=b/":       "a /",
		"reverse=1&delimiter=/&marker=b/2":      "b/ a /",
		"reverse=1&marker=e--1&end_marker=b/1":  "d b/c/3 b/2",
		"reverse=1&delimiter=/&end_marker=b/":   "x/ f e--2 e--1 d",
		"delimiter=/&end_marker=b/":             "/ a",
		"prefix=b/&delimiter=/&marker=b/c/":     "",
		"prefix=b&delimiter=/":                  "b/",
		"prefix=x/&delimiter=/":                 "x// x/z",
		"prefix=e&delimiter=--":                 "e--",
		"reverse=1&prefix=b/&marker=b/c/3":      "b/2 b/1",
		"reverse=1&prefix=b/&delimiter=/":       "b/c/ b/2 b/1",
		"prefix=b/&end_marker=b/2":              "b/1",
		"path=":                                 "a d e--1 e--2 f",
		"path=b":                                "b/1 b/2",
		"path=b/":                               "b/1 b/2",
		"path=b/c":                              "b/c/3",
		"path=/":                                "/lead",
		"path=x":                                "x/z",
		"path=b&reverse=1":                      "b/2 b/1",
		"path=b&marker=b/1":                     "b/2",
		"path=&limit=2":                         "a d",
		"limit=0":                               "",
		"limit=x&prefix=a":                      "a",
		"limit=-1&prefix=a":                     "a",
		"limit=6&marker=b/c/3&delimiter=nothin": "d e--1 e--2 f x//y x/z",
	} {
		if got := listed(t, me, "/pages?format=json&"+query); got != want {
			t.Errorf("?%s: %q, want %q", query, got, want)
		}
	}
	has(t, me.want(t, 200, "GET", "/pages?format=json&limit=0", ""), "X-Container-Object-Count", "11")
	me.want(t, 412, "GET", "/pages?limit=7", "") // of 6
	me.want(t, 412, "GET", "/pages?limit=99999999999999999999", "")
	me.want(t, 412, "GET", "?limit=10001", "")
	me.want(t, 412, "HEAD", "?limit=10001", "")
	has(t, me.want(t, 204, "GET", "?limit=0", ""), "Content-Length", "0")
}

func ruleOrder(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/order", "")
	// As UTF-16, or without regard to case, two of them would change places. An
	// accent that is composed and one that is not are two names.
	want := []string{"A", "Z", "a", "e\u0301", "\u00e9", "\ufffd", "\U00010000"}
	for _, o := range []string{want[5], want[3], want[1], want[6], want[0], want[4], want[2]} {
		me.want(t, 201, "PUT", "/order/"+quoted(o), o)
	}
	// A page has 6.
	if got := listed(t, me, "/order?format=json") + " " + listed(t, me, "/order?format=json&marker="+quoted(want[5])); got != strings.Join(want, " ") {
		t.Errorf("listed %q, want %q", got, want)
	}
	for _, o := range want {
		text(t, me.want(t, 200, "GET", "/order/"+quoted(o), ""), o)
	}
}

// quoted is a name as it stands in a URL, every byte of it encoded.
func quoted(name string) string {
	var b strings.Builder
	for i := range len(name) {
		fmt.Fprintf(&b, "%%%02X", name[i])
	}
	return b.String()
}

func ruleForms(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/forms", "")
	odd := "a<b>&\"'\u00e9e\u0301\n\x01"
	me.want(t, 201, "PUT", "/forms/"+quoted(odd), "", "Content-Type", `text/x;a="<&>"`)
	if row := rowsOf(t, me.want(t, 200, "GET", "/forms?format=json", ""))[0]; row["name"] != odd || row["content_type"] != `text/x;a="<&>"` {
		t.Errorf("JSON shows %q", row)
	}
	if strings.ContainsAny(string(me.want(t, 200, "GET", "/forms?format=json", "").body), "\n\x01\u00e9") {
		t.Error("JSON has bytes that are not ASCII, or control characters")
	}
	me.want(t, 204, "DELETE", "/forms/"+quoted(odd), "")
	odd = "a<b>&\"'\u00e9e\u0301"
	me.want(t, 201, "PUT", "/forms/"+quoted(odd), "", "Content-Type", `text/x;a="<&>"`)
	var doc struct {
		Name    string `xml:"name,attr"`
		Objects []struct {
			Name string `xml:"name"`
			Type string `xml:"content_type"`
		} `xml:"object"`
	}
	a := me.want(t, 200, "GET", "/forms?format=xml", "")
	if err := xml.Unmarshal(a.body, &doc); err != nil || doc.Name != "forms" || len(doc.Objects) != 1 || doc.Objects[0].Name != odd || doc.Objects[0].Type != `text/x;a="<&>"` {
		t.Errorf("XML %s: %+v, %v", a.body, doc, err)
	}
	for _, path := range []string{"", "/forms"} {
		for accept, typ := range map[string]string{
			"application/json": "application/json", "text/xml;q=0.5,application/xml": "application/xml", "text/*": "text/plain", "*/*": "text/plain", "": "text/plain",
		} {
			for method, code := range map[string]int{"GET": 200, "HEAD": 204} {
				a := me.want(t, code, method, path, "", "Accept", accept)
				has(t, a, "Content-Type", typ+"; charset=utf-8", "Vary", "Accept")
				if method == "HEAD" {
					has(t, a, "Content-Length", "0")
				}
			}
		}
		has(t, me.want(t, 200, "GET", path+"?format=json", "", "Accept", "text/xml"), "Content-Type", "application/json; charset=utf-8", "Vary", "-")
		for _, method := range []string{"GET", "HEAD"} {
			me.want(t, 406, method, path, "", "Accept", "image/png")
			me.want(t, 406, method, path, "", "Accept", "text/plain;q=0, application/json;q=0, application/xml;q=0, text/xml;q=0")
		}
	}
}

func ruleReferrers(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/refer", "")
	me.want(t, 201, "PUT", "/refer/o", "x")
	nobody := &api{url: me.url}
	for acl, want := range map[string]map[string]int{
		".r:*,.r:-example.com":                {"http://other.org/": 200, "http://example.com/x": 401, "": 200},
		".r:-example.com,.r:*":                {"http://example.com/x": 200}, // later ones win
		".r:.example.com,.r:-bad.example.com": {"http://a.example.com": 200, "http://bad.example.com": 401, "http://example.com": 401, "http://example.org": 401, "": 401},
		".referrer:*":                         {"http://x.org": 200},
		".ref:example.com":                    {"http://user:pw@example.com:80/a": 200, "http://example.com.evil.org": 401, "not a URL": 401},
	} {
		me.want(t, 204, "POST", "/refer", "", "X-Container-Read", acl)
		for referer, code := range want {
			if a := nobody.call(t, "GET", "/refer/o", nil, "Referer", referer); a.StatusCode != code {
				t.Errorf("%s, from %q: %s, want %d", acl, referer, a.Status, code)
			}
		}
	}
	for _, bad := range []string{".r:", ".r:-", ".x:y", ".r:*,.unknown:z"} {
		me.want(t, 400, "PUT", "/refer", "", "X-Container-Read", bad)
	}
	me.want(t, 400, "PUT", "/refer", "", "X-Container-Write", ".r:*")
	has(t, me.want(t, 204, "HEAD", "/refer", ""), "X-Container-Write", "-")
}

func ruleAgain(t *testing.T, _ *cluster, me *api) {
	for i := range 3 {
		me.want(t, 201, "PUT", "/again", "", "X-Container-Meta-"+strconv.Itoa(i), "x")
		if got := listed(t, me, "/again?format=json"); got != "" {
			t.Errorf("round %d: it begins with %q", i, got)
		}
		has(t, me.want(t, 204, "HEAD", "/again", ""), "X-Container-Object-Count", "0", "X-Container-Bytes-Used", "0", "X-Container-Meta-"+strconv.Itoa(i-1), "-")
		o := "/again/" + strconv.Itoa(i)
		me.want(t, 201, "PUT", o, "x")
		me.want(t, 409, "DELETE", "/again", "")
		me.want(t, 204, "DELETE", o, "")
		me.want(t, 204, "DELETE", "/again", "")
		me.want(t, 404, "GET", "/again", "")
	}
}

func ruleTypes(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/types", "")
	for _, tt := range []struct{ name, given, detect, want string }{
		{"a.png", "", "", "image/png"}, {"a.png", " ", "", "image/png"}, {"a.png", "text/x", "", "text/x"}, {"a.png", "text/x", "True", "image/png"},
		{"a.nosuch", "", "", "application/octet-stream"}, {"a.nosuch", "text/x", "yes", "application/octet-stream"}, {"a.png", "text/x", "no", "text/x"},
	} {
		me.want(t, 201, "PUT", "/types/"+tt.name, "x", "Content-Type", tt.given, "X-Detect-Content-Type", tt.detect)
		has(t, me.want(t, 200, "HEAD", "/types/"+tt.name, ""), "Content-Type", tt.want)
	}
	me.want(t, 400, "PUT", "/types/o", "x", "Content-Type", "text/x;swift_bytes=7")
	// The type has a time of its own: a POST that sets none leaves it.
	me.want(t, 201, "PUT", "/types/o", "x", "Content-Type", "text/a")
	me.want(t, 202, "POST", "/types/o", "", "Content-Type", "text/b", "X-Object-Meta-A", "1")
	me.want(t, 202, "POST", "/types/o", "", "X-Object-Meta-B", "2")
	has(t, me.want(t, 200, "HEAD", "/types/o", ""), "Content-Type", "text/b", "X-Object-Meta-A", "-", "X-Object-Meta-B", "2")
}

// rulePost: what is not sent again is gone, but nothing that says what the data is.
func rulePost(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/post", "")
	me.want(t, 201, "PUT", "/post/seg", "segment")
	all := []string{
		"X-Object-Meta-A", "1", "Content-Disposition", "inline", "Content-Encoding", "x-y", "X-Delete-At", strconv.FormatInt(time.Now().Unix()+1000, 10),
		"Cache-Control", "no-store", "Content-Language", "de", "Expires", "never", "X-Robots-Tag", "none",
	}
	gone := make([]string, len(all))
	for i := range all {
		if gone[i] = "-"; i%2 == 0 {
			gone[i] = all[i]
		}
	}
	me.want(t, 201, "PUT", "/post/plain", "plain", all...)
	me.want(t, 201, "PUT", "/post/slo?multipart-manifest=put", `[{"path":"/post/seg"}]`, all...)
	for path, etag := range map[string]string{"/post/plain": sum("plain"), "/post/slo": `"` + sum(sum("segment")) + `"`} {
		a := me.want(t, 200, "HEAD", path, "")
		has(t, a, all...)
		length := a.Header.Get("Content-Length")
		me.want(t, 202, "POST", path, "", "Etag", sum("other"), "X-Object-Meta-B", "2")
		has(t, me.want(t, 200, "HEAD", path, ""), slices.Concat(gone, []string{"X-Object-Meta-B", "2", "Etag", etag, "Content-Length", length})...)
	}
	has(t, me.want(t, 200, "GET", "/post/slo", ""), "X-Static-Large-Object", "True")
	has(t, me.want(t, 200, "GET", "/post/plain", ""), "X-Static-Large-Object", "-")
	me.want(t, 202, "POST", "/post/plain", "", all...)
	has(t, me.want(t, 200, "HEAD", "/post/plain", ""), all...)
}

func ruleCopies(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/copies", "")
	later := strconv.FormatInt(time.Now().Unix()+1000, 10)
	me.want(t, 201, "PUT", "/copies/from", "x", "Content-Type", "text/x", "X-Delete-At", later, "X-Object-Meta-A", "1")
	modified := me.want(t, 200, "HEAD", "/copies/from", "").Header.Get("Last-Modified")
	a := me.want(t, 201, "COPY", "/copies/from", "", "Destination", "/copies/to%252Fx")
	has(t, a, "X-Copied-From", "copies/from", "X-Copied-From-Account", "AUTH_test", "X-Copied-From-Last-Modified", modified, "X-Object-Meta-A", "1")
	// It is decoded once: the name has a percent sign.
	has(t, me.want(t, 200, "HEAD", "/copies/to%252Fx", ""), "X-Delete-At", later, "Content-Type", "text/x")
	me.want(t, 404, "HEAD", "/copies/to/x", "")
	me.want(t, 201, "COPY", "/copies/from", "", "Destination", "copies/fresh", "X-Fresh-Metadata", "yes")
	has(t, me.want(t, 200, "HEAD", "/copies/fresh", ""), "X-Delete-At", "-", "X-Object-Meta-A", "-", "Content-Type", "text/x")
	me.want(t, 201, "COPY", "/copies/from", "", "Destination", "copies/typed", "Content-Type", "text/y", "X-Delete-After", "2000")
	a = me.want(t, 200, "HEAD", "/copies/typed", "")
	has(t, a, "Content-Type", "text/y")
	if at := a.Header.Get("X-Delete-At"); at <= later {
		t.Errorf("X-Delete-After of a copy makes %s of %s", at, later)
	}
	for _, bad := range []string{"", "copies", "/copies", "copies/", "/", "//o", "%00/o", "copies/%ff"} {
		me.want(t, 412, "COPY", "/copies/from", "", "Destination", bad)
		if bad != "" {
			me.want(t, 412, "PUT", "/copies/o", "", "X-Copy-From", bad)
		}
	}
	me.want(t, 412, "COPY", "/copies/from", "", "Destination", "copies/o", "Destination-Account", "a/b")
	me.want(t, 400, "PUT", "/copies/o", "body", "X-Copy-From", "copies/from")
	if a := rawCall(t, me, "PUT", "/copies/o", "4\r\nbody\r\n0\r\n\r\n", "X-Copy-From: copies/from", "Transfer-Encoding: chunked"); a.status != 400 {
		t.Errorf("a copy with a body in chunks: %d, want 400", a.status)
	}
	me.want(t, 404, "HEAD", "/copies/o", "")
}

func ruleExpiry(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/number", "")
	now := time.Now().Unix()
	at := strconv.FormatInt(now+5000, 10)
	me.want(t, 201, "PUT", "/number/o", "", "X-Delete-After", "1000", "X-Delete-At", at)
	deleteAt := func() string { return me.want(t, 200, "HEAD", "/number/o", "").Header.Get("X-Delete-At") }
	if n, err := strconv.ParseInt(deleteAt(), 10, 64); err != nil || n < now+1000 || n > now+1060 {
		t.Errorf("X-Delete-After 1000 and X-Delete-At %s make %d, %v, want about %d", at, n, err, now+1000)
	}
	has(t, me.want(t, 200, "HEAD", "/number/o", ""), "X-Delete-After", "-")
	me.want(t, 202, "POST", "/number/o", "", "X-Delete-At", "+0"+at)
	if got := deleteAt(); got != at {
		t.Errorf("X-Delete-At +0%s is shown as %q", at, got)
	}
	for _, bad := range [][2]string{{"X-Delete-At", "1.5"}, {"X-Delete-At", "x"}, {"X-Delete-At", "-1"}, {"X-Delete-At", strconv.FormatInt(now-1, 10)},
		{"X-Delete-After", "0"}, {"X-Delete-After", "-5"}, {"X-Delete-After", "1.5"}, {"X-Delete-After", "x"}} {
		me.want(t, 400, "PUT", "/number/o", "", bad[0], bad[1])
		me.want(t, 400, "POST", "/number/o", "", bad[0], bad[1])
	}
	if got := deleteAt(); got != at {
		t.Errorf("after requests that were refused X-Delete-At is %q, want %s", got, at)
	}
}

// ruleOpened: what has expired is 404 to everything, also to DELETE, and can be
// looked at and kept where that is asked for.
func ruleOpened(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/opened", "")
	for _, o := range []string{"o", "p"} {
		me.want(t, 201, "PUT", "/opened/"+o, "x", "X-Delete-After", "1")
		poll(t, 10*time.Second, "it expires", func() error {
			if a := me.call(t, "HEAD", "/opened/"+o, nil); a.StatusCode != 404 {
				return fmt.Errorf("%s", a.Status)
			}
			return nil
		})
	}
	me.want(t, 404, "GET", "/opened/o", "")
	me.want(t, 404, "POST", "/opened/o", "")
	text(t, me.want(t, 200, "GET", "/opened/o", "", "X-Open-Expired", "true"), "x")
	me.want(t, 404, "GET", "/opened/o", "", "X-Open-Expired", "no")
	me.want(t, 202, "POST", "/opened/o", "", "X-Open-Expired", "true")
	text(t, me.want(t, 200, "GET", "/opened/o", ""), "x")
	me.want(t, 404, "DELETE", "/opened/p", "")
	me.want(t, 404, "GET", "/opened/p", "", "X-Open-Expired", "true") // that put a tombstone in its place
	if got := listed(t, me, "/opened?format=json"); got != "o" {
		t.Errorf("listed are %q", got)
	}
}

func ruleManifestHeader(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/dyn%20a", "")
	me.want(t, 201, "PUT", "/dyn%20a/p%20q1", "1")
	me.want(t, 201, "PUT", "/dyn%20a/p%20q2", "2")
	me.want(t, 201, "PUT", "/dyn%20a/o", "", "X-Object-Manifest", "dyn%20a/p%20q")
	a := me.want(t, 200, "GET", "/dyn%20a/o", "")
	text(t, a, "12")
	has(t, a, "X-Object-Manifest", "dyn%20a/p%20q", "Etag", `"`+sum(sum("1")+sum("2"))+`"`)
	for _, bad := range []string{"dyn", "dyn/", "/dyn/p", "dyn/p?x", "dyn/p&x"} {
		me.want(t, 400, "PUT", "/dyn%20a/bad", "", "X-Object-Manifest", bad)
	}
}

// ruleSegments: of a dynamic large object whose segments don't fit a page nobody
// knows the length or the ETag; a static one knows both.
func ruleSegments(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/segs", "")
	me.want(t, 201, "PUT", "/large", "")
	var whole, list string
	for i := range 7 { // a page has 6
		data := fmt.Sprintf("segment %d.", i)
		me.want(t, 201, "PUT", fmt.Sprint("/segs/s", i), data)
		whole += data
		list += fmt.Sprintf(`,{"path":"/segs/s%d"}`, i)
		if i == 4 {
			me.want(t, 201, "PUT", "/large/dynamic", "", "X-Object-Manifest", "segs/s")
			has(t, me.want(t, 200, "HEAD", "/large/dynamic", ""), "Content-Length", strconv.Itoa(len(whole)))
		}
	}
	a := me.want(t, 200, "GET", "/large/dynamic", "")
	text(t, a, whole)
	has(t, a, "Etag", "-", "Content-Length", "-")
	has(t, me.want(t, 200, "HEAD", "/large/dynamic", ""), "Etag", "-", "Content-Length", "-")

	a = me.want(t, 201, "PUT", "/large/static?multipart-manifest=put", "["+list[1:]+"]")
	etag := a.Header.Get("Etag")
	a = me.want(t, 200, "GET", "/large/static", "")
	text(t, a, whole)
	has(t, a, "Etag", etag, "Content-Length", strconv.Itoa(len(whole)))
	plain := me.want(t, 200, "GET", "/large/static?multipart-manifest=get", "")
	has(t, plain, "Content-Type", "application/json; charset=utf-8", "Content-Length", strconv.Itoa(len(plain.body)), "Etag", sum(string(plain.body)))
	has(t, a, "X-Manifest-Etag", sum(string(plain.body)))
	// Conditions are about the whole, not about the manifest.
	me.want(t, 304, "GET", "/large/static", "", "If-None-Match", etag)
	me.want(t, 200, "GET", "/large/static", "", "If-None-Match", sum(string(plain.body)))
	me.want(t, 412, "GET", "/large/static", "", "If-Match", sum(string(plain.body)))
	text(t, me.want(t, 206, "GET", "/large/static", "", "Range", "bytes=-3"), " 6.")
	// A manifest that is too large is refused, whether its length is known or not.
	big := strings.Repeat(" ", 8<<20) + "[]"
	me.want(t, 413, "PUT", "/large/big?multipart-manifest=put", big)
	if a := me.call(t, http.MethodPut, "/large/big?multipart-manifest=put", struct{ *strings.Reader }{strings.NewReader(big)}); a.StatusCode != 413 {
		t.Errorf("too large, in chunks: %s, want 413", a.Status)
	}
	me.want(t, 404, "HEAD", "/large/big", "")
}

func ruleOverwritten(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/over", "")
	me.want(t, 201, "PUT", "/over/seg", "segment")
	me.want(t, 201, "PUT", "/over/o?multipart-manifest=put", `[{"path":"/over/seg"},{"path":"/over/seg"}]`)
	has(t, me.want(t, 200, "HEAD", "/over/o", ""), "X-Static-Large-Object", "True", "Content-Length", "14")
	me.want(t, 201, "PUT", "/over/o", "plain")
	a := me.want(t, 200, "GET", "/over/o", "")
	text(t, a, "plain")
	has(t, a, "X-Static-Large-Object", "-", "Etag", sum("plain"), "X-Manifest-Etag", "-")
	for _, row := range rowsOf(t, me.want(t, 200, "GET", "/over?format=json&prefix=o", "")) {
		if row["bytes"] != 5.0 || row["slo_etag"] != nil || row["hash"] != sum("plain") {
			t.Errorf("the listing shows %v", row)
		}
	}
	// A first segment that is another is a 409. Later ones break the connection off, and the log says why.
	me.want(t, 201, "PUT", "/over/o?multipart-manifest=put", `[{"path":"/over/seg"}]`)
	me.want(t, 201, "PUT", "/over/seg", "another")
	me.want(t, 409, "GET", "/over/o", "")
	has(t, me.want(t, 200, "HEAD", "/over/o", ""), "Content-Length", "7")
	me.want(t, 201, "PUT", "/over/first", "first")
	me.want(t, 201, "PUT", "/over/o?multipart-manifest=put", `[{"path":"/over/first"},{"path":"/over/seg"}]`)
	me.want(t, 201, "PUT", "/over/seg", "a third")
	r := request(t, http.MethodGet, me.url+"/over/o", nil)
	r.Header.Set("X-Auth-Token", me.token)
	if got, err := readBroken(r); err == nil || !strings.HasPrefix("first", got) {
		t.Errorf("got %q, %v, want at most the first segment and a broken connection", got, err)
	}
	c.awaitLog(t, "answer broke off", "/over/seg", "its ETag is "+sum("a third"))
}
