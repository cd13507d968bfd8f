package model

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever a store does that keeps its promises, nothing is found: in two rounds, each without faults and then with.
func TestCorrectStorePasses(t *testing.T) {
	judged := Counts{}
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "") })
		for range 2 {
			s.round(rapid.IntRange(0, 60).Draw(t, "steady"), rapid.IntRange(0, 60).Draw(t, "faulty"))
			found, counts := Reads(s.h)
			judged.Reads += counts.Reads
			judged.Steady += counts.Steady
			f := s.final()
			last, floor, _ := Settled(s.h, f)
			for _, v := range append(found, last...) {
				t.Fatalf("%s: %s\n%s", v.Rule, v.Why, told(s.h, &f))
			}
			s.next(floor)
		}
	})
	if judged.Reads < 100 || judged.Steady < 20 {
		t.Errorf("only %+v were judged", judged)
	}
}
