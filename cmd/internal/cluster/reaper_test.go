package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/ring"
)

// startReaping starts a probe with two policies whose proxy lets accounts be deleted. Reapers make a pass when they are told to.
func startReaping(t *testing.T) *probe {
	t.Helper()
	p := startProbe(t)
	policies := []config.Policy{{Index: 0, Name: "gold", Default: true}, {Index: 1, Name: "tin"}}
	rings := p.configs[0].Rings.Folder
	b, err := os.ReadFile(filepath.Join(rings, "object.ring.gz"))
	if err == nil {
		err = os.WriteFile(filepath.Join(rings, "object-1.ring.gz"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, c := range p.configs {
		p.stop(n + 1)
		c.Cluster.Policies, c.Reaper.Enabled, c.Stats.Interval = policies, false, conf.Duration(100*time.Millisecond)
		p.start(n + 1)
	}
	p.proxy = func(c *config.Proxy) {
		c.Cluster.Policies, c.Server.AllowAccountManagement, c.Server.InfoCache = policies, true, conf.Duration(time.Millisecond)
	}
	p.startProxy()
	admin := map[string]string{"X-Auth-User": "admin:admin", "X-Auth-Key": "admin"}
	p.token = p.want("GET", strings.TrimSuffix(p.url, "/v1/AUTH_test")+"/auth/v1.0", admin, "", 200).Header.Get("X-Auth-Token")
	return p
}

// reap has nodes make a pass of their reapers.
func (p *probe) reap() error {
	var all []error
	for _, n := range p.nodes {
		if n != nil {
			all = append(all, n.Reap(p.t.Context()))
		}
	}
	return errors.Join(all...)
}

// doomed is an account with something in it.
type doomed struct {
	*probe
	account, url string
	paths        map[name.Path]string // of objects, with the policy of each
}

// doom makes an account with containers of both policies, objects of all sorts, and a hidden container.
func (p *probe) doom(account string, containers, objects int) *doomed {
	p.t.Helper()
	d := &doomed{p, account, strings.TrimSuffix(p.url, "AUTH_test") + account, map[name.Path]string{}}
	for c := range containers {
		container := fmt.Sprintf("c%d", c)
		d.want("PUT", d.url+"/"+container, map[string]string{"X-Storage-Policy": []string{"gold", "tin"}[c%2]}, "", 201)
		for o := range objects {
			object := fmt.Sprintf("o %d/ü", o)
			body := object
			if o == 0 {
				body = strings.Repeat("large", 80_000) // has a file of its own
			}
			d.want("PUT", d.url+"/"+container+"/"+fmt.Sprintf("o%%20%d/%%C3%%BC", o), nil, body, 201)
			d.paths[name.Path{Account: account, Container: container, Object: object}] = fmt.Sprint(c % 2)
		}
	}
	segment := fmt.Sprintf(`[{"path": "/c0/%s"}]`, "o 0/ü")
	d.want("PUT", d.url+"/c1/manifest?multipart-manifest=put", nil, segment, 201)
	d.paths[name.Path{Account: account, Container: "c1", Object: "manifest"}] = "1"
	d.hide(objects)
	return d
}

// hide makes a container that clients never see, with objects that have such names too.
func (d *doomed) hide(objects int) {
	d.t.Helper()
	hidden := name.Path{Account: d.account, Container: "\x00hidden\x00c0"}
	stamp := func() backend.Field { return backend.Field{Name: backend.Timestamp, Value: d.source.Next().String()} }
	account := d.everywhere("account", name.Path{Account: d.account})
	tell := quorum.TellAccount(account)
	d.each("container", hidden, func() *backend.Request {
		return &backend.Request{Method: "PUT", Header: append(backend.Header{stamp(), {Name: backend.PolicyIndex, Value: "0"}}, tell...)}
	}, 201)
	for o := range objects {
		path := hidden
		path.Object = fmt.Sprintf("\x00o%d\x00v", o)
		place := d.everywhere("object", path)
		updates := quorum.Updates(place, d.everywhere("container", hidden))
		slot, when := 0, stamp()
		d.each("object", path, func() *backend.Request {
			r := &backend.Request{
				Method: "PUT", Length: 1, Body: strings.NewReader("x"), Header: append(backend.Header{
					when, {Name: backend.PolicyIndex, Value: "0"}, {Name: backend.ContentType, Value: "a/b"},
					{Name: backend.CommitETag, Value: "9dd4e461268c8034f5c8564e155c67a6"}, {Name: backend.CommitCRC, Value: crc("x")},
				}, updates[slot]...),
			}
			slot++
			return r
		}, 201)
		d.paths[path] = "0"
	}
}

// everywhere is where a path lives by a ring of that kind.
func (p *probe) everywhere(kind string, path name.Path) quorum.Place {
	p.t.Helper()
	r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, kind+".ring.gz"))
	if err != nil {
		p.t.Fatal(err)
	}
	part := r.Partition(p.hasher.Hash(path))
	return quorum.Place{Path: path, Ring: r, Partition: part, Primaries: r.AppendPrimaries(nil, part)}
}

// each sends a request to every replica that can be reached, checks the status, where that is not 0, and returns the answers.
func (p *probe) each(kind string, path name.Path, build func() *backend.Request, want int) (all []*backend.Response) {
	p.t.Helper()
	place := p.everywhere(kind, path)
	for _, d := range place.Primaries {
		if p.nodes[nodeOf(d.IP)-1] == nil {
			continue
		}
		r := build()
		r.Path = place.Target(d)
		resp, err := p.direct.Do(p.t.Context(), d.Addr(), r)
		if err != nil {
			p.t.Fatal(err)
		}
		if resp.Body != nil {
			resp.Body.Close()
		}
		if want != 0 && resp.Status != want {
			p.t.Errorf("%s %q at %s: %d, want %d", r.Method, path, placeOf(d), resp.Status, want)
		}
		all = append(all, resp)
	}
	return all
}

func head(policy string) func() *backend.Request {
	return func() *backend.Request {
		return &backend.Request{Method: "HEAD", Header: backend.Header{{Name: backend.PolicyIndex, Value: policy}}}
	}
}

// reaped checks that nothing is left, and that tombstones are of one time each: those too that went to handoffs
// of nodes that were away.
func (d *doomed) reaped() {
	d.t.Helper()
	d.pass(true)
	containers := map[name.Path]bool{}
	for path, policy := range d.paths {
		containers[path.Parent()] = true
		stamps := map[string]bool{}
		for _, a := range d.each("object", path, head(policy), 404) {
			stamps[a.Header.Get(backend.BackendStamp)] = true
		}
		if len(stamps) != 1 || stamps[""] {
			d.t.Errorf("%q has tombstones of %v", path, stamps)
		}
	}
	for path := range containers {
		stamps := map[string]bool{}
		for _, a := range d.each("container", path, head("0"), 404) {
			stamps[a.Header.Get(backend.BackendDelete)] = true
		}
		if len(stamps) != 1 || stamps[""] {
			d.t.Errorf("%q was deleted at %v", path, stamps)
		}
	}
	d.t.Log(len(d.paths), "objects in", len(containers), "containers were looked for")
}

// untouched checks that every object is there.
func (d *doomed) untouched() {
	d.t.Helper()
	for path, policy := range d.paths {
		d.each("object", path, head(policy), 200)
	}
}

func (d *doomed) remove() {
	d.t.Helper()
	if r := d.want("DELETE", d.url, nil, "", 204); r.Header.Get("X-Account-Status") != "Deleted" {
		d.t.Errorf("the DELETE is answered with %v", r.Header)
	}
}
