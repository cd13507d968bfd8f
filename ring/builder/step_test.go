//go:build !race

package builder

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_700_000_000, 0)

// devicesOf are the devices of a partition, in the order of its replicas.
func (b *Builder) devicesOf(p int) (ids []uint32) {
	for _, row := range b.rows {
		if p < len(row) {
			ids = append(ids, row[p])
		}
	}
	return ids
}

// checkStep returns an error unless what a rebalance made of a builder is what one
// may: everything assigned, once a device; of a partition one replica moved, and none
// too soon, except away from what was removed; and no tier made fuller of one than
// its target says.
func checkStep(before, after *Builder, r Result, now time.Time) error {
	a, err := after.plan()
	if err != nil {
		return err
	}
	moved, assigned := 0, 0
	for p := range after.Partitions() {
		was, is := before.devicesOf(p), after.devicesOf(p)
		for i, id := range is {
			if after.devices[id] == nil || slices.Contains(is[:i], id) {
				return fmt.Errorf("partition %d is on devices %v", p, is)
			}
		}
		voluntary, changed := 0, 0
		for i, id := range is {
			switch {
			case i >= len(was):
				assigned++
				changed++
			case was[i] != id:
				moved++
				changed++
				if !before.devices[was[i]].Removed {
					voluntary++
				}
			}
		}
		forced := changed - voluntary
		if voluntary > 1 || voluntary == 1 && (forced > 0 || len(was) > len(is)) {
			return fmt.Errorf("partition %d: %d moved beside %d that had to: %v to %v", p, voluntary, forced, was, is)
		}
		if voluntary > 0 && before.locked(p, now) {
			return fmt.Errorf("partition %d moved before its hours had passed: %v to %v", p, was, is)
		}
		if changed > 0 && len(was) > 0 && before.minPartHours > 0 && !after.locked(p, now) {
			return fmt.Errorf("partition %d moved and may move again at once", p)
		}
	}
	if moved != r.Moved || assigned != r.Assigned {
		return fmt.Errorf("%d moved and %d were assigned, the result says %+v", moved, assigned, r)
	}
	return after.eachTier(a, func(t *tier, p, n int) error {
		was := 0
		for _, id := range before.devicesOf(p) {
			if int(id) < len(a.chains) && a.chains[id] != nil && a.chains[id][t.kind] == t {
				was++
			}
		}
		if _, high := around(t.target); n > max(high, was) {
			return fmt.Errorf("partition %d has %d replicas in a %s that wants %v and had %d", p, n, kindNames[t.kind], t.target, was)
		}
		return nil
	})
}

