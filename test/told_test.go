package test

import (
	"crypto/md5" // the ETag of the API
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A write is durable on a node that is killed before it has told the listing: the listing hears of it when the node is
// there again, of what was deleted as of what was put.
func TestListingsHearOfWritesBeforeAKill(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/c", nil, http.StatusCreated)
	as(t, tok, "PUT", c.url()+"/v1/AUTH_test/c/goes", strings.NewReader("x"), http.StatusCreated)
	// As an object server does that is killed in between: the request names no container servers to be told.
	onNode := func(method, object string, want int, body string) {
		t.Helper()
		r := request(t, method, fmt.Sprintf("http://%s.1.1:6200/d1/0/AUTH_test/c/%s", c.network, object), strings.NewReader(body))
		r.Header.Set("X-Timestamp", fmt.Sprintf("%.5f", float64(time.Now().UnixMicro())/1e6))
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("X-Backend-Commit-Etag", fmt.Sprintf("%x", md5.Sum([]byte(body))))
		r.Header.Set("X-Backend-Commit-Crc32c", fmt.Sprintf("%08x", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))))
		if a := do(t, r); a.StatusCode != want {
			t.Fatalf("%s %s: %s: %s", method, object, a.Status, a.body)
		}
	}
	onNode("PUT", "goes", http.StatusCreated, "y") // it may not have been there
	onNode("PUT", "comes", http.StatusCreated, "twelve bytes")
	onNode("DELETE", "goes", http.StatusNoContent, "")
	listing := func() string {
		r := request(t, "GET", c.url()+"/v1/AUTH_test/c", nil) // a node may be away: 204 of an empty one, 200 else
		r.Header.Set("X-Auth-Token", tok)
		return string(do(t, r).body)
	}
	if got := listing(); got != "goes\n" {
		t.Fatalf("before the kill the listing is %q", got)
	}
	c.storage[0].signal(t, syscall.SIGKILL)
	c.storage[0].wait(t, 10*time.Second)
	c.startStorage(t, 0)
	c.awaitAll(t)
	poll(t, 30*time.Second, "the listing has heard of it", func() error {
		if got := listing(); got != "comes\n" {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}
