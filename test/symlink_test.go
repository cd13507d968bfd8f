package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// symlinks is links as clients make and read them, with all that reads objects.
func symlinks(t *testing.T, c *cluster, me *api) {
	for _, container := range []string{"/sym", "/symto"} {
		me.want(t, 201, "PUT", container, "")
	}
	to := []string{"X-Symlink-Target", "symto/o"}
	me.want(t, 201, "PUT", "/sym/l", "", to...)
	a := me.want(t, 404, "GET", "/sym/l", "") // before there is a target
	has(t, a, "Content-Location", "/v1/AUTH_test/symto/o")
	me.want(t, 409, "PUT", "/sym/static", "", append(to, "X-Symlink-Target-Etag", sum("target"))...)
	me.want(t, 201, "PUT", "/symto/o", "target", "Content-Type", "text/x", "X-Object-Meta-A", "1")
	me.want(t, 201, "PUT", "/sym/static", "", append(to, "X-Symlink-Target-Etag", `"`+sum("target")+`"`)...)
	for _, l := range []string{"/sym/l", "/sym/static"} {
		a = me.want(t, 200, "GET", l, "")
		text(t, a, "target")
		has(t, a, "Etag", sum("target"), "Content-Location", "/v1/AUTH_test/symto/o", "Content-Type", "text/x", "X-Object-Meta-A", "1",
			"X-Symlink-Target", "-", "X-Object-Sysmeta-Symlink-Target", "-", "X-Backend-Found-In", "-")
		text(t, me.want(t, 206, "GET", l, "", "Range", "bytes=1-2"), "ar")
		text(t, me.want(t, 206, "GET", l, "", "Range", "bytes=-3"), "get")
		me.want(t, 416, "GET", l, "", "Range", "bytes=6-")
		me.want(t, 304, "GET", l, "", "If-None-Match", sum("target"))
		me.want(t, 304, "HEAD", l, "", "If-None-Match", "*")
		me.want(t, 200, "GET", l, "", "If-None-Match", sum(""), "If-Match", sum("target"))
		has(t, me.want(t, 412, "GET", l, "", "If-Match", sum("")), "Content-Location", "/v1/AUTH_test/symto/o")
		a = me.want(t, 200, "GET", l+"?symlink=get", "")
		text(t, a, "")
		has(t, a, "X-Symlink-Target", "symto/o", "Etag", sum(""), "Content-Length", "0", "Content-Location", "-")
	}
	has(t, me.want(t, 200, "HEAD", "/sym/l?symlink=get", ""), "Content-Type", "application/symlink", "X-Symlink-Target-Etag", "-")
	has(t, me.want(t, 200, "HEAD", "/sym/static?symlink=get", ""), "Content-Type", "text/x", "X-Symlink-Target-Etag", sum("target"), "X-Symlink-Target-Bytes", "6")
	t.Run("rows", func(t *testing.T) { symlinkRows(t, me) })
	t.Run("large objects", func(t *testing.T) { symlinksAndLarge(t, c, me) })
	t.Run("rights", func(t *testing.T) { symlinkRights(t, c, me) })

	// What changes is the link.
	a = me.want(t, 307, "POST", "/sym/static", "", "X-Object-Meta-B", "2")
	has(t, a, "Location", "/v1/AUTH_test/symto/o", "X-Symlink-Target-Etag", sum("target"), "X-Object-Sysmeta-Symlink-Target", "-")
	has(t, me.want(t, 200, "HEAD", "/sym/static?symlink=get", ""), "X-Object-Meta-B", "2", "X-Symlink-Target", "symto/o")
	has(t, me.want(t, 200, "HEAD", "/symto/o", ""), "X-Object-Meta-B", "-")
	me.want(t, 400, "POST", "/sym/l", "", to...)
	me.want(t, 201, "COPY", "/sym/l", "", "Destination", "sym/plain")
	has(t, me.want(t, 200, "HEAD", "/sym/plain?symlink=get", ""), "X-Symlink-Target", "-", "Etag", sum("target"))
	me.want(t, 201, "COPY", "/sym/static?symlink=get", "", "Destination", "sym/again")
	has(t, me.want(t, 200, "HEAD", "/sym/again?symlink=get", ""), "X-Symlink-Target", "symto/o", "X-Symlink-Target-Etag", sum("target"), "X-Object-Meta-B", "2")
	me.want(t, 201, "PUT", "/symto/o", "changed")
	text(t, me.want(t, 200, "GET", "/sym/l", ""), "changed")
	has(t, me.want(t, 409, "GET", "/sym/static", ""), "Content-Location", "/v1/AUTH_test/symto/o")
	me.want(t, 409, "COPY", "/sym/static?symlink=get", "", "Destination", "sym/no")
	me.want(t, 204, "DELETE", "/sym/l", "")
	me.want(t, 404, "GET", "/sym/l", "")
	text(t, me.want(t, 200, "GET", "/symto/o", ""), "changed")
	me.want(t, 201, "PUT", "/sym/static", "an object now")
	text(t, me.want(t, 200, "GET", "/sym/static", ""), "an object now")
}