// TestSteps: whatever happens to a cluster in whatever order, each rebalance is one
// that may be made, and when time passes they come to an end at what is wanted.
func TestSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		b.moved = nil
		if err := b.SetMinPartHours(rapid.IntRange(0, 3).Draw(t, "hours")); err != nil {
			t.Fatal(err)
		}
		now := epoch
		step := func() Result {
			before := b.Clone()
			r, err := b.Rebalance(Options{Seed: rapid.Uint64().Draw(t, "seed"), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if err := checkStep(before, b, r, now); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Ring(); err != nil {
				t.Fatal(err)
			}
			return r
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "kind of change") {
			case 0:
				replicas := rapid.Float64Range(1, float64(min(6, len(slices.Collect(b.Devices()))))).Draw(t, "more replicas")
				if err := b.SetReplicas(replicas); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := b.SetOverload(rapid.Float64Range(0, 2).Draw(t, "another overload")); err != nil {
					t.Fatal(err)
				}
			case 2:
				if b.partPower < 9 {
					if err := b.IncreasePartPower(); err != nil {
						t.Fatal(err)
					}
				}
			default:
				drawChange(t, b)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
			if _, err := b.plan(); err != nil {
				continue // too few devices now
			}
			step()
		}
		if _, err := b.plan(); err != nil {
			return
		}
		for range 100 {
			now = now.Add(4 * time.Hour)
			if r := step(); !r.Changed() {
				if r.Waiting > 0 {
					t.Fatalf("nothing moves, and %d wait", r.Waiting)
				}
				break
			}
		}
		if err := checkPlan(b); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFewestMoves: over all the steps it takes, no more moves than must, but for one
// or so when a step on the way makes another rounding the nearer one. It may be less
// for the same reason.
func TestFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		devices := drawDevices(t)
		if len(devices) > 16 {
			devices = devices[:16]
		}
		b, err := New(rapid.IntRange(3, 4).Draw(t, "part power"), float64(rapid.IntRange(1, min(4, len(devices))).Draw(t, "replicas")), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.SetOverload(rapid.SampledFrom([]float64{0, 0.1, MaxOverload}).Draw(t, "overload")); err != nil {
			t.Fatal(err)
		}
		if err := addAll(b, devices...); err != nil {
			t.Fatal(err)
		}
		mustRebalance(t, b)
		drawChange(t, b)
		a, err := b.plan()
		if err != nil {
			return
		}
		fewest, least := fewestMoves(b, a), b.leastMoves(a)
		if least > fewest {
			t.Fatalf("LeastMoves says %d, and %d is enough", least, fewest)
		}
		moved := mustRebalance(t, b)
		if limit := fewest + fewest/20 + 1; moved > limit {
			t.Fatalf("moved %d of %d, %d would have been enough", moved, b.total(), fewest)
		}
	})
}

