package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// temporaryURLs is what somebody may do who has no token but a URL.
func temporaryURLs(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/temp", "", "X-Container-Meta-Temp-URL-Key", "of the container")
	me.want(t, 201, "PUT", "/temp2", "")
	me.want(t, 201, "PUT", "/temp/a%20b", "body", "X-Object-Meta-A", "1", "X-Object-Meta-Public-B", "2")
	me.want(t, 201, "PUT", "/temp/large?multipart-manifest=put", `[{"path":"/temp/a b"}]`)
	me.want(t, 204, "POST", "", "", "X-Account-Meta-Temp-URL-Key", "of the account")
	anybody := &api{url: me.url}
	at := time.Now().Add(time.Hour).Unix()
	url := func(key, method, path, quoted string) string {
		return quoted + "?" + signedQuery(key, method, "/v1/AUTH_test"+path, at)
	}
	for _, key := range []string{"of the account", "of the container"} {
		get := url(key, "GET", "/temp/a b", "/temp/a%20b")
		a := anybody.want(t, 200, "GET", get, "")
		text(t, a, "body")
		has(t, a, "X-Object-Meta-A", "-", "X-Object-Meta-Public-B", "2", "Content-Disposition", `attachment; filename="a b"; filename*=UTF-8''a%20b`)
		anybody.want(t, 200, "HEAD", get, "")
		anybody.want(t, 401, "PUT", get, "x")
		anybody.want(t, 401, "GET", url(key, "GET", "/temp/a b", "/temp/large"), "")
		text(t, anybody.want(t, 200, "GET", url(key, "GET", "/temp/large", "/temp/large"), ""), "body")
		put := url(key, "PUT", "/temp/new", "/temp/new")
		anybody.want(t, 201, "PUT", put, "uploaded")
		anybody.want(t, 400, "PUT", put, "", "X-Object-Manifest", "temp2/x")
		text(t, me.want(t, 200, "GET", "/temp/new", ""), "uploaded")
	}
	anybody.want(t, 401, "GET", url("neither", "GET", "/temp/a b", "/temp/a%20b"), "")
	anybody.want(t, 401, "PUT", url("of the container", "PUT", "/temp2/x", "/temp2/x"), "x")

	// Only owners see the keys.
	stranger := signIn(t, c.url(), "test2:tester2", "testing2")
	stranger.url = me.url
	me.want(t, 204, "POST", "/temp", "", "X-Container-Read", "test2:tester2")
	has(t, stranger.want(t, 204, "HEAD", "/temp", ""), "X-Container-Meta-Temp-Url-Key", "-")
	has(t, me.want(t, 204, "HEAD", "/temp", ""), "X-Container-Meta-Temp-Url-Key", "of the container")
	me.want(t, 204, "POST", "", "", "X-Remove-Account-Meta-Temp-URL-Key", "x")
	anybody.want(t, 401, "PUT", url("of the account", "PUT", "/temp2/x", "/temp2/x"), "x")
}

// signedQuery is that of a temporary URL.
func signedQuery(key, method, path string, at int64) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(mac, "%s\n%d\n%s", method, at, path)
	return "temp_url_sig=" + hex.EncodeToString(mac.Sum(nil)) + "&temp_url_expires=" + strconv.FormatInt(at, 10)
}
