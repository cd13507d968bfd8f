package main

import (
	"slices"
	"testing"

	"martlet/replicator"
)

// Before a ring's part power changes nothing may be on handoffs: of a policy of erasure coding neither commits nor fragments.
func TestHandoffsOfFragmentsCount(t *testing.T) {
	devices := []replicator.DeviceHeld{{Device: "d1", Kinds: []replicator.Held{
		{Kind: "container", Partitions: 9, Handoffs: 4},
		{Kind: "object", Policy: "0", Partitions: 9, Handoffs: 3},
		{Kind: "object", Policy: "1", Partitions: 9, Handoffs: 1},
		{Kind: "fragment", Policy: "1", Partitions: 9, Handoffs: 2},
		{Kind: "fragment", Policy: "2", Partitions: 9, Handoffs: 8},
	}}}
	for _, tt := range []struct {
		of   asked
		want []string
	}{
		{asked{addr: "a", kind: "container", devices: []string{"d1"}}, []string{"a/d1: 4 partitions of containers"}},
		{asked{addr: "a", kind: "object", policy: "0", devices: []string{"d1"}}, []string{"a/d1: 3 partitions of objects"}},
		{asked{addr: "a", kind: "object", policy: "1", devices: []string{"d1"}}, []string{"a/d1: 1 partition of objects", "a/d1: 2 partitions of fragments"}},
		{asked{addr: "a", kind: "object", policy: "3", devices: []string{"d1"}}, nil},
	} {
		var h handoffReport
		if err := h.add(tt.of, devices); err != nil || !slices.Equal(h.Where, tt.want) {
			t.Errorf("%s %s: %v, %d in %q, want %q", tt.of.kind, tt.of.policy, err, h.Handoffs, h.Where, tt.want)
		}
	}
}