func TestMinPartHours(t *testing.T) {
	b := build(t, 8, 3, grid(1, 3, 2, 2))
	if err := b.SetMinPartHours(2); err != nil {
		t.Fatal(err)
	}
	now := epoch
	step := func(after time.Duration) Result {
		t.Helper()
		now = now.Add(after)
		r, err := b.Rebalance(Options{Seed: 1, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := step(0); r.Assigned != 3<<8 || r.Waiting != 0 {
		t.Fatalf("the first: %+v", r)
	}
	if err := addAll(b, at(0, 0, 9, 0)); err != nil {
		t.Fatal(err)
	}
	first := step(time.Minute) // nothing has moved yet, so all may
	if first.Moved < 40 || first.Locked != 0 {
		t.Fatalf("after an added device: %+v", first)
	}
	if err := b.SetWeight(12, 0); err != nil { // the one that was added
		t.Fatal(err)
	}
	if r := step(time.Minute); r.Moved != 0 || r.Waiting != first.Moved || r.Locked != first.Moved {
		t.Errorf("at once: %+v, want all %d locked", r, first.Moved)
	}
	if r := step(2*time.Hour - time.Minute - time.Second); r.Moved != 0 {
		t.Errorf("a second before two hours: %+v", r)
	}
	if r := step(time.Second); r.Moved != first.Moved || r.Waiting != 0 {
		t.Errorf("after two hours: %+v", r)
	}
	if err := b.SetWeight(12, 100); err != nil {
		t.Fatal(err)
	}
	step(2 * time.Hour)
	if err := b.Remove(12); err != nil {
		t.Fatal(err)
	}
	if r := step(time.Minute); r.Moved != first.Moved || len(r.Removed) != 1 {
		t.Errorf("a removed device waits for nobody: %+v, want %d moved", r, first.Moved)
	}
	if err := addAll(b, at(0, 0, 9, 1)); err != nil {
		t.Fatal(err)
	}
	b.PretendMinPartHoursPassed()
	if r := step(0); r.Moved == 0 || r.Locked != 0 {
		t.Errorf("pretending: %+v", r)
	}
	if r := step(-24 * time.Hour); r.Changed() {
		t.Errorf("a clock that went back: %+v", r)
	}
}

// TestReplicasByAndBy: a fraction of a replica is had by a fraction of the
// partitions, and what is there stays.
func TestReplicasByAndBy(t *testing.T) {
	b := build(t, 6, 2, grid(1, 4, 2, 2))
	rebalance(t, b, 1)
	for _, tt := range []struct {
		replicas  float64
		rows      []int
		wantMoved int
	}{
		{2.25, []int{64, 64, 16}, 16},
		{3, []int{64, 64, 64}, 48},
		{3.5, []int{64, 64, 64, 32}, 32},
	} {
		before := b.Clone()
		if err := b.SetReplicas(tt.replicas); err != nil {
			t.Fatal(err)
		}
		if got := b.Replicas(); got != tt.replicas {
			t.Errorf("Replicas() = %v, want %v", got, tt.replicas)
		}
		r, err := b.Rebalance(Options{Seed: 1, Now: epoch})
		if err != nil {
			t.Fatal(err)
		}
		var rows []int
		for _, row := range b.rows {
			rows = append(rows, len(row))
		}
		if !slices.Equal(rows, tt.rows) || r.Assigned != tt.wantMoved {
			t.Errorf("%v replicas: rows of %v, %+v; want %v, %d assigned", tt.replicas, rows, r, tt.rows, tt.wantMoved)
		}
		if err := checkStep(before, b, r, epoch); err != nil {
			t.Error(err)
		}
		rebalance(t, b, 2)
		if err := checkPlan(b); err != nil {
			t.Error(err)
		}
	}
	for _, fewer := range []float64{3, 1} { // nothing moves where a replica goes
		b := b.Clone()
		before := b.Clone()
		if err := b.SetReplicas(fewer); err != nil {
			t.Fatal(err)
		}
		r, err := b.Rebalance(Options{Seed: 1, Now: epoch})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkStep(before, b, r, epoch); err != nil {
			t.Errorf("down to %v: %v", fewer, err)
		}
		rebalance(t, b, 3)
		if err := checkPlan(b); err != nil {
			t.Errorf("down to %v: %v", fewer, err)
		}
	}
	whole := b.Clone()
	if err := b.SetReplicas(2); err != nil {
		t.Fatal(err)
	}
	version := b.Version()
	if r, err := b.Rebalance(Options{Seed: 1, Now: epoch}); err != nil || len(b.rows) != 2 || b.Version() == version {
		t.Errorf("fewer again: %+v, %v, %d rows, version %d after %d", r, err, len(b.rows), b.Version(), version)
	}
	for p := range b.Partitions() {
		for i, id := range b.devicesOf(p) {
			if id != whole.devicesOf(p)[i] {
				return // some had to move, for balance
			}
		}
	}
}

func TestIncreasePartPower(t *testing.T) {
	b := build(t, 4, 2, grid(1, 4, 2, 2))
	if err := b.SetReplicas(2.5); err != nil {
		t.Fatal(err)
	}
	rebalance(t, b, 1)
	b.moved = make([]uint32, 16)
	b.moved[3] = 77
	old, before := ringOf(t, b), b.Clone()
	if err := b.IncreasePartPower(); err != nil {
		t.Fatal(err)
	}
	r := ringOf(t, b)
	if r.PartPower() != 5 || r.Replicas() != 2.5 || b.Replicas() != 2.5 || r.Version() <= old.Version() {
		t.Errorf("part power %d, %v replicas, version %d", r.PartPower(), r.Replicas(), r.Version())
	}
	for p := range b.Partitions() {
		if got, want := b.devicesOf(p), before.devicesOf(p/2); !slices.Equal(got, want) {
			t.Errorf("partition %d is on %v, its parent was on %v", p, got, want)
		}
		if b.moved[p] != before.moved[p/2] {
			t.Errorf("partition %d moved at %d, its parent at %d", p, b.moved[p], before.moved[p/2])
		}
	}
	full := &Builder{partPower: 26, rowCount: 2, last: 1 << 26}
	if err := full.IncreasePartPower(); err == nil || full.partPower != 26 {
		t.Errorf("part power 27 of two replicas: %v", err)
	}
}
