package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// largeObjects is static large objects, made of what storage nodes really keep.
func largeObjects(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/slo", "")
	me.want(t, 201, "PUT", "/slosegs", "")
	one, two := strings.Repeat("0123456789abcdef", 1<<16), strings.Repeat("fedcba9876543210", 1<<15) // 1 MiB, 512 KiB
	me.want(t, 201, "PUT", "/slosegs/1", one)
	me.want(t, 201, "PUT", "/slosegs/2", two)
	manifest := fmt.Sprintf(`[{"path":"/slosegs/1","etag":%q,"size_bytes":%d},{"data":"fHw="},{"path":"/slosegs/2","range":"10-"}]`, sum(one), len(one))
	whole := one + "||" + two[10:]
	etag := `"` + sum(sum(one)+sum("||")+sum(two)+fmt.Sprintf(":10-%d;", len(two)-1)) + `"`
	a := me.want(t, 201, "PUT", "/slo/o?multipart-manifest=put", manifest, "Content-Type", "text/x", "X-Object-Meta-A", "1")
	has(t, a, "Etag", etag)
	me.want(t, 400, "PUT", "/slo/bad?multipart-manifest=put", `[{"path":"/slosegs/none"}]`)
	me.want(t, 404, "GET", "/slo/bad", "")
	me.want(t, 400, "PUT", "/slo/bad", "x", "X-Static-Large-Object", "true")

	a = me.want(t, 200, "GET", "/slo/o", "")
	text(t, a, whole)
	has(t, a, "Etag", etag, "X-Static-Large-Object", "True", "Content-Type", "text/x", "X-Object-Meta-A", "1", "Content-Length", fmt.Sprint(len(whole)),
		"X-Object-Sysmeta-Slo-Etag", "-", "X-Object-Sysmeta-Slo-Size", "-", "X-Backend-Timestamp", "-")
	has(t, me.want(t, 200, "HEAD", "/slo/o", ""), "Etag", etag, "Content-Length", fmt.Sprint(len(whole)), "Content-Type", "text/x")
	text(t, me.want(t, 206, "GET", "/slo/o", "", "Range", "bytes=1048570-1048583"), whole[1048570:1048584])
	me.want(t, 416, "GET", "/slo/o", "", "Range", fmt.Sprintf("bytes=%d-", len(whole)))
	me.want(t, 304, "GET", "/slo/o", "", "If-None-Match", etag)
	me.want(t, 412, "GET", "/slo/o", "", "If-Match", `"x"`)
	text(t, me.want(t, 206, "GET", "/slo/o?part-number=2", ""), "||")

	// The listing tells of the whole, also after a change of the content type.
	check := func(contentType string) {
		t.Helper()
		rows := rowsOf(t, me.want(t, 200, "GET", "/slo?format=json", ""))
		if len(rows) != 1 || rows[0]["bytes"] != float64(len(whole)) || rows[0]["slo_etag"] != etag || rows[0]["content_type"] != contentType ||
			strings.Contains(fmt.Sprint(rows[0]["hash"]), ";") {
			t.Errorf("the listing shows %v", rows)
		}
	}
	check("text/x")
	me.want(t, 202, "POST", "/slo/o", "", "Content-Type", "text/y")
	a = me.want(t, 200, "GET", "/slo/o", "")
	text(t, a, whole)
	has(t, a, "Etag", etag, "X-Static-Large-Object", "True", "Content-Type", "text/y")
	check("text/y")

	// Copied it is one plain object, unless its manifest is asked for.
	me.want(t, 201, "COPY", "/slo/o", "", "Destination", "slosegs/flat")
	a = me.want(t, 200, "GET", "/slosegs/flat", "")
	text(t, a, whole)
	has(t, a, "Etag", sum(whole), "X-Static-Large-Object", "-")
	me.want(t, 201, "COPY", "/slo/o?multipart-manifest=get", "", "Destination", "slosegs/again")
	has(t, me.want(t, 200, "HEAD", "/slosegs/again", ""), "Etag", etag, "X-Static-Large-Object", "True", "Content-Type", "text/y")

	// Who may read the manifest need not be allowed to read the segments.
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = me.url
	me.want(t, 204, "POST", "/slo", "", "X-Container-Read", "test2:tester2")
	stranger.want(t, 409, "GET", "/slo/o", "")
	stranger.want(t, 200, "HEAD", "/slo/o", "")
	me.want(t, 204, "POST", "/slosegs", "", "X-Container-Read", "test2:tester2")
	text(t, stranger.want(t, 200, "GET", "/slo/o", ""), whole)

	// A segment changes: 409, or a connection that breaks.
	me.want(t, 201, "PUT", "/slosegs/2", "other")
	r := request(t, "GET", me.url+"/slo/o", nil)
	r.Header.Set("X-Auth-Token", me.token)
	if got, err := readBroken(r); err == nil || !strings.HasPrefix(one+"||", got) {
		t.Errorf("a segment has changed: %d bytes, %v, want at most %d and a broken connection", len(got), err, len(one)+2)
	}
	me.want(t, 204, "DELETE", "/slosegs/1", "")
	me.want(t, 409, "GET", "/slo/o", "")

	me.want(t, 201, "PUT", "/slo/plain", "x")
	me.want(t, 201, "PUT", "/slosegs/1", one)
	a = me.want(t, 200, "DELETE", "/slo/o?multipart-manifest=delete", "")
	if !strings.Contains(string(a.body), "Number Deleted: 3\n") {
		t.Errorf("deleted with its segments: %s", a.body)
	}
	me.want(t, 404, "GET", "/slosegs/2", "")
	me.want(t, 404, "GET", "/slo/o", "")
}

