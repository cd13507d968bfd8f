package test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"martlet/ring"
	"martlet/ring/builder"
)

// The builder beside the reference: the same devices and changes are given to
// Swift's RingBuilder, of Debian's python3-swift. After each change both rebalance,
// as often as it takes, as if min_part_hours had passed each time. Once each goes on
// from what it made itself, and once, of every change, both from one and the same ring,
// which the one has made and the other takes over.

// change is one change of a cluster.
type change struct {
	Add      []ring.Device   `json:"add,omitempty"`
	Remove   []int           `json:"remove,omitempty"`
	Weights  map[int]float64 `json:"weights,omitempty"` // by id
	Replicas float64         `json:"replicas,omitempty"`
	Overload *float64        `json:"overload,omitempty"`
}

// topology is a cluster and what happens to it.
type topology struct {
	Name      string   `json:"name"`
	PartPower int      `json:"part_power"`
	Replicas  float64  `json:"replicas"`
	Seed      uint64   `json:"seed"`
	Changes   []change `json:"changes"` // the first makes it
	Rounds    int      `json:"rounds"`  // rebalances after each change, at most; 0 is until nothing moves, or ten of the reference's

	Start    []byte  `json:"start"`    // the ring that there is before the first change, a file, if there is one
	Overload float64 `json:"overload"` // of Start

	// fewest is what a change has to move at least, by its number, where that is more
	// than LeastMoves sees: fewestMoves of ring/builder's tests, which takes minutes.
	fewest map[int]int
}

// outcome is how a builder stood after a change.
type outcome struct {
	Moved      int     `json:"moved"`  // replicas that got another device, over all rounds
	Rounds     int     `json:"rounds"` // rebalances that moved anything
	Balance    float64 `json:"balance"`
	Dispersion float64 `json:"dispersion"`
	Seconds    float64 `json:"seconds"` // of all rounds
	Ring       []byte  `json:"ring"`    // what it came to, as a file

	needed int // replicas that had to move at least; ours only
}

//go:embed swiftbuilder.py
var referenceScript string

