package cluster

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"martlet/cmd/internal/node"
	"martlet/cmd/internal/survey"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// durability asks the cluster which objects have too few copies.
func (p *probe) durability() (*survey.Durability, []survey.Lacking) {
	p.t.Helper()
	var list []survey.Lacking
	d, err := survey.DurabilityOf(p.t.Context(), survey.HTTP{Client: p.client}, []survey.Policy{{Name: "p", Ring: p.objects}},
		func(l survey.Lacking) { list = append(list, l) })
	if err != nil {
		p.t.Fatal(err)
	}
	return d, list
}

func (p *probe) left() *survey.Rebalance {
	p.t.Helper()
	r, err := survey.RebalanceOf(p.t.Context(), survey.HTTP{Client: p.client}, []survey.Policy{{Name: "p", Ring: p.objects}})
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// What is said of a real cluster, while a node is out, when it is back and lacks something, when a
// copy is damaged, when a ring has changed, and when all is whole again.
func TestStatus(t *testing.T) {
	p := startProbe(t)
	const objects = 30
	put := func(prefix string) {
		for i := range objects {
			p.object("PUT", fmt.Sprint(prefix, i), nil, prefix, 201)
		}
	}
	whole := func(when string, objects int64) {
		t.Helper()
		if d, _ := p.durability(); !d.Whole() || d.Objects != objects {
			t.Errorf("%s: %+v, want %d objects and nothing wrong", when, d, objects)
		}
		if r := p.left(); !r.Done() {
			t.Errorf("%s: left is %+v, want nothing", when, r)
		}
	}
	put("first")
	whole("at first", objects)

	p.stop(2)
	lacks := int64(0)
	for _, prefix := range []string{"first", "second"} {
		for i := range objects {
			primaries, _ := p.places(fmt.Sprint(prefix, i))
			for _, place := range primaries {
				if nodeAt(place) == 2 {
					lacks++
				}
			}
		}
	}
	put("second")
	d, list := p.durability()
	if d.UnderReplicated != lacks || d.Copies[survey.Unreachable] != lacks || d.Whole() || len(d.Unknown) != 2 || len(list) != int(lacks) || d.Objects != 2*objects {
		t.Errorf("with a node out: %+v, want %d objects that lack a copy and 2 devices unknown", d, lacks)
	}
	if r := p.left(); r.Done() || len(r.Unknown) != 2 {
		t.Errorf("with a node out left is %+v", r)
	}

	p.start(2)
	d, list = p.durability()
	queued := d.Copies[survey.OnHandoff] + d.Copies[survey.Queued]
	if d.Whole() || queued == 0 || queued != d.UnderReplicated || len(d.Unknown) > 0 {
		t.Errorf("with the node back: %+v, want copies to be brought to it", d)
	}
	for _, l := range list {
		text, err := survey.HTTP{Client: p.client}.Name(t.Context(), l.Holder, 0, l.Hash)
		if err != nil || !strings.HasPrefix(text, "/AUTH_test/c/second") {
			t.Errorf("%s is called %q, %v", l.Hash, text, err)
		}
	}
	r := p.left()
	if r.Done() || r.Objects != queued || r.Bytes != queued*int64(len("second")) || len(r.Unknown) > 0 {
		t.Errorf("left is %+v, want %d objects", r, queued)
	}
	p.pass(true)
	whole("after a pass", 2*objects)

	p.turn(0)
	r = p.left()
	if r.Done() || r.Objects != 2*objects || r.Handoffs == 0 {
		t.Errorf("after the ring has changed left is %+v, want a copy of each object", r)
	}
	d, _ = p.durability()
	if d.UnderReplicated != 2*objects || !maps.Equal(d.Missing, map[int]int64{1: 2 * objects}) || d.Copies[survey.OnHandoff] != 2*objects {
		t.Errorf("after the ring has changed: %+v, want one copy of each object on a handoff", d)
	}
	p.pass(true)
	p.pass(true)
	whole("after it was moved", 2*objects)
}

// containers are those of the cluster.
func (p *probe) containers() survey.Kind {
	p.t.Helper()
	r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, "container.ring.gz"))
	if err != nil {
		p.t.Fatal(err)
	}
	return survey.Kind{Name: "container", List: replwire.Containers, Ring: r}
}

// wait asks how many containers devices wait for, and hold for others.
func (p *probe) wait() (waits, handoffs int64) {
	p.t.Helper()
	var r survey.Rebalance
	if err := r.AddDatabases(p.t.Context(), survey.HTTP{Client: p.client}, p.containers()); err != nil {
		p.t.Fatal(err)
	}
	for _, d := range r.Databases {
		waits += d.Waits
		handoffs += d.Handoffs
	}
	if r.Done() != (waits+handoffs == 0 && len(r.Unknown) == 0) {
		p.t.Errorf("%+v says that it is done: %v", r, r.Done())
	}
	return waits, handoffs
}

