package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestSwitches: features that are off unless an operator switches them on, on one cluster.
func TestSwitches(t *testing.T) {
	t.Parallel()
	c, me := clusterWith(t, `etag_quoter = { enabled = true }
read_only = { enabled = true }
ratelimit = { enabled = true, max_sleep_time = "1s", container_ratelimit = { 2 = 0.001 }, container_listing_ratelimit = { 2 = 0.001 } }
list_endpoints = { enabled = true }
info_cache = "1ms"`)
	t.Run("quotes around ETags", func(t *testing.T) { switchQuotes(t, me) })
	t.Run("an account that is read-only", func(t *testing.T) { switchReadOnly(t, c, me) })
	t.Run("endpoints", func(t *testing.T) { switchEndpoints(t, c, me) })
	t.Run("rates", func(t *testing.T) { switchRates(t, c, me) })
}

// The container's word counts, then its account's. Conditions hold as ever.
func switchQuotes(t *testing.T, me *api) {
	const plain, quoted = "900150983cd24fb0d6963f7d28e17f72", `"900150983cd24fb0d6963f7d28e17f72"`
	me.want(t, 201, "PUT", "/quoted", "", "X-Container-Rfc-Compliant-Etags", "yes")
	has(t, me.want(t, 204, "HEAD", "/quoted", ""), "X-Container-Rfc-Compliant-Etags", "true")
	has(t, me.want(t, 201, "PUT", "/quoted/o", "abc", "Etag", quoted), "Etag", quoted)
	has(t, me.want(t, 200, "GET", "/quoted/o", ""), "Etag", quoted)
	has(t, me.want(t, 206, "GET", "/quoted/o", "", "Range", "bytes=1-1", "If-Range", quoted), "Etag", quoted)
	has(t, me.want(t, 416, "GET", "/quoted/o", "", "Range", "bytes=3-"), "Etag", quoted)
	for _, etag := range []string{plain, quoted} {
		has(t, me.want(t, 304, "GET", "/quoted/o", "", "If-None-Match", etag), "Etag", quoted)
		me.want(t, 200, "GET", "/quoted/o", "", "If-Match", etag)
	}
	has(t, me.want(t, 412, "GET", "/quoted/o", "", "If-Match", `"x"`), "Etag", quoted)
	me.want(t, 204, "POST", "/quoted", "", "X-Remove-Container-Rfc-Compliant-Etags", "x")
	has(t, me.want(t, 200, "HEAD", "/quoted/o", ""), "Etag", plain)

	me.want(t, 204, "POST", "", "", "X-Account-Rfc-Compliant-Etags", "true")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Rfc-Compliant-Etags", "true")
	has(t, me.want(t, 200, "HEAD", "/quoted/o", ""), "Etag", quoted)
	me.want(t, 204, "POST", "/quoted", "", "X-Container-Rfc-Compliant-Etags", "false")
	has(t, me.want(t, 200, "HEAD", "/quoted/o", ""), "Etag", plain)
	me.want(t, 204, "POST", "", "", "X-Account-Rfc-Compliant-Etags", "")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Rfc-Compliant-Etags", "-")
}

// An administrator of all accounts stops writes to one, and lets them go on.
func switchReadOnly(t *testing.T, c *cluster, me *api) {
	admin := signIn(t, c.url(), "admin:admin", "admin")
	admin.url = me.url
	me.want(t, 201, "PUT", "/still", "")
	me.want(t, 201, "PUT", "/still/o", "abc")
	me.want(t, 403, "POST", "", "", "X-Account-Read-Only", "true")
	admin.want(t, 204, "POST", "", "", "X-Account-Read-Only", "true")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Read-Only", "true")
	me.want(t, 405, "PUT", "/still/o", "abcd")
	me.want(t, 405, "COPY", "/still/o", "", "Destination", "still/p")
	me.want(t, 405, "POST", "?bulk-delete", "still/o")
	admin.want(t, 405, "DELETE", "/still/o", "")
	me.want(t, 200, "GET", "/still/o", "")
	me.want(t, 403, "POST", "", "", "X-Account-Read-Only", "false")
	admin.want(t, 204, "POST", "", "", "X-Remove-Account-Read-Only", "x")
	has(t, me.want(t, 204, "HEAD", "", ""), "X-Account-Read-Only", "-")
	me.want(t, 204, "DELETE", "/still/o", "")
	me.want(t, 204, "DELETE", "/still", "")
}

