//go:build !race

package builder

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"martlet/ring"
)

// TestShorten: what is planned moves exactly the least that meets the quotas and
// spreads as it must, and is no worse dispersed than what chance made of it.
func TestShorten(t *testing.T) {
	// Small ones, since the flow takes its time, and such that what was changed leaves a
	// place for everything. Where none of many is, rapid says so and fails.
	changed := rapid.Custom(func(t *rapid.T) *Builder {
		b := drawBuilder(t)
		drawChange(t, b)
		return b
	}).Filter(func(b *Builder) bool {
		_, err := b.plan()
		return err == nil && b.total() <= 128
	})
	rapid.Check(t, func(t *rapid.T) {
		b := changed.Draw(t, "builder")
		plan, err := b.plan()
		if err != nil {
			t.Fatal(err)
		}
		a, err := b.assign(Options{Seed: rapid.Uint64().Draw(t, "seed")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		moves, atRisk := a.moves(b), a.atRisk(b)
		if err := a.shorten(b); err != nil {
			t.Fatal(err)
		}
		if got, want := a.moves(b), fewestMoves(b, plan); got != want {
			t.Fatalf("moves %d, and %d before; want %d", got, moves, want)
		}
		if got := a.atRisk(b); a.moves(b) == moves && got > atRisk {
			t.Fatalf("%d replicas are more than there should be, and %d were before, with as many moved", got, atRisk)
		}
		if err := a.check(b); err != nil {
			t.Fatal(err)
		}
	})
}

// atRisk is how many replicas are not dispersed: of each partition, those beyond an
// even spread in the kind of tier where they are most.
func (a *assignment) atRisk(b *Builder) (sum int) {
	s := &shortener{assignment: a, b: b, touched: make([]bool, a.partitions), excess: make([][kinds]int, a.partitions)}
	for p := range a.partitions {
		s.weigh(p)
		sum += max(s.excess[p][region], s.excess[p][zone], s.excess[p][node], s.excess[p][device])
	}
	return sum
}

// check makes rows of where everything should be, and checks those.
func (a *assignment) check(b *Builder) error {
	done := b.Clone()
	done.rows = make([][]uint32, a.replicas)
	for r := range done.rows {
		for p := range b.partitionsOf(r) {
			done.rows[r] = append(done.rows[r], a.to[p*a.replicas+r])
		}
	}
	for id, n := range held(done) {
		if chain := a.chains[id]; chain != nil && n != chain[device].quota {
			return fmt.Errorf("device %d has %d partitions, want %d", id, n, chain[device].quota)
		}
	}
	return done.eachTier(a, func(t *tier, p, n int) error {
		if low, high := around(t.target); n < low || n > high {
			return fmt.Errorf("partition %d has %d replicas in a %s that wants %v", p, n, kindNames[t.kind], t.target)
		}
		return nil
	})
}

// TestShortenDisperses: where a device has more than an even spread gives it, what is
// in one domain too often is so in as few partitions as can be. Here zone 3 has two
// replicas of 42 partitions, which can all be among the 185 that have three in
// region 1.
func TestShortenDisperses(t *testing.T) {
	for seed := range uint64(8) {
		b := build(t, 8, 3, oddWeights())
		rebalance(t, b, seed)
		if err := addAll(b, weighing(70, at(2, 1, 1, 1)), weighing(70, at(2, 1, 2, 1))); err != nil {
			t.Fatal(err)
		}
		rebalance(t, b, seed)
		got := 0
		for _, d := range b.Dispersion() {
			if d.Kind == "region" && d.Region == 1 {
				got = d.Partitions[3]
			}
		}
		if s, err := b.Stats(); err != nil || s.Dispersion != 100*float64(got)/float64(b.total()) {
			t.Errorf("seed %d: dispersion %.2f with %d partitions in one region, %v", seed, s.Dispersion, got, err)
		}
	}
}

// oddWeights are twelve nodes of a device in three zones, no two of them alike.
func oddWeights() (devices []ring.Device) {
	for z := 1; z <= 3; z++ {
		for n := 1; n <= 4; n++ {
			devices = append(devices, weighing(float64(50+13*n*z), at(1, z, n, 1)))
		}
	}
	return devices
}

func TestCostClasses(t *testing.T) {
	class := 0
	for moves := cost(-1); moves <= 1; moves++ {
		for excess := cost(-1); excess <= 1; excess++ {
			c := moves*onTheMove + excess
			if c.class() != class || costOf(class) != c {
				t.Errorf("class of %d is %d, and costs %d", c, c.class(), costOf(c.class()))
			}
			class++
		}
	}
}
