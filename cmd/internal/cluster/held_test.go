package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"martlet/cmd/internal/node"
)

// held asks a node on the storage network, and adds up what it holds by kind: all
// partitions, and handoffs.
func (p *probe) held(n int) (partitions, handoffs map[string]int64) {
	p.t.Helper()
	c := p.configs[n-1]
	partitions, handoffs = map[string]int64{}, map[string]int64{}
	for _, port := range []int{c.Object.Port, c.Container.Port, c.Account.Port} {
		url := fmt.Sprintf("http://%s:%d%s", c.Server.Address, port, node.HeldPath)
		resp, err := p.client.Get(url)
		if err != nil {
			p.t.Fatal(err)
		}
		var report node.HeldReport
		err = json.NewDecoder(resp.Body).Decode(&report)
		if resp.StatusCode != http.StatusOK || err != nil || len(report.Devices) != len(c.Server.Devices) {
			p.t.Fatalf("%s: %d, %v, %+v", url, resp.StatusCode, err, report)
		}
		if err := resp.Body.Close(); err != nil {
			p.t.Fatal(err)
		}
		clear(partitions)
		clear(handoffs) // each server says the same
		for _, d := range report.Devices {
			if d.Error != "" {
				p.t.Fatalf("%s: %+v", url, d)
			}
			for _, k := range d.Kinds {
				partitions[k.Kind] += k.Partitions
				handoffs[k.Kind] += k.Handoffs
			}
		}
	}
	return partitions, handoffs
}

// usage wants a node to tell how full its devices are.
func (p *probe) usage(n, devices int) {
	p.t.Helper()
	c := p.configs[n-1]
	resp, err := p.client.Get(fmt.Sprintf("http://%s:%d%s", c.Server.Address, c.Object.Port, node.UsagePath))
	if err != nil {
		p.t.Fatal(err)
	}
	var all []node.DeviceUsage
	err = errors.Join(json.NewDecoder(resp.Body).Decode(&all), resp.Body.Close())
	if err != nil || len(all) != devices {
		p.t.Fatalf("usage: %v, %+v", err, all)
	}
	for _, d := range all {
		if !d.Mounted || d.Size <= 0 || d.Used <= 0 || d.Used > d.Size {
			p.t.Errorf("usage of %+v", d)
		}
	}
}

// TestHeld: what is on handoffs shows while it is there, and no longer.
func TestHeld(t *testing.T) {
	p := startProbe(t)
	primaries, handoffs := p.places("held")
	down := nodeAt(primaries[2])
	p.stop(down)
	p.object("PUT", "held", nil, "body", 201)
	all := func() int64 {
		partitions, away := map[string]int64{}, map[string]int64{}
		for n := 1; n <= len(p.nodes); n++ {
			if p.nodes[n-1] == nil {
				continue
			}
			held, handoffs := p.held(n)
			for kind := range held {
				if held[kind] < handoffs[kind] {
					t.Errorf("node %d holds %v, of that as a handoff %v", n, held, handoffs)
				}
				partitions[kind] += held[kind]
				away[kind] += handoffs[kind]
			}
		}
		// One account, one container, one object: at least a majority of each is there.
		for _, kind := range []string{"account", "container", "object"} {
			if partitions[kind] < 2 {
				t.Errorf("the nodes hold %v, want at least two partitions of each kind", partitions)
			}
		}
		return away["object"]
	}
	if got := all(); got != 1 {
		t.Errorf("%d partitions of objects are on handoffs, want the one on %s", got, handoffs[0])
	}
	p.start(down)
	p.pass(true)
	if got := all(); got != 0 {
		t.Errorf("%d partitions of objects are on handoffs after a pass", got)
	}
	p.usage(1, len(p.configs[0].Server.Devices))
	resp, err := p.client.Post(fmt.Sprintf("http://%s:%d%s", p.configs[0].Server.Address, p.configs[0].Object.Port, node.HeldPath), "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, %v", resp.StatusCode, err)
	}
}
