package cluster

import (
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/object/engine"
)

// startReconciling starts a probe with the policy "gold" and others, which have the same ring. Reconcilers make a pass when they are told to.
func startReconciling(t *testing.T, others ...config.Policy) *probe {
	t.Helper()
	p := startProbe(t)
	policies := append([]config.Policy{{Index: 0, Name: "gold", Default: true}}, others...)
	rings := p.configs[0].Rings.Folder
	b, err := os.ReadFile(filepath.Join(rings, "object.ring.gz"))
	for _, o := range others {
		if err == nil {
			err = os.WriteFile(filepath.Join(rings, "object"+policy.Index(o.Index).Suffix()+".ring.gz"), b, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, c := range p.configs {
		p.stop(n + 1)
		c.Cluster.Policies, c.Reconciler.Enabled, c.Reconciler.Delay = policies, false, 0
		c.Stats.Interval, c.Updater.Interval = conf.Duration(100*time.Millisecond), conf.Duration(100*time.Millisecond)
		p.start(n + 1)
	}
	p.proxy = func(c *config.Proxy) {
		c.Cluster.Policies, c.Server.InfoCache = policies, conf.Duration(time.Millisecond)
	}
	p.startProxy()
	return p
}

// reconcile has nodes make a pass of their reconcilers.
func (p *probe) reconcile() error {
	var all []error
	for _, n := range p.nodes {
		if n != nil {
			all = append(all, n.Reconcile(p.t.Context()))
		}
	}
	return errors.Join(all...)
}

// only has some nodes run and the others not, with a proxy that has seen none of them fail.
func (p *probe) only(nodes ...int) {
	p.t.Helper()
	for n := 1; n <= len(p.nodes); n++ {
		switch runs := p.nodes[n-1] != nil; {
		case runs && !slices.Contains(nodes, n):
			p.stop(n)
		case !runs && slices.Contains(nodes, n):
			p.start(n)
		}
	}
	p.startProxy()
}

// get reads an object, and returns its body and header.
func (p *probe) get(url string, want int) (string, http.Header) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "GET", url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != want {
		p.t.Errorf("GET %s: %s, %v, want %d", url, resp.Status, err, want)
	}
	return string(b), resp.Header
}

// statesOf returns how many primaries have an object as something else than a tombstone, and how many as one, by a policy.
func (p *probe) statesOf(policy string, path name.Path) (live, deleted int) {
	p.t.Helper()
	for _, a := range p.each("object", path, head(policy), 0) {
		switch {
		case a.Status == 200:
			live++
		case a.Header.Get(backend.DataStamp) != "":
			deleted++
		}
	}
	return live, deleted
}

// A container that was made with two policies by two halves of a cluster that could not see each other ends with the older
// one, and so do the objects that were written by the other.
func TestReconciler(t *testing.T) {
	p := startReconciling(t, config.Policy{Index: 1, Name: "tin"})
	url := p.url + "/split"
	large := strings.Repeat("what is large has a file of its own, ", 50_000)
	later := fmt.Sprint(time.Now().Add(time.Hour).Unix())

	p.only(1, 2)
	p.want("PUT", url, map[string]string{"X-Storage-Policy": "tin"}, "", 201)
	for _, o := range []string{"first", "overwritten", "deleted", "rewritten"} {
		p.want("PUT", url+"/"+o, nil, "by the first half", 201)
	}

	p.only(3, 4)
	p.want("PUT", url, map[string]string{"X-Storage-Policy": "gold"}, "", 201)
	for _, o := range []string{"second", "overwritten", "rewritten", "gone", "d%C3%BCsseldorf"} {
		p.want("PUT", url+"/"+o, nil, "by the second half", 201)
	}
	p.want("PUT", url+"/large", map[string]string{"Content-Type": "a/b", "X-Object-Meta-A": "1", "X-Delete-At": later, "Content-Encoding": "x"}, large, 201)
	p.want("POST", url+"/second", map[string]string{"X-Object-Meta-B": "2", "Content-Type": "c/d"}, "", 202)
	p.want("PUT", url+"/typed", map[string]string{"Content-Type": "e/f"}, "type", 201)
	p.want("POST", url+"/typed", map[string]string{"Content-Type": "g/h"}, "", 202)
	p.want("POST", url+"/typed", map[string]string{"X-Object-Meta-C": "3"}, "", 202)
	p.want("PUT", url+"/manifest?multipart-manifest=put", nil, `[{"path": "/split/second"}]`, 201)
	p.want("DELETE", url+"/deleted", nil, "", 404)
	p.want("DELETE", url+"/gone", nil, "", 204)
	_, was := p.get(url+"/second", 200)

	p.only(1, 2)
	p.want("PUT", url+"/rewritten", nil, "by the first half, again", 201)

	if err := p.reconcile(); err != nil {
		t.Errorf("while replicas are away: %v", err)
	}
	p.only(1, 2, 3, 4)
	p.pass(false)
	p.pass(true)
	if got := p.want("HEAD", url, nil, "", 204).Header.Get("X-Storage-Policy"); got != "tin" {
		t.Fatalf("the container has the policy %q, want the one that was chosen first", got)
	}
	p.get(url+"/second", 404) // as in Swift

	path := name.Path{Account: "AUTH_test", Container: "split", Object: "second"}
	for i := range 3 { // whichever replica is away is waited for: it might know of an older choice
		away := p.nodeOf(path.Parent(), i)
		p.stop(away)
		for range 2 {
			if err := p.reconcile(); err != nil {
				t.Errorf("while replica %d is away: %v", i, err)
			}
		}
		p.start(away)
		if _, deleted := p.statesOf("0", path); deleted > 0 {
			t.Errorf("while replica %d was away objects were moved", i)
		}
	}
	p.startProxy()

	moved := []string{"second", "overwritten", "düsseldorf", "large", "typed", "manifest"}
	p.until("all is moved", func() bool {
		if err := p.reconcile(); err != nil {
			t.Error(err)
		}
		for _, o := range moved {
			path.Object = o
			if live, _ := p.statesOf("0", path); live > 0 {
				return false
			}
		}
		path.Object = "deleted"
		live, _ := p.statesOf("1", path)
		return live == 0
	})
	p.pass(true)

	for o, want := range map[string]string{
		"first": "by the first half", "second": "by the second half", "overwritten": "by the second half", "rewritten": "by the first half, again",
		"d%C3%BCsseldorf": "by the second half", "large": large, "typed": "type", "manifest": "by the second half",
	} {
		if got, _ := p.get(url+"/"+o, 200); got != want {
			t.Errorf("%s is %.40q of %d bytes, want %.40q", o, got, len(got), want)
		}
	}
	p.get(url+"/deleted", 404)
	p.get(url+"/gone", 404)
	_, h := p.get(url+"/second", 200)
	for _, f := range []string{"X-Timestamp", "Last-Modified", "Etag", "Content-Type", "X-Object-Meta-B"} {
		if h.Get(f) != was.Get(f) || h.Get(f) == "" {
			t.Errorf("%s is %q now, and was %q", f, h.Get(f), was.Get(f))
		}
	}
	_, h = p.get(url+"/large", 200)
	for f, want := range map[string]string{"Content-Type": "a/b", "X-Object-Meta-A": "1", "X-Delete-At": later, "Content-Encoding": "x"} {
		if h.Get(f) != want {
			t.Errorf("of the large object %s is %q, want %q", f, h.Get(f), want)
		}
	}
	if sum := md5.Sum([]byte(large)); h.Get("Etag") != hex.EncodeToString(sum[:]) {
		t.Errorf("its ETag is %s", h.Get("Etag"))
	}
	if _, h = p.get(url+"/typed", 200); h.Get("Content-Type") != "g/h" || h.Get("X-Object-Meta-C") != "3" {
		t.Errorf("what was posted twice has %v", h)
	}

	listed := "düsseldorf\nfirst\nlarge\nmanifest\noverwritten\nrewritten\nsecond\ntyped\n"
	for range 6 { // of whatever replica
		if got, h := p.get(url, 200); got != listed || h.Get("X-Container-Object-Count") != "8" {
			t.Errorf("listed are %q, %s of them, want %q", got, h.Get("X-Container-Object-Count"), listed)
		}
	}
	p.until("the account counts by the policy", func() bool {
		h := p.want("HEAD", p.url, nil, "", 204).Header
		return h.Get("X-Account-Storage-Policy-Tin-Object-Count") == "8" && h.Get("X-Account-Object-Count") == "8"
	})
	for _, o := range append(moved, "gone", "rewritten") {
		path.Object = o
		if live, _ := p.statesOf("0", path); live != 0 {
			t.Errorf("of %s %d replicas are still where they were", o, live)
		}
	}
	for _, o := range append(moved, "first", "rewritten") {
		path.Object = o
		if live, _ := p.statesOf("1", path); live != 3 {
			t.Errorf("of %s %d replicas are where they belong", o, live)
		}
	}
	// And that is all: another pass finds nothing, and the container can be deleted by its owner.
	before := p.dump(path.Parent())
	if err := p.reconcile(); err != nil {
		t.Error(err)
	}
	p.pass(true)
	if now := p.dump(path.Parent()); !slices.Equal(now, before) {
		t.Errorf("another pass has changed %q to %q", before, now)
	}
	for o := range strings.Lines(listed) {
		p.want("DELETE", url+"/"+strings.ReplaceAll(strings.TrimSuffix(o, "\n"), "ü", "%C3%BC"), nil, "", 204)
	}
	p.want("DELETE", url, nil, "", 204)
}

// dump returns what all devices have of the objects of both policies in a container.
func (p *probe) dump(container name.Path) (all []string) {
	p.t.Helper()
	for i, c := range p.configs {
		for _, d := range c.Server.Devices {
			for _, o := range []string{"first", "second", "overwritten", "deleted", "rewritten", "gone", "düsseldorf", "large", "typed", "manifest"} {
				path := container
				path.Object = o
				for of := range 2 {
					s, err := look(p.t.Context(), filepath.Join(c.Server.Root, d), engine.Location{Policy: policy.Index(of), Hash: p.hasher.Hash(path)})
					if err != nil {
						p.t.Fatal(err)
					}
					all = append(all, fmt.Sprintf("%d/%s %s %d %d %v", i, d, o, of, s.Kind, s.Packed()))
				}
			}
		}
	}
	return all
}
