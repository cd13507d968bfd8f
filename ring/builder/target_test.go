package builder

import (
	"math"
	"testing"

	"martlet/ring"
)

// TestTargets: what zones are to have of each partition, and the overload that it
// takes to spread everything. The figures are the reference's.
func TestTargets(t *testing.T) {
	zones := func(weights ...float64) (all []ring.Device) {
		for z, w := range weights {
			all = append(all, weighing(w, at(0, z, 0, 0)), weighing(w, at(0, z, 1, 0)))
		}
		return all
	}
	for name, tt := range map[string]struct {
		replicas float64
		overload float64
		devices  []ring.Device
		required float64
		want     []float64 // by zone
	}{
		"equal":                       {3, 0, zones(1, 1, 1), 0, []float64{1, 1, 1}},
		"a light zone":                {3, 0, zones(100, 100, 50), 2.0 / 3, []float64{1.2, 1.2, 0.6}},
		"half the overload":           {3, 1.0 / 3, zones(100, 100, 50), 2.0 / 3, []float64{1.1, 1.1, 0.8}},
		"overload enough":             {3, 5, zones(100, 100, 50), 2.0 / 3, []float64{1, 1, 1}},
		"weights need none":           {3, 1, zones(100, 90, 80, 100), 0, []float64{300.0 / 370, 270.0 / 370, 240.0 / 370, 300.0 / 370}},
		"a zone too heavy for itself": {3, 0, zones(1000, 1, 1), 1, []float64{2, 0.5, 0.5}},
		"two zones":                   {3, 0.1, zones(100, 50), 0, []float64{2, 1}},
		"a fraction of a replica":     {3.25, 0, zones(1, 1, 1, 1, 1), 0, []float64{.65, .65, .65, .65, .65}},
	} {
		t.Run(name, func(t *testing.T) {
			b := build(t, 8, 1, tt.devices)
			tree := newTree(b.devices)
			required := tree.aim(tt.replicas, tt.overload)
			if math.Abs(required-tt.required) > 1e-9 {
				t.Errorf("required overload %v, want %v", required, tt.required)
			}
			var got []float64
			for _, z := range tree.root.children[0].children {
				got = append(got, z.target)
			}
			for i, want := range tt.want {
				if math.Abs(got[i]-want) > 1e-9 {
					t.Errorf("zones are to have %v, want %v", got, tt.want)
					break
				}
			}
		})
	}
}
