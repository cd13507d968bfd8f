package test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// api is a client of one account that says what it wants of each answer.
type api struct {
	url   string // of the account
	token string
}

// call sends a request; headers come in pairs.
func (a *api) call(t *testing.T, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r := request(t, method, a.url+path, body)
	if a.token != "" {
		r.Header.Set("X-Auth-Token", a.token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header[http.CanonicalHeaderKey(headers[i])] = []string{headers[i+1]}
	}
	return do(t, r)
}

// want is call with the status that must come.
func (a *api) want(t *testing.T, code int, method, path, body string, headers ...string) answer {
	t.Helper()
	var r io.Reader
	if body != "" || method == http.MethodPut {
		r = strings.NewReader(body)
	}
	got := a.call(t, method, path, r, headers...)
	if got.StatusCode != code {
		t.Fatalf("%s %s %v: %s, want %d\n%s", method, path, headers, got.Status, code, got.body)
	}
	return got
}

func signIn(t *testing.T, url, user, key string) *api {
	t.Helper()
	r := request(t, http.MethodGet, url+"/auth/v1.0", nil)
	r.Header.Set("X-Auth-User", user)
	r.Header.Set("X-Auth-Key", key)
	resp := do(t, r)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("sign in as %s: %s", user, resp.Status)
	}
	return &api{resp.Header.Get("X-Storage-Url"), resp.Header.Get("X-Auth-Token")}
}

func sum(s string) string {
	m := md5.Sum([]byte(s))
	return hex.EncodeToString(m[:])
}

// has checks headers of an answer, in pairs; "-" is none.
func has(t *testing.T, a answer, headers ...string) {
	t.Helper()
	for i := 0; i < len(headers); i += 2 {
		got, ok := a.Header[http.CanonicalHeaderKey(headers[i])]
		switch {
		case headers[i+1] == "-":
			if ok {
				t.Errorf("%s %s: %s is %q, want none", a.Request.Method, a.Request.URL, headers[i], got)
			}
		case len(got) != 1 || got[0] != headers[i+1]:
			t.Errorf("%s %s: %s is %q, want %q", a.Request.Method, a.Request.URL, headers[i], got, headers[i+1])
		}
	}
}

func text(t *testing.T, a answer, want string) {
	t.Helper()
	if string(a.body) != want {
		t.Errorf("%s %s: body %.200q, want %.200q", a.Request.Method, a.Request.URL, a.body, want)
	}
}

// TestAPI is the v1 API as a client sees it, on a cluster of one process each.
func TestAPI(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(t)
	me := signIn(t, c.url(), "test:tester", "testing")
	for name, run := range map[string]func(*testing.T, *cluster, *api){
		"every answer":      everyAnswer,
		"objects":           objects,
		"object metadata":   objectMetadata,
		"ranges":            ranges,
		"conditions":        conditions,
		"copies":            copies,
		"names":             names,
		"limits":            limits,
		"containers":        containers,
		"listings":          listings,
		"accounts":          accounts,
		"access":            access,
		"expiry":            expiry,
		"public addresses":  public,
		"refused in time":   refusedInTime,
		"unknown resources": unknown,
		"headers inside":    inside,
		"large objects":     largeObjects,
		"dynamic ones":      dynamicObjects,
		"temporary URLs":    temporaryURLs,
		"bulk":              bulkRequests,
		"other origins":     otherOrigins,
		"links":             symlinks,
	} {
		t.Run(name, func(t *testing.T) { run(t, c, me) })
	}
}

func everyAnswer(t *testing.T, c *cluster, me *api) {
	for _, path := range []string{"", "/nothing", "/nothing/here"} {
		a := me.call(t, http.MethodGet, path, nil, "X-Trans-Id-Extra", strings.Repeat("e", 40))
		id := a.Header.Get("X-Trans-Id")
		if !strings.HasPrefix(id, "tx") || !strings.HasSuffix(id, "-"+strings.Repeat("e", 32)) || a.Header.Get("X-Openstack-Request-Id") != id {
			t.Errorf("GET %q: transaction ids %q and %q", path, id, a.Header.Get("X-Openstack-Request-Id"))
		}
	}
}

