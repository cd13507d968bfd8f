package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"martlet/internal/name"
)

// swap has two places be mounted at each other's folder, with the nodes stopped meanwhile.
func (p *probe) swap(a, b string) {
	p.t.Helper()
	nodes := []int{nodeAt(a), nodeAt(b)}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	for _, n := range nodes {
		p.stop(n)
	}
	folder := func(place string) string {
		return filepath.Join(p.configs[nodeAt(place)-1].Server.Root, filepath.Base(place))
	}
	between := folder(a) + ".aside"
	if err := errors.Join(os.Rename(folder(a), between), os.Rename(folder(b), folder(a)), os.Rename(between, folder(b))); err != nil {
		p.t.Fatal(err)
	}
	for _, n := range nodes {
		p.start(n)
	}
}

// bodies puts some objects and returns what they hold.
func (p *probe) bodies(prefix string, n int) map[string]string {
	p.t.Helper()
	all := map[string]string{}
	for i := range n {
		o := fmt.Sprint(prefix, i)
		all[o] = "body of " + o
		p.object("PUT", o, nil, all[o], 201)
	}
	return all
}

// Two disks of a node are mounted at each other's place: neither is used, and nothing is written to them, however many
// passes there are. Put right they have what they had, and are brought what they missed.
func TestDisksOfANodeSwapped(t *testing.T) {
	p := startProbe(t)
	const objects = 20
	want := p.bodies("o", objects)
	p.pass(true)
	p.swap("storage1/d1", "storage1/d2")
	for o := range want {
		p.object("GET", o, nil, "", 200)
	}
	missed := 0
	for o, body := range p.bodies("during", objects) {
		want[o] = body
		if primaries, _ := p.places(o); slices.ContainsFunc(primaries, func(place string) bool { return nodeAt(place) == 1 }) {
			missed++
		}
	}
	p.object("DELETE", "o0", nil, "", 204)
	delete(want, "o0")
	for range 2 {
		for _, d := range p.pass(false)[0].Devices {
			if d.Error == "" {
				t.Errorf("a pass of a node with swapped disks says of %s: %+v", d.Device, d)
			}
		}
	}
	for o := range want {
		for place, s := range p.copies(o) {
			if nodeAt(place) == 1 && o[0] == 'd' && !s.Newest().IsZero() {
				t.Errorf("%s has %s, which was written while it was somewhere else", place, o)
			}
		}
	}
	if d, _ := p.durability(); d.Whole() || len(d.Unknown) != 2 || missed == 0 {
		t.Errorf("of the cluster is said %+v, want two devices unknown", d)
	}
	p.swap("storage1/d1", "storage1/d2")
	p.pass(true)
	p.pass(true)
	for o, body := range want {
		primaries, _ := p.places(o)
		p.exactly(o, primaries, holds(body))
	}
	primaries, _ := p.places("o0")
	p.exactly("o0", primaries, deleted)
	p.still()
}

// The disks of two nodes, which have one name, are mounted at each other's place. Each is used for what it holds, which
// for most of it is that of a handoff: clients see everything all the time, and passes bring all to where the ring
// says. Nothing is dropped before, and what was deleted stays so.
func TestDisksOfTwoNodesSwapped(t *testing.T) {
	p := startProbe(t, withKey)
	const objects = 30
	want := p.bodies("o", objects)
	p.pass(true)
	before := p.databases()
	p.swap("storage1/d1", "storage2/d1")
	check := func(when string) {
		t.Helper()
		for o := range want {
			p.object("GET", o, nil, "", 200)
		}
		if want["o0"] == "" {
			p.object("GET", "o0", nil, "", 404)
		}
		if t.Failed() {
			t.Fatal(when)
		}
	}
	check("at first")
	p.object("DELETE", "o0", nil, "", 204)
	delete(want, "o0")
	for i := range 5 {
		o := fmt.Sprint("o", i+1)
		want[o] = "new body of " + o
		p.object("PUT", o, nil, want[o], 201)
	}
	check("before a pass")
	for range 3 {
		p.pass(true)
		check("after a pass")
	}
	for o, body := range want {
		primaries, _ := p.places(o)
		p.exactly(o, primaries, holds(body))
	}
	primaries, _ := p.places("o0")
	p.exactly("o0", primaries, deleted)
	p.still()
	if d := p.databases(); !d.Whole() || d.Databases != before.Databases {
		t.Errorf("of containers is said %+v, want as before: %+v", d, before)
	}
	p.alike(name.Path{Account: "AUTH_test", Container: "c"}, "X-Container-Object-Count", fmt.Sprint("200 ", objects-1))
}