// databases asks the cluster which containers have too few copies.
func (p *probe) databases() *survey.Databases {
	p.t.Helper()
	d, err := survey.DatabasesOf(p.t.Context(), survey.HTTP{Client: p.client}, p.containers(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// What is said of the databases of a real cluster while a node is out, when it is back and lacks
// some, and when all is whole again. It is of containers: what accounts hold changes by itself.
func TestStatusOfDatabases(t *testing.T) {
	p := startProbe(t)
	const containers = 20
	made := func(prefix string) (onTwo int64) {
		for i := range containers {
			c := fmt.Sprint(prefix, i)
			p.want("PUT", p.url+"/"+c, nil, "", 201)
			_, primaries := p.primaries(name.Path{Account: "AUTH_test", Container: c})
			for _, d := range primaries {
				if nodeOf(d.IP) == 2 {
					onTwo++
				}
			}
		}
		return onTwo
	}
	before := made("first")
	if d := p.databases(); !d.Whole() || d.Databases < containers {
		t.Errorf("at first: %+v, want %d and nothing wrong", d, containers)
	}
	all := p.databases().Databases
	p.stop(2)
	after := made("second")
	d := p.databases()
	if d.Whole() || len(d.Unknown) != 2 || d.Databases != all+containers || d.Copies[survey.Unreachable] < before+after {
		t.Errorf("with a node out: %+v, want %d without a copy and 2 devices unknown", d, before+after)
	}
	p.start(2)
	if d := p.databases(); d.Whole() || d.TooFew != after || len(d.Unknown) > 0 {
		t.Errorf("with the node back: %+v, want %d to be brought to it", d, after)
	}
	if waits, _ := p.wait(); waits != after {
		t.Errorf("with the node back %d are left, want %d", waits, after)
	}
	p.pass(true)
	p.pass(true)
	if waits, handoffs := p.wait(); waits+handoffs > 0 {
		t.Errorf("after passes %d are left, and %d on handoffs", waits, handoffs)
	}
	if d := p.databases(); !d.Whole() || d.Databases != all+containers {
		t.Errorf("after passes: %+v, want %d and nothing wrong", d, all+containers)
	}
}

// A container all of whose replicas are damaged is there for nobody, and is missed until it is made anew; one of which a
// replica is left is missed until a pass has brought it back.
func TestStatusOfQuarantined(t *testing.T) {
	p := startProbe(t)
	all, one := name.Path{Account: "AUTH_test", Container: "all"}, name.Path{Account: "AUTH_test", Container: "one"}
	for _, path := range []name.Path{all, one} {
		p.want("PUT", p.url+"/"+path.Container, nil, "", 201)
	}
	p.pass(true)
	before := p.databases()
	_, primaries := p.primaries(one)
	p.ruin(one, primaries[1])
	_, primaries = p.primaries(all)
	for _, d := range primaries {
		p.ruin(all, d)
	}
	d := p.databases()
	if d.Databases != before.Databases || d.TooFew != 2 || d.Copies[survey.Quarantined] != 4 || d.Missing[3] != 1 || d.Missing[1] != 1 {
		t.Errorf("with what is damaged: %+v, want two of %d with four copies in quarantine", d, before.Databases)
	}
	p.pass(true)
	if d := p.databases(); d.TooFew != 1 || d.Copies[survey.Quarantined] != 3 || d.Databases != before.Databases {
		t.Errorf("after a pass: %+v, want one with three copies in quarantine", d)
	}
	p.want("PUT", p.url+"/all", nil, "", 201)
	p.pass(true)
	if d := p.databases(); !d.Whole() || d.Databases != before.Databases {
		t.Errorf("made anew: %+v, want nothing wrong", d)
	}
}

// What can't be asked so is refused, and says why.
func TestStatusRefused(t *testing.T) {
	p := startProbe(t)
	c := p.configs[0]
	address := fmt.Sprintf("http://%s:%d", c.Server.Address, c.Object.Port)
	for _, tt := range []struct {
		method, query string
		want          int
	}{
		{"GET", node.HoldingsPath + "?device=d1&policy=0&power=5", 200},
		{"GET", node.HoldingsPath + "?device=d9&policy=0&power=5", 507},
		{"GET", node.HoldingsPath + "?device=d1&policy=x&power=5", 400},
		{"GET", node.HoldingsPath + "?device=d1&policy=0&power=33", 400},
		{"GET", node.HoldingsPath + "?device=d1&policy=0&power=5&from=32", 400},
		{"POST", node.HoldingsPath + "?device=d1&policy=0&power=5", 405},
		{"GET", node.StatesPath + "?device=d1&policy=0&power=5&partition=31", 200},
		{"GET", node.StatesPath + "?device=d1&policy=0&power=5&partition=32", 400},
		{"GET", node.StatesPath + "?device=d1&policy=0&power=5&partition=31&from=00000000000000000000000000000000", 400},
		{"GET", node.NamePath + "?device=d1&policy=0&hash=00000000000000000000000000000000", 404},
		{"GET", node.NamePath + "?device=d1&policy=0&hash=0", 400},
		{"GET", node.NamePath + "?device=%zz", 400},
		{"GET", node.RatesPath, 200},
		{"POST", node.RatesPath, 405},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, address+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.query, resp.StatusCode, tt.want)
		}
	}
}