func objects(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/objects", "")
	me.want(t, 404, "GET", "/objects/o", "")
	me.want(t, 404, "HEAD", "/objects/o", "")
	me.want(t, 404, "DELETE", "/objects/o", "")
	me.want(t, 404, "POST", "/objects/o", "")
	me.want(t, 404, "PUT", "/nocontainer/o", "x")

	a := me.want(t, 201, "PUT", "/objects/o", "first", "Content-Type", "text/x-first")
	has(t, a, "Etag", sum("first"))
	a = me.want(t, 200, "GET", "/objects/o", "")
	text(t, a, "first")
	has(t, a, "Etag", sum("first"), "Content-Length", "5", "Content-Type", "text/x-first", "Accept-Ranges", "bytes")
	if _, err := strconv.ParseFloat(a.Header.Get("X-Timestamp"), 64); err != nil {
		t.Errorf("X-Timestamp: %v", err)
	}
	if _, err := http.ParseTime(a.Header.Get("Last-Modified")); err != nil {
		t.Errorf("Last-Modified: %v", err)
	}
	a = me.want(t, 200, "HEAD", "/objects/o", "")
	has(t, a, "Etag", sum("first"), "Content-Length", "5")

	me.want(t, 422, "PUT", "/objects/o", "second", "Etag", sum("other"))
	text(t, me.want(t, 200, "GET", "/objects/o", ""), "first")
	me.want(t, 201, "PUT", "/objects/o", "second", "Etag", `"`+sum("second")+`"`)
	text(t, me.want(t, 200, "GET", "/objects/o", "", "X-Newest", "true"), "second")

	// A body whose length is not known before, over the size that is sent whole.
	large := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	a = me.call(t, "PUT", "/objects/large", io.MultiReader(strings.NewReader(large), strings.NewReader("tail")))
	if a.StatusCode != 201 {
		t.Fatalf("chunked: %s", a.Status)
	}
	has(t, a, "Etag", sum(large+"tail"))
	text(t, me.want(t, 200, "GET", "/objects/large", ""), large+"tail")

	me.want(t, 201, "PUT", "/objects/empty", "")
	a = me.want(t, 200, "GET", "/objects/empty", "")
	has(t, a, "Content-Length", "0", "Etag", sum(""), "Content-Type", "application/octet-stream")
	me.want(t, 201, "PUT", "/objects/picture.png", "x", "Content-Type", "")
	has(t, me.want(t, 200, "HEAD", "/objects/picture.png", ""), "Content-Type", "image/png")

	me.want(t, 412, "PUT", "/objects/o", "x", "If-None-Match", "*")
	me.want(t, 400, "PUT", "/objects/o", "x", "If-None-Match", `"abc"`)
	me.want(t, 201, "PUT", "/objects/new", "x", "If-None-Match", "*")

	a = me.want(t, 204, "DELETE", "/objects/o", "")
	text(t, a, "")
	me.want(t, 404, "GET", "/objects/o", "")
	me.want(t, 404, "DELETE", "/objects/o", "")
	me.want(t, 201, "PUT", "/objects/o", "back")
	text(t, me.want(t, 200, "GET", "/objects/o", ""), "back")
}

func objectMetadata(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/meta", "")
	me.want(t, 201, "PUT", "/meta/o", "x", "Content-Type", "text/x-a", "X-Object-Meta-A", "1", "X-Object-Meta-B", "2",
		"Content-Encoding", "gzip", "Cache-Control", "no-store", "X-Unknown", "no")
	a := me.want(t, 200, "HEAD", "/meta/o", "")
	has(t, a, "X-Object-Meta-A", "1", "X-Object-Meta-B", "2", "Content-Encoding", "gzip", "Cache-Control", "no-store", "X-Unknown", "-")
	put := a.Header.Get("X-Timestamp")

	me.want(t, 202, "POST", "/meta/o", "", "X-Object-Meta-C", "3")
	a = me.want(t, 200, "GET", "/meta/o", "")
	has(t, a, "X-Object-Meta-A", "-", "X-Object-Meta-C", "3", "Content-Encoding", "-", "Content-Type", "text/x-a", "Etag", sum("x"))
	if a.Header.Get("X-Timestamp") <= put {
		t.Errorf("X-Timestamp is %s after a POST, %s before", a.Header.Get("X-Timestamp"), put)
	}
	me.want(t, 202, "POST", "/meta/o", "", "Content-Type", "text/x-b")
	a = me.want(t, 200, "HEAD", "/meta/o", "")
	has(t, a, "X-Object-Meta-C", "-", "Content-Type", "text/x-b")
	rows := rowsOf(t, me.want(t, 200, "GET", "/meta?format=json", ""))
	if len(rows) != 1 || rows[0]["content_type"] != "text/x-b" || rows[0]["hash"] != sum("x") || rows[0]["bytes"] != 1.0 {
		t.Errorf("the listing shows %v", rows)
	}

	// Values are bytes, as they were sent.
	me.want(t, 202, "POST", "/meta/o", "", "X-Object-Meta-Snow", "\u2603", "X-Object-Meta-Raw", "\xff\xfe")
	has(t, me.want(t, 200, "HEAD", "/meta/o", ""), "X-Object-Meta-Snow", "\u2603", "X-Object-Meta-Raw", "\xff\xfe")
}

