//go:build !race

package builder

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"martlet/ring"
)

// regional is a balanced builder of one region.
func regional(t *testing.T, power, replicas, region int) *Builder {
	t.Helper()
	devices := grid(1, 2, 2, 2)
	for i := range devices {
		devices[i].Region = region
		devices[i].IP = strings.Replace(devices[i].IP, "10.0", "10."+string(rune('0'+region)), 1)
	}
	b := build(t, power, replicas, devices)
	rebalance(t, b, uint64(region))
	return b
}

func TestCompose(t *testing.T) {
	a, b := regional(t, 6, 2, 1), regional(t, 6, 1, 2)
	if err := a.Remove(3); err != nil { // a hole
		t.Fatal(err)
	}
	rebalance(t, a, 9)
	r, err := Compose([]*Builder{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if r.Replicas() != 3 || r.Version() != a.Version()+b.Version() {
		t.Errorf("%v replicas, version %d", r.Replicas(), r.Version())
	}
	first, second := ringOf(t, a), ringOf(t, b)
	for p := range ring.Partition(r.Partitions()) {
		var want, got []string
		for _, d := range second.AppendPrimaries(first.AppendPrimaries(nil, p), p) {
			want = append(want, d.Addr()+"/"+d.Name)
		}
		for _, d := range r.AppendPrimaries(nil, p) {
			got = append(got, d.Addr()+"/"+d.Name)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("partition %d is on %q, want %q", p, got, want)
		}
	}
	for id := range r.Devices() {
		if id.ID == 3 {
			t.Error("a hole has a device")
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	good := regional(t, 4, 1, 1)
	fraction := regional(t, 4, 1, 2)
	if err := fraction.SetReplicas(1.5); err != nil {
		t.Fatal(err)
	}
	rebalance(t, fraction, 1)
	sameDisk := regional(t, 4, 1, 1)
	for id := range sameDisk.devices {
		sameDisk.devices[id].Region = 5
	}
	for name, tt := range map[string]struct {
		parts []*Builder
		says  string
	}{
		"nothing":            {nil, "there are none"},
		"not balanced":       {[]*Builder{good, build(t, 4, 1, nil)}, "component 2: not balanced"},
		"another part power": {[]*Builder{good, regional(t, 5, 1, 2)}, "component 2 has part power 5, the first has 4"},
		"a fraction":         {[]*Builder{good, fraction}, "fraction"},
		"one region in two":  {[]*Builder{good, regional(t, 4, 1, 1)}, "region 1 is in components 1 and 2"},
		"one disk in two":    {[]*Builder{good, sameDisk}, "10.1.0.0:6200/d0 is in components 1 and 2"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Compose(tt.parts); !errors.Is(err, ErrCompose) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q that says %q", err, ErrCompose, tt.says)
			}
		})
	}
}
