package cluster

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/ring"
)

// telling starts all nodes anew, of which some tell accounts what containers hold: those once all others are there to hear it.
func (p *probe) telling(nodes ...int) {
	p.t.Helper()
	for _, tell := range []bool{false, true} {
		for n := 1; n <= len(p.nodes); n++ {
			if slices.Contains(nodes, n) != tell {
				continue
			}
			p.stop(n)
			p.configs[n-1].Stats.Enabled, p.configs[n-1].Stats.Interval = tell, conf.Duration(20*time.Millisecond)
			p.start(n)
		}
	}
}

// give puts a ring of containers in the place of the one that is there, in which another device has the replica of a partition that
// one has had, and returns that device: on a node that has none.
func (p *probe) give(part ring.Partition, from *ring.Device) (to *ring.Device) {
	p.t.Helper()
	file := filepath.Join(p.configs[0].Rings.Folder, "container.ring.gz")
	r, err := ring.Load(file)
	if err != nil {
		p.t.Fatal(err)
	}
	primaries := r.AppendPrimaries(nil, part)
	data := ring.Data{PartPower: r.PartPower(), Version: r.Version() + 1, Rows: r.Rows()}
	for d := range r.Devices() {
		data.Devices = append(data.Devices, d)
		if !slices.ContainsFunc(primaries, func(one *ring.Device) bool { return one.IP == d.IP }) {
			to = d
		}
	}
	for _, row := range data.Rows {
		if row[part] == uint32(from.ID) {
			row[part] = uint32(to.ID)
		}
	}
	if r, err = ring.New(data); err == nil {
		err = r.Save(file)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return to
}

// A replica that lacks rows and is none any more has the last word on its container: when it goes the account is told what those have that stay.
func TestLastWordGoesWithItsReplica(t *testing.T) {
	const objects = "X-Account-Object-Count"
	p := startProbe(t)
	account, path := name.Path{Account: "AUTH_test"}, name.Path{Account: "AUTH_test", Container: "c"}
	part, at := p.primaries(path)
	away := nodeOf(at[0].IP)
	to := p.give(part, at[0])
	p.telling(nodeOf(at[1].IP), nodeOf(at[2].IP), nodeOf(to.IP))
	p.startProxy()
	p.rows(path, at[:1], 0, 3)
	p.rows(path, at[1:], 0, 5)
	if _, err := p.nodes[nodeOf(at[1].IP)-1].Replicate(t.Context(), ""); err != nil { // to the new replica
		t.Fatal(err)
	}
	p.agree(account, objects, "200 5: c")
	p.telling(away)
	p.agree(account, objects, "200 3: c")
	p.telling(1, 2, 3, 4)
	if got := p.replicas(account, objects); got[placeOf(at[1])] == "200 5: c" {
		t.Fatalf("before the pass there is %v", got)
	}
	if _, err := p.nodes[away-1].Replicate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	p.agree(account, objects, "200 5: c")
	p.alike(path, "X-Container-Object-Count", "200 5")
}
