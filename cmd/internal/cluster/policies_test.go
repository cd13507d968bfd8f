package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/cmd/internal/config"
	"martlet/internal/ec"
	"martlet/ring"
	"martlet/ring/builder"
)

func policyOf(t interface{ Fatal(...any) }, text string) Policy {
	p, err := ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]Policy{
		"gold":      {Name: "gold"},
		"ec42=4+2":  {Name: "ec42", Shape: ec.Shape{Data: 4, Parity: 2}},
		"big-1=8+4": {Name: "big-1", Shape: ec.Shape{Data: 8, Parity: 4}},

		"two=replicas:2":   {Name: "two", Replicas: 2},
		"many=replicas:16": {Name: "many", Replicas: 16},
	} {
		p, err := ParsePolicy(text)
		if err != nil || p != want || p.String() != text {
			t.Errorf("%q is read as %+v, %v, and written as %q", text, p, err, p)
		}
	}
	for _, text := range []string{"", "=4+2", "a b", "ec=", "ec=4", "ec=4-2", "ec=0+2", "ec=40+2", "ec=4+2+1", "policy-0", "gold,silver",
		"two=2", "two=replicas:", "two=replicas:0", "two=replicas:-1", "two=replicas:+2", "two=replicas:02", "two=replicas:17", "two=replicas:2+1", "two=replicas", "=replicas:2"} {
		if p, err := ParsePolicy(text); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "--policy "+text) {
			t.Errorf("%q is read as %+v, %v, want an error that names the flag and the text", text, p, err)
		}
	}
}

// A cluster has as many nodes as an erasure-coded policy has fragments, or where it is
// told how many nodes it has, as many devices on each as it takes.
func TestFit(t *testing.T) {
	for name, tt := range map[string]struct {
		policies       string
		nodes, devices int
		asked          []string
		wantNodes      int
		wantDevices    int
		notes, refused string
	}{
		"replicated":                  {"gold silver", 4, 2, nil, 4, 2, "", ""},
		"replicated otherwise":        {"two=replicas:2 eight=replicas:8", 4, 2, nil, 4, 2, "", ""},
		"more replicas than places":   {"nine=replicas:9", 4, 2, nil, 4, 2, "", "--policy nine=replicas:9: 4 nodes of 2 devices have only 8 places for 9 replicas"},
		"a node for each fragment":    {"ec=4+2", 4, 2, nil, 6, 2, "6 nodes, one for each fragment of policy ec (4+2)", ""},
		"of the largest":              {"a=4+2 gold b=8+4 c=2+1", 4, 2, nil, 12, 2, "12 nodes, one for each fragment of policy b (8+4)", ""},
		"there are more":              {"ec=2+1", 4, 2, nil, 4, 2, "", ""},
		"nodes as told":               {"ec=4+2", 3, 2, []string{"nodes"}, 3, 2, "", ""},
		"more devices":                {"ec=4+2", 2, 2, []string{"nodes"}, 2, 3, "3 devices on each node, as policy ec (4+2) has 6 fragments", ""},
		"both as told":                {"ec=4+2", 2, 2, []string{"nodes", "devices"}, 2, 2, "", "only 4 places for 6 fragments"},
		"devices as told":             {"ec=4+2", 4, 1, []string{"devices"}, 6, 1, "6 nodes", ""},
		"all on one node":             {"ec=20+8", 1, 1, []string{"nodes", "replicas"}, 1, 28, "28 devices", ""},
		"one name twice":              {"gold Gold", 4, 2, nil, 4, 2, "", `name "Gold" is taken`},
		"no node, which is refused":   {"ec=4+2", 0, 2, []string{"nodes"}, 0, 2, "", "--nodes 0"},
		"a replica has less to place": {"gold", 1, 2, []string{"nodes"}, 1, 2, "", "--replicas 3"},
	} {
		o := Defaults()
		o.Nodes, o.Devices = tt.nodes, tt.devices
		for _, text := range strings.Fields(tt.policies) {
			o.Policies = append(o.Policies, policyOf(t, text))
		}
		got, notes := o.Fit(flags(tt.asked...))
		said := strings.Join(notes, "\n")
		if got.Nodes != tt.wantNodes || got.Devices != tt.wantDevices || !strings.Contains(said, tt.notes) || (said == "") != (tt.notes == "") {
			t.Errorf("%s: %d nodes of %d devices, %q; want %d of %d, %q", name, got.Nodes, got.Devices, said, tt.wantNodes, tt.wantDevices, tt.notes)
		}
		err := got.Check()
		if (err == nil) != (tt.refused == "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
			t.Errorf("%s: %v, want %q", name, err, tt.refused)
		}
	}
}