func ranges(t *testing.T, _ *cluster, me *api) {
	const body = "0123456789"
	me.want(t, 201, "PUT", "/ranges", "")
	me.want(t, 201, "PUT", "/ranges/o", body, "Content-Type", "text/x")
	me.want(t, 201, "PUT", "/ranges/empty", "")
	for header, want := range map[string]string{ // an empty want is 416, "*" the whole
		"bytes=0-0": "0", "bytes=2-4": "234", "bytes=7-": "789", "bytes=-3": "789", "bytes=0-99": body, "bytes=-99": body,
		"bytes=10-": "", "bytes=-0": "", "bytes=5-2": "*", "bytes=x": "*", "lines=1-2": "*",
	} {
		code := http.StatusPartialContent
		switch want {
		case "":
			code = http.StatusRequestedRangeNotSatisfiable
		case "*":
			code, want = http.StatusOK, body
		}
		a := me.want(t, code, "GET", "/ranges/o", "", "Range", header)
		if code == http.StatusRequestedRangeNotSatisfiable {
			has(t, a, "Content-Range", "bytes */10")
			continue
		}
		text(t, a, want)
		has(t, a, "Etag", sum(body), "Content-Length", strconv.Itoa(len(want)))
	}
	has(t, me.want(t, 206, "GET", "/ranges/o", "", "Range", "bytes=2-4"), "Content-Range", "bytes 2-4/10", "Content-Type", "text/x")
	me.want(t, 416, "GET", "/ranges/empty", "", "Range", "bytes=0-0")

	a := me.want(t, 206, "GET", "/ranges/o", "", "Range", "bytes=0-1,8-9")
	if ct := a.Header.Get("Content-Type"); !strings.HasPrefix(ct, "multipart/byteranges") {
		t.Errorf("two ranges: content type %q", ct)
	}
	for _, part := range []string{"\r\n01\r\n", "\r\n89\r\n", "Content-Range: bytes 0-1/10", "Content-Range: bytes 8-9/10", "Content-Type: text/x"} {
		if !strings.Contains(string(a.body), part) {
			t.Errorf("two ranges lack %q:\n%q", part, a.body)
		}
	}
	if got := strconv.Itoa(len(a.body)); got != a.Header.Get("Content-Length") {
		t.Errorf("two ranges: %s bytes, Content-Length %s", got, a.Header.Get("Content-Length"))
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("%d-%d", i, i))
	}
	me.want(t, 416, "GET", "/ranges/o", "", "Range", "bytes="+strings.Join(many, ","))
	text(t, me.want(t, 206, "GET", "/ranges/o", "", "Range", "bytes=0-0", "If-Range", `"`+sum(body)+`"`), "0")
	text(t, me.want(t, 200, "GET", "/ranges/o", "", "Range", "bytes=0-0", "If-Range", `"`+sum("other")+`"`), body)

	// Across the blocks that checksums are kept for.
	large := strings.Repeat("abcdefghijklmno\n", 40_000) // 640,000 bytes
	me.want(t, 201, "PUT", "/ranges/large", large)
	for _, r := range [][2]int{{0, 0}, {65_535, 65_536}, {65_536, 131_071}, {1, 639_998}, {639_999, 639_999}} {
		a := me.want(t, 206, "GET", "/ranges/large", "", "Range", fmt.Sprintf("bytes=%d-%d", r[0], r[1]))
		text(t, a, large[r[0]:r[1]+1])
	}
}

func conditions(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/cond", "")
	me.want(t, 201, "PUT", "/cond/o", "x")
	modified := me.want(t, 200, "HEAD", "/cond/o", "").Header.Get("Last-Modified")
	at, err := http.ParseTime(modified)
	if err != nil {
		t.Fatal(err)
	}
	before, after := at.Add(-time.Minute).Format(http.TimeFormat), at.Add(time.Minute).Format(http.TimeFormat)
	tag, other := `"`+sum("x")+`"`, `"`+sum("y")+`"`
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"If-Match", tag, 200}, {"If-Match", sum("x"), 200}, {"If-Match", "*", 200}, {"If-Match", other, 412}, {"If-Match", other + ", " + tag, 200},
		{"If-None-Match", tag, 304}, {"If-None-Match", "*", 304}, {"If-None-Match", other, 200},
		{"If-Modified-Since", modified, 304}, {"If-Modified-Since", before, 200}, {"If-Modified-Since", after, 304}, {"If-Modified-Since", "rubbish", 200},
		{"If-Unmodified-Since", modified, 200}, {"If-Unmodified-Since", before, 412}, {"If-Unmodified-Since", after, 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := me.want(t, tt.want, method, "/cond/o", "", tt.header, tt.value)
			if tt.want != 200 {
				has(t, a, "Etag", sum("x"), "Last-Modified", modified)
			}
		}
	}
}

