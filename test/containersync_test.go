package test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// set puts text into a file of the cluster's: into the table [proxy] of the proxy's, at the end of
// those of storage nodes.
func (c *cluster) set(t *testing.T, file, proxy, end string) {
	t.Helper()
	was, err := os.ReadFile(c.file(file))
	if err != nil {
		t.Fatal(err)
	}
	now := append(bytes.Replace(was, []byte("[proxy]\n"), []byte("[proxy]\n"+proxy+"\n"), 1), "\n"+end+"\n"...)
	if err := os.WriteFile(c.file(file), now, 0o600); err != nil {
		t.Fatal(err)
	}
}

// twoInSync are two clusters of one realm, whose nodes sync several times a second. The realm is in
// a file of Swift's form with the one, and in the configuration of the other, which is about to replace the key.
func twoInSync(t *testing.T) (a, b *cluster) {
	t.Helper()
	a, b = newCluster(t), newCluster(t)
	for b.network == a.network {
		b = newCluster(t)
	}
	file := filepath.Join(t.TempDir(), "container-sync-realms.conf")
	text := fmt.Sprintf("[DEFAULT]\nmtime_check_interval = 10\n[us]\nkey = of the realm\ncluster_a = %s/v1/\ncluster_B = %s/v1\n", a.url(), b.url())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	inline := fmt.Sprintf(`clusters = { a = "%s/v1", b = "%s/v1/" } } }`, a.url(), b.url())
	for n := 1; n <= a.nodes; n++ {
		storage := fmt.Sprintf("storage%d.toml", n)
		common := "[container_sync]\ninterval = \"300ms\"\nconn_timeout = \"1s\"\n"
		a.set(t, storage, "", common+fmt.Sprintf("realms_file = %q\n", file))
		b.set(t, storage, "", common+`realms = { US = { key = "of the realm", `+inline)
	}
	a.set(t, "proxy.toml", fmt.Sprintf(`container_sync = { realms_file = %q, current = "//us/a", allowed_hosts = ["sync.example.com"] }`, file), "")
	b.set(t, "proxy.toml", `container_sync = { realms = { US = { key = "a new one", key2 = "of the realm", `+strings.TrimSuffix(inline, "}")+"} }", "")
	a.start(t)
	b.start(t)
	return a, b
}

// alike waits until two clusters answer alike to a GET of some path.
func alike(t *testing.T, one, other *api, paths ...string) {
	t.Helper()
	for _, path := range paths {
		poll(t, 60*time.Second, path+" in both clusters", func() error {
			x, y := one.call(t, http.MethodGet, path, nil), other.call(t, http.MethodGet, path, nil)
			if x.StatusCode != y.StatusCode || !bytes.Equal(x.body, y.body) {
				return fmt.Errorf("%s and %s, %.200q and %.200q", x.Status, y.Status, x.body, y.body)
			}
			if x.StatusCode/100 != 2 {
				return nil
			}
			for n := range x.Header {
				if strings.HasPrefix(n, "X-Object-Meta-") || n == "X-Timestamp" && strings.Count(path, "/") > 1 || n == "Etag" || n == "Content-Type" || n == "X-Symlink-Target" {
					if x.Header.Get(n) != y.Header.Get(n) {
						return fmt.Errorf("%s: %q and %q", n, x.Header.Get(n), y.Header.Get(n))
					}
				}
			}
			return nil
		})
	}
}

