package survey

import (
	"context"
	"maps"
	"testing"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Coded implements CodedAsker: all that these devices have is in fragments.
func (w codedWorld) Coded(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	return w.States(ctx, d, p, power, partition, from)
}

// An object of which any two of three fragments give it back, whatever is where.
func TestFragmentsOf(t *testing.T) {
	// Where there is which fragment: its own device, the next one's, or one that is no primary.
	type at struct{ index, place int }
	const handoff = 3
	home := []at{{0, 0}, {1, 1}, {2, 2}}
	for what, tt := range map[string]struct {
		there, lost []at
		ended       bool
		out         int // the place of a device that can't be asked; -1 for none
		objects     int64
		unreadable  int64
		fragments   map[Reason]int64
		whole       bool
	}{
		"all are in place":              {home, nil, false, -1, 1, 0, map[Reason]int64{}, true},
		"one is nowhere":                {home[:2], nil, false, -1, 1, 0, map[Reason]int64{ToBeMade: 1}, false},
		"one is damaged":                {home[:2], home[2:], false, -1, 1, 0, map[Reason]int64{Quarantined: 1}, false},
		"one is on a handoff":           {[]at{{0, 0}, {1, 1}, {2, handoff}}, nil, false, -1, 1, 0, map[Reason]int64{OnHandoff: 1}, false},
		"two have each other's":         {[]at{{0, 0}, {1, 2}, {2, 1}}, nil, false, -1, 1, 0, map[Reason]int64{OnHandoff: 2}, false},
		"a device is out":               {home, nil, false, 2, 1, 0, map[Reason]int64{Unreachable: 1}, false},
		"two are nowhere":               {home[:1], nil, false, -1, 1, 1, map[Reason]int64{Nowhere: 2}, false},
		"one is nowhere, one can't say": {home[:2], nil, false, 1, 1, 1, map[Reason]int64{Unreachable: 1, Nowhere: 1}, false},
		"none is anywhere":              {nil, nil, false, -1, 1, 1, map[Reason]int64{Nowhere: 3}, false},
		"it was deleted":                {home[:1], nil, true, -1, 0, 0, map[Reason]int64{}, true},
	} {
		w := codedWorld{&baseWorld{world: newWorld(t)}, newWorld(t)}
		w.out = w.fragments.out
		commit := state(replwire.Data, 1, 10)
		primaries := w.ring.AppendPrimaries(nil, w.ring.Partition(commit.Hash))
		var devices []string
		for _, d := range primaries {
			devices = append(devices, d.Name)
			w.put(d.Name, commit)
			if tt.ended {
				w.put(d.Name, state(replwire.Tombstone, 1, 11))
			}
		}
		for _, name := range []string{"d0", "d1", "d2", "d3", "d4"} {
			if len(devices) == 3 && name != devices[0] && name != devices[1] && name != devices[2] {
				devices = append(devices, name)
			}
		}
		for _, f := range tt.there {
			w.fragments.put(devices[f.place], fragmentOf(replwire.Data, 1, 10, f.index))
		}
		for _, f := range tt.lost {
			w.fragments.put(devices[f.place], fragmentOf(replwire.Lost, 1, 10, f.index))
		}
		if tt.out >= 0 {
			w.out[devices[tt.out]] = true
		}
		listed := 0
		got, err := FragmentsOf(t.Context(), w, Policy{Index: 1, Name: "ec", Ring: w.ring, Data: 2, Fragments: w.fragments.ring}, func(Lacking) { listed++ })
		if err != nil {
			t.Fatal(err)
		}
		if got.Objects != tt.objects || got.Unreadable != tt.unreadable || !maps.Equal(got.Fragments, tt.fragments) || got.Whole() != tt.whole || int64(listed) != got.Lacking {
			t.Errorf("%s: %+v, and %d listed", what, got, listed)
		}
	}
}