func copies(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/from", "")
	me.want(t, 201, "PUT", "/to", "")
	me.want(t, 201, "PUT", "/from/a%20b", "body", "Content-Type", "text/x", "X-Object-Meta-A", "1", "X-Object-Meta-B", "2")
	a := me.want(t, 201, "COPY", "/from/a%20b", "", "Destination", "/to/x%2Fy")
	has(t, a, "Etag", sum("body"), "X-Copied-From", "from/a%20b", "X-Copied-From-Account", "AUTH_test")
	a = me.want(t, 200, "GET", "/to/x/y", "")
	text(t, a, "body")
	has(t, a, "Content-Type", "text/x", "X-Object-Meta-A", "1")

	me.want(t, 201, "PUT", "/to/put", "", "X-Copy-From", "from/a%20b", "X-Object-Meta-A", "other", "Content-Type", "text/y")
	has(t, me.want(t, 200, "GET", "/to/put", ""), "X-Object-Meta-A", "other", "X-Object-Meta-B", "2", "Content-Type", "text/y")
	me.want(t, 201, "PUT", "/to/fresh", "", "X-Copy-From", "/from/a%20b", "X-Fresh-Metadata", "true", "X-Object-Meta-C", "3")
	has(t, me.want(t, 200, "GET", "/to/fresh", ""), "X-Object-Meta-A", "-", "X-Object-Meta-C", "3")
	me.want(t, 201, "PUT", "/to/part", "", "X-Copy-From", "from/a%20b", "Range", "bytes=1-2")
	text(t, me.want(t, 200, "GET", "/to/part", ""), "od")

	me.want(t, 412, "COPY", "/from/a%20b", "")
	me.want(t, 412, "COPY", "/from/a%20b", "", "Destination", "nothing")
	me.want(t, 404, "COPY", "/from/none", "", "Destination", "to/x")
	me.want(t, 404, "COPY", "/from/a%20b", "", "Destination", "none/x")
	me.want(t, 400, "PUT", "/to/x", "with a body", "X-Copy-From", "from/a%20b")
	me.want(t, 412, "PUT", "/to/x", "", "X-Copy-From", "from")

	// Onto itself: how metadata of old clients was replaced.
	me.want(t, 201, "COPY", "/from/a%20b", "", "Destination", "from/a%20b", "X-Object-Meta-A", "new")
	has(t, me.want(t, 200, "HEAD", "/from/a%20b", ""), "X-Object-Meta-A", "new", "Etag", sum("body"))

	// To another account: only who may write there.
	other := signIn(t, c.url(), "test2:tester2", "testing2")
	other.want(t, 201, "PUT", "/inbox", "")
	me.want(t, 403, "COPY", "/from/a%20b", "", "Destination", "inbox/x", "Destination-Account", "AUTH_test2")
	other.want(t, 204, "POST", "/inbox", "", "X-Container-Write", "test:tester")
	me.want(t, 201, "COPY", "/from/a%20b", "", "Destination", "inbox/x", "Destination-Account", "AUTH_test2")
	text(t, other.want(t, 200, "GET", "/inbox/x", ""), "body")
	other.want(t, 403, "PUT", "/inbox/y", "", "X-Copy-From", "from/a%20b", "X-Copy-From-Account", "AUTH_test")
}

func names(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/n%C3%A4mes", "")
	for i, name := range []string{
		"a/b//c", "../x", "./x", "a/../b", "trailing/", "%2Flead", "per%25cent", "spa%20ce", "plus+plus", "q%3Fm", "h%23sh",
		"%E2%98%83", "a&b=c", "semi;colon", "quo%22te", "line%0Abreak", "co%2Cmma",
	} {
		body := fmt.Sprint("body ", i)
		me.want(t, 201, "PUT", "/n%C3%A4mes/"+name, body)
		text(t, me.want(t, 200, "GET", "/n%C3%A4mes/"+name, ""), body)
	}
	rows := rowsOf(t, me.want(t, 200, "GET", "/n%C3%A4mes?format=json", ""))
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprint(r["name"]))
	}
	if len(got) != 17 || !slices.IsSorted(got) || !slices.Contains(got, "/lead") || !slices.Contains(got, "a/../b") || !slices.Contains(got, "\u2603") {
		t.Errorf("the listing shows %q", got)
	}
	me.want(t, 412, "PUT", "/names2/%00", "x")
	me.want(t, 412, "PUT", "/names%FF", "")
}

