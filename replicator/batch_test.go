package replicator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"martlet/internal/name"
	"martlet/ring"
)

// What is met in order comes in batches of one partition, of bounded size, each
// with the ring in use when it was begun.
func TestBatcher(t *testing.T) {
	one, two := testRing(t, 1, []uint32{0, 1}), testRing(t, 2, []uint32{0, 1, 2, 3})
	now := one
	var got []string
	b := Batcher[byte]{Ring: func() *ring.Ring { return now }, Most: 2, Hand: func(b Batch[byte]) bool {
		got = append(got, fmt.Sprintf("%d/%d %x %v", b.Partition, b.Ring.PartPower(), b.Items, b.Again))
		return len(got) < 6
	}}
	add := func(all ...byte) (ok bool) {
		for _, h := range all {
			ok = b.Add(name.Hash{h}, h)
		}
		return ok
	}
	add(0x00, 0x01, 0x02, 0x80)
	now = two
	add(0x81, 0x82, 0x83, 0xc0)
	if add(0xc1, 0xc2); b.Flush() {
		t.Error("it goes on after a batch that nobody took")
	}
	want := []string{"0/1 0001 false", "0/1 02 true", "1/1 8081 false", "2/2 8283 false", "3/2 c0c1 false", "3/2 c2 true"}
	if !slices.Equal(got, want[:len(got)]) || len(got) != len(want) {
		t.Errorf("handed out are\n%q, want\n%q", got, want)
	}
	if !b.Flush() || len(got) != len(want) {
		t.Error("nothing is handed out as something")
	}
}

// Everything that is handed out is done when Spread returns; what ends early hands
// out no more.
func TestSpread(t *testing.T) {
	var mu sync.Mutex
	sum := 0
	Spread(t.Context(), nil, 3, func(_ context.Context, n int) {
		mu.Lock()
		defer mu.Unlock()
		sum += n
	}, func(hand func(int) bool) {
		for i := range 100 {
			if !hand(i) {
				t.Error("there is no time, it says")
			}
		}
	})
	if sum != 4950 {
		t.Errorf("the work done is %d, want 4950", sum)
	}
	ctx, cancel := context.WithCancel(t.Context())
	Spread(ctx, nil, 1, func(ctx context.Context, _ int) { cancel(); <-ctx.Done() }, func(hand func(int) bool) {
		n := 0
		for hand(0) {
			n++
		}
		if n < 1 {
			t.Error("nothing was handed out")
		}
	})
}
