package builder

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"martlet/ring"
)

// at is a device of weight 100 at a place, its disk named after its number there.
func at(region, zone, node, disk int) ring.Device {
	return ring.Device{
		Region: region, Zone: zone, Port: 6200, Weight: 100,
		IP:   fmt.Sprintf("10.%d.%d.%d", region, zone, node),
		Name: fmt.Sprintf("d%d", disk),
	}
}

func weighing(weight float64, d ring.Device) ring.Device {
	d.Weight = weight
	return d
}

// grid has so many regions, zones in each, nodes in each of those, disks on each.
func grid(regions, zones, nodes, disks int) (devices []ring.Device) {
	for r := range regions {
		for z := range zones {
			for n := range nodes {
				for d := range disks {
					devices = append(devices, at(r, z, n, d))
				}
			}
		}
	}
	return devices
}

func build(t testing.TB, partPower, replicas int, devices []ring.Device) *Builder {
	t.Helper()
	b, err := New(partPower, float64(replicas), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		if _, err := b.Add(d); err != nil {
			t.Fatalf("add %+v: %v", d, err)
		}
	}
	return b
}

// rebalance goes on until nothing moves any more, and returns how much did.
func rebalance(t testing.TB, b *Builder, seed uint64) int {
	t.Helper()
	moved, err := settle(b, seed)
	if err != nil {
		t.Fatal(err)
	}
	return moved
}

// settle rebalances until nothing moves any more.
func settle(b *Builder, seed uint64) (moved int, err error) {
	for round := range uint64(100) {
		r, err := b.Rebalance(Options{Seed: seed + round})
		if err != nil {
			return moved, err
		}
		moved += r.Assigned + r.Moved
		if !r.Changed() && r.Waiting > 0 {
			return moved, fmt.Errorf("round %d: nothing moves, and %d wait", round, r.Waiting)
		}
		if !r.Changed() {
			return moved, nil
		}
	}
	return moved, errors.New("it never ends")
}

func ringOf(t testing.TB, b *Builder) *ring.Ring {
	t.Helper()
	r, err := b.Ring()
	if err != nil {
		t.Fatalf("ring: %v", err)
	}
	return r
}

// held counts partition-replicas by device id.
func held(b *Builder) []int {
	n := make([]int, len(b.devices))
	for _, row := range b.rows {
		for _, id := range row {
			n[id]++
		}
	}
	return n
}

// domains are the failure domains of a device, widest first.
func domains(d *ring.Device) [4]string {
	region := fmt.Sprint(d.Region)
	zone := fmt.Sprint(region, "/", d.Zone)
	node := fmt.Sprint(zone, "/", d.IP)
	return [4]string{region, zone, node, fmt.Sprint(node, "/", d.ID)}
}

// checkPlan returns an error unless every device has its quota, and no tier has more
// replicas of a partition than its target rounded up, or fewer than that rounded
// down.
func checkPlan(b *Builder) error {
	a, err := b.plan()
	if err != nil {
		return err
	}
	for id, n := range held(b) {
		want := 0
		if a.chains[id] != nil {
			want = a.chains[id][device].quota
		}
		if n != want {
			return fmt.Errorf("device %d has %d partitions, want %d", id, n, want)
		}
	}
	return b.eachTier(a, func(t *tier, p, n int) error {
		if low, high := around(t.target); n < low || n > high {
			return fmt.Errorf("partition %d has %d replicas in a %s that wants %v", p, n, kindNames[t.kind], t.target)
		}
		return nil
	})
}

// eachTier tells of every partition and tier with weight how many replicas are there.
func (b *Builder) eachTier(a *assignment, f func(t *tier, p, n int) error) error {
	for p := range b.Partitions() {
		count := map[*tier]int{}
		for _, row := range b.rows {
			if p < len(row) && a.chains[row[p]] != nil {
				for _, t := range a.chains[row[p]] {
					count[t]++
				}
			}
		}
		var walk func(t *tier) error
		walk = func(t *tier) error {
			for _, c := range t.children {
				if err := f(c, p, count[c]); err != nil {
					return err
				}
				if err := walk(c); err != nil {
					return err
				}
			}
			return nil
		}
		if err := walk(a.root); err != nil {
			return err
		}
	}
	return nil
}

