package forecast

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/ring"
	"martlet/ring/builder"
)

// dev is a device on a node of its own zone.
func dev(id, zone int, name string) *ring.Device {
	return &ring.Device{ID: id, Region: 1, Zone: zone, IP: fmt.Sprintf("10.0.0.%d", zone), Port: 6200, Name: name, Weight: 100}
}

func must(t testing.TB, power int, devices []*ring.Device, rows ...[]uint32) *ring.Ring {
	t.Helper()
	r, err := ring.New(ring.Data{Devices: devices, PartPower: power, Rows: rows})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCompare(t *testing.T) {
	three := []*ring.Device{dev(0, 1, "a"), dev(1, 2, "a"), dev(2, 3, "a")}
	four := append(append([]*ring.Device{}, three...), dev(3, 4, "a"))
	readdressed := []*ring.Device{three[0], three[1], {ID: 2, Region: 1, Zone: 3, IP: "10.9.9.9", Port: 6200, Name: "a", Weight: 100}}
	reused := []*ring.Device{three[0], three[1], dev(2, 9, "z")}
	renumbered := []*ring.Device{dev(0, 2, "a"), dev(1, 1, "a"), dev(2, 3, "a")}
	for name, tt := range map[string]struct {
		before, after            *ring.Ring
		moved, assigned, dropped int
		gone, reordered, short   int
		differs                  bool
		peaks                    []int
	}{
		"nothing": {
			must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}), must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}),
			0, 0, 0, 0, 0, 0, false, []int{1, 2, 1},
		},
		"first": {nil, must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}), 0, 4, 0, 0, 0, 2, true, []int{1, 2, 1}},
		"one moves to a new device": {
			must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}), must(t, 1, four, []uint32{3, 1}, []uint32{1, 2}),
			1, 0, 0, 0, 0, 1, true, []int{1, 2, 1, 1},
		},
		"a device is gone": {
			must(t, 1, four, []uint32{3, 1}, []uint32{1, 2}), must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}),
			1, 0, 0, 1, 0, 1, true, []int{1, 2, 1, 1},
		},
		"another order": {
			must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}), must(t, 1, three, []uint32{1, 1}, []uint32{0, 2}),
			0, 0, 0, 0, 2, 0, true, []int{1, 2, 1},
		},
		"more replicas": {
			must(t, 1, three, []uint32{0, 1}), must(t, 1, three, []uint32{0, 1}, []uint32{1}),
			0, 1, 0, 0, 0, 1, true, []int{1, 2, 0},
		},
		"fewer replicas": {
			must(t, 1, three, []uint32{0, 1}, []uint32{1, 2}), must(t, 1, three, []uint32{0, 1}),
			0, 0, 2, 0, 0, 0, true, []int{1, 2, 1},
		},
		"twice the partitions": {
			must(t, 1, three, []uint32{0, 1}), must(t, 2, three, []uint32{0, 0, 1, 2}),
			1, 0, 0, 0, 0, 1, true, []int{2, 2, 1},
		},
		"twice the partitions, nothing else": {
			must(t, 1, three, []uint32{0, 1}), must(t, 2, three, []uint32{0, 0, 1, 1}),
			0, 0, 0, 0, 0, 0, false, []int{2, 2, 0},
		},
		"another address": {
			must(t, 1, three, []uint32{0, 2}), must(t, 1, readdressed, []uint32{0, 2}),
			0, 0, 0, 0, 0, 0, true, []int{1, 0, 1},
		},
		"the id of another": {
			must(t, 1, three, []uint32{0, 2}), must(t, 1, reused, []uint32{2, 1}),
			2, 0, 0, 1, 0, 2, true, []int{1, 1, 1, 1},
		},
		"other ids": {
			must(t, 1, three, []uint32{0, 1}), must(t, 1, renumbered, []uint32{1, 0}),
			0, 0, 0, 0, 0, 0, true, nil,
		},
		"twice on a device": {
			must(t, 1, three, []uint32{0, 1}, []uint32{0, 1}), must(t, 1, three, []uint32{0, 1}, []uint32{1, 1}),
			0, 1, 0, 0, 0, 1, true, []int{1, 2, 0},
		},
	} {
		c, err := Compare(tt.before, tt.after, Options{BytesPerPartition: 10, Rate: 2})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := []int{c.Moved, c.Assigned, c.Dropped, c.Gone, c.Reordered, c.Short()}
		want := []int{tt.moved, tt.assigned, tt.dropped, tt.gone, tt.reordered, tt.short}
		if fmt.Sprint(got) != fmt.Sprint(want) || c.Differs() != tt.differs {
			t.Errorf("%s: moved, assigned, dropped, gone, reordered, short %v, want %v; differs %v", name, got, want, c.Differs())
		}
		for i, peak := range tt.peaks {
			if d := c.Devices[i]; d.Peak != peak {
				t.Errorf("%s: device %d %s: peak %d, want %d", name, d.ID, d.State, d.Peak, peak)
			}
		}
		if err := sane(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The numbers that follow from the counts, worked out by hand: the new device takes two
// partitions of 10 bytes at 2 a second, and so gets fullest, for it is small.
func TestBytesAndTime(t *testing.T) {
	three := []*ring.Device{dev(0, 1, "a"), dev(1, 2, "a"), dev(2, 3, "a")}
	before := must(t, 2, three, []uint32{0, 0, 1, 1})
	after := must(t, 2, three, []uint32{0, 2, 1, 2})
	c, err := Compare(before, after, Options{BytesPerPartition: 10, Rate: 2, Capacity: func(d *ring.Device) float64 {
		if d.ID == 2 {
			return 25
		}
		return 100
	}})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Devices[2]
	if c.Bytes != 20 || c.Seconds != 10 || c.Slowest != 2 || c.Fullest != 2 || d.PeakBytes != 20 || d.PeakPercent != 80 || c.Devices[0].GivesBytes != 10 {
		t.Errorf("%+v", c)
	}
	names, flows := c.Group(func(d *Device) string { return fmt.Sprint("z", d.Zone%2) })
	if fmt.Sprint(names, flows) != "[z1 z0] [{1 0 1}]" {
		t.Errorf("groups %v, flows %v", names, flows)
	}
	for _, o := range []Options{{BytesPerPartition: -1}, {Rate: math.NaN()}, {Rate: math.Inf(1)}} {
		if _, err := Compare(before, after, o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: error %v", o, err)
		}
	}
}

// sane holds for every change.
func sane(c *Change) error {
	var gives, takes, before, after, flows, moving, count int
	for _, d := range c.Devices {
		gives += d.Gives
		takes += d.Takes
		before += d.Before
		after += d.After
		if d.Before+d.Takes-d.Gives != d.After || d.Peak != d.Before+d.Takes {
			return fmt.Errorf("device %d: had %d, takes %d, gives %d, has %d, peak %d", d.ID, d.Before, d.Takes, d.Gives, d.After, d.Peak)
		}
	}
	for _, f := range c.Flows {
		flows += f.Partitions
	}
	for n, partitions := range c.Moving {
		moving += n * partitions
		count += partitions
	}
	if takes != c.Moved+c.Assigned || gives != c.Moved+c.Dropped || flows != c.Moved+c.Assigned+c.Dropped ||
		moving != takes || count != c.Partitions || before+takes-gives != after {
		return fmt.Errorf("takes %d, gives %d, flows %d, moving %d over %d partitions, before %d, after %d: %d moved, %d assigned, %d dropped",
			takes, gives, flows, moving, count, before, after, c.Moved, c.Assigned, c.Dropped)
	}
	return nil
}

func drawBuilder(t *rapid.T) *builder.Builder {
	b, err := builder.New(rapid.IntRange(1, 8).Draw(t, "part power"), rapid.Float64Range(1, 4).Draw(t, "replicas"), rapid.IntRange(0, 1).Draw(t, "hours"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rapid.IntRange(4, 12).Draw(t, "devices") {
		add(t, b, i)
	}
	return b
}

func add(t *rapid.T, b *builder.Builder, name int) {
	d := ring.Device{
		Region: rapid.IntRange(1, 2).Draw(t, "region"), Zone: rapid.IntRange(1, 3).Draw(t, "zone"),
		IP: fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 3).Draw(t, "node")), Port: 6200, Name: fmt.Sprintf("d%d", name),
		Weight: rapid.Float64Range(1, 100).Draw(t, "weight"),
	}
	if _, err := b.Add(d); err != nil {
		t.Fatal(err)
	}
}

func change(t *rapid.T, b *builder.Builder, round int) {
	var live []int
	for d := range b.Devices() {
		live = append(live, d.ID)
	}
	id := rapid.SampledFrom(live).Draw(t, "device")
	var err error
	switch rapid.IntRange(0, 3).Draw(t, "change") {
	case 0:
		add(t, b, 100+round)
	case 1:
		if len(live) > 6 {
			err = b.Remove(id)
		}
	case 2:
		err = b.SetWeight(id, rapid.Float64Range(1, 100).Draw(t, "weight"))
	default:
		err = b.SetReplicas(rapid.Float64Range(1, 4).Draw(t, "replicas"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever is changed, what a rebalance says that it did is what the rings before and
// after it say.
func TestChangeIsWhatRebalanceDid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		for round := range 3 {
			before, err := ringOf(b)
			if err != nil {
				t.Fatal(err)
			}
			result, err := b.Rebalance(builder.Options{Seed: rapid.Uint64().Draw(t, "seed")})
			if err != nil {
				t.Fatal(err)
			}
			after, err := b.Ring()
			if err != nil {
				t.Fatal(err)
			}
			c, err := Compare(before, after, Options{BytesPerPartition: 1 << 20, Rate: 1 << 10})
			if err != nil {
				t.Fatal(err)
			}
			if err := sane(c); err != nil {
				t.Fatal(err)
			}
			// With fewer replicas, one may go to a device that another one was on.
			fewer := before != nil && before.Replicas() > after.Replicas()
			if c.Assigned != result.Assigned || c.Moved != result.Moved && !(fewer && c.Moved < result.Moved) {
				t.Fatalf("the rings say that %d moved and %d were assigned, the rebalance %d and %d", c.Moved, c.Assigned, result.Moved, result.Assigned)
			}
			if round > 0 && before != nil && len(c.Moving) > 2 && c.Gone == 0 && c.Assigned == 0 {
				t.Fatalf("several replicas of one partition move: %v", c.Moving)
			}
			b.PretendMinPartHoursPassed()
			change(t, b, round)
		}
	})
}

// The steps of a plan follow one another, its moves add up, and it leaves the builder
// as it was.
func TestPlanAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		if _, err := b.Rebalance(builder.Options{}); err != nil {
			t.Fatal(err)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "new") {
			add(t, b, 200+i)
		}
		change(t, b, 0)
		version := b.Version()
		k := rapid.IntRange(0, 5).Draw(t, "steps")
		steps, err := Plan(b, PlanOptions{Steps: k, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		if b.Version() != version || len(steps) < k || len(steps) == 0 {
			t.Fatalf("version %d, was %d; %d steps of %d", b.Version(), version, len(steps), k)
		}
		holds := map[int]int{}
		first := true
		for n, s := range steps {
			if err := sane(s.Change); err != nil {
				t.Fatalf("step %d: %v", n, err)
			}
			for _, d := range s.Change.Devices {
				if !first && d.State != Added && holds[d.ID] != d.Before {
					t.Fatalf("step %d: device %d begins with %d, the step before left %d", n, d.ID, d.Before, holds[d.ID])
				}
				holds[d.ID] = d.After
			}
			first = false
		}
	})
}

// The rest of a plan is what it says after the first rebalance.
func TestRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := drawBuilder(t)
		if _, err := b.Rebalance(builder.Options{}); err != nil {
			t.Fatal(err)
		}
		change(t, b, 0)
		now := time.Unix(2e9, 0)
		steps, err := Plan(b, PlanOptions{Seed: 7, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		result, err := b.Rebalance(builder.Options{Seed: 7, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		version := b.Version()
		rest, err := Rest(b, result, PlanOptions{Seed: 7, Now: now})
		if err != nil || len(rest) != len(steps)-1 || b.Version() != version {
			t.Fatalf("%d steps, %v, want %d; the builder has version %d, had %d", len(rest), err, len(steps)-1, b.Version(), version)
		}
		for n := range rest {
			if !reflect.DeepEqual(rest[n], steps[n+1]) {
				t.Fatalf("step %d is %+v, want %+v", n, rest[n], steps[n+1])
			}
		}
	})
}

// A node that is brought in by steps takes about as much at each, and no more than at once.
func TestStepsAreEven(t *testing.T) {
	b, err := builder.New(10, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := b.Add(ring.Device{Region: 1, Zone: i % 4, IP: fmt.Sprintf("10.0.0.%d", i%4), Port: 6200, Name: fmt.Sprint("d", i), Weight: 100}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Rebalance(builder.Options{}); err != nil {
		t.Fatal(err)
	}
	b.PretendMinPartHoursPassed()
	for i := range 5 {
		if _, err := b.Add(ring.Device{Region: 1, Zone: 4, IP: "10.0.0.4", Port: 6200, Name: fmt.Sprint("d", i), Weight: 100}); err != nil {
			t.Fatal(err)
		}
	}
	jump, err := Plan(b, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Plan(b, PlanOptions{Steps: 4})
	if err != nil {
		t.Fatal(err)
	}
	once, most := total(jump), 0
	for _, s := range steps {
		most = max(most, s.Change.Moved)
	}
	if all := total(steps); all < once || all > once*11/10 || most > once*45/100 || len(steps) < 4 {
		t.Errorf("%d at once; in %d steps %d, at most %d in one", once, len(steps), all, most)
	}
	if w := steps[0].Weights; len(w) != 5 || w[0].Weight != 25 {
		t.Errorf("weights of the first step: %v", w)
	}
}

func total(steps []Step) (moved int) {
	for _, s := range steps {
		moved += s.Change.Moved
	}
	return moved
}