// symlinkRows is what the listing says of links.
func symlinkRows(t *testing.T, me *api) {
	rows := rowsOf(t, me.want(t, 200, "GET", "/sym?format=json", ""))
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2: %v", len(rows), rows)
	}
	for _, row := range rows {
		if row["hash"] != sum("") || row["bytes"] != 0.0 || row["symlink_path"] != "/v1/AUTH_test/symto/o" {
			t.Errorf("a link's row is %v", row)
		}
	}
	if rows[0]["symlink_etag"] != nil || rows[1]["symlink_etag"] != sum("target") || rows[1]["symlink_bytes"] != 6.0 {
		t.Errorf("what they want of their target: %v", rows)
	}
	if text := string(me.want(t, 200, "GET", "/sym?format=xml", "").body); strings.Contains(text, "symlink") && strings.Contains(text, "symto") {
		t.Errorf("the XML shows %s", text)
	}
}

// symlinksAndLarge is links to large objects, and large objects of links.
func symlinksAndLarge(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/symbig", "")
	for i, part := range []string{"one.", "two."} {
		me.want(t, 201, "PUT", fmt.Sprintf("/symto/seg%d", i), part)
		me.want(t, 201, "PUT", fmt.Sprintf("/symbig/part/%d", i), "", "X-Symlink-Target", fmt.Sprintf("symto/seg%d", i))
	}
	etag := `"` + sum(sum("one.")+sum("two.")) + `"`
	me.want(t, 201, "PUT", "/symbig/slo?multipart-manifest=put", `[{"path":"symbig/part/0","etag":"`+sum("one.")+`"},{"path":"symbig/part/1","size_bytes":4}]`)
	me.want(t, 201, "PUT", "/symbig/dlo", "", "X-Object-Manifest", "symbig/part/")
	manifest := me.want(t, 200, "GET", "/symbig/slo?multipart-manifest=get", "").Header.Get("Etag")
	me.want(t, 201, "PUT", "/symbig/link", "", "X-Symlink-Target", "symbig/slo", "X-Symlink-Target-Etag", manifest)
	me.want(t, 201, "PUT", "/symbig/dynamic", "", "X-Symlink-Target", "symbig/dlo")
	for _, large := range []string{"/symbig/slo", "/symbig/dlo", "/symbig/link", "/symbig/dynamic"} {
		a := me.want(t, 200, "GET", large, "")
		text(t, a, "one.two.")
		has(t, a, "Etag", etag, "Content-Length", "8")
		has(t, me.want(t, 200, "HEAD", large, ""), "Etag", etag, "Content-Length", "8")
		text(t, me.want(t, 206, "GET", large, "", "Range", "bytes=3-4"), ".t")
		me.want(t, 304, "GET", large, "", "If-None-Match", etag)
		me.want(t, 412, "GET", large, "", "If-Match", sum(""))
	}
	rows := rowsOf(t, me.want(t, 200, "GET", "/symbig?format=json&prefix=link", ""))
	if len(rows) != 1 || rows[0]["slo_etag"] != etag || rows[0]["symlink_bytes"] != 8.0 || rows[0]["symlink_etag"] != manifest || rows[0]["hash"] != sum("") {
		t.Errorf("a static link to a large object is listed as %v", rows)
	}

	// What is deleted with its segments is the large object, not a link to it.
	has(t, me.want(t, 200, "DELETE", "/symbig/link?multipart-manifest=delete", "", "Accept", "application/json"), "Content-Type", "application/json")
	me.want(t, 404, "GET", "/symbig/link", "")
	text(t, me.want(t, 200, "GET", "/symbig/slo", ""), "one.two.")

	// From another account the segments are still those of the manifest's.
	other := signIn(t, c.url(), "test2:tester2", "testing2")
	other.want(t, 201, "PUT", "/symbig", "")
	for _, container := range []string{"/symbig", "/symto"} {
		me.want(t, 204, "POST", container, "", "X-Container-Read", "test2:tester2,.rlistings")
	}
	for _, large := range []string{"slo", "dlo"} {
		other.want(t, 201, "PUT", "/symbig/"+large, "", "X-Symlink-Target", "symbig/"+large, "X-Symlink-Target-Account", "AUTH_test")
		text(t, other.want(t, 200, "GET", "/symbig/"+large, ""), "one.two.")
	}

	me.want(t, 204, "POST", "/symto", "", "X-Container-Read", "")

	// A link that leads nowhere is a segment that is missing.
	me.want(t, 204, "DELETE", "/symto/seg1", "")
	for _, large := range []string{"/symbig/dlo", "/symbig/dynamic"} {
		me.want(t, 409, "GET", large, "")
	}
	text(t, me.want(t, 206, "GET", "/symbig/slo", "", "Range", "bytes=0-3"), "one.")
}