// dynamicObjects is dynamic large objects.
func dynamicObjects(t *testing.T, _ *cluster, me *api) {
	me.want(t, 201, "PUT", "/dlo", "")
	for i, part := range []string{"first.", "second.", "third."} {
		me.want(t, 201, "PUT", fmt.Sprintf("/dlo/seg%%20s/%d", i), part)
	}
	me.want(t, 400, "PUT", "/dlo/o", "", "X-Object-Manifest", "dlo")
	me.want(t, 201, "PUT", "/dlo/o", "", "X-Object-Manifest", "dlo/seg%20s/", "Content-Type", "text/x")
	etag := `"` + sum(sum("first.")+sum("second.")+sum("third.")) + `"`
	a := me.want(t, 200, "GET", "/dlo/o", "")
	text(t, a, "first.second.third.")
	has(t, a, "Etag", etag, "X-Object-Manifest", "dlo/seg%20s/", "Content-Length", "19", "Content-Type", "text/x")
	text(t, me.want(t, 206, "GET", "/dlo/o", "", "Range", "bytes=4-7"), "t.se")
	me.want(t, 304, "GET", "/dlo/o", "", "If-None-Match", etag)
	me.want(t, 201, "PUT", "/dlo/seg%20s/3", "fourth.")
	has(t, me.want(t, 200, "HEAD", "/dlo/o", ""), "Content-Length", "26")
	text(t, me.want(t, 200, "GET", "/dlo/o?multipart-manifest=get", ""), "")
	me.want(t, 201, "COPY", "/dlo/o", "", "Destination", "dlo/flat")
	a = me.want(t, 200, "GET", "/dlo/flat", "")
	text(t, a, "first.second.third.fourth.")
	has(t, a, "X-Object-Manifest", "-")
	me.want(t, 201, "COPY", "/dlo/o?multipart-manifest=get", "", "Destination", "dlo/again")
	text(t, me.want(t, 200, "GET", "/dlo/again", ""), "first.second.third.fourth.")
	me.want(t, 202, "POST", "/dlo/again", "")
	text(t, me.want(t, 200, "GET", "/dlo/again", ""), "") // the header went with the other metadata
}

// readBroken reads an answer as far as it comes, and says how it ended.
func readBroken(r *http.Request) (string, error) {
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
