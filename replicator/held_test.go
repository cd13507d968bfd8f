package replicator

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"martlet/internal/hosts"
	"martlet/internal/name"
)

// Held tells of every device, also of one that can't be looked at.
func TestHeld(t *testing.T) {
	r := newReplicator(t, echo{func(context.Context, string, *Tally) {}}, nil, nil)
	all := r.Held(t.Context())
	if len(all) != 3 || all[0].Error != "" || all[1].Error == "" || all[2].Error == "" {
		t.Fatalf("got %+v, want three devices, the first of them whole", all)
	}
	if k := all[0].Kinds; len(k) != 1 || k[0].Handoffs != 1 || k[0].Partitions != 3 {
		t.Errorf("the first device: %+v", k)
	}
}

func TestCountHeld(t *testing.T) {
	r := testRing(t, 2, []uint32{0, 0, 0, 1}, []uint32{3, 1, 2, 2})
	hashes := func(fail error, first ...byte) func(func(name.Hash, error) bool) {
		return func(yield func(name.Hash, error) bool) {
			for _, b := range first {
				if !yield(name.Hash{b}, nil) {
					return
				}
			}
			if fail != nil {
				yield(name.Hash{}, fail)
			}
		}
	}
	self := hosts.At(netip.MustParseAddrPort("127.0.0.1:2"), nil)
	// Device d1 at port 2 is a primary of partitions 1 and 3.
	var h Held
	if err := h.Count(t.Context(), hashes(nil, 0x00, 0x3f, 0x40, 0x41, 0x80, 0xc0), r, "d1", self); err != nil || h.Partitions != 4 || h.Handoffs != 2 {
		t.Errorf("got %+v, %v; want 4 partitions, 2 of them handoffs", h, err)
	}
	broken := errors.New("broken")
	h = Held{}
	if err := h.Count(t.Context(), hashes(broken, 0x00), r, "d1", self); !errors.Is(err, broken) || h.Partitions != 1 {
		t.Errorf("got %+v, %v", h, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Count(ctx, hashes(nil, 0x00), r, "d1", self); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