// farthest is the most that any device is from its share by weight, in partitions.
func farthest(b *Builder) float64 {
	var weight, most float64
	for _, m := range b.devices {
		weight += m.wants()
	}
	for id, n := range held(b) {
		share := float64(b.total()) * b.devices[id].wants() / weight
		most = max(most, math.Abs(float64(n)-share))
	}
	return most
}

func TestRebalanceSpreadsAndBalances(t *testing.T) {
	mixed := []ring.Device{
		weighing(10, at(1, 1, 1, 1)), weighing(20, at(1, 1, 1, 2)), weighing(30, at(1, 1, 2, 1)),
		weighing(25, at(1, 2, 1, 1)), weighing(35, at(1, 2, 2, 1)),
		weighing(50, at(1, 3, 1, 1)), weighing(10, at(1, 3, 2, 1)),
	}
	for name, tt := range map[string]struct {
		replicas int
		devices  []ring.Device
		off      float64 // the farthest that a device may be from its share by weight
	}{
		"one device":                    {1, grid(1, 1, 1, 1), 0},
		"one node":                      {3, grid(1, 1, 1, 5), 1},
		"four nodes, two disks":         {3, grid(1, 1, 4, 2), 1},
		"four nodes, a zone each":       {3, grid(1, 4, 1, 2), 1},
		"as many zones as replicas":     {3, grid(1, 3, 2, 3), 1},
		"two zones":                     {3, grid(1, 2, 2, 3), 1},
		"two regions":                   {3, grid(2, 2, 2, 2), 1},
		"three regions, four replicas":  {4, grid(3, 2, 2, 1), 1},
		"uneven weights, even zones":    {3, mixed, 1},
		"erasure coding, 12 fragments":  {12, grid(1, 3, 5, 4), 1},
		"fragments on every device":     {6, grid(1, 1, 3, 2), 0},
		"a light zone still gets one":   {3, append(grid(1, 2, 2, 2), weighing(1, at(1, 9, 1, 1))), math.Inf(1)},
		"a small region, many zones":    {4, append(grid(1, 10, 1, 1), weighing(9000, at(2, 1, 1, 1))), math.Inf(1)},
		"a heavy node is held to one":   {3, append(grid(1, 1, 4, 1), weighing(9000, at(0, 0, 9, 1))), math.Inf(1)},
		"one zone of two has one disk":  {3, append(grid(1, 1, 3, 3), at(0, 5, 1, 1)), math.Inf(1)},
		"weights a million apart":       {2, []ring.Device{weighing(1e-3, at(1, 1, 1, 1)), weighing(1e3, at(1, 1, 2, 1)), weighing(1e3, at(1, 1, 3, 1))}, 1},
		"shares that are no whole ones": {3, grid(1, 1, 7, 1), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := build(t, 8, tt.replicas, tt.devices)
			if got, want := rebalance(t, b, 1), tt.replicas<<8; got != want {
				t.Errorf("moved %d, want all %d", got, want)
			}
			if err := checkPlan(b); err != nil {
				t.Error(err)
			}
			if got := farthest(b); got > tt.off {
				t.Errorf("a device is %v partitions from its share, want at most %v; held %v", got, tt.off, held(b))
			}
			if moved := rebalance(t, b, 2); moved != 0 {
				t.Errorf("a second rebalance moved %d, want none", moved)
			}
		})
	}
}

// TestPairs checks that the partners of a device are many: the partitions of a lost
// one are then read from, and rebuilt on, all others.
func TestPairs(t *testing.T) {
	b := build(t, 10, 3, grid(1, 4, 5, 1))
	rebalance(t, b, 1)
	partners := map[[2]uint32]int{}
	for p := range 1 << b.partPower {
		for i := range b.rows {
			for j := range b.rows {
				partners[[2]uint32{b.rows[i][p], b.rows[j][p]}]++
			}
		}
	}
	for x := range uint32(20) {
		for y := range uint32(20) {
			if b.devices[x].Zone == b.devices[y].Zone {
				continue
			}
			// 154 partitions a device, two partners each, 15 devices in other zones: 20 on average.
			if n := partners[[2]uint32{x, y}]; n < 5 || n > 45 {
				t.Errorf("devices %d and %d share %d partitions, want about 20", x, y, n)
			}
		}
	}
}