// TestContainerSync is what owners of containers in two clusters see, also while either is down.
func TestContainerSync(t *testing.T) {
	t.Parallel()
	a, b := twoInSync(t)
	me, there := signIn(t, a.url(), "test:tester", "testing"), signIn(t, b.url(), "test:tester", "testing")
	const key = "of the container"
	there.want(t, 201, "PUT", "/c%20d", "", "X-Container-Sync-Key", key)
	me.want(t, 201, "PUT", "/c%20d", "", "X-Container-Sync-Key", key)
	me.want(t, 201, "PUT", "/c%20d/before", "before", "X-Object-Meta-A", "1")
	me.want(t, 204, "POST", "/c%20d", "", "X-Container-Sync-To", "//US/b/AUTH_test/c%20d")

	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	me.want(t, 201, "PUT", "/c%20d/large", large, "Content-Type", "text/x", "X-Object-Meta-N%C3%A4me", "n\xc3\xa4me")
	me.want(t, 201, "PUT", "/c%20d/%C3%A4%2F//..%3F%23", "odd")
	me.want(t, 201, "PUT", "/c%20d/empty", "")
	for i := range 2 {
		me.want(t, 201, "PUT", fmt.Sprintf("/c%%20d/segment/%d", i), large)
	}
	me.want(t, 201, "PUT", "/c%20d/slo?multipart-manifest=put", `[{"path":"/c d/segment/0"},{"path":"/c d/segment/1"}]`, "Content-Type", "text/s")
	me.want(t, 201, "PUT", "/c%20d/dlo", "", "X-Object-Manifest", "c%20d/b")
	me.want(t, 201, "PUT", "/c%20d/link", "", "X-Symlink-Target", "c%20d/large")
	me.want(t, 201, "PUT", "/c%20d/static", "", "X-Symlink-Target", "c%20d/large", "X-Symlink-Target-Etag", sum(large))
	all := []string{
		"/c%20d/before", "/c%20d/large", "/c%20d/%C3%A4%2F//..%3F%23", "/c%20d/empty", "/c%20d/slo", "/c%20d/slo?multipart-manifest=get", "/c%20d/dlo",
		"/c%20d/link", "/c%20d/link?symlink=get", "/c%20d/static", "/c%20d/static?symlink=get", "/c%20d?format=json",
	}
	alike(t, me, there, all...)
	has(t, there.want(t, 200, "HEAD", "/c%20d/static?symlink=get", ""), "X-Symlink-Target-Etag", sum(large), "X-Symlink-Target-Bytes", "1048576")

	me.want(t, 202, "POST", "/c%20d/before", "", "X-Object-Meta-B", "2", "Content-Type", "text/other")
	me.want(t, 204, "DELETE", "/c%20d/empty", "")
	me.want(t, 201, "PUT", "/c%20d/large", "smaller")
	alike(t, me, there, all...)
	has(t, there.want(t, 200, "GET", "/c%20d/before", ""), "X-Object-Meta-A", "-", "X-Object-Meta-B", "2", "Content-Type", "text/other")
	there.want(t, 404, "GET", "/c%20d/empty", "")

	top := t // what is started in a part of the test outlives it
	t.Run("the other is down", func(t *testing.T) {
		b.stop(t, os.Kill)
		me.want(t, 201, "PUT", "/c%20d/while-down", "x")
		me.want(t, 204, "DELETE", "/c%20d/before", "")
		me.want(t, 202, "POST", "/c%20d/slo", "", "X-Object-Meta-C", "3")
		b.start(top)
		alike(t, me, there, append(all, "/c%20d/while-down")...)
	})
	t.Run("a node is down", func(t *testing.T) {
		a.storage[0].signal(t, os.Kill)
		a.storage[0].wait(t, 20*time.Second)
		for i := range 30 {
			me.want(t, 201, "PUT", fmt.Sprintf("/c%%20d/many/%d", i), fmt.Sprint(i))
		}
		alike(t, me, there, "/c%20d?format=json")
		a.startStorage(top, 0)
		a.awaitAll(t)
	})
	t.Run("both were down", func(t *testing.T) {
		b.stop(t, os.Kill)
		me.want(t, 201, "PUT", "/c%20d/last", "words")
		me.want(t, 204, "DELETE", "/c%20d/many/7", "")
		a.stop(t, os.Kill)
		b.start(top)
		a.start(top)
		alike(t, me, there, "/c%20d/last", "/c%20d/many/7", "/c%20d?format=json")
	})
	t.Run("both ways", func(t *testing.T) {
		there.want(t, 204, "POST", "/c%20d", "", "X-Container-Sync-To", "//us/A/AUTH_test/c%20d")
		there.want(t, 201, "PUT", "/c%20d/from-there", "hello")
		me.want(t, 201, "PUT", "/c%20d/from-here", "hello")
		there.want(t, 204, "DELETE", "/c%20d/last", "")
		alike(t, me, there, "/c%20d/from-there", "/c%20d/from-here", "/c%20d/last", "/c%20d?format=json")
		text(t, me.want(t, 200, "GET", "/c%20d/from-there", ""), "hello")
	})
	t.Run("what is refused", func(t *testing.T) { syncRefused(t, a, me) })
}

// syncRefused is what can't be synced to, and who is not another cluster.
func syncRefused(t *testing.T, c *cluster, me *api) {
	me.want(t, 201, "PUT", "/refused", "")
	for to, words := range map[string]string{
		"//none/b/AUTH_test/c":                "No realm key for 'none'",
		"//us/none/AUTH_test/c":               "No cluster endpoint for 'us' 'none'",
		"//us/b/AUTH_test":                    "Invalid X-Container-Sync-To format '//us/b/AUTH_test'",
		"//us/b/AUTH_test/c/o":                "Invalid X-Container-Sync-To format '//us/b/AUTH_test/c/o'",
		"ftp://sync.example.com/v1/a/c":       `Invalid scheme 'ftp' in X-Container-Sync-To, must be "//", "http", or "https".`,
		"http://sync.example.com":             "Path required in X-Container-Sync-To",
		"http://sync.example.com/v1/a/c?x=y":  "Params, queries, and fragments not allowed in X-Container-Sync-To",
		"http://127.0.0.1/v1/a/c":             "Invalid host '127.0.0.1' in X-Container-Sync-To",
		"http://x@sync.example.com/v1/a/c":    "Invalid host 'sync.example.com' in X-Container-Sync-To",
		"http://sync.example.com@h.org/v1/a/": "Invalid host 'h.org' in X-Container-Sync-To",
	} {
		for _, method := range []string{"PUT", "POST"} {
			text(t, me.want(t, 400, method, "/refused", "", "X-Container-Sync-To", to), words)
		}
	}
	has(t, me.want(t, 204, "HEAD", "/refused", ""), "X-Container-Sync-To", "-")
	me.want(t, 204, "POST", "/refused", "", "X-Container-Sync-To", "http://sync.example.com/v1/a/c")
	has(t, me.want(t, 204, "HEAD", "/refused", ""), "X-Container-Sync-To", "http://sync.example.com/v1/a/c")
	me.want(t, 204, "POST", "/refused", "", "X-Container-Sync-To", "")
	for _, auth := range []string{"us", "none nonce sig", "us nonce sig"} {
		a := me.want(t, 401, "PUT", "/c%20d/o", "x", "X-Container-Sync-Auth", auth, "X-Timestamp", "1400000000.00000")
		has(t, a, "Www-Authenticate", `SwiftContainerSync realm="AUTH_test"`)
	}
	me.want(t, 404, "GET", "/c%20d/o", "")
	info := do(t, request(t, http.MethodGet, c.url()+"/info", nil)).body
	if !bytes.Contains(info, []byte(`"container_sync":{"realms":{"US":{"clusters":{"A":{"current":true},"B":{}}}}}`)) {
		t.Errorf("/info says %s", info)
	}
}
