//go:build !race

package cluster

// These take the race detector a minute of a processor, for what it sees in the others: whole clusters at work.

import (
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/replwire"
)

// Features work over containers whose objects are in fragments as over others, while a node is down.
func TestFeaturesOverFragments(t *testing.T) {
	p := startPatientProbe(t, 20*time.Second, func(o *Options) { // the machine may be busy
		o.Nodes, o.Devices = 6, 1
		o.Policies = []Policy{{Name: "ec42", Shape: ec.Shape{Data: 4, Parity: 2}}}
	})
	p.want("PUT", p.url+"/coded", map[string]string{"X-Storage-Policy": "ec42"}, "", 201)
	p.stop(3)
	for what, feature := range features {
		t.Run(what, func(t *testing.T) { feature(p.in(t), "coded") })
	}
}

// One replica of a large container has missed most of what was written, and another has lost it: one pass of whoever
// has all of it brings it to both, as a whole to the one that has nothing.
func TestDatabasesFarBehind(t *testing.T) {
	const objects = "X-Container-Object-Count"
	const rows = 10_500 // more than what goes by change number
	c := &traffic{
		bytes: map[string]int64{}, remotes: map[string]map[string]bool{}, said: map[string]map[string]bool{}, marks: []string{replwire.WholeHeader + ": "},
	}
	p := startProbe(t)
	p.listen = c.listen
	path := name.Path{Account: "AUTH_test", Container: "large"}
	p.want("PUT", p.url+"/large", nil, "", 201)
	_, at := p.primaries(path)
	p.rows(path, at, 0, 5)
	p.rows(path, at[:1], 5, rows)
	_, shared := p.files(at[1], path)
	for n := range p.nodes {
		p.stop(n + 1)
		if n+1 == nodeOf(at[1].IP) {
			if err := os.Remove(shared); err != nil {
				t.Fatal(err)
			}
		}
		p.start(n + 1)
	}
	for i, want := range []string{fmt.Sprint("200 ", rows), "404 ", "200 5"} {
		if got := p.replicas(path, objects)[placeOf(at[i])]; !strings.HasPrefix(got, want+":") {
			t.Fatalf("before the pass replica %d has %.100q, want %q", i, got, want)
		}
	}
	if _, err := p.nodes[nodeOf(at[0].IP)-1].Replicate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for place, got := range p.replicas(path, objects) {
		if want := fmt.Sprint("200 ", rows, ":"); !strings.HasPrefix(got, want) {
			t.Errorf("after the pass %s has %.100q, want %q", place, got, want)
		}
	}
	if len(c.said["replication"]) != 1 {
		t.Error("nothing was sent as a whole")
	}
	p.pass(true) // another container may have shared the file that is gone, and be none of that node's
	p.alike(path, objects, fmt.Sprint("200 ", rows))
}

func TestReaper(t *testing.T) {
	whole := startReaping(t)

	t.Run("what clients see", func(t *testing.T) {
		p := whole.in(t)
		d := p.doom("AUTH_seen", 2, 2)
		object := d.url + "/c0/o%201/%C3%BC"
		d.want("GET", object, nil, "", 200)
		d.want("DELETE", d.url+"?x=y", nil, "", 400)
		d.remove()
		for _, method := range []string{"GET", "HEAD"} {
			if r := d.want(method, d.url, nil, "", 410); r.Header.Get("X-Account-Status") != "Deleted" {
				t.Errorf("%s is answered with %v", method, r.Header)
			}
		}
		if r := d.want("PUT", d.url, nil, "", 403); r.Header.Get("X-Account-Status") != "Deleted" {
			t.Errorf("PUT is answered with %v", r.Header)
		}
		d.want("POST", d.url, map[string]string{"X-Account-Meta-A": "b"}, "", 404)
		d.want("DELETE", d.url, nil, "", 404)
		d.want("PUT", d.url+"/new", nil, "", 503)
		d.want("PUT", d.url+"/c0", nil, "", 503)
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			d.want(method, d.url+"/c0", nil, "", 404)
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			d.want(method, object, nil, "", 404)
		}
		d.untouched()
	})

	t.Run("everything goes", func(t *testing.T) {
		p := whole.in(t)
		d := p.doom("AUTH_all", 6, 4)
		beside := p.doom("AUTH_beside", 2, 2)
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.untouched()
		d.remove()
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.reaped()
		beside.untouched()
		beside.want("GET", beside.url+"/c0/o%201/%C3%BC", nil, "", 200)
	})

	t.Run("a node is away", func(t *testing.T) {
		p := whole.in(t)
		d := p.doom("AUTH_away", 8, 3)
		p.stop(1)
		d.remove()
		err := p.reap()
		if err == nil {
			t.Error("no pass tells that something is left")
		}
		for path, policy := range d.paths {
			d.each("object", path, head(policy), 404)
		}
		p.start(1)
		p.pass(true)
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.reaped()
	})

	t.Run("a replica has missed the DELETE, and takes a PUT", func(t *testing.T) {
		p := whole.in(t)
		p.startProxy() // that has not seen any node fail
		d := p.doom("AUTH_again", 4, 3)
		account := p.everywhere("account", name.Path{Account: d.account})
		missed := account.Primaries[0]
		p.stop(nodeOf(missed.IP))
		d.remove()
		removed := p.source.Next().String()
		p.start(nodeOf(missed.IP))
		for range 12 { // of three replicas in any order
			d.want("PUT", d.url, nil, "", 403)
		}
		for dev := range account.Ring.Devices() {
			resp, err := p.direct.Do(t.Context(), dev.Addr(), &backend.Request{Method: "HEAD", Path: account.Target(dev)})
			if err != nil {
				t.Fatal(err)
			}
			if put := resp.Header.Get(backend.BackendPut); resp.Status != 404 && (dev.Name != missed.Name || dev.IP != missed.IP) || put > removed {
				t.Errorf("%s has an account that was put at %s, after the DELETE of %s", placeOf(dev), put, removed)
			}
		}
		stamp := p.source.Next().String()
		resp, err := p.direct.Do(t.Context(), missed.Addr(), &backend.Request{
			Method: "PUT", Path: account.Target(missed), Header: backend.Header{{Name: backend.Timestamp, Value: stamp}},
		})
		if err != nil || resp.Status != 202 {
			t.Fatalf("the replica that missed the DELETE answers %+v, %v", resp, err)
		}
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.untouched()
		p.pass(true)
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.untouched()
		d.want("GET", d.url+"/c0/o%201/%C3%BC", nil, "", 200)
	})

	t.Run("one replica alone says that it is deleted", func(t *testing.T) {
		p := whole.in(t)
		d := p.doom("AUTH_alone", 4, 3)
		account := p.everywhere("account", name.Path{Account: d.account})
		resp, err := p.direct.Do(t.Context(), account.Primaries[0].Addr(), &backend.Request{
			Method: "DELETE", Path: account.Target(account.Primaries[0]), Header: backend.Header{{Name: backend.Timestamp, Value: p.source.Next().String()}},
		})
		if err != nil || resp.Status != 204 {
			t.Fatalf("it answers %+v, %v", resp, err)
		}
		_ = p.reap() // of which the other replicas are to blame
		d.untouched()
		p.pass(true) // now all do
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.reaped()
	})

	t.Run("it is forgotten, and made afresh", func(t *testing.T) {
		p := whole.in(t)
		d := p.doom("AUTH_afresh", 2, 2)
		d.remove()
		if err := p.reap(); err != nil {
			t.Error(err)
		}
		d.reaped()
		for n, c := range p.configs {
			p.stop(n + 1)
			c.Replicator.ReclaimAge, c.Stats.Interval = conf.Duration(4*time.Second), conf.Duration(100*time.Millisecond)
			p.start(n + 1)
		}
		p.until("the account is forgotten", func() bool {
			_, err := p.answer("PUT", d.url, "", 201)
			return err == nil
		})
		d.want("GET", d.url, nil, "", 204)
		d.want("PUT", d.url+"/c0", nil, "", 201)
		d.want("GET", d.url+"/c0/o%201/%C3%BC", nil, "", 404)
	})
}

