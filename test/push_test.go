package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/direct"
	"martlet/internal/ringpush"
	"martlet/ring"
)

// apartRings gives each process rings of its own, which it looks at by itself once an hour, and the proxy the
// cluster's key.
func (c *cluster) apartRings(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob(c.file("*.toml"))
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^key_file = .*$`)
	node, err := os.ReadFile(c.file("storage1.toml"))
	if err != nil {
		t.Fatal(err)
	}
	line := key.FindString(string(node))
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".toml")
		if name == "cluster" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !key.Match(text) {
			text = bytes.Replace(text, []byte("[cluster]\n"), []byte("[cluster]\n"+line+"\n"), 1)
		}
		if err := os.WriteFile(c.file("operator.toml"), text, 0o600); name == "proxy" && err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte(`folder = "rings"`), fmt.Appendf(nil, "folder = %q\ncheck_every = \"1h\"", "rings-"+name), 1)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		rings, err := filepath.Glob(c.file("rings/*.ring.gz"))
		if err == nil {
			err = os.Mkdir(c.file("rings-"+name), 0o700)
		}
		for _, from := range rings {
			copyFile(t, from, c.file("rings-"+name+"/"+filepath.Base(from)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// push hands out what is named, and wants an exit status, and all of some texts in what is printed.
func (c *cluster) push(t *testing.T, verb string, what []string, code int, texts ...string) {
	t.Helper()
	args := append([]string{"ring", verb, "--config", c.file("operator.toml"), "--proxy", c.url()}, what...)
	got, stdout, stderr := martlet(t, args...)
	if got != code {
		t.Fatalf("%v: exit status %d, want %d\n%s%s", args, got, code, stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stdout+stderr, text) {
			t.Errorf("%v: there is no %q in\n%s%s", args, text, stdout, stderr)
		}
	}
}

// version is that of the object ring in the folder of a process.
func (c *cluster) version(t *testing.T, of string) int64 {
	t.Helper()
	r, err := ring.Load(c.file("rings-" + of + "/object.ring.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return r.Version()
}

// An operator changes the rings and hands them out: who is down is named and gets them later, what is older or damaged is
// refused, a process that is killed while it takes one has the one of before, and nobody without the key can do any of it.
func TestRingPush(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "--part-power", "4", "--devices", "1", "--cluster-key")
	c.apartRings(t)
	c.start(t)
	tok := token(t, c.url())
	as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers", nil, http.StatusCreated)
	want := map[string]string{}
	for i := range 8 {
		name := fmt.Sprint("o", i)
		want[name] = "body of " + name
		as(t, tok, http.MethodPut, c.url()+"/v1/AUTH_test/papers/"+name, strings.NewReader(want[name]), http.StatusCreated)
	}
	all := []string{c.file("rings")}
	c.push(t, "push", all, 0, "5 of 5 processes run these rings")
	old := filepath.Join(t.TempDir(), "object.ring.gz")
	copyFile(t, c.file("rings/object.ring.gz"), old)
	before := c.version(t, "proxy")
	c.ringed(t, "pretend-min-part-hours-passed %s")
	c.ringed(t, "set-weight %s d0 20")
	c.ringed(t, "rebalance %s")

	c.storage[3].signal(t, os.Kill)
	c.storage[3].wait(t, 20*time.Second)
	c.push(t, "push", append(all, "--dry-run"), 1, "would be sent", c.network+".1.4 could not be asked")
	if v := c.version(t, "storage1"); v != before {
		t.Fatalf("a dry run has handed out version %d", v)
	}
	c.push(t, "push", all, 1, c.network+".1.4 could not be asked", "the proxies were not sent anything", " → ")
	now := c.version(t, "storage1")
	if v := c.version(t, "proxy"); now <= before || v != before || c.version(t, "storage4") != before {
		t.Fatalf("before %d, now %d, the proxy %d", before, now, v)
	}
	c.startStorage(t, 3)
	c.awaitAll(t)
	c.push(t, "push", all, 0, "5 of 5 processes run these rings")
	for _, of := range []string{"proxy", "storage1", "storage2", "storage3", "storage4"} {
		if v := c.version(t, of); v != now {
			t.Errorf("%s has version %d, want %d", of, v, now)
		}
	}
	c.push(t, "running", nil, 0, "5 of 5 processes could be asked")
	c.push(t, "running", []string{old}, 1, "runs version")
	c.readable(t, tok, want)

	c.push(t, "push", []string{old}, 2, "which is newer than version", "nothing was sent")
	damaged := filepath.Join(t.TempDir(), "object.ring.gz")
	text, err := os.ReadFile(c.file("rings/object.ring.gz"))
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(damaged, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c.push(t, "push", []string{damaged}, 2, "damaged ring file")
	c.withoutKey(t)
	c.killedMeanwhile(t, all)
	c.readable(t, tok, want)
}

// withoutKey tries what somebody can do who has no key.
func (c *cluster) withoutKey(t *testing.T) {
	t.Helper()
	for _, tt := range []struct {
		method, url, signature string
		want                   int
	}{
		{http.MethodGet, c.url() + "/rings", "", http.StatusPreconditionFailed}, // a path like any other
		{http.MethodGet, c.url() + "/other", "", http.StatusPreconditionFailed},
		{http.MethodPut, c.url() + "/rings/object", "", http.StatusBadRequest},
		{http.MethodPut, c.url() + "/other/object", "", http.StatusBadRequest},
		{http.MethodGet, c.url() + "/rings", "1 00000000 1 00 x 00", http.StatusForbidden},
		{http.MethodPut, c.url() + "/rings/object", "1 00000000 1 00 x 00", http.StatusForbidden},
		{http.MethodGet, "http://" + c.network + ".1.1:6200/rings", "", http.StatusForbidden},
		{http.MethodPut, "http://" + c.network + ".1.1:6202/rings/object", "", http.StatusForbidden},
	} {
		r := request(t, tt.method, tt.url, strings.NewReader("no ring"))
		if tt.signature != "" {
			r.Header.Set(clusterkey.Header, tt.signature)
		}
		if a := do(t, r); a.StatusCode != tt.want {
			t.Errorf("%s of %s, signed %q: %d %s, want %d", tt.method, tt.url, tt.signature, a.StatusCode, a.body, tt.want)
		}
	}
}

// killedMeanwhile kills a node that has been sent a part of a ring.
func (c *cluster) killedMeanwhile(t *testing.T, all []string) {
	t.Helper()
	before := c.version(t, "storage1")
	c.ringed(t, "set-weight %s d0 30")
	c.ringed(t, "pretend-min-part-hours-passed %s")
	c.ringed(t, "rebalance %s")
	keys, err := filepath.Glob(c.file("*key*"))
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	source, err := clusterkey.Open(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	client := direct.New(direct.Config{NodeTimeout: time.Minute})
	defer client.Close()
	sender := &clusterkey.Sender{Next: client, Keys: source}
	at := c.network + ".1.1:6200"
	resp, err := sender.Do(t.Context(), at, &backend.Request{Method: "GET", Path: ringpush.Path})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_, process, _ := strings.Cut(string(body), `"process":"`)
	process, _, _ = strings.Cut(process, `"`)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	sent := make(chan error, 1)
	go func() {
		_, err := sender.Do(t.Context(), at, &backend.Request{
			Method: "PUT", Path: ringpush.Path + "/object", Length: 100_000, Body: io.MultiReader(bytes.NewReader(make([]byte, 70_000)), until(gone)),
			Header: backend.Header{{Name: ringpush.ProcessHeader, Value: process}, {Name: ringpush.ChecksumHeader, Value: "x"}},
		})
		sent <- err
	}()
	poll(t, time.Minute, "a ring on its way", func() error {
		names, err := filepath.Glob(c.file("rings-storage1/.object.ring.gz.*.tmp"))
		if err == nil && len(names) == 0 {
			err = errors.New("there is nothing of it")
		}
		return err
	})
	c.push(t, "push", all, 1, "taking another ring")
	c.storage[0].signal(t, syscall.SIGKILL)
	c.storage[0].wait(t, 20*time.Second)
	close(gone)
	if err := <-sent; err == nil {
		t.Error("a node that was killed has answered")
	}
	if v := c.version(t, "storage1"); v != before {
		t.Errorf("there is version %d, want %d", v, before)
	}
	c.startStorage(t, 0)
	c.awaitAll(t)
	c.push(t, "push", all, 0, "5 of 5 processes run these rings")
	names, err := os.ReadDir(c.file("rings-storage1"))
	if v := c.version(t, "storage1"); err != nil || v <= before || len(names) != 3 {
		t.Errorf("there is version %d, before %d; left are %v, %v", v, before, names, err)
	}
}

// until is a body that goes on when something is closed, and then breaks off.
type until chan struct{}

func (u until) Read([]byte) (int, error) {
	<-u
	return 0, io.ErrUnexpectedEOF
}
