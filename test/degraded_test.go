package test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whatever was acknowledged before every process was killed in the middle of
// writing is there afterwards, and is listed.
func TestKillWhileWriting(t *testing.T) {
	const writers, enough = 6, 300
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	base := c.url() + "/v1/AUTH_test/busy"
	as(t, tok, "PUT", base, nil, http.StatusCreated)

	body := func(name string) string { return strings.Repeat(name+" ", 1+len(name)*200) }
	acked := make(chan string, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("w%d-%04d", w, i)
				r, err := http.NewRequestWithContext(t.Context(), "PUT", base+"/"+name, strings.NewReader(body(name)))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("X-Auth-Token", tok)
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					return // the proxy is gone
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusCreated {
					acked <- name
				}
			}
		})
	}
	go func() {
		all.Wait()
		close(acked)
	}()
	var names []string
	for name := range acked { // ends with the writers, which end with the proxy
		if names = append(names, name); len(names) == enough {
			for _, p := range append(c.storage, c.proxy) {
				p.signal(t, os.Kill)
			}
		}
	}
	for _, p := range c.processes() {
		p.wait(t, 5*time.Second)
	}
	if len(names) < enough {
		t.Fatalf("only %d writes were acknowledged before the writers ended", len(names))
	}

	c.start(t)
	for _, name := range names {
		if got := string(as(t, tok, "GET", base+"/"+name, nil, http.StatusOK).body); got != body(name) {
			t.Fatalf("%s was acknowledged with %d bytes and has %d others now", name, len(body(name)), len(got))
		}
	}
	poll(t, 30*time.Second, "every replica of the listing is whole", func() error {
		for range 8 {
			listed := strings.Split(string(as(t, tok, "GET", base, nil, http.StatusOK).body), "\n")
			for _, name := range names {
				if !slices.Contains(listed, name) {
					return fmt.Errorf("%s is not listed", name)
				}
			}
		}
		return nil
	})
	t.Logf("%d acknowledged writes survived", len(names))
}

// With a node gone everything still works; once it is back it is told what it
// missed of listings, and accounts come to know what their containers hold.
func TestNodeGone(t *testing.T) {
	t.Parallel()
	const n = 30
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	account := c.url() + "/v1/AUTH_test"
	as(t, tok, "PUT", account+"/before", nil, http.StatusCreated)

	gone := c.storage[0]
	gone.signal(t, os.Kill)
	gone.wait(t, 5*time.Second)
	as(t, tok, "PUT", account+"/without", nil, http.StatusCreated)
	var names []string
	for i := range n {
		name := fmt.Sprintf("o%02d", i)
		names = append(names, name)
		for _, container := range []string{"before", "without"} {
			as(t, tok, "PUT", account+"/"+container+"/"+name, strings.NewReader(name), http.StatusCreated)
		}
	}
	want := strings.Join(names, "\n") + "\n"
	check := func(when string) {
		t.Helper()
		for _, container := range []string{"before", "without"} {
			poll(t, 30*time.Second, when+" every listing is whole", func() error {
				for range 8 { // replicas are read by chance
					r := request(t, "GET", account+"/"+container, nil)
					r.Header.Set("X-Auth-Token", tok)
					if got := string(do(t, r).body); got != want {
						return fmt.Errorf("%s lists %d of %d objects", container, strings.Count(got, "\n"), n)
					}
				}
				return nil
			})
			for _, name := range names {
				if got := string(as(t, tok, "GET", account+"/"+container+"/"+name, nil, http.StatusOK).body); got != name {
					t.Fatalf("%s %s/%s is %q", when, container, name, got)
				}
			}
		}
	}
	check("while a node is gone")

	c.storage[0] = start(t, "storage", "--config", c.file("storage1.toml"))
	c.await(t, c.storage[0], "http://"+c.network+".1.1:6209/healthcheck")
	check("with the node back")

	poll(t, 30*time.Second, "the account is told", func() error {
		h := as(t, tok, "HEAD", account, nil, http.StatusNoContent).Header
		objects, bytes := h.Get("X-Account-Object-Count"), h.Get("X-Account-Bytes-Used")
		if objects != fmt.Sprint(2*n) || bytes != fmt.Sprint(2*n*3) {
			return fmt.Errorf("it counts %s objects of %s bytes, want %d of %d", objects, bytes, 2*n, 2*n*3)
		}
		return nil
	})
}
