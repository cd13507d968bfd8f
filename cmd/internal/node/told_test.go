package node

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/hosts"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/replicator/expiry"
	"martlet/ring"
)

// Each primary of an object tells its own replica of the container, and of what is so late that the
// replicas may forget it before they have told each other, all of them. A handoff tells nobody.
func TestWhoIsToldOfAnEnd(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	path := filepath.Join(t.TempDir(), "object.ring.gz")
	if err := f.ring.Save(path); err != nil {
		t.Fatal(err)
	}
	source, err := ring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p := parts{c: config.DefaultStorage(), hasher: f.hasher, rings: rings{container: source, objects: map[policy.Index]*ring.Source{0: source}}}
	put := timestamp.FromTicks(1)
	for i, d := range f.data.Devices {
		told := toldPlaces{p, hosts.At(netip.MustParseAddrPort(d.Addr()), nil)}
		for days, want := range map[int]int{0: 1, 5: 1, 8: 3, 30: 3} {
			o := &expiry.Object{Hash: f.at("o").Hash, Path: thing("o"), Stamp: timestamp.Expiry(put, put, time.Now().AddDate(0, 0, -days).Unix())}
			_, replicas, mine := told.Told("d", o)
			if i == 3 {
				want = 0
			}
			if told.mine("d", f.at("o")) != mine {
				t.Errorf("device %d reads what it does not end, or the other way round", i)
			}
			if len(replicas) != want || mine != (i < 3) {
				t.Errorf("of what was due %d days ago device %d tells %v, want %d", days, i, replicas, want)
			} else if want == 1 && replicas[0].Addr != d.Addr() {
				t.Errorf("device %d tells %v", i, replicas)
			}
		}
	}
}
