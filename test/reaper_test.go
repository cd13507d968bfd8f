package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// configure changes the text of a file of the cluster.
func (c *cluster) configure(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(c.file(name))
	if err == nil {
		err = os.WriteFile(c.file(name), change(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// holders asks every device for a path, as a proxy would, and returns how many have it.
func (c *cluster) holders(t *testing.T, port int, path string) (n int) {
	t.Helper()
	for node := 1; node <= c.nodes; node++ {
		for device := 1; device <= 2; device++ {
			r := request(t, "HEAD", fmt.Sprintf("http://%s.1.%d:%d/d%d/0%s", c.network, node, port, device, path), nil)
			switch a := do(t, r); a.StatusCode {
			case http.StatusOK, http.StatusNoContent:
				n++
			case http.StatusNotFound:
			default:
				t.Fatalf("%s: %s", r.URL, a.Status)
			}
		}
	}
	return n
}

// An account is reaped while the nodes that do it are killed again and again: in the end no device has anything
// of it, and all of another account.
func TestReaperWhileNodesAreKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.configure(t, "proxy.toml", func(b []byte) []byte {
		return bytes.Replace(b, []byte("[proxy]\n"), []byte("[proxy]\nallow_account_management = true\n"), 1)
	})
	for n := 1; n <= c.nodes; n++ {
		c.configure(t, fmt.Sprintf("storage%d.toml", n), func(b []byte) []byte {
			return append(b, "\n[account_reaper]\ninterval = \"100ms\"\nobjects_per_second = 15\n"...)
		})
	}
	c.onlyPassesOnDemand(t)
	c.start(t)
	admin := signIn(t, c.url(), "admin:admin", "admin")
	var objects, containers []string
	for _, account := range []string{"AUTH_gone", "AUTH_stays"} {
		for container := range 6 {
			at := fmt.Sprintf("/%s/c%d", account, container)
			as(t, admin.token, "PUT", c.url()+"/v1"+at, nil, http.StatusCreated)
			containers = append(containers, at)
			for object := range 15 {
				body := "small"
				if object == 0 {
					body = strings.Repeat("large", 80_000) // of a file of its own
				}
				path := fmt.Sprintf("%s/o%d", at, object)
				as(t, admin.token, "PUT", c.url()+"/v1"+path, strings.NewReader(body), http.StatusCreated)
				objects = append(objects, path)
			}
		}
	}
	as(t, admin.token, "DELETE", c.url()+"/v1/AUTH_gone", nil, http.StatusNoContent)
	for range 6 {
		n := rand.IntN(c.nodes)
		c.storage[n].signal(t, os.Kill)
		c.storage[n].wait(t, 10*time.Second)
		c.startStorage(t, n)
		c.awaitAll(t)
	}
	look := func(port int, paths []string) error {
		left := 0
		for _, path := range paths {
			if n := c.holders(t, port, path); strings.HasPrefix(path, "/AUTH_gone/") {
				left += n
			} else if n < 3 {
				return fmt.Errorf("%s is on %d devices", path, n)
			}
		}
		if left > 0 {
			return fmt.Errorf("%d copies are left", left)
		}
		return nil
	}
	poll(t, 90*time.Second, "everything of the account goes", func() error {
		c.replicate(t) // what went to handoffs
		if err := look(6201, containers); err != nil {
			return err
		}
		return look(6200, objects)
	})
	as(t, admin.token, "GET", c.url()+"/v1/AUTH_gone", nil, http.StatusGone)
	as(t, admin.token, "GET", c.url()+"/v1/AUTH_stays/c0/o0", nil, http.StatusOK)
}