// reference has Swift's builder go through topologies.
func reference(t testing.TB, all []topology) [][]outcome {
	t.Helper()
	var in, out bytes.Buffer
	for _, top := range all {
		line, err := json.Marshal(top)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", referenceScript)
	cmd.Env = append(os.Environ(), "PYTHONHASHSEED=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("Swift's builder: %v (is python3-swift installed? make clients does it)", err)
	}
	outcomes := make([][]outcome, len(all))
	dec := json.NewDecoder(&out)
	for i := range outcomes {
		if err := dec.Decode(&outcomes[i]); err != nil {
			t.Fatalf("Swift's builder on %s: %v", all[i].Name, err)
		}
	}
	return outcomes
}

// through has our builder go through a topology.
func through(t testing.TB, top topology) []outcome {
	t.Helper()
	b, err := builder.New(top.PartPower, top.Replicas, 1)
	if top.Start != nil {
		b, err = takeOver(top.Start, top.Overload)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []outcome
	for _, c := range top.Changes {
		if err := c.apply(b); err != nil {
			t.Fatalf("%s: %v", top.Name, err)
		}
		o, err := settle(b, top.Seed, top.Rounds)
		if err != nil {
			t.Fatalf("%s: %v", top.Name, err)
		}
		all = append(all, o)
	}
	return all
}

// takeOver makes a builder of a ring.
func takeOver(file []byte, overload float64) (*builder.Builder, error) {
	r, err := ring.Read(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	b, err := builder.FromRing(r, 1)
	if err != nil {
		return nil, err
	}
	return b, b.SetOverload(overload)
}

func (c *change) apply(b *builder.Builder) error {
	if c.Replicas != 0 {
		if err := b.SetReplicas(c.Replicas); err != nil {
			return err
		}
	}
	if c.Overload != nil {
		if err := b.SetOverload(*c.Overload); err != nil {
			return err
		}
	}
	for _, id := range c.Remove {
		if err := b.Remove(id); err != nil {
			return err
		}
	}
	for id, w := range c.Weights {
		if err := b.SetWeight(id, w); err != nil {
			return err
		}
	}
	for _, d := range c.Add {
		if _, err := b.Add(d); err != nil {
			return err
		}
	}
	return nil
}

// settle rebalances until nothing moves, or so many rounds.
func settle(b *builder.Builder, seed uint64, rounds int) (o outcome, err error) {
	before, err := b.Stats()
	if err != nil {
		return o, err
	}
	assigned := 0
	for _, d := range before.Devices {
		assigned += d.Held
	}
	o.needed = before.LeastMoves
	if rounds == 0 {
		rounds = 100
	}
	for range rounds {
		b.PretendMinPartHoursPassed()
		began := time.Now()
		r, err := b.Rebalance(builder.Options{Seed: seed + uint64(o.Rounds)})
		if err != nil {
			return o, err
		}
		o.Seconds += time.Since(began).Seconds()
		if !r.Changed() {
			break
		}
		o.Rounds++
		o.Moved += r.Moved
		if assigned > 0 {
			o.Moved += r.Assigned
		}
	}
	after, err := b.Stats()
	if err != nil {
		return o, err
	}
	o.Balance, o.Dispersion = after.Balance, after.Dispersion
	r, err := b.Ring()
	if err != nil {
		return o, err
	}
	var file bytes.Buffer
	_, err = r.WriteTo(&file)
	o.Ring = file.Bytes()
	return o, err
}

// slot is a device of weight 100 at a place.
func slot(region, zone, node, n int, weight float64) ring.Device {
	return ring.Device{
		Region: region, Zone: zone, IP: fmt.Sprintf("10.%d.%d.%d", region, zone, node), Port: 6200,
		ReplicationIP: fmt.Sprintf("10.%d.%d.%d", region, zone, node), ReplicationPort: 6200, Name: fmt.Sprintf("d%d", n), Weight: weight,
	}
}

// racks has so many regions, zones in each, nodes in each of those, disks on each.
func racks(regions, zones, nodes, disks int) (all []ring.Device) {
	for r := range regions {
		for z := range zones {
			for n := range nodes {
				for d := range disks {
					all = append(all, slot(r+1, z+1, n+1, d+1, 100))
				}
			}
		}
	}
	return all
}

// weighted changes the weights of devices.
func weighted(all []ring.Device, weight func(i int) float64) []ring.Device {
	all = slices.Clone(all)
	for i := range all {
		all[i].Weight = weight(i)
	}
	return all
}

func factor(x float64) *float64 { return &x }

// topologies are the clusters that the two builders are compared on.
func topologies() []topology {
	add := func(d ...ring.Device) change { return change{Add: d} }
	news := func(region, zone, node, disks int) change {
		var c change
		for d := range disks {
			c.Add = append(c.Add, slot(region, zone, node, d+1, 100))
		}
		return c
	}
	three := func(i int) float64 { return math.Pow(10, float64(i%4)) }
	var all []topology
	put := func(name string, power int, replicas float64, changes ...change) {
		all = append(all, topology{Name: name, PartPower: power, Replicas: replicas, Seed: uint64(len(all) + 1), Changes: changes})
	}
	put("one node", 8, 3, add(racks(1, 1, 1, 5)...), news(1, 1, 1, 6))
	all[len(all)-1].Changes[1].Add = all[len(all)-1].Changes[1].Add[5:]
	put("as many devices as replicas", 8, 3, add(racks(1, 1, 1, 3)...), add(slot(1, 1, 1, 9, 100)))
	put("four nodes", 10, 3, add(racks(1, 4, 1, 2)...), news(1, 5, 1, 2), change{Remove: []int{0, 1}})
	fewest := func(n, moves int) { all[len(all)-1].fewest = map[int]int{n: moves} }
	put("three zones", 10, 3, add(racks(1, 3, 3, 4)...), news(1, 1, 9, 4), change{Remove: []int{3}})
	fewest(2, 100)
	put("three zones and a fourth", 10, 3, add(racks(1, 3, 3, 4)...), add(racks(1, 4, 3, 4)[36:]...))
	put("two zones", 10, 3, add(racks(1, 2, 4, 4)...), news(1, 1, 9, 4), change{Weights: map[int]float64{0: 0}})
	put("two regions", 10, 3, add(racks(2, 2, 3, 4)...), news(2, 2, 9, 4), change{Remove: []int{7, 8}})
	fewest(2, 148)
	put("a second region", 10, 3, add(racks(1, 3, 3, 3)...), add(weighted(racks(2, 3, 3, 3)[27:], func(int) float64 { return 10 })...),
		change{Weights: map[int]float64{27: 100, 28: 100, 29: 100, 30: 100, 31: 100, 32: 100}})
	put("five regions", 10, 5, add(racks(5, 2, 2, 3)...), news(3, 2, 9, 3))
	put("four zones of fifty", 14, 3, add(racks(1, 4, 5, 10)...), news(1, 1, 9, 10), change{Remove: []int{17}})
	put("one huge zone", 10, 3, add(append(racks(1, 1, 10, 4), racks(1, 4, 1, 2)[2:]...)...), news(1, 2, 9, 4))
	put("one huge zone, overload", 10, 3, change{Add: append(racks(1, 1, 10, 4), racks(1, 4, 1, 2)[2:]...), Overload: factor(0.1)}, news(1, 2, 9, 4))
	put("a light zone", 10, 3, add(append(racks(1, 2, 2, 4), slot(1, 3, 1, 1, 10))...), change{Weights: map[int]float64{16: 100}})
	put("a light zone, overload", 10, 3, change{Add: append(racks(1, 2, 2, 4), slot(1, 3, 1, 1, 10)), Overload: factor(0.5)},
		change{Overload: factor(10)}, change{Overload: factor(0)})
	put("weights over three orders", 12, 3, add(weighted(racks(1, 4, 4, 4), three)...), add(slot(1, 1, 9, 1, 1000)), change{Remove: []int{3}})
	put("weights over three orders, overload", 12, 3, change{Add: weighted(racks(1, 3, 4, 4), three), Overload: factor(0.2)}, add(slot(1, 1, 9, 1, 1000)))
	put("weights over three orders, few", 8, 2, add(weighted(racks(1, 2, 2, 2), three)...), change{Weights: map[int]float64{0: 1000}})
	put("slowly larger disks", 12, 3, add(weighted(racks(1, 3, 3, 6), func(i int) float64 { return 100 + 10*float64(i) })...), news(1, 2, 9, 6), change{Remove: []int{5}})
	put("mixed disks", 12, 3, add(weighted(racks(1, 3, 4, 6), func(i int) float64 { return []float64{4000, 8000, 12000}[i%3] })...),
		change{Remove: []int{1}}, add(slot(1, 1, 1, 99, 12000)))
	put("uneven zones", 12, 3, add(slices.Concat(racks(1, 1, 6, 4), racks(1, 2, 4, 4)[16:], racks(1, 3, 2, 4)[16:])...), news(1, 3, 9, 4), news(1, 3, 8, 4))
	put("uneven zones, overload", 12, 3, change{Add: slices.Concat(racks(1, 1, 6, 4), racks(1, 2, 4, 4)[16:], racks(1, 3, 2, 4)[16:]), Overload: factor(0.1)}, news(1, 3, 9, 4))
	put("uneven nodes", 12, 3, add(slices.Concat(racks(1, 1, 1, 12), racks(1, 1, 2, 6)[6:], racks(1, 1, 3, 3)[6:], racks(1, 1, 4, 3)[9:])...), news(1, 1, 5, 6))
	put("two replicas", 12, 2, add(racks(1, 4, 3, 3)...), change{Remove: []int{0, 1, 2}}, news(1, 1, 1, 3))
	put("one replica", 12, 1, add(racks(1, 2, 2, 4)...), news(1, 1, 9, 4), change{Remove: []int{0}})
	put("four replicas, three zones", 12, 4, add(racks(1, 3, 3, 3)...), news(1, 2, 9, 3))
	put("six fragments, three zones", 10, 6, add(racks(1, 3, 3, 2)...), news(1, 3, 9, 2), change{Remove: []int{4}})
	fewest(2, 343)
	put("fourteen fragments", 8, 14, add(racks(1, 4, 4, 4)...), news(1, 4, 9, 4), change{Remove: []int{10, 11}})
	put("three and a quarter replicas", 10, 3.25, add(racks(1, 4, 2, 3)...), news(1, 4, 9, 3))
	put("more replicas by and by", 10, 2, add(racks(1, 4, 2, 3)...), change{Replicas: 2.5}, change{Replicas: 3}, change{Replicas: 2.25})
	put("a node lost", 12, 3, add(racks(1, 3, 4, 6)...), change{Remove: []int{6, 7, 8, 9, 10, 11}}, news(1, 1, 2, 6))
	put("a zone lost", 10, 3, add(racks(1, 4, 2, 3)...), change{Remove: []int{0, 1, 2, 3, 4, 5}}, add(racks(1, 1, 2, 3)...))
	put("drained and filled again", 12, 3, add(racks(1, 3, 3, 4)...), change{Weights: map[int]float64{0: 0, 13: 0}}, change{Weights: map[int]float64{0: 100, 13: 100}})
	put("disks failing one by one", 12, 3, add(racks(1, 3, 3, 4)...), change{Remove: []int{0}}, change{Remove: []int{14}}, change{Remove: []int{30}}, change{Remove: []int{31}})
	put("a thin spread", 6, 3, add(racks(1, 4, 4, 6)...), news(1, 4, 9, 6))
	fewest(1, 15)
	odd := func() (d []ring.Device) {
		for z := 1; z <= 3; z++ {
			for n := 1; n <= 4; n++ {
				d = append(d, slot(1, z, n, 1, float64(50+13*n*z)))
			}
		}
		return d
	}
	put("odd weights", 8, 3, add(odd()...), add(slot(1, 1, 9, 1, 500)), add(slot(2, 1, 1, 1, 70), slot(2, 1, 2, 1, 70)))
	put("odd weights, replaced", 8, 3, add(odd()...), change{Remove: []int{3, 7}, Add: []ring.Device{slot(1, 1, 9, 1, 500)}},
		add(slot(2, 1, 1, 1, 70), slot(2, 1, 2, 1, 70)))
	fewest(1, 255)
	put("fewer replicas and a drain", 7, 3, add(racks(1, 7, 1, 1)...), change{Replicas: 2.25, Weights: map[int]float64{0: 0}})
	put("racks one by one", 12, 3, add(racks(1, 1, 4, 4)...), add(racks(1, 2, 4, 4)[16:]...), add(racks(1, 3, 4, 4)[32:]...), add(racks(1, 4, 4, 4)[48:]...))
	put("odd weights, a second region", 8, 3, add(odd()...), add(slot(2, 1, 1, 1, 70), slot(2, 1, 2, 1, 70)))
	put("odd weights, fewer replicas and a drain", 8, 3, add(odd()...), change{Replicas: 2.25, Weights: map[int]float64{0: 0}})
	return all
}

// worse reports by how much less than a builder should one did: in balance or in
// dispersion, beyond what is rounding.
func (o *outcome) worse(than *outcome) (balance, dispersion bool) {
	return o.Balance > than.Balance+0.005, o.Dispersion > than.Dispersion+0.005
}

func compare(t *testing.T, n int, ours, their *outcome) {
	t.Helper()
	t.Logf("change %d: moved %d of %d in %d (%d in %d), balance %.2f (%.2f), dispersion %.2f (%.2f), %.3f s (%.3f s)", n,
		ours.Moved, ours.needed, ours.Rounds, their.Moved, their.Rounds, ours.Balance, their.Balance,
		ours.Dispersion, their.Dispersion, ours.Seconds, their.Seconds)
	balance, dispersion := ours.worse(their)
	if balance {
		t.Error("balance is worse than Swift's")
	}
	if dispersion {
		t.Error("dispersion is worse than Swift's")
	}
}

// TestBuilderAgainstSwift: whatever the cluster, balance and dispersion are no worse
// than the reference's, and what is moved is no more.
//
// Each on its own, it is also at most a twentieth more than has to: what devices have
// to gain, or what partitions have to change to be spread as the targets say.
//
// From one and the same ring, no more is moved to come as far. Where the reference
// stops before that, what is left to be moved of its ring is counted as well: it may
// leave of a partition more or less in a tier than there should be, and what that saves
// is owed.
func TestBuilderAgainstSwift(t *testing.T) {
	all := topologies()
	theirs := reference(t, all)
	var ours [][]outcome
	for i, top := range all {
		ours = append(ours, through(t, top))
		t.Run(top.Name, func(t *testing.T) {
			for n, our := range ours[i] {
				their := theirs[i][n]
				compare(t, n, &our, &their)
				most := int(math.Ceil(1.05 * float64(max(our.needed, top.fewest[n]))))
				if n > 0 && (our.Moved > most || our.Moved > their.Moved) {
					t.Errorf("%d were moved, at most %d should be, and no more than the %d of Swift", our.Moved, most, their.Moved)
				}
			}
		})
	}
	t.Run("from our rings", func(t *testing.T) { fromOneRing(t, starts(all, ours)) })
	t.Run("from Swift's rings", func(t *testing.T) { fromOneRing(t, starts(all, theirs)) })
}

// starts makes of every change but those that make clusters a topology that starts
// from the ring there was before it.
func starts(all []topology, outcomes [][]outcome) (starts []topology) {
	for i, top := range all {
		overload := 0.0
		for n, c := range top.Changes {
			if n > 0 {
				start := top
				start.Name = fmt.Sprintf("%s, change %d", top.Name, n)
				start.Start, start.Overload = outcomes[i][n-1].Ring, overload
				start.Changes = []change{c}
				starts = append(starts, start)
			}
			if c.Overload != nil {
				overload = *c.Overload
			}
		}
	}
	return starts
}

func fromOneRing(t *testing.T, starts []topology) {
	theirs := reference(t, starts)
	for i, start := range starts {
		t.Run(start.Name, func(t *testing.T) {
			our, their := through(t, start)[0], theirs[i][0]
			compare(t, 0, &our, &their)
			owed := 0
			if balance, dispersion := their.worse(&our); balance || dispersion {
				rest := start
				if o := start.Changes[0].Overload; o != nil {
					rest.Overload = *o
				}
				rest.Start, rest.Changes = their.Ring, []change{{}}
				owed = through(t, rest)[0].Moved
			}
			switch {
			case our.Moved > their.Moved+owed:
				t.Errorf("%d were moved, Swift moved %d and has %d left to move", our.Moved, their.Moved, owed)
			case our.Moved > their.Moved:
				t.Logf("Swift moved %d less, and has %d left to move", our.Moved-their.Moved, owed)
			}
		})
	}
}