func limits(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/"+strings.Repeat("c", 256), "")
	me.want(t, 400, "PUT", "/"+strings.Repeat("c", 257), "")
	me.want(t, 201, "PUT", "/limits", "")
	me.want(t, 201, "PUT", "/limits/"+strings.Repeat("o", 1024), "x")
	me.want(t, 400, "PUT", "/limits/"+strings.Repeat("o", 1025), "x")
	me.want(t, 400, "PUT", "/limits/"+strings.Repeat("%C3%A4", 513), "x")
	meta := func(code int, pairs ...string) {
		t.Helper()
		me.want(t, code, "PUT", "/limits/o", "x", pairs...)
		for i := 0; i < len(pairs); i += 2 {
			pairs[i] = strings.Replace(pairs[i], "X-Object", "X-Container", 1)
		}
		if code == 201 {
			code = 204
		}
		me.want(t, code, "POST", "/limits", "", pairs...)
	}
	meta(201, "X-Object-Meta-"+strings.Repeat("n", 128), "v")
	meta(400, "X-Object-Meta-"+strings.Repeat("n", 129), "v")
	meta(201, "X-Object-Meta-N", strings.Repeat("v", 256))
	meta(400, "X-Object-Meta-N", strings.Repeat("v", 257))
	meta(400, "X-Object-Meta-", "v")
	var many, large []string
	for i := range 91 {
		many = append(many, fmt.Sprintf("X-Object-Meta-M%d", i), "v")
	}
	for i := range 17 {
		large = append(large, fmt.Sprintf("X-Object-Meta-L%d", i), strings.Repeat("v", 250))
	}
	meta(400, slices.Clone(many)...)
	meta(400, slices.Clone(large)...)

	// The whole of a container's metadata is bounded, not only what one request says.
	for i := range 90 {
		if a := me.call(t, "POST", "/limits", nil, fmt.Sprintf("X-Container-Meta-T%d", i), "v"); a.StatusCode == 400 {
			return
		}
	}
	me.want(t, 400, "POST", "/limits", "", "X-Container-Meta-One-More", "v", "X-Container-Meta-Two-More", "v")
}

func containers(t *testing.T, _ *cluster, me *api) {
	me.want(t, 404, "GET", "/box", "")
	me.want(t, 404, "POST", "/box", "")
	me.want(t, 404, "DELETE", "/box", "")
	me.want(t, 201, "PUT", "/box", "", "X-Container-Meta-A", "1", "X-Container-Meta-B", "2")
	me.want(t, 202, "PUT", "/box", "", "X-Container-Meta-C", "3")
	has(t, me.want(t, 204, "HEAD", "/box", ""), "X-Container-Meta-A", "1", "X-Container-Meta-C", "3", "X-Container-Object-Count", "0",
		"X-Container-Bytes-Used", "0", "X-Storage-Policy", "Policy-0")
	me.want(t, 204, "POST", "/box", "", "X-Remove-Container-Meta-A", "x", "X-Container-Meta-B", "")
	has(t, me.want(t, 204, "HEAD", "/box", ""), "X-Container-Meta-A", "-", "X-Container-Meta-B", "-", "X-Container-Meta-C", "3")
	if modified, err := http.ParseTime(me.want(t, 204, "HEAD", "/box", "").Header.Get("Last-Modified")); err != nil || time.Since(modified) > time.Minute {
		t.Errorf("Last-Modified: %v, %v", modified, err)
	}
	me.want(t, 400, "PUT", "/other", "", "X-Storage-Policy", "unheard-of")
	me.want(t, 400, "POST", "/box", "", "X-Container-Read", ".r:") // an ACL that is none
	me.want(t, 204, "GET", "/box", "")
	text(t, me.want(t, 200, "GET", "/box?format=json", ""), "[]")

	me.want(t, 201, "PUT", "/box/o", "12345")
	has(t, me.want(t, 204, "HEAD", "/box", ""), "X-Container-Object-Count", "1", "X-Container-Bytes-Used", "5")
	text(t, me.want(t, 200, "GET", "/box", ""), "o\n")
	me.want(t, 409, "DELETE", "/box", "")
	me.want(t, 204, "DELETE", "/box/o", "")
	has(t, me.want(t, 204, "HEAD", "/box", ""), "X-Container-Object-Count", "0", "X-Container-Bytes-Used", "0")
	me.want(t, 204, "DELETE", "/box", "")
	me.want(t, 404, "HEAD", "/box", "")
	me.want(t, 404, "PUT", "/box/o", "x")
	me.want(t, 201, "PUT", "/box", "")
	has(t, me.want(t, 204, "HEAD", "/box", ""), "X-Container-Meta-C", "-", "X-Container-Object-Count", "0")
}

