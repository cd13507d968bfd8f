package quorum

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

// of returns the place of the fleet's path as an object of a policy.
func (f *fleet) of(t *testing.T, p policy.Index) Place {
	t.Helper()
	place, err := f.Object(p, name.Path{Account: "a", Container: "c"})
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// Device dN is in zone N+1. What policy 1 has of its own is not of policy 0, nor of
// containers.
func TestPoliciesReadInOrdersOfTheirOwn(t *testing.T) {
	f := newFleet(t, Config{
		Options:  Options{Near: affinity(t, "r1z1"), HedgePercent: -1},
		Policies: map[policy.Index]Options{1: {Near: affinity(t, "r1z3=1, r1z2=2"), Nodes: NodeCount{N: 4}, HedgePercent: -1}},
	})
	for i := range nodetest.Nodes {
		f.Script("d"+strconv.Itoa(i), nodetest.Body(200, "", "it"))
	}
	for what, tt := range map[string]struct {
		place  Place
		first  string
		others []string // in which a read goes on when the first broke off
	}{
		"policy 0":  {f.of(t, 0), "d0", nil},
		"policy 1":  {f.of(t, 1), "d2", []string{"d1", "d0"}},
		"container": {f.Container("a", "c"), "d0", nil},
	} {
		for range 20 {
			reply, err := f.Read(t.Context(), tt.place, request("GET"))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			_ = reply.Body.Close()
			if reply.Device.Name != tt.first {
				t.Fatalf("%s is read from %s, want %s", what, reply.Device.Name, tt.first)
			}
		}
		var got []string
		for _, d := range f.Others(tt.place, f.device(tt.place, tt.first)) {
			got = append(got, d.Name)
		}
		if tt.others != nil && (len(got) != 3 || !slices.Equal(got[:2], tt.others)) {
			t.Errorf("%s goes on at %v, want %v and one handoff", what, got, tt.others)
		}
	}
	for i := range nodetest.Nodes {
		f.Script("d"+strconv.Itoa(i), nodetest.Always(503, ""))
	}
	for p, want := range map[policy.Index]int{0: 6, 1: 4} {
		before := len(f.Asked())
		if _, err := f.Read(t.Context(), f.of(t, p), request("GET")); err == nil {
			t.Errorf("policy %d: nobody answered, and there is no error", p)
		}
		if got := f.Asked()[before:]; len(got) != want {
			t.Errorf("policy %d: asked %v, want %d devices", p, got, want)
		}
	}
}

// Both are written to a majority of the primaries, and else to what is local of each.
func TestPoliciesAreWrittenToPlacesOfTheirOwn(t *testing.T) {
	f := newFleet(t, Config{
		Options:  Options{Local: affinity(t, "r1z4")},
		Policies: map[policy.Index]Options{1: {Local: affinity(t, "r1z6")}, 2: {}},
	})
	f.rings.Objects[2], f.rings.Objects[policy.Index(1).Fragments()] = f.Ring, f.Ring
	for i := range nodetest.Nodes {
		f.Script("d"+strconv.Itoa(i), nodetest.Always(201, ""))
	}
	for p, want := range map[policy.Index]string{0: "d3", 1: "d5", policy.Index(1).Fragments(): "d5", 2: ""} {
		answers := f.Write(t.Context(), f.of(t, p).Locally(), request("PUT"))
		var handoffs []string
		for _, a := range answers {
			if !slices.Contains([]string{"d0", "d1", "d2"}, a.Device.Name) {
				handoffs = append(handoffs, a.Device.Name)
			}
		}
		if len(answers) != 3 || len(handoffs) > 1 || want == "" && handoffs != nil || want != "" && !slices.Equal(handoffs, []string{want}) {
			t.Errorf("policy %d: %v took it, of them handoffs %v; want %q", p, answers, handoffs, want)
		}
	}
}

// Second requests of one policy are not paid for by another.
func TestPoliciesHaveBudgetsOfTheirOwn(t *testing.T) {
	c := New(Config{
		Options:  Options{HedgeAfter: time.Second},
		Policies: map[policy.Index]Options{1: {HedgePercent: -1}, 2: {HedgeAfter: time.Minute, HedgePercent: 50}},
	}, Rings{}, name.Hasher{}, newFleet(t, Config{}).client)
	for range burst {
		if !c.usual.hedges.take() {
			t.Fatal("the budget is smaller than it was")
		}
	}
	if c.usual.hedges.take() || !c.own[2].hedges.take() {
		t.Error("what policy 0 used up was taken from policy 2, or not counted")
	}
	if one, two := c.own[1].hedges, c.own[2].hedges; one.share != 0 || two.share != 50 || two.longest != time.Minute || c.usual.hedges.share != 10 {
		t.Errorf("shares are %d, %d and %d, the longest delay is %v", c.usual.hedges.share, one.share, two.share, two.longest)
	}
}

// device returns the device of a name among the primaries of a place.
func (f *fleet) device(p Place, device string) *ring.Device {
	return p.Primaries[slices.IndexFunc(p.Primaries, func(d *ring.Device) bool { return d.Name == device })]
}
