//go:build !race

package builder

import (
	"bytes"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/ring"
)

// drawDevices draws a cluster of any shape, however lopsided.
func drawDevices(t *rapid.T) []ring.Device {
	var devices []ring.Device
	evenly := rapid.Bool().Draw(t, "even weights")
	for r := range rapid.IntRange(1, 3).Draw(t, "regions") {
		for z := range rapid.IntRange(1, 4).Draw(t, "zones") {
			for n := range rapid.IntRange(1, 4).Draw(t, "nodes") {
				for d := range rapid.IntRange(1, 4).Draw(t, "disks") {
					devices = append(devices, weighing(drawWeight(t, evenly), at(r, z, n, d)))
				}
			}
		}
	}
	return devices
}

func drawWeight(t *rapid.T, evenly bool) float64 {
	if evenly {
		return 100
	}
	return rapid.Float64Range(1, 1000).Draw(t, "weight")
}

func drawBuilder(t *rapid.T) *Builder {
	devices := drawDevices(t)
	most := float64(min(7, len(devices)))
	replicas := rapid.Float64Range(1, most).Draw(t, "replicas")
	if rapid.Bool().Draw(t, "whole") {
		replicas = math.Floor(replicas)
	}
	b, err := New(rapid.IntRange(1, 9).Draw(t, "part power"), replicas, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetOverload(rapid.SampledFrom([]float64{0, 0, 0.1, 10, MaxOverload}).Draw(t, "overload")); err != nil {
		t.Fatal(err)
	}
	if err := addAll(b, devices...); err != nil {
		t.Fatal(err)
	}
	mustRebalance(t, b)
	return b
}

func mustRebalance(t *rapid.T, b *Builder) int {
	moved, err := settle(b, rapid.Uint64().Draw(t, "seed"))
	if err != nil {
		t.Fatalf("rebalance: %v", err)
	}
	return moved
}

// drawChange changes one to three things about the devices.
func drawChange(t *rapid.T, b *Builder) {
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		var live []int
		for d := range b.Devices() {
			live = append(live, d.ID)
		}
		var err error
		switch kind := rapid.SampledFrom([]string{"add", "remove", "weigh"}).Draw(t, "change"); {
		case kind == "add" || len(live) <= b.rowCount:
			place := at(rapid.IntRange(0, 3).Draw(t, "region"), rapid.IntRange(0, 4).Draw(t, "zone"),
				rapid.IntRange(0, 4).Draw(t, "node"), 1000+int(b.version))
			_, err = b.Add(weighing(drawWeight(t, false), place))
		case kind == "remove":
			err = b.Remove(rapid.SampledFrom(live).Draw(t, "id"))
		default:
			err = b.SetWeight(rapid.SampledFrom(live).Draw(t, "id"), drawWeight(t, false))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnyClusterIsSpread: whatever the cluster and its history, each partition is on
// as many domains as can be, each replica is somewhere, removed devices are empty,
// each tier has its quota, and once done there is nothing left to do.
func TestAnyClusterIsSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		for range rapid.IntRange(0, 3).Draw(t, "rounds") {
			drawChange(t, b)
			mustRebalance(t, b)
		}
		if err := checkPlan(b); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Ring(); err != nil {
			t.Fatalf("ring: %v", err)
		}
		if moved := mustRebalance(t, b); moved != 0 {
			t.Fatalf("%d moved in a rebalance with nothing to do", moved)
		}
	})
}

// TestSharesByWeight: where every zone can have its share, no device is a whole
// partition away from what its weight asks for.
func TestSharesByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
		b, err := New(rapid.IntRange(1, 9).Draw(t, "part power"), float64(replicas), 0)
		if err != nil {
			t.Fatal(err)
		}
		// Zones enough, and none above twice the weight of another.
		for z := range rapid.IntRange(2*replicas, 2*replicas+3).Draw(t, "zones") {
			left := rapid.Float64Range(100, 200).Draw(t, "zone weight")
			for d := range rapid.IntRange(1, 4).Draw(t, "disks") {
				w := left * rapid.Float64Range(0.2, 1).Draw(t, "part")
				left -= w
				if w < 1 {
					break
				}
				if err := addAll(b, weighing(w, at(0, z, d%2, d))); err != nil {
					t.Fatal(err)
				}
			}
			if left >= 1 {
				if err := addAll(b, weighing(left, at(0, z, 2, 9))); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustRebalance(t, b)
		if got := farthest(b); got >= 1.001 {
			t.Fatalf("a device is %v partitions from its share; held %v", got, held(b))
		}
	})
}

// TestSameSeedSameRing: history and seeds alone decide, also across a save.
func TestSameSeedSameRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		drawChange(t, b)
		var file bytes.Buffer
		if err := b.Write(&file); err != nil {
			t.Fatal(err)
		}
		saved := bytes.Clone(file.Bytes())
		again, err := Read(&file)
		if err != nil {
			t.Fatal(err)
		}
		seed := rapid.Uint64().Draw(t, "seed")
		var files [2]bytes.Buffer
		for i, x := range []*Builder{b, again} {
			if _, err := x.Rebalance(Options{Seed: seed, Now: time.Unix(1_700_000_000, 0)}); err != nil {
				t.Fatal(err)
			}
			if err := x.Write(&files[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(files[0].Bytes(), files[1].Bytes()) {
			t.Fatalf("two builders made from\n%s\nand seed %d differ", saved, seed)
		}
	})
}

// leastMoves is a lower bound of what had to move between two sets of rows: what
// devices gained, and what partitions needed to be as spread as they can be.
func leastMoves(b *Builder, before [][]uint32, after [][]uint32) int {
	gained := map[uint32]int{}
	byPartition := 0
	for p := range before[0] {
		kept := [4]map[string]bool{{}, {}, {}, {}}
		spread := [4]map[string]bool{{}, {}, {}, {}}
		for i := range before {
			if p >= len(before[i]) {
				continue
			}
			gained[before[i][p]]--
			gained[after[i][p]]++
			if m := b.devices[before[i][p]]; m.wants() > 0 {
				for k, name := range domains(&m.Device) {
					kept[k][name] = true
				}
			}
			for k, name := range domains(&b.devices[after[i][p]].Device) {
				spread[k][name] = true
			}
		}
		most := 0
		for k := range kept {
			most = max(most, len(spread[k])-len(kept[k]))
		}
		byPartition += most
	}
	byDevice := 0
	for _, n := range gained {
		byDevice += max(0, n)
	}
	return max(byDevice, byPartition)
}

// TestChangesMoveLittleAnywhere bounds what a change moves by a factor of the least
// it could have, and a few partitions a device for rounding.
func TestChangesMoveLittleAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		drawChange(t, b)
		before := b.rows
		moved := mustRebalance(t, b)
		least := leastMoves(b, before, b.rows)
		if limit := 2*least + len(b.devices); moved > limit {
			t.Fatalf("moved %d of %d, at least %d had to, want at most %d", moved, b.total(), least, limit)
		}
	})
}