// Data goes into fragments, out of them, and from some into others, by what kind of policy the container ends with.
func TestReconcilerCoded(t *testing.T) {
	p := startReconciling(t, config.Policy{Index: 1, Name: "tin", EC: "2+1"}, config.Policy{Index: 2, Name: "lead", EC: "2+1"})
	const small, large = 1000, 3<<20 + 17
	containers := map[string]struct{ first, second string }{"into": {"tin", "gold"}, "out": {"gold", "tin"}, "across": {"tin", "lead"}}
	indexes := map[string]string{"gold": "0", "tin": "1", "lead": "2"}
	p.only(1, 2)
	for c, of := range containers {
		p.want("PUT", p.url+"/"+c, map[string]string{"X-Storage-Policy": of.first}, "", 201)
		p.want("PUT", p.url+"/"+c+"/first", nil, randomText(large), 201)
	}
	p.only(3, 4)
	for c, of := range containers {
		p.want("PUT", p.url+"/"+c, map[string]string{"X-Storage-Policy": of.second}, "", 201)
		p.want("PUT", p.url+"/"+c+"/small", map[string]string{"X-Object-Meta-A": "1"}, randomText(small), 201)
		p.want("PUT", p.url+"/"+c+"/large", map[string]string{"X-Object-Meta-A": "1", "Content-Type": "a/b"}, randomText(large), 201)
		p.want("POST", p.url+"/"+c+"/large", map[string]string{"X-Object-Meta-A": "2"}, "", 202)
		p.want("PUT", p.url+"/"+c+"/first", nil, randomText(large+1), 201)
	}
	p.only(1, 2, 3, 4)
	p.pass(false)
	p.pass(true)
	p.until("all is moved", func() bool {
		if err := p.reconcile(); err != nil {
			t.Log(err)
		}
		for c, of := range containers {
			for _, o := range []string{"small", "large", "first"} {
				if live, _ := p.statesOf(indexes[of.second], name.Path{Account: "AUTH_test", Container: c, Object: o}); live > 0 {
					return false
				}
			}
		}
		return true
	})
	p.pass(true)
	for c, of := range containers {
		for o, want := range map[string]string{"small": randomText(small), "large": randomText(large), "first": randomText(large + 1)} {
			got, h := p.get(p.url+"/"+c+"/"+o, 200)
			sum := md5.Sum([]byte(want))
			if got != want || h.Get("Etag") != hex.EncodeToString(sum[:]) {
				t.Errorf("%s/%s is %d bytes of ETag %s, want %d", c, o, len(got), h.Get("Etag"), len(want))
			}
			if o == "large" && (h.Get("X-Object-Meta-A") != "2" || h.Get("Content-Type") != "a/b") {
				t.Errorf("%s/%s has %v", c, o, h)
			}
			path := name.Path{Account: "AUTH_test", Container: c, Object: o}
			if of.first != "tin" || o == "small" {
				continue
			}
			if replicas, archives := p.stored(1, path, ec.Shape{Data: 2, Parity: 1}); len(replicas) < 2 || len(archives) != 3 {
				t.Errorf("%s/%s is in %d replicas and %d archives", c, o, len(replicas), len(archives))
			}
		}
		if got, _ := p.get(p.url+"/"+c, 200); got != "first\nlarge\nsmall\n" {
			t.Errorf("%s lists %q", c, got)
		}
	}
}
