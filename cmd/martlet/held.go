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
)

const (
	// askWithin is how long a storage node may take to tell what it holds.
	askWithin = 10 * time.Minute
	// maxHeld bounds its answer, in bytes.
	maxHeld = 16 << 20
)

// storageNodes asks storage nodes on the storage network, which has to be reachable.
type storageNodes struct{}

// asked is a server of a storage node, and the devices that a ring has there.
type asked struct {
	addr, kind, policy string
	devices            []string
}

// handoffs implements clusterCheck.
func (storageNodes) handoffs(ctx context.Context, file string) (report handoffReport, err error) {
	cluster, folder, err := clusterOf(file)
	if err != nil {
		return report, err
	}
	policies, err := cluster.PolicySet()
	if err != nil {
		return report, err
	}
	var all []asked
	add := func(name, kind, policy string) error {
		r, err := ring.Load(filepath.Join(folder, name+".ring.gz"))
		if err == nil {
			all = append(all, serversOf(r, kind, policy)...)
		}
		return err
	}
	err = errors.Join(add("account", "account", ""), add("container", "container", ""))
	for _, p := range policies.All() {
		err = errors.Join(err, add("object"+p.Index.Suffix(), "object", p.Index.String()))
	}
	if err != nil {
		return report, err
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: askWithin} // no proxy: it is the storage network
	defer client.CloseIdleConnections()
	answers := map[string]map[string]replicator.DeviceHeld{} // by address, then device
	for _, a := range all {
		if answers[a.addr] == nil {
			if answers[a.addr], err = askHeld(ctx, client, a.addr); err != nil {
				return report, err
			}
			report.Servers++
		}
		if err := report.add(a, answers[a.addr]); err != nil {
			return report, err
		}
	}
	return report, nil
}

// serversOf returns the addresses in a ring, with the devices there.
func serversOf(r *ring.Ring, kind, policy string) (all []asked) {
	for d := range r.Devices() {
		i := slices.IndexFunc(all, func(a asked) bool { return a.addr == d.Addr() })
		if i < 0 {
			i = len(all)
			all = append(all, asked{addr: d.Addr(), kind: kind, policy: policy})
		}
		all[i].devices = append(all[i].devices, d.Name)
	}
	return all
}

// add adds what a server has said of the data that the ring which named it is about.
func (h *handoffReport) add(a asked, devices map[string]replicator.DeviceHeld) error {
	for _, name := range a.devices {
		d, ok := devices[name]
		if !ok {
			return fmt.Errorf("%s has no device %s, which the %s ring says that it has", a.addr, name, a.kind)
		}
		if d.Error != "" {
			return fmt.Errorf("what %s/%s holds is not known: %s", a.addr, name, d.Error)
		}
		for _, k := range d.Kinds {
			if k.Kind == a.kind && k.Policy == a.policy && k.Handoffs > 0 {
				h.Handoffs += int(k.Handoffs)
				h.Where = append(h.Where, fmt.Sprintf("%s/%s: %s of %ss", a.addr, name, some(int(k.Handoffs), "partition"), a.kind))
			}
		}
	}
	return nil
}

// askHeld asks a server what its node's devices hold.
func askHeld(ctx context.Context, client *http.Client, addr string) (map[string]replicator.DeviceHeld, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+node.HeldPath, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("a storage node does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHeld))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s broke off: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d: %s", addr, resp.StatusCode, cmp.Or(strings.TrimSpace(string(body)), http.StatusText(resp.StatusCode)))
	}
	var report node.HeldReport
	if err := json.Unmarshal(body, &report); err != nil {
		return nil, fmt.Errorf("%s: no report: %w", addr, err)
	}
	devices := map[string]replicator.DeviceHeld{}
	for _, d := range report.Devices {
		devices[d.Device] = d
	}
	return devices, nil
}
