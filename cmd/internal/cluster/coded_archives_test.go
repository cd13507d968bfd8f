//go:build !race

package cluster

import (
	"crypto/md5" // the ETag of the API
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
)

// startWithBoth starts a cluster with a policy of replicas, the default, and "coded".
func startWithBoth(t *testing.T) *probe {
	return startPatientProbe(t, 20*time.Second, func(o *Options) { // the machine may be busy
		o.Nodes, o.Devices = 4, 1
		o.Policies = []Policy{{Name: "coded", Shape: ec.Shape{Data: 2, Parity: 1}}}
	})
}

// shown returns what a container lists: the names, each with its size and ETag.
func (p *probe) shown(container string) (names []string, rows string) {
	p.t.Helper()
	text, _ := p.get(p.url+"/"+container+"?format=json", 200)
	var list []struct {
		Name, Hash string
		Bytes      int64
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		p.t.Fatalf("%s lists %q: %v", container, text, err)
	}
	for _, r := range list {
		names = append(names, r.Name)
		rows += fmt.Sprintf("%s %d\n", r.Hash, r.Bytes)
	}
	return names, rows
}

// etagOf is the ETag of a text.
func etagOf(text string) string { return fmt.Sprintf("%x", md5.Sum([]byte(text))) }

// In the older modes the container that has the versions may be of another policy than the one that they are versions of,
// whichever of them is erasure-coded: what is overwritten is kept there, read, listed and taken back, whatever its size.
func TestOlderVersionsUnderAnotherPolicy(t *testing.T) {
	p := startWithBoth(t)
	texts := []string{"short", strings.Repeat("middle ", 20_000), strings.Repeat("long, of more than a segment ", 40_000)}
	for i, policies := range [][2]string{{"coded", "default"}, {"default", "coded"}} {
		for j, mode := range []string{"X-Versions-Location", "X-History-Location"} {
			what := fmt.Sprint(policies[0], mode[:5])
			first := (2*i + j) % 3
			p.archives(what, mode, policies, []string{texts[first], texts[(first+1)%3], texts[(first+2)%3]})
		}
	}
}

// archives has a container of one policy keep versions of one object, in an older mode, in one of another.
func (p *probe) archives(what, mode string, policies [2]string, three []string) {
	p.t.Helper()
	of, attic := "of"+what, "attic"+what
	create := func(c, policy string, header map[string]string) {
		if policy == "coded" {
			header["X-Storage-Policy"] = policy
		}
		p.want("PUT", p.url+"/"+c, header, "", 201)
	}
	create(attic, policies[1], map[string]string{})
	create(of, policies[0], map[string]string{mode: attic})
	url := p.url + "/" + of + "/o"
	wants := func(url string, n int) {
		p.t.Helper()
		got, header := p.get(url, 200)
		if text := three[n]; got != text || header.Get("X-Object-Meta-N") != fmt.Sprint(n) || header.Get("Content-Type") != "a/"+fmt.Sprint(n) || header.Get("Etag") != etagOf(text) {
			p.t.Errorf("%s, %s: %d bytes, want %d of %d: %v", what, url, len(got), len(text), n, header)
		}
	}
	rows := ""
	for n, text := range three {
		p.want("PUT", url, map[string]string{"X-Object-Meta-N": fmt.Sprint(n), "Content-Type": "a/" + fmt.Sprint(n)}, text, 201)
		wants(url, n)
		if n < 2 {
			rows += fmt.Sprintf("%s %d\n", etagOf(text), len(text))
		}
	}
	names, got := p.shown(attic)
	if got != rows {
		p.t.Fatalf("%s: listed are\n%swant\n%s", what, got, rows)
	}
	for n, old := range names {
		wants(p.url+"/"+attic+"/"+old, n)
	}
	p.want("DELETE", url, nil, "", 204)
	if mode == "X-Versions-Location" { // what was there before is there again
		for n := 1; n >= 0; n-- {
			wants(url, n)
			if names, _ := p.shown(attic); len(names) != n {
				p.t.Errorf("%s: the attic has %d objects, want %d", what, len(names), n)
			}
			p.want("DELETE", url, nil, "", 204)
		}
		p.want("GET", url, nil, "", 404)
		return
	}
	p.want("GET", url, nil, "", 404)
	if names, _ = p.shown(attic); len(names) != 4 {
		p.t.Fatalf("%s: the attic has %q, want three versions and a mark", what, names)
	}
	for n := range three {
		p.want("COPY", p.url+"/"+attic+"/"+names[n], map[string]string{"Destination": of + "/o"}, "", 201)
		wants(url, n)
	}
}

// The newer kind of versions is of the policy of its container: what is left of another kind of policy is refused before
// anything is stored, whichever is erasure-coded. And under fragments a version is made current again.
func TestVersionsAreOfTheContainersPolicy(t *testing.T) {
	p := startWithBoth(t)
	for c, left := range map[string]string{"replicas": "1", "coded": "0"} {
		policy := map[string]string{}
		if c == "coded" {
			policy["X-Storage-Policy"] = c
		}
		p.each("container", name.Path{Account: "AUTH_test", Container: c}.Versions(), func() *backend.Request {
			return &backend.Request{Method: "PUT", Header: backend.Header{
				{Name: backend.Timestamp, Value: p.source.Next().String()}, {Name: backend.PolicyIndex, Value: left},
			}}
		}, 201)
		p.want("PUT", p.url+"/"+c, policy, "", 201)
		p.want("POST", p.url+"/"+c, map[string]string{"X-Versions-Enabled": "true"}, "", 409)
		p.want("PUT", p.url+"/"+c+"/o", nil, "no version", 201)
		if got, _ := p.get(p.url+"/"+c+"/o", 200); got != "no version" {
			t.Errorf("%s: %q", c, got)
		}
	}
	p.want("PUT", p.url+"/v", map[string]string{"X-Storage-Policy": "coded", "X-Versions-Enabled": "true"}, "", 201)
	url, long := p.url+"/v/o", strings.Repeat("long, of more than a segment ", 40_000)
	first := p.want("PUT", url, nil, long, 201).Header.Get("X-Object-Version-Id")
	p.want("PUT", url, nil, "short", 201)
	p.want("DELETE", url, nil, "", 204)
	p.want("PUT", url+"?version-id="+first, nil, "", 201)
	if got, header := p.get(url, 200); got != long || header.Get("X-Object-Version-Id") != first {
		t.Errorf("%d bytes of version %s, want %d of %s", len(got), header.Get("X-Object-Version-Id"), len(long), first)
	}
}
