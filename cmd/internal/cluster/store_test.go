package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"martlet/cmd/internal/node"
)

// stores asks a node what its devices' stores are like.
func (p *probe) stores(n int) []node.DeviceStore {
	p.t.Helper()
	c := p.configs[n-1]
	resp, err := p.client.Get(fmt.Sprintf("http://%s:%d%s", c.Server.Address, c.Object.Port, node.StorePath))
	if err != nil {
		p.t.Fatal(err)
	}
	var all []node.DeviceStore
	err = errors.Join(json.NewDecoder(resp.Body).Decode(&all), resp.Body.Close())
	if err != nil || len(all) != len(c.Server.Devices) {
		p.t.Fatalf("node %d: %v, %+v", n, err, all)
	}
	return all
}

// The object server of each node tells what its devices hold; the other servers know
// nothing of objects.
func TestStores(t *testing.T) {
	p := startProbe(t)
	p.object("PUT", "told", nil, "0123456789", 201)
	p.pass(true) // the third replica may come after the answer
	objects, bytes := int64(0), int64(0)
	for n := range p.nodes {
		for _, d := range p.stores(n + 1) {
			if d.Error != "" || d.Store == nil || d.Store.Disk.Total <= 0 {
				t.Fatalf("node %d: %+v", n+1, d)
			}
			for _, of := range d.Store.Policies {
				objects += of.Objects
				bytes += of.Bytes
			}
		}
	}
	if objects != 3 || bytes != 30 {
		t.Errorf("the devices hold %d objects of %d bytes, want 3 of 30", objects, bytes)
	}
	c := p.configs[0]
	resp, err := p.client.Get(fmt.Sprintf("http://%s:%d%s", c.Server.Address, c.Account.Port, node.StorePath))
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode == http.StatusOK {
		t.Errorf("the account server: %d, %v", resp.StatusCode, err)
	}
}