func TestChangesMoveLittle(t *testing.T) {
	base := func(t *testing.T) *Builder {
		b := build(t, 10, 3, grid(1, 4, 3, 4))
		rebalance(t, b, 1)
		return b
	}
	share := 3 << 10 / 48 // partitions of one device: 64
	for name, tt := range map[string]struct {
		change func(b *Builder) error
		most   int
	}{
		"nothing":       {func(b *Builder) error { return nil }, 0},
		"add a device":  {func(b *Builder) error { _, err := b.Add(at(0, 0, 0, 9)); return err }, share + 20},
		"remove one":    {func(b *Builder) error { return b.Remove(7) }, share + 20},
		"empty one":     {func(b *Builder) error { return b.SetWeight(7, 0) }, share + 20},
		"halve one":     {func(b *Builder) error { return b.SetWeight(7, 50) }, share/2 + 20},
		"double one":    {func(b *Builder) error { return b.SetWeight(7, 200) }, share + 20},
		"replace one":   {func(b *Builder) error { return errors.Join(b.Remove(7), second(b.Add(at(0, 0, 1, 9)))) }, share + 20},
		"new node":      {func(b *Builder) error { return addAll(b, at(0, 1, 9, 1), at(0, 1, 9, 2), at(0, 1, 9, 3)) }, 3*share + 30},
		"scale weights": {scaled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := base(t)
			if err := tt.change(b); err != nil {
				t.Fatal(err)
			}
			moved := rebalance(t, b, 2)
			if moved > tt.most {
				t.Errorf("moved %d, want at most %d", moved, tt.most)
			}
			if err := checkPlan(b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRoundingMovesNothing: weights that change by less than a partition asks for,
// in favour of who has been rounded up, move nothing.
func TestRoundingMovesNothing(t *testing.T) {
	var devices []ring.Device
	for i := range 40 { // 48 replicas: shares of 1.2, so eight devices have two
		devices = append(devices, at(0, 0, i, 0))
	}
	b := build(t, 4, 3, devices)
	rebalance(t, b, 1)
	for id, n := range held(b) {
		if err := b.SetWeight(id, float64(99+n)); err != nil {
			t.Fatal(err)
		}
	}
	if moved := rebalance(t, b, 2); moved != 0 {
		t.Errorf("moved %d, want none", moved)
	}
}

func second(_ int, err error) error { return err }

func addAll(b *Builder, devices ...ring.Device) error {
	for _, d := range devices {
		if _, err := b.Add(d); err != nil {
			return err
		}
	}
	return nil
}

func scaled(b *Builder) error {
	for id, m := range b.devices {
		if err := b.SetWeight(id, m.Weight*3); err != nil {
			return err
		}
	}
	return nil
}

func TestRemoveDrainsAndForgets(t *testing.T) {
	b := build(t, 8, 3, grid(1, 1, 5, 2))
	rebalance(t, b, 1)
	before := b.version
	if err := b.Remove(3); err != nil {
		t.Fatal(err)
	}
	if n := held(b)[3]; n == 0 {
		t.Fatal("device 3 lost its partitions before a rebalance")
	}
	if r := ringOf(t, b); r.Version() <= before {
		t.Errorf("version %d after a removal, want above %d", r.Version(), before)
	}
	rebalance(t, b, 1)
	if n := held(b)[3]; n != 0 {
		t.Errorf("removed device still has %d partitions", n)
	}
	for d := range ringOf(t, b).Devices() {
		if d.ID == 3 {
			t.Error("removed device is still in the ring")
		}
	}
	if id, err := b.Add(at(0, 0, 9, 9)); err != nil || id != 3 {
		t.Errorf("Add after the removal: id %d, %v; want the free id 3", id, err)
	}
}

func TestRefusals(t *testing.T) {
	full := build(t, 4, 2, grid(1, 1, 2, 1))
	for name, tt := range map[string]struct {
		do   func() error
		want error
	}{
		"same disk twice":     {func() error { return second(full.Add(at(0, 0, 1, 0))) }, ErrDevice},
		"no name":             {func() error { return second(full.Add(ring.Device{IP: "10.0.0.1", Port: 1, Weight: 1})) }, ErrDevice},
		"name with a slash":   {func() error { d := at(0, 0, 8, 0); d.Name = "../x"; return second(full.Add(d)) }, ring.ErrInvalid},
		"negative weight":     {func() error { return full.SetWeight(0, -1) }, ErrDevice},
		"weight not a number": {func() error { return full.SetWeight(0, math.NaN()) }, ErrDevice},
		"weight too small":    {func() error { return full.SetWeight(0, 1e-9) }, ErrDevice},
		"no such device":      {func() error { return full.Remove(2) }, ErrDevice},
		"negative id":         {func() error { return full.Remove(-1) }, ErrDevice},
		"not balanced":        {func() error { _, err := full.Ring(); return err }, ErrNotBalanced},
		"nothing to place on": {func() error { _, err := build(t, 4, 2, grid(1, 1, 1, 1)).Rebalance(Options{}); return err }, ErrTooFew},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.do(); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	for _, bad := range []struct {
		partPower int
		replicas  float64
		hours     int
	}{{0, 3, 1}, {33, 1, 1}, {8, 0, 1}, {8, 0.5, 1}, {8, 257, 1}, {8, math.NaN(), 1}, {8, math.Inf(1), 1}, {32, 3, 1}, {8, 3, -1}, {8, 3, 1e6}} {
		if _, err := New(bad.partPower, bad.replicas, bad.hours); !errors.Is(err, ErrSetting) {
			t.Errorf("New(%+v): got %v, want %v", bad, err, ErrSetting)
		}
	}
}

// TestFailedRebalanceChangesNothing: the last device can't be drained.
func TestFailedRebalanceChangesNothing(t *testing.T) {
	b := build(t, 4, 1, grid(1, 1, 1, 1))
	rebalance(t, b, 1)
	if err := b.Remove(0); err != nil {
		t.Fatal(err)
	}
	version := b.version
	if _, err := b.Rebalance(Options{}); !errors.Is(err, ErrTooFew) {
		t.Fatalf("got %v, want %v", err, ErrTooFew)
	}
	if r := ringOf(t, b); b.version != version || r.Version() != version {
		t.Errorf("version %d, want %d as before", b.version, version)
	}
}

func BenchmarkRebalance(b *testing.B) {
	for _, size := range []struct{ power, zones, nodes, disks int }{{16, 5, 5, 4}, {20, 5, 20, 10}} {
		devices := grid(1, size.zones, size.nodes, size.disks)
		b.Run(fmt.Sprintf("fresh/2^%dx3/%d", size.power, len(devices)), func(b *testing.B) {
			for range b.N {
				rebalance(b, build(b, size.power, 3, devices), 1)
			}
		})
		b.Run(fmt.Sprintf("remove/2^%dx3/%d", size.power, len(devices)), func(b *testing.B) {
			whole := build(b, size.power, 3, devices)
			rebalance(b, whole, 1)
			for b.Loop() {
				less := whole.Clone()
				if err := less.Remove(0); err != nil {
					b.Fatal(err)
				}
				rebalance(b, less, 1)
			}
		})
	}
}

// A ring from elsewhere may have one disk twice: it makes no builder.
func TestFromRingRefuses(t *testing.T) {
	data := ring.Data{PartPower: 1, Rows: [][]uint32{{0, 1}}}
	for id, ip := range []string{"FE80:0::1", "fe80::1"} {
		data.Devices = append(data.Devices, &ring.Device{ID: id, IP: ip, Port: 6200, Name: "a", Weight: 1})
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := FromRing(r, 1); !errors.Is(err, ErrDevice) || !strings.Contains(err.Error(), "devices 0 and 1 are one disk") {
		t.Errorf("%v, %v", b, err)
	}
}