func rowsOf(t *testing.T, a answer) []map[string]any {
	t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal(a.body, &rows); err != nil {
		t.Fatalf("%s: %v\n%s", a.Request.URL, err, a.body)
	}
	return rows
}

func listings(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/list", "")
	for _, o := range []string{"a", "b/1", "b/2", "b/c/3", "d", "e--1", "e--2", "f"} {
		me.want(t, 201, "PUT", "/list/"+o, "x", "Content-Type", "text/x")
	}
	for query, want := range map[string]string{
		"":                             "a b/1 b/2 b/c/3 d e--1 e--2 f",
		"limit=2":                      "a b/1",
		"marker=b/2":                   "b/c/3 d e--1 e--2 f",
		"marker=b/2&limit=1":           "b/c/3",
		"end_marker=d":                 "a b/1 b/2 b/c/3",
		"prefix=b/":                    "b/1 b/2 b/c/3",
		"delimiter=/":                  "a b/ d e--1 e--2 f",
		"delimiter=/&limit=2":          "a b/",
		"delimiter=/&marker=b/":        "d e--1 e--2 f",
		"prefix=b/&delimiter=/":        "b/1 b/2 b/c/",
		"delimiter=--":                 "a b/1 b/2 b/c/3 d e-- f",
		"reverse=true":                 "f e--2 e--1 d b/c/3 b/2 b/1 a",
		"reverse=true&delimiter=/":     "f e--2 e--1 d b/ a",
		"reverse=true&marker=d":        "b/c/3 b/2 b/1 a",
		"path=":                        "a d e--1 e--2 f",
		"path=b":                       "b/1 b/2",
		"limit=x":                      "a b/1 b/2 b/c/3 d e--1 e--2 f",
		"prefix=zz":                    "",
		"prefix=b/&marker=b/1&limit=1": "b/2",
	} {
		var got []string
		for _, r := range rowsOf(t, me.want(t, 200, "GET", "/list?format=json&"+query, "")) {
			if sub, ok := r["subdir"]; ok {
				got = append(got, fmt.Sprint(sub))
			} else {
				got = append(got, fmt.Sprint(r["name"]))
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("listing ?%s: %q, want %q", query, s, want)
		}
		code, plain := 200, strings.ReplaceAll(want, " ", "\n")+"\n"
		if want == "" {
			code, plain = 204, ""
		}
		text(t, me.want(t, code, "GET", "/list?"+query, ""), plain)
	}
	row := rowsOf(t, me.want(t, 200, "GET", "/list?format=json&limit=1", ""))[0]
	if row["hash"] != sum("x") || row["bytes"] != 1.0 || row["content_type"] != "text/x" {
		t.Errorf("row %v", row)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000", fmt.Sprint(row["last_modified"])); err != nil {
		t.Error(err)
	}
	a := me.want(t, 200, "GET", "/list?prefix=b/&delimiter=/", "", "Accept", "application/xml")
	has(t, a, "Content-Type", "application/xml; charset=utf-8", "Vary", "Accept")
	for _, part := range []string{`<?xml version="1.0" encoding="UTF-8"?>`, `<container name="list">`, "<name>b/1</name>", `<subdir name="b/c/">`} {
		if !strings.Contains(string(a.body), part) {
			t.Errorf("XML lacks %q:\n%s", part, a.body)
		}
	}
	me.want(t, 412, "GET", "/list?limit=10001", "")
	me.want(t, 406, "GET", "/list", "", "Accept", "image/png")
	a = me.want(t, 204, "GET", "/list?limit=0", "")
	has(t, a, "X-Container-Object-Count", "8")
}

func accounts(t *testing.T, c *cluster, _ *api) {
	me := signIn(t, c.url(), "admin:admin", "admin")
	has(t, me.want(t, 204, "GET", "", ""), "X-Account-Container-Count", "0") // not there yet, and looks empty
	me.want(t, 204, "POST", "", "", "X-Account-Meta-A", "1")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Meta-A", "1")
	me.want(t, 204, "POST", "", "", "X-Account-Meta-A", "", "X-Account-Meta-B", "2")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Meta-A", "-", "X-Account-Meta-B", "2")
	for _, box := range []string{"x", "y", "z"} {
		me.want(t, 201, "PUT", "/"+box, "")
	}
	text(t, me.want(t, 200, "GET", "", ""), "x\ny\nz\n")
	text(t, me.want(t, 200, "GET", "?marker=x&limit=1", ""), "y\n")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Container-Count", "3")
	if a := me.want(t, 200, "GET", "?format=xml", ""); !strings.Contains(string(a.body), "<account name=\"AUTH_admin\">") {
		t.Errorf("XML:\n%s", a.body)
	}
	me.want(t, 201, "PUT", "/x/o", "12345")
	poll(t, 30*time.Second, "the account's counts follow", func() error {
		a := me.want(t, 204, "HEAD", "", "")
		if a.Header.Get("X-Account-Object-Count") != "1" || a.Header.Get("X-Account-Bytes-Used") != "5" {
			return fmt.Errorf("%v", a.Header)
		}
		return nil
	})
	poll(t, 30*time.Second, "so does its listing, whose replica may be told later", func() error {
		rows := rowsOf(t, me.want(t, 200, "GET", "?format=json", ""))
		if len(rows) != 3 || rows[0]["name"] != "x" || rows[0]["count"] != 1.0 || rows[0]["bytes"] != 5.0 {
			return fmt.Errorf("rows %v", rows)
		}
		return nil
	})
	me.want(t, 204, "DELETE", "/y", "")
	text(t, me.want(t, 200, "GET", "", ""), "x\nz\n")
	has(t, me.want(t, 405, "PUT", "", ""), "Allow", "GET, HEAD, OPTIONS, POST")
	me.want(t, 405, "DELETE", "", "")
}

func access(t *testing.T, c *cluster, me *api) {
	nobody := &api{url: me.url}
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = me.url
	roleless := signIn(t, c.url(), "test:tester3", "testing3")
	me.want(t, 201, "PUT", "/acl", "")
	me.want(t, 201, "PUT", "/acl/o", "x")

	has(t, nobody.want(t, 401, "GET", "/acl/o", ""), "Www-Authenticate", `Swift realm="AUTH_test"`)
	stranger.want(t, 403, "GET", "/acl/o", "")
	roleless.want(t, 403, "GET", "/acl/o", "")
	roleless.want(t, 403, "GET", "", "")
	(&api{me.url, "AUTH_tkrubbish"}).want(t, 401, "GET", "/acl/o", "")

	me.want(t, 204, "POST", "/acl", "", "X-Container-Read", ".r:*")
	text(t, nobody.want(t, 200, "GET", "/acl/o", ""), "x")
	nobody.want(t, 401, "GET", "/acl", "")
	nobody.want(t, 401, "PUT", "/acl/p", "x")
	has(t, nobody.want(t, 200, "HEAD", "/acl/o", ""), "X-Container-Read", "-")
	me.want(t, 204, "POST", "/acl", "", "X-Container-Read", ".r:*,.rlistings")
	has(t, nobody.want(t, 200, "GET", "/acl", ""), "X-Container-Read", "-")
	has(t, me.want(t, 204, "HEAD", "/acl", ""), "X-Container-Read", ".r:*,.rlistings")

	me.want(t, 204, "POST", "/acl", "", "X-Container-Read", "test:tester3", "X-Container-Write", "test2:tester2")
	nobody.want(t, 401, "GET", "/acl/o", "")
	roleless.want(t, 200, "GET", "/acl/o", "")
	roleless.want(t, 403, "PUT", "/acl/o", "x")
	stranger.want(t, 201, "PUT", "/acl/theirs", "y")
	stranger.want(t, 403, "GET", "/acl/theirs", "")
	stranger.want(t, 204, "DELETE", "/acl/theirs", "")
	stranger.want(t, 403, "POST", "/acl", "", "X-Container-Read", ".r:*")
	me.want(t, 204, "POST", "/acl", "", "X-Remove-Container-Read", "x")
	roleless.want(t, 403, "GET", "/acl/o", "")

	reseller := signIn(t, c.url(), "admin:admin", "admin")
	reseller.url = me.url
	reseller.want(t, 200, "GET", "/acl/o", "")

	me.want(t, 204, "POST", "", "", "X-Account-Access-Control", `{"read-only":["test2:tester2"]}`)
	stranger.want(t, 200, "GET", "/acl/o", "")
	stranger.want(t, 204, "HEAD", "", "")
	stranger.want(t, 403, "PUT", "/acl3", "")
	has(t, stranger.want(t, 204, "HEAD", "", ""), "X-Account-Access-Control", "-")
	me.want(t, 400, "POST", "", "", "X-Account-Access-Control", `{"nonsense":[]}`)
	me.want(t, 204, "POST", "", "", "X-Account-Access-Control", "")
	stranger.want(t, 403, "GET", "/acl/o", "")
}

func expiry(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/expiry", "")
	me.want(t, 400, "PUT", "/expiry/o", "x", "X-Delete-At", "100")
	me.want(t, 400, "PUT", "/expiry/o", "x", "X-Delete-At", "soon")
	me.want(t, 400, "PUT", "/expiry/o", "x", "X-Delete-After", "0")
	me.want(t, 201, "PUT", "/expiry/o", "x", "X-Delete-After", "1")
	poll(t, 10*time.Second, "it expires", func() error {
		if a := me.call(t, "GET", "/expiry/o", nil); a.StatusCode != 404 {
			return fmt.Errorf("%s", a.Status)
		}
		return nil
	})
	later := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	me.want(t, 201, "PUT", "/expiry/p", "x", "X-Delete-At", later)
	has(t, me.want(t, 200, "HEAD", "/expiry/p", ""), "X-Delete-At", later)
	me.want(t, 202, "POST", "/expiry/p", "")
	has(t, me.want(t, 200, "HEAD", "/expiry/p", ""), "X-Delete-At", "-")
}

func public(t *testing.T, c *cluster, _ *api) {
	at := &api{url: c.url()}
	text(t, at.want(t, 200, "GET", "/healthcheck", ""), "OK")
	var doc map[string]map[string]any
	if err := json.Unmarshal(at.want(t, 200, "GET", "/info", "").body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["swift"]["max_file_size"] != 5368709122.0 || doc["swift"]["container_listing_limit"] != 10000.0 {
		t.Errorf("/info says %v", doc["swift"])
	}
	at.want(t, 401, "GET", "/auth/v1.0", "", "X-Auth-User", "test:tester", "X-Auth-Key", "wrong")
}

func refusedInTime(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/intime", "")
	// The answer comes although no byte of the body is ever sent.
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	r := request(t, "PUT", me.url+"/intime/o", pr)
	r.ContentLength = 5<<30 + 3
	r.Header.Set("X-Auth-Token", me.token)
	r.Header.Set("Expect", "100-continue")
	if a := do(t, r); a.StatusCode != 413 {
		t.Errorf("too large: %s, want 413", a.Status)
	}
	pr2, pw2 := io.Pipe()
	defer func() { _ = pw2.Close() }()
	r = request(t, "PUT", me.url+"/intime/o", pr2)
	r.ContentLength = 10
	r.Header.Set("Expect", "100-continue")
	if a := do(t, r); a.StatusCode != 401 {
		t.Errorf("not signed in: %s, want 401", a.Status)
	}
	me.want(t, 404, "GET", "/intime/o", "")
}

func unknown(t *testing.T, c *cluster, me *api) {
	at := &api{url: c.url(), token: me.token}
	for path, code := range map[string]int{"/": 404, "/v1": 412, "/v1/": 412, "/v2/AUTH_test": 400, "/v1//c": 404, "/v1/AUTH_test//o": 404, "/nothing": 412} {
		at.want(t, code, "GET", path, "")
	}
	me.want(t, 201, "PUT", "/unknown", "")
	me.want(t, 201, "PUT", "/unknown/o", "x")
	for _, path := range []string{"", "/unknown", "/unknown/o"} {
		a := me.want(t, 405, "BREW", path, "")
		if !strings.Contains(a.Header.Get("Allow"), "GET") {
			t.Errorf("BREW %s: Allow is %q", path, a.Header.Get("Allow"))
		}
	}
	text(t, at.want(t, 200, "GET", "/v1.0/AUTH_test/unknown?prefix=o", ""), "o\n")
}

func inside(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/inside", "")
	me.want(t, 201, "PUT", "/inside/o", "x", "X-Object-Sysmeta-Evil", "1", "X-Object-Transient-Sysmeta-Evil", "1", "X-Backend-Evil", "1",
		"X-Timestamp", "1.00000", "X-Container-Host", "127.0.0.1:1", "X-Container-Device", "d", "X-Container-Partition", "1")
	for _, path := range []string{"", "/inside", "/inside/o"} {
		a := me.call(t, "GET", path, nil)
		for n := range a.Header {
			if strings.HasPrefix(n, "X-Backend") || strings.Contains(n, "Sysmeta") || n == "X-Put-Timestamp" {
				t.Errorf("GET %q shows %s", path, n)
			}
		}
	}
	if rows := rowsOf(t, me.want(t, 200, "GET", "/inside?format=json", "")); len(rows) != 1 {
		t.Errorf("a client's X-Container-Host kept the object out of the listing: %v", rows)
	}
}
