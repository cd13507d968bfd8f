package test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// often has the nodes look for objects that have come to their end many times a second, and
// end few at a time.
func (c *cluster) often(t *testing.T) {
	t.Helper()
	for n := 1; n <= c.nodes; n++ {
		path := c.file(fmt.Sprintf("storage%d.toml", n))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, "\n[expirer]\ninterval = \"100ms\"\nobjects_per_second = 100\n"...)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// with sends a request with one more header, and wants a status.
func with(t *testing.T, token, method, url, header, value string, want int) {
	t.Helper()
	r := request(t, method, url, strings.NewReader(""))
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set(header, value)
	if a := do(t, r); a.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d\n%s", method, url, a.Status, want, a.body)
	}
}

// Many objects come to their end within a few seconds, while the nodes that end them are
// killed again and again: in the end the listing has exactly those that were given a longer
// life, also where a node has missed that, and all of them can be read.
func TestExpiryWhileNodesAreKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.often(t)
	c.onlyPassesOnDemand(t)
	c.start(t)
	tok := token(t, c.url())
	at := c.url() + "/v1/AUTH_test/expiry"
	as(t, tok, "PUT", at, nil, http.StatusCreated)
	const objects = 150
	var living []string
	name := func(i int) string { return fmt.Sprintf("o%03d", i) }
	due := time.Now().Add(15 * time.Second) // time enough for what is to be done before
	for i := 0; i < objects; i += 3 {
		with(t, tok, "PUT", at+"/"+name(i), "X-Delete-At", strconv.FormatInt(due.Unix(), 10), http.StatusCreated)
	}
	kill := func(n int) {
		c.storage[n].signal(t, os.Kill)
		c.storage[n].wait(t, 10*time.Second)
	}
	kill(1) // it misses what comes now
	for i := 0; i < objects; i += 3 {
		living = append(living, name(i))
		with(t, tok, "POST", at+"/"+name(i), "X-Delete-After", "3600", http.StatusAccepted)
	}
	c.startStorage(t, 1)
	c.awaitAll(t)
	for i := range objects {
		if i%3 != 0 {
			with(t, tok, "PUT", at+"/"+name(i), "X-Delete-After", "5", http.StatusCreated)
		}
	}

	listed := func() []string { return strings.Fields(string(as(t, tok, "GET", at+"?limit=1000", nil, 200).body)) }
	poll(t, 20*time.Second, "the first objects come to their end", func() error {
		if n := len(listed()); n == objects {
			return fmt.Errorf("%d are listed", n)
		}
		return nil
	})
	for range 8 {
		n := rand.IntN(c.nodes)
		kill(n)
		c.startStorage(t, n)
		c.awaitAll(t)
	}
	poll(t, 30*time.Second, "who missed it ends what was given a longer life", func() error {
		if left := time.Until(due); left > -time.Second {
			return fmt.Errorf("it is to end in %v", left)
		}
		return nil
	})
	c.replicate(t)
	poll(t, 60*time.Second, "the others come to theirs", func() error {
		for range 8 { // all replicas of the listing
			if got := listed(); !slices.Equal(got, living) {
				c.replicate(t) // some may have been ended since the last pass
				return fmt.Errorf("%d are listed, want %d: %v", len(got), len(living), got)
			}
		}
		return nil
	})
	for i := range objects {
		want := http.StatusNotFound
		if i%3 == 0 {
			want = http.StatusOK
		}
		as(t, tok, "GET", at+"/"+name(i), nil, want)
	}
	c.replicate(t)
	if got := listed(); !slices.Equal(got, living) {
		t.Errorf("after another pass %d are listed, want %d", len(got), len(living))
	}
}
