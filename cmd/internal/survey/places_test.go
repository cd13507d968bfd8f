package survey

import (
	"maps"
	"testing"

	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Where the ring has fewer devices than there are fragments the last ones belong nowhere: they are missing, wherever they are.
func TestFragmentsWithoutPlaces(t *testing.T) {
	r, err := ring.New(ring.Data{
		PartPower: 1, Rows: [][]uint32{{0, 0}, {1, 1}, {0, 0}, {1, 1}},
		Devices: []*ring.Device{
			{ID: 0, Region: 1, Zone: 1, IP: "10.0.0.1", Port: 6200, Name: "a", Weight: 1}, {ID: 1, Region: 1, Zone: 1, IP: "10.0.0.2", Port: 6200, Name: "b", Weight: 1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &pieces{
		Policy: Policy{Index: policy.Index(1), Data: 3, Fragments: r},
		parts:  &held{place: map[*ring.Device]int{}, unknown: map[int]error{}},
	}
	for d := range r.Devices() {
		x.parts.place[d] = len(x.parts.place)
	}
	o := state(replwire.Data, 1, 10)
	all := there{0: {o.Hash.Fragment(o.Times.Data, 0): replwire.Data}, 1: {o.Hash.Fragment(o.Times.Data, 1): replwire.Data}}
	for want, few := range map[int]bool{0: true, 1: false} {
		if want == 1 {
			all[0][o.Hash.Fragment(o.Times.Data, 3)] = replwire.Data
		}
		l, got := x.lacking(0, o.Hash, o.Times.Data, all)
		reasons := map[Reason]int{}
		for _, why := range l.Reasons {
			reasons[why]++
		}
		if got != few || l.Missing != 2 || !maps.Equal(reasons, map[Reason]int{NoPlace: 2}) {
			t.Errorf("with %d that belong nowhere %d are missing: %v, too few: %v", want, l.Missing, reasons, got)
		}
		delete(all[0], o.Hash.Fragment(o.Times.Data, 3))
	}
}
