package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// codedSizes are on both sides of what is kept whole, of what a record holds, and of segments.
var codedSizes = []int{0, 1, 8 << 10, 8<<10 + 1, 100_000, 1 << 20, 1<<20 + 1, 5<<20 + 7, 24 << 20}

// TestErasureCodedContainer is a container of 4+2 fragments under real clients while any two
// of six nodes are down: what is there is read, new objects come, old ones are replaced and
// deleted. Once the nodes are back a pass of each makes up for what they missed, so that two
// other ones may be lost; and all of it outlives every process being killed.
func TestErasureCodedContainer(t *testing.T) {
	c := newCluster(t, "--policy", "ec42=4+2")
	c.nodes = 6
	c.onlyPassesOnDemand(t)
	c.start(t)
	tok := token(t, c.url())
	container := c.url() + "/v1/AUTH_test/coded"
	swift := fmt.Sprintf("swift -A %s/auth/v1.0 -U test:tester -K testing --retries 0 ", c.url())
	rclone := fmt.Sprintf("rclone --swift-auth %s/auth/v1.0 --swift-user test:tester --swift-key testing --retries 1 --low-level-retries 1 ", c.url())

	tree := t.TempDir()
	fill(t, tree, "first", 1)
	shell(t, tree, swift+"post coded -H 'X-Storage-Policy: ec42'", time.Minute)
	shell(t, tree, swift+"upload --quiet coded first", time.Minute)
	shell(t, tree, swift+"upload --quiet --segment-size 9000000 coded --object-name first/large first/8", time.Minute)
	if err := os.WriteFile(filepath.Join(tree, "first/large"), read(t, tree, "first/8"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := as(t, tok, "HEAD", container, nil, http.StatusNoContent).Header.Get("X-Storage-Policy"); got != "ec42" {
		t.Fatalf("the container's policy is %q", got)
	}
	back := func(when string) {
		t.Helper()
		want := sums(t, tree)
		for client, script := range map[string]string{
			"swift":  swift + "download --quiet coded --output-dir ",
			"rclone": rclone + "copy --transfers 4 :swift:coded ",
		} {
			to := filepath.Join(t.TempDir(), "back")
			shell(t, tree, script+to, 2*time.Minute)
			same(t, client+" "+when, sums(t, to), want)
		}
		c.codedRanges(t, tok, container+"/first/8", read(t, tree, "first/8"))
	}
	back("with all nodes")

	c.kill(t, 1, 4)
	back("with two nodes down")
	fill(t, tree, "second", 2)
	shell(t, tree, rclone+"copy --transfers 4 second :swift:coded/second", time.Minute)
	fill(t, tree, "first", 3) // other bytes under the same names
	shell(t, tree, swift+"upload --quiet coded first", 2*time.Minute)
	for _, gone := range []string{"first/5", "first/2"} {
		shell(t, tree, swift+"delete coded "+gone, time.Minute)
		if err := os.Remove(filepath.Join(tree, gone)); err != nil {
			t.Fatal(err)
		}
	}
	back("after writes with two nodes down")

	c.revive(t, 1, 4)
	c.replicate(t)
	c.kill(t, 0, 3)
	back("with two other nodes down")
	for _, gone := range []string{"first/5", "first/2"} {
		as(t, tok, "GET", container+"/"+gone, nil, http.StatusNotFound)
	}

	for n := range c.nodes {
		if n != 0 && n != 3 {
			c.kill(t, n)
		}
	}
	c.revive(t, 0, 1, 2, 3, 4, 5)
	back("after every node was killed")
}

// fill writes a file of each size into a folder, others for each seed.
func fill(t *testing.T, root, folder string, seed byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, size := range codedSizes {
		b := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{seed, byte(i)}).Read(b) // it never fails
		if err := os.WriteFile(filepath.Join(root, folder, fmt.Sprint(i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, root, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// codedRanges reads parts of an object: within a segment, across two, and the end.
func (c *cluster) codedRanges(t *testing.T, tok, url string, want []byte) {
	t.Helper()
	for text, of := range map[string][]byte{
		"bytes=0-0":                   want[:1],
		"bytes=1048570-1048590":       want[1048570:1048591],
		"bytes=-100":                  want[len(want)-100:],
		"bytes=3000000-9000000":       want[3000000:9000001],
		"bytes=20000000-999999999999": want[20000000:],
	} {
		r := request(t, http.MethodGet, url, nil)
		r.Header.Set("X-Auth-Token", tok)
		r.Header.Set("Range", text)
		if a := do(t, r); a.StatusCode != http.StatusPartialContent || !bytes.Equal(a.body, of) {
			t.Errorf("%s: %s with %d bytes of sum %.4x, want %d of %.4x", text, a.Status, len(a.body), sha256.Sum256(a.body), len(of), sha256.Sum256(of))
		}
	}
	r := request(t, http.MethodGet, url, nil)
	r.Header.Set("X-Auth-Token", tok)
	r.Header.Set("Range", "bytes=5-9,2000000-2000009")
	a := do(t, r)
	if a.StatusCode != http.StatusPartialContent || !strings.Contains(string(a.body), string(want[2000000:2000010])) || !strings.Contains(string(a.body), string(want[5:10])) {
		t.Errorf("two ranges: %s with %d bytes", a.Status, len(a.body))
	}
}

// kill kills nodes, counted from 0.
func (c *cluster) kill(t *testing.T, nodes ...int) {
	t.Helper()
	for _, n := range nodes {
		c.storage[n].signal(t, os.Kill)
		c.storage[n].wait(t, 10*time.Second)
	}
}

// revive starts nodes again.
func (c *cluster) revive(t *testing.T, nodes ...int) {
	t.Helper()
	for _, n := range nodes {
		c.startStorage(t, n)
	}
	for _, n := range nodes {
		c.await(t, c.storage[n], fmt.Sprintf("http://%s.1.%d:6209/healthcheck", c.network, n+1))
	}
}
