package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/node"
	"martlet/replicator"
	"martlet/ring"
	"martlet/ring/builder"
)

const (
	// askWithin is how long a storage node may take to tell what it holds.
	askWithin = 10 * time.Minute
	// maxAnswer bounds what it says, in bytes.
	maxAnswer = 16 << 20
)

// storageNodes asks storage nodes on the storage network, which has to be reachable.
type storageNodes struct{}

// asked is a server of a storage node, and the devices that a ring has there.
type asked struct {
	addr, ring, kind, policy string
	devices                  []string
}

// handoffs implements clusterCheck.
func (storageNodes) handoffs(ctx context.Context, file string, b *builder.Builder) (report handoffReport, err error) {
	rings, all, err := ringsOf(file)
	if err != nil {
		return report, err
	}
	name, digest, err := ringOfBuilder(b, rings)
	if err != nil {
		return report, err
	}
	client := newAsker()
	defer client.CloseIdleConnections()
	answers := map[string]*node.HeldReport{} // by address
	for _, a := range all {
		if answers[a.addr] == nil {
			if answers[a.addr], err = heldBy(ctx, client, a.addr); err != nil {
				return report, err
			}
			report.Servers++
		}
		// What it holds as handoffs it says by the ring that it has in use.
		if got := answers[a.addr].Rings[name]; got != digest {
			return report, fmt.Errorf("%s has another %s ring in use than %s: it has not reached it yet, or its data is on the move", a.addr, name, file)
		}
		if err := report.add(a, answers[a.addr].Devices); err != nil {
			return report, err
		}
	}
	return report, nil
}

// heldBy asks a storage node what its devices hold.
func heldBy(ctx context.Context, client *http.Client, addr string) (*node.HeldReport, error) {
	held := &node.HeldReport{}
	return held, ask(ctx, client, addr, node.HeldPath, held)
}

// ringsOf loads the rings of a configuration, by name, and lists whom they name.
func ringsOf(file string) (rings map[string]*ring.Ring, all []asked, err error) {
	cluster, folder, err := clusterOf(file)
	if err != nil {
		return nil, nil, err
	}
	policies, err := cluster.PolicySet()
	if err != nil {
		return nil, nil, err
	}
	rings = map[string]*ring.Ring{}
	add := func(name, kind, policy string) error {
		r, err := ring.Load(filepath.Join(folder, name+".ring.gz"))
		if err != nil {
			return err
		}
		rings[name] = r
		for _, a := range serversOf(r) {
			a.ring, a.kind, a.policy = name, kind, policy
			all = append(all, a)
		}
		return nil
	}
	err = errors.Join(add("account", "account", ""), add("container", "container", ""))
	for _, p := range policies.All() {
		err = errors.Join(err, add("object"+p.Index.Suffix(), "object", p.Index.String()))
	}
	return rings, all, err
}

// ringOfBuilder finds which of a cluster's rings a builder has made, just as it is.
func ringOfBuilder(b *builder.Builder, rings map[string]*ring.Ring) (name, digest string, err error) {
	for d := range b.Removed() {
		return "", "", fmt.Errorf("device %d is removed and not gone yet: rebalance first", d.ID)
	}
	r, err := b.Ring()
	if err != nil {
		return "", "", err
	}
	digest = r.Digest()
	for name, other := range rings {
		if other.Digest() == digest {
			return name, digest, nil
		}
	}
	return "", "", errors.New("none of the cluster's rings is the one that this builder makes: it is of another cluster, or the ring has not been written there")
}

// serversOf returns the addresses in a ring, with the devices there.
func serversOf(r *ring.Ring) (all []asked) {
	places := map[string]int{}
	for d := range r.Devices() {
		i, ok := places[d.Addr()]
		if !ok {
			i = len(all)
			places[d.Addr()] = i
			all = append(all, asked{addr: d.Addr()})
		}
		all[i].devices = append(all[i].devices, d.Name)
	}
	return all
}

// add adds what a server has said of the data that the ring which named it is about.
func (h *handoffReport) add(a asked, devices []replicator.DeviceHeld) error {
	for _, name := range a.devices {
		i := slices.IndexFunc(devices, func(d replicator.DeviceHeld) bool { return d.Device == name })
		if i < 0 {
			return fmt.Errorf("%s has no device %s, which the %s ring says that it has", a.addr, name, a.ring)
		}
		d := devices[i]
		if d.Error != "" {
			return fmt.Errorf("what %s/%s holds is not known: %s", a.addr, name, d.Error)
		}
		told := a.kind == "object" // of a policy that was never used there is nothing to tell
		for _, k := range d.Kinds {
			if k.Policy != a.policy || k.Kind != a.kind && (k.Kind != "fragment" || a.kind != "object") {
				continue // fragments are placed by the ring of the objects
			}
			told = true
			if k.Handoffs > 0 {
				h.Handoffs += int(k.Handoffs)
				h.Where = append(h.Where, fmt.Sprintf("%s/%s: %s of %ss", a.addr, name, some(int(k.Handoffs), "partition"), k.Kind))
			}
		}
		if !told {
			return fmt.Errorf("%s/%s does not tell what it holds of %ss: its %s server is switched off", a.addr, name, a.kind, a.kind)
		}
	}
	return nil
}

// ask asks a server of a storage node something that it answers as JSON.
func ask(ctx context.Context, client *http.Client, addr, path string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("a storage node does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the answer of %s broke off: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d: %s", addr, resp.StatusCode, cmp.Or(strings.TrimSpace(string(body)), http.StatusText(resp.StatusCode)))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: no report: %w", addr, err)
	}
	return nil
}

// newAsker returns a client to storage nodes; no proxy: it is the storage network.
func newAsker() *http.Client { return &http.Client{Transport: &http.Transport{}, Timeout: askWithin} }

// measured is how full the devices of a ring are: bytes on all of them together, and
// the size of each, by address and name.
type measured struct {
	used  float64
	sizes map[string]float64
}

// measure asks every storage node of a ring how full its devices are. What a device
// can't tell is an error: the rest says little.
func measure(ctx context.Context, r *ring.Ring) (m measured, err error) {
	client := newAsker()
	defer client.CloseIdleConnections()
	m.sizes = map[string]float64{}
	for _, a := range serversOf(r) {
		var all []node.DeviceUsage
		if err := ask(ctx, client, a.addr, node.UsagePath, &all); err != nil {
			return m, err
		}
		for _, name := range a.devices {
			i := slices.IndexFunc(all, func(d node.DeviceUsage) bool { return d.Device == name })
			if i < 0 || !all[i].Mounted {
				return m, fmt.Errorf("%s does not know how full device %s is", a.addr, name)
			}
			m.used += float64(all[i].Used)
			m.sizes[a.addr+"/"+name] = float64(all[i].Size)
		}
	}
	return m, nil
}

// capacity is the size of a device, 0 where it is not known.
func (m measured) capacity(d *ring.Device) float64 { return m.sizes[d.Addr()+"/"+d.Name] }