// What is said of nodes that may be down is so of the rings that are made.
func TestBears(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Defaults()
		o.Nodes, o.Devices, o.PartPower = rapid.IntRange(1, 7).Draw(t, "nodes"), rapid.IntRange(1, 3).Draw(t, "devices"), 4
		o.Replicas = rapid.IntRange(1, 5).Draw(t, "replicas")
		p := policyOf(t, "p")
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 1:
			p = policyOf(t, fmt.Sprintf("p=replicas:%d", rapid.IntRange(1, 5).Draw(t, "of the policy")))
		case 2:
			p = policyOf(t, fmt.Sprintf("p=%d+%d", rapid.IntRange(1, 6).Draw(t, "data"), rapid.IntRange(1, 4).Draw(t, "parity")))
		}
		o.Policies = []Policy{p}
		if o.Check() != nil {
			return // there is no such cluster
		}
		containers := losses(t, o, o.Replicas, 1)
		want := min(containers, losses(t, o, o.ReplicasOf(p), max(p.Shape.Data, 1)))
		if got := o.Bears(p); got != want {
			t.Fatalf("%d nodes of %d devices, %d replicas, policy %s: %d nodes may be down, want %d", o.Nodes, o.Devices, o.Replicas, p, got, want)
		}
	})
}

// losses is how many nodes can be lost, whichever they are, until some partition of a ring has
// fewer devices left than it takes.
func losses(t *rapid.T, o Options, replicas, few int) int {
	b, err := o.builder(objectPort, replicas, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Ring()
	if err != nil {
		t.Fatal(err)
	}
	worst := o.Nodes
	for part := range ring.Partition(r.Partitions()) {
		on := map[int]int{}
		for _, d := range r.AppendPrimaries(nil, part) {
			on[d.Zone]++
		}
		counts := make([]int, 0, o.Nodes)
		for _, n := range on {
			counts = append(counts, n)
		}
		slices.Sort(counts)
		left, down := replicas, 0
		for _, n := range slices.Backward(counts) { // the fullest first
			if left -= n; left < few {
				break
			}
			down++
		}
		worst = min(worst, down)
	}
	return worst
}

// What is written is what every process reads, and each policy has a ring of its own.
func TestMakeWithPolicies(t *testing.T) {
	o := Defaults()
	o.PartPower, o.Policies = 4, []Policy{policyOf(t, "gold"), policyOf(t, "ec=3+2"), policyOf(t, "two=replicas:2")}
	dir := filepath.Join(t.TempDir(), "c")
	f, err := Make(dir, o, flags("policy"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Options.Nodes != 5 || len(f.Notes) != 1 {
		t.Errorf("%d nodes, notes %q; want 5, and one that says why", f.Options.Nodes, f.Notes)
	}
	p, err := config.LoadProxy(f.ProxyFile())
	if err != nil {
		t.Fatal(err)
	}
	s, err := config.LoadStorage(f.StorageFile(5))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]config.Cluster{"the proxy": p.Cluster, "node 5": s.Cluster} {
		set, err := c.PolicySet()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, of := range set.All() {
			got = append(got, fmt.Sprintf("%d %s %d+%d %v", of.Index, of.Name, of.Data, of.Parity, of.Default))
		}
		if want := []string{"0 Policy-0 0+0 true", "1 gold 0+0 false", "2 ec 3+2 false", "3 two 0+0 false"}; !slices.Equal(got, want) {
			t.Errorf("%s has policies %q, want %q", what, got, want)
		}
	}
	for name, replicas := range map[string]int{"object": 3, "object-1": 3, "object-2": 5, "object-3": 2, "container": 3} {
		r, err := ring.Load(filepath.Join(p.Rings.Folder, name+".ring.gz"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := builder.Load(filepath.Join(p.Rings.Folder, name+".builder"))
		if err != nil {
			t.Fatal(err)
		}
		own, err := b.Ring()
		if err != nil || r.ReplicaCount() != replicas || !slices.EqualFunc(own.Rows(), r.Rows(), slices.Equal) {
			t.Errorf("%s: %d replicas, %v; want the builder's %d", name, r.ReplicaCount(), err, replicas)
		}
	}
	again, err := Make(dir, o, flags("policy"))
	if err != nil || again.Options.Nodes != 5 || again.Notes != nil || again.Options.policyList() != "gold, ec=3+2, two=replicas:2" {
		t.Errorf("made again: %+v, %v", again, err)
	}
	o.Policies = o.Policies[:1]
	if _, err := Make(dir, o, flags("policy")); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "--policy gold: the cluster in this folder was made with gold, ec=3+2, two=replicas:2") {
		t.Errorf("with other policies: %v", err)
	}
	if _, err := Make(dir, o, flags()); err != nil {
		t.Errorf("without the flag: %v", err)
	}
}
