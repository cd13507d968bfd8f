package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tarball makes an archive of files that hold their names.
func tarball(t *testing.T, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, n := range names {
		err := w.WriteHeader(&tar.Header{
			Name: n, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(n)), PAXRecords: map[string]string{"SCHILY.xattr.user.meta.name": n},
		})
		_, err2 := io.WriteString(w, n)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// bulkRequests is many things for one request.
func bulkRequests(t *testing.T, c *cluster, me *api) {
	names := []string{"bulk1/a", "bulk1/dir/b c", "bulk2/é"}
	jsonReport := []string{"Accept", "application/json"}
	a := me.want(t, 200, "PUT", "?extract-archive=tar.gz", tarball(t, names...), jsonReport...)
	text(t, a, `{"Errors":[],"Number Files Created":3,"Response Body":"","Response Status":"201 Created"}`)
	has(t, a, "Content-Type", "application/json", "Connection", "-")
	for _, path := range []string{"/bulk1/a", "/bulk1/dir/b%20c", "/bulk2/%C3%A9"} {
		a := me.want(t, 200, "GET", path, "")
		if got := a.Header.Get("X-Object-Meta-Name"); got != string(a.body) {
			t.Errorf("GET %s: its name is %q, its body %q", path, got, a.body)
		}
	}
	// A client of unknown length, asked for its body first.
	r := request(t, http.MethodPut, me.url+"/bulk1/more?extract-archive=tar.gz", io.MultiReader(strings.NewReader(tarball(t, "x", "y"))))
	r.Header.Set("X-Auth-Token", me.token)
	r.Header.Set("Expect", "100-continue")
	text(t, do(t, r), "Number Files Created: 2\nResponse Body: \nResponse Status: 201 Created\nErrors:\n")
	text(t, me.want(t, 200, "GET", "/bulk1/more/y", ""), "y")

	nobody := &api{url: me.url}
	text(t, nobody.want(t, 200, "PUT", "/bulk1?extract-archive=tar.gz", tarball(t, "x"), jsonReport...),
		`{"Errors":[],"Number Files Created":0,"Response Body":"","Response Status":"401 Unauthorized"}`)
	forged := &api{url: me.url, token: "AUTH_tkforged"}
	text(t, forged.want(t, 200, "POST", "?bulk-delete", "/bulk1/a", jsonReport...),
		`{"Errors":[["/bulk1/a","401 Unauthorized"]],"Number Deleted":0,"Number Not Found":0,"Response Body":"","Response Status":"400 Bad Request"}`)

	list := "bulk2\n/bulk1/a\n/bulk1/dir/b%20c\nbulk2/%C3%A9\n/bulk1/more/x\n/bulk1/more/y\n/bulk1/none\n/bulk1\n"
	text(t, me.want(t, 200, "POST", "?bulk-delete", list, jsonReport...),
		`{"Errors":[],"Number Deleted":7,"Number Not Found":1,"Response Body":"","Response Status":"200 OK"}`)
	me.want(t, 404, "HEAD", "/bulk1", "")
	me.want(t, 404, "HEAD", "/bulk2", "")
	me.want(t, 201, "PUT", "/bulk1", "")
	me.want(t, 201, "PUT", "/bulk1/a", "x")
	text(t, me.want(t, 200, "DELETE", "?bulk-delete", "/bulk1\n"),
		"Number Deleted: 0\nNumber Not Found: 0\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/bulk1, 409 Conflict\n")
	bulkClient(t, c, me)
}

// bulkClient is what swift does with many objects: it asks for all in one request.
func bulkClient(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/bulk3", "")
	for i := range 20 {
		me.want(t, 201, "PUT", fmt.Sprintf("/bulk3/%d%%20x", i), "x")
	}
	out := shell(t, t.TempDir(), "swift -A "+c.url()+"/auth/v1.0 -U test:tester -K testing delete bulk3", time.Minute)
	if !strings.Contains(out, "19 x") {
		t.Errorf("swift delete says %q", out)
	}
	me.want(t, 404, "HEAD", "/bulk3", "")
}

// otherOrigins is what scripts in browsers may do.
func otherOrigins(t *testing.T, _ *cluster, me *api) {
	const origin = "http://good.example"
	me.want(t, 201, "PUT", "/cors", "", "X-Container-Meta-Access-Control-Allow-Origin", "http://other.example "+origin,
		"X-Container-Meta-Access-Control-Max-Age", "60", "X-Container-Meta-Access-Control-Expose-Headers", "X-Extra", "X-Container-Read", ".r:*")
	me.want(t, 201, "PUT", "/cors/o", "x", "X-Object-Meta-A", "1")
	anybody := &api{url: me.url}
	a := anybody.want(t, 200, "OPTIONS", "/cors/o", "", "Origin", origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-auth-token")
	has(t, a, "Access-Control-Allow-Origin", origin, "Access-Control-Max-Age", "60", "Access-Control-Allow-Headers", "x-auth-token",
		"Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, POST, PUT, COPY", "Vary", "Origin, Access-Control-Request-Headers")
	anybody.want(t, 401, "OPTIONS", "/cors/o", "", "Origin", "http://bad.example", "Access-Control-Request-Method", "GET")
	a = anybody.want(t, 200, "GET", "/cors/o", "", "Origin", origin)
	has(t, a, "Access-Control-Allow-Origin", origin, "Vary", "Origin")
	if exposed := a.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "x-object-meta-a") || !strings.Contains(exposed, "x-extra") {
		t.Errorf("exposed is %q", exposed)
	}
	has(t, anybody.want(t, 200, "GET", "/cors/o", "", "Origin", "http://bad.example"), "Access-Control-Allow-Origin", "-", "Access-Control-Expose-Headers", "-")
	// Refusals can be read, too: that of a token that has expired, say.
	has(t, (&api{url: me.url, token: "AUTH_tkold"}).want(t, 401, "PUT", "/cors/o", "x", "Origin", origin), "Access-Control-Allow-Origin", origin)
	me.want(t, 204, "POST", "/cors", "", "X-Container-Meta-Access-Control-Allow-Origin", "*")
	has(t, me.want(t, 200, "GET", "/cors?format=json", "", "Origin", origin), "Access-Control-Allow-Origin", "*", "Vary", "-")
	me.want(t, 204, "DELETE", "/cors/o", "")
}