// symlinkRights is that a link gives nobody any.
func symlinkRights(t *testing.T, c *cluster, me *api) {
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = me.url
	me.want(t, 204, "POST", "/sym", "", "X-Container-Read", "test2:tester2")
	has(t, stranger.want(t, 403, "GET", "/sym/l", ""), "Content-Location", "/v1/AUTH_test/symto/o")
	stranger.want(t, 200, "GET", "/sym/l?symlink=get", "")
	stranger.want(t, 403, "COPY", "/sym/l", "", "Destination", "sym/x", "Destination-Account", "AUTH_test2")
	me.want(t, 204, "POST", "/symto", "", "X-Container-Read", "test2:tester2")
	text(t, stranger.want(t, 200, "GET", "/sym/l", ""), "target")
	me.want(t, 204, "POST", "/symto", "", "X-Container-Read", "")

	me.want(t, 204, "POST", "/sym", "", "X-Container-Meta-Temp-URL-Key", "container's", "X-Container-Read", "")
	me.want(t, 204, "POST", "", "", "X-Account-Meta-Temp-URL-Key", "account's")
	me.want(t, 201, "PUT", "/sym/near", "", "X-Symlink-Target", "sym/here")
	me.want(t, 201, "PUT", "/sym/here", "here")
	anybody := &api{url: me.url}
	at := time.Now().Add(time.Hour).Unix()
	for _, tt := range []struct {
		key, method, path string
		want              int
	}{
		{"container's", "GET", "/sym/near", 200}, {"container's", "GET", "/sym/l", 401}, {"account's", "GET", "/sym/l", 200}, {"account's", "PUT", "/sym/new", 400},
	} {
		mac := hmac.New(sha256.New, []byte(tt.key))
		_, _ = fmt.Fprintf(mac, "%s\n%d\n/v1/AUTH_test%s", tt.method, at, tt.path)
		var header []string
		if tt.method == "PUT" {
			header = []string{"X-Symlink-Target", "sym/here"}
		}
		anybody.want(t, tt.want, tt.method, tt.path+"?temp_url_sig="+hex.EncodeToString(mac.Sum(nil))+"&temp_url_expires="+strconv.FormatInt(at, 10), "", header...)
	}
}
