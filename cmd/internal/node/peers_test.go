package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/hosts"
	"martlet/internal/policy"
	"martlet/ring"
)

// TestPeersThatLeft: a node that was taken out of the rings may still bring what it
// holds, for a time.
func TestPeersThatLeft(t *testing.T) {
	dir := t.TempDir()
	save := func(version int64, ips ...string) {
		t.Helper()
		data := ring.Data{PartPower: 1, Version: version}
		for i, ip := range ips {
			data.Devices = append(data.Devices, &ring.Device{
				ID: i, IP: ip, Port: 6200, ReplicationIP: "10.9" + ip[4:], ReplicationPort: 6203, Name: fmt.Sprint("d", i), Weight: 1,
			})
		}
		data.Rows = [][]uint32{{0, 0}}
		r, err := ring.New(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"account", "container", "object"} {
			if err := r.Save(filepath.Join(dir, kind+".ring.gz")); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(1, "10.0.0.1", "10.0.0.2")
	policies, err := policy.NewSet([]policy.Policy{{Name: "p", Default: true}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := openRings(dir, policies)
	if err != nil {
		t.Fatal(err)
	}
	p := &peers{rings: all, keep: time.Hour}
	first, second, other := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3")
	want := func(when string, a netip.Addr, want bool) {
		t.Helper()
		if got := p.known(a); got != want {
			t.Errorf("%s: %v is known: %v, want %v", when, a, got, want)
		}
	}
	want("at first", first, true)
	want("at first", second, true)
	want("at first", other, false)

	save(2, "10.0.0.1")
	for _, source := range all.named {
		if _, err := source.Check(); err != nil {
			t.Fatal(err)
		}
	}
	want("after the second has left", first, true)
	want("after the second has left", second, true)
	p.keep = 0
	want("when its time is over", second, false)
	want("when its time is over", first, true)
}

// TestPeersOfNames: what a name in a ring leads to is a peer, also when that changes.
func TestPeersOfNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r, err := ring.New(ring.Data{
			Devices: []*ring.Device{{IP: "10.0.0.1", Port: 6200, ReplicationIP: "storage1.example", ReplicationPort: 6203, Name: "d1", Weight: 1}},
			Rows:    [][]uint32{{0, 0}}, PartPower: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"account", "container", "object"} {
			if err := r.Save(filepath.Join(dir, kind+".ring.gz")); err != nil {
				t.Fatal(err)
			}
		}
		all, err := openRings(dir, policy.Single())
		if err != nil {
			t.Fatal(err)
		}
		address := netip.MustParseAddr("10.9.0.7")
		names := hosts.NewNames(func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{address}, nil })
		p := &peers{rings: all, names: names, keep: time.Hour}
		want := func(when string, a string, want bool) {
			t.Helper()
			if got := p.known(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s: %s is known: %v, want %v", when, a, got, want)
			}
		}
		learn := func() {
			t.Helper()
			if err := names.Learn(t.Context(), all.hosts); err != nil {
				t.Fatal(err)
			}
		}
		want("before names are looked up", "10.0.0.1", true)
		want("before names are looked up", "10.9.0.7", false)
		learn()
		want("when they are known", "10.9.0.7", true)
		want("when they are known", "10.9.0.8", false)
		address = netip.MustParseAddr("10.9.0.8")
		time.Sleep(10 * time.Minute) // in the bubble
		learn()
		want("when one has moved", "10.9.0.8", true)
		want("when one has moved", "10.9.0.7", true)
		time.Sleep(time.Hour) // in the bubble
		want("an hour later", "10.9.0.7", false)
	})
}
