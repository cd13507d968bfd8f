package replicator

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"

	"martlet/internal/hosts"
	"martlet/ring"
)

// A device is a primary of a peer's partition if it is one of all that the
// partition covers, whatever the part power of either.
func TestGuardPrimary(t *testing.T) {
	// Of part power 2: d0 has 0, 1 and 2, d1 has 1 and 3, d2 has 2 and 3.
	r := testRing(t, 2, []uint32{0, 0, 0, 1}, []uint32{3, 1, 2, 2})
	row := make([]uint32, 1<<14)
	wide := testRing(t, 14, row)
	self := "127.0.0.1:1"
	for what, tt := range map[string]struct {
		ring      *ring.Ring
		device    string
		partition uint32
		power     int
		self      string
		want      bool
	}{
		"its partition":                       {r, "d0", 1, 2, self, true},
		"another's":                           {r, "d0", 3, 2, self, false},
		"another node's device":               {r, "d0", 1, 2, "127.0.0.1:2", false},
		"a device that no ring has":           {r, "d9", 1, 2, self, false},
		"half of its partition":               {r, "d0", 3, 3, self, true},
		"half of another's":                   {r, "d0", 6, 3, self, false},
		"a small part of the last":            {r, "d0", 1<<32 - 1, 32, self, false},
		"a small part of its last":            {r, "d0", 3<<30 - 1, 32, self, true},
		"two of its partitions":               {r, "d0", 0, 1, self, true},
		"one of its and one of another's":     {r, "d0", 1, 1, self, false},
		"as many partitions as are looked at": {wide, "d0", 15, 4, self, true},
		"more than are looked at":             {wide, "d0", 7, 3, self, false},
	} {
		var g Guard
		c := &Call{Device: tt.device, Partition: tt.partition, PartPower: tt.power}
		if got := g.Primary(c, hosts.At(netip.MustParseAddrPort(tt.self), nil), func() *ring.Ring { return tt.ring }); got != tt.want {
			t.Errorf("%s: a primary is %v, want %v", what, got, tt.want)
		}
	}
}

// What is dropped by a ring is gone before a peer is told that the device is a
// primary by the next, or it is not dropped.
func TestGuardDrop(t *testing.T) {
	before, after := testRing(t, 1, []uint32{1, 1}), testRing(t, 1, []uint32{0, 0})
	var now atomic.Pointer[ring.Ring]
	now.Store(before)
	var g Guard
	call := &Call{Device: "d0", PartPower: 1}
	primary := func() bool { return g.Primary(call, hosts.At(netip.MustParseAddrPort("127.0.0.1:1"), nil), now.Load) }
	if primary() {
		t.Error("it is a primary of what is another's")
	}
	failed := errors.New("failed")
	if gone, err := g.Drop("d0", before, now.Load, func() (bool, error) { return true, failed }); !gone || !errors.Is(err, failed) {
		t.Errorf("a drop that fails: %v, %v", gone, err)
	}
	var dropped atomic.Bool
	said := make(chan bool)
	begun := make(chan struct{})
	gone, err := g.Drop("d0", before, now.Load, func() (bool, error) {
		now.Store(after)
		go func() {
			close(begun)
			ok := primary()
			said <- ok && dropped.Load()
		}()
		<-begun
		if other := (&Call{Device: "d1", PartPower: 1}); g.Primary(other, hosts.At(netip.MustParseAddrPort("127.0.0.1:2"), nil), func() *ring.Ring { return before }) != true {
			t.Error("another device is no primary of its own")
		}
		select {
		case <-said:
			t.Error("it was said while the drop was under way")
		default:
		}
		dropped.Store(true)
		return true, nil
	})
	if !gone || err != nil {
		t.Errorf("the drop: %v, %v", gone, err)
	}
	if !<-said {
		t.Error("a primary by the new ring is none, or was before the drop was over")
	}
	for what, r := range map[string]*ring.Ring{"after the change": before, "the same once more": testRing(t, 1, []uint32{0, 0})} {
		if gone, err := g.Drop("d0", r, now.Load, func() (bool, error) { t.Errorf("%s: dropped", what); return true, nil }); gone || !errors.Is(err, ErrRing) {
			t.Errorf("%s: %v, %v, want ErrRing", what, gone, err)
		}
	}
}
