package builder

import (
	"testing"
	"time"
)

// The clock says of each partition what Rebalance goes by.
func TestLockedUntil(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	b := build(t, 4, 2, grid(1, 2, 1, 2))
	if err := b.SetMinPartHours(2); err != nil {
		t.Fatal(err)
	}
	if n, next, all := b.LockedUntil(start); n != 0 || !next.IsZero() || !all.IsZero() {
		t.Errorf("before the first rebalance: %d locked, %v, %v", n, next, all)
	}
	if _, err := b.Rebalance(Options{Now: start}); err != nil {
		t.Fatal(err)
	}
	b.moved = make([]uint32, b.Partitions())
	b.moved[3], b.moved[5], b.moved[7] = uint32(start.Unix()), uint32(start.Add(30*time.Minute).Unix()), uint32(start.Add(-3*time.Hour).Unix())
	first, last := start.Add(2*time.Hour), start.Add(150*time.Minute)
	for _, tt := range []struct {
		now    time.Time
		locked int
		next   time.Time
	}{{start, 2, first}, {first.Add(-time.Second), 2, first}, {first, 1, last}, {last, 0, time.Time{}}} {
		n, next, all := b.LockedUntil(tt.now)
		if n != tt.locked || !next.Equal(tt.next) || n > 0 && !all.Equal(last) {
			t.Errorf("at %v: %d locked, next %v, all %v", tt.now, n, next, all)
		}
	}
	b.PretendMinPartHoursPassed()
	if n, _, _ := b.LockedUntil(start); n != 0 {
		t.Errorf("%d are locked though the hours are pretended as passed", n)
	}
}