// How fast a container changes goes by how many objects it has, and an administrator says of an
// account how fast it may change, or not at all.
func switchRates(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/rates", "")
	for _, n := range []string{"1", "2"} {
		me.want(t, 201, "PUT", "/rates/"+n, "")
	}
	poll(t, 20*time.Second, "the container is known to have two", func() error {
		if n := me.want(t, 204, "HEAD", "/rates", "").Header.Get("X-Container-Object-Count"); n != "2" {
			return fmt.Errorf("it has %s", n)
		}
		return nil
	})
	me.want(t, 201, "PUT", "/rates/3", "")
	text(t, me.want(t, 498, "PUT", "/rates/4", ""), "Slow down")
	me.want(t, 498, "COPY", "/rates/1", "", "Destination", "rates/4")
	me.want(t, 404, "HEAD", "/rates/4", "")
	me.want(t, 200, "GET", "/rates", "")
	me.want(t, 498, "GET", "/rates", "")
	me.want(t, 200, "GET", "/rates/3", "")

	admin, other := signIn(t, c.url(), "admin:admin", "admin"), signIn(t, c.url(), "test2:tester2", "testing2")
	admin.url = other.url
	other.want(t, 403, "POST", "", "", "X-Account-Global-Write-Ratelimit", "WHITELIST")
	admin.want(t, 400, "POST", "", "", "X-Account-Global-Write-Ratelimit", "fast")
	admin.want(t, 204, "POST", "", "", "X-Account-Global-Write-Ratelimit", "0.001")
	has(t, other.want(t, 204, "HEAD", "", ""), "X-Account-Global-Write-Ratelimit", "0.001")
	other.want(t, 201, "PUT", "/rates", "")
	other.want(t, 498, "PUT", "/rates/1", "")
	admin.want(t, 204, "POST", "", "", "X-Account-Global-Write-Ratelimit", "blacklist")
	text(t, other.want(t, 497, "GET", "/rates", ""), "Your account has been blacklisted")
	admin.want(t, 204, "POST", "", "", "X-Remove-Account-Global-Write-Ratelimit", "x")
	has(t, other.want(t, 204, "HEAD", "", ""), "X-Account-Global-Write-Ratelimit", "-")
	other.want(t, 201, "PUT", "/rates/1", "")
}

// An object is where the cluster says that it is, and is had there with the headers that it says.
func switchEndpoints(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/where", "")
	me.want(t, 201, "PUT", "/where/a%2Fb%20c%C3%A9", "data")
	anybody := &api{url: c.url()}
	var v2 struct {
		Endpoints []string          `json:"endpoints"`
		Headers   map[string]string `json:"headers"`
	}
	a := anybody.want(t, 200, "GET", "/endpoints/v2/AUTH_test/where/a/b%20c%C3%A9", "")
	has(t, a, "Content-Type", "application/json")
	if err := json.Unmarshal(a.body, &v2); err != nil || len(v2.Endpoints) != 3 || len(v2.Headers) != 1 {
		t.Fatalf("%s: %v", a.body, err)
	}
	for _, url := range v2.Endpoints {
		poll(t, 20*time.Second, "it is at "+url, func() error { // the third replica may be late
			r := request(t, "GET", url, nil)
			for n, v := range v2.Headers {
				r.Header.Set(n, v)
			}
			if got := do(t, r); got.StatusCode != 200 || string(got.body) != "data" {
				return fmt.Errorf("%s, %q", got.Status, got.body)
			}
			return nil
		})
	}
	for path, method := range map[string]string{"/endpoints/AUTH_test/where": "HEAD", "/endpoints/v1/AUTH_test": "HEAD"} {
		var list []string
		a := anybody.want(t, 200, "GET", path, "")
		if err := json.Unmarshal(a.body, &list); err != nil || len(list) != 3 {
			t.Fatalf("%s: %s: %v", path, a.body, err)
		}
		for _, url := range list {
			if got := do(t, request(t, method, url, nil)); got.StatusCode != 204 {
				t.Errorf("%s %s: %s", method, url, got.Status)
			}
		}
	}
	anybody.want(t, 404, "GET", "/endpoints/v1/AUTH_test/nowhere/o", "")
	has(t, anybody.want(t, 405, "PUT", "/endpoints/v1/AUTH_test", ""), "Allow", "GET")
	anybody.want(t, 400, "GET", "/endpoints/v3/AUTH_test", "")
}
