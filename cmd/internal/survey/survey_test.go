package survey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/index"
	"martlet/ring"
)

const power = 2

var errOut = errors.New("it is switched off")

// world is devices with what they hold, by hash.
type world struct {
	ring   *ring.Ring
	out    map[string]bool
	held   map[string]map[name.Hash]replwire.Object
	page   int
	listed atomic.Int64 // how often states were asked for
}

// newWorld has five devices of which the first three, turned by the partition, are primaries.
func newWorld(t interface{ Fatal(...any) }) *world {
	data := ring.Data{PartPower: power}
	for i := range 5 {
		data.Devices = append(data.Devices, &ring.Device{ID: i, Zone: i, IP: "127.0.0.1", Port: 1000 + i, Name: fmt.Sprint("d", i), Weight: 1})
	}
	for r := range uint32(3) {
		row := make([]uint32, 1<<power)
		for p := range row {
			row[p] = (r + uint32(p)) % 5
		}
		data.Rows = append(data.Rows, row)
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	return &world{ring: r, out: map[string]bool{}, held: map[string]map[name.Hash]replwire.Object{}, page: 2}
}

func (w *world) policies() []Policy { return []Policy{{Name: "gold", Ring: w.ring}} }

func (w *world) put(device string, o replwire.Object) {
	if w.held[device] == nil {
		w.held[device] = map[name.Hash]replwire.Object{}
	}
	w.held[device][o.Hash] = o
}

// Holdings implements Asker.
func (w *world) Holdings(_ context.Context, d *ring.Device, _ policy.Index, power int, lost bool) (list []replwire.Holding, err error) {
	if w.out[d.Name] {
		return nil, errOut
	}
	sums := map[uint32]*replwire.Holding{}
	for h, o := range w.held[d.Name] {
		p := uint32(w.ring.Partition(h))
		if sums[p] == nil {
			sums[p] = &replwire.Holding{Partition: p}
		}
		e := index.Entry{Kind: index.Kind(o.Kind), Times: o.Times, Length: o.Length, Tie: uint64(o.CRC)}
		one := index.DigestOf(index.Key{Hash: h}, &e)
		for i := range 8 { // any sum will do
			sums[p].Sum[i] += byte(one.Sum.High >> (8 * i))
			sums[p].Sum[8+i] += byte(one.Sum.Low >> (8 * i))
		}
		if o.Kind == replwire.Lost && lost {
			sums[p].Lost++
		}
		if o.Kind == replwire.Data {
			sums[p].Objects++
			sums[p].Bytes += o.Length
		}
	}
	for _, p := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, *sums[p])
	}
	return list, nil
}

// States implements Asker.
func (w *world) States(_ context.Context, d *ring.Device, _ policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	w.listed.Add(1)
	if w.out[d.Name] {
		return nil, false, errOut
	}
	var list []replwire.Object
	for h, o := range w.held[d.Name] {
		if uint32(w.ring.Partition(h)) == partition && slices.Compare(h[:], from[:]) >= 0 {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b replwire.Object) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	if len(list) > w.page {
		return list[:w.page], true, nil
	}
	return list, false, nil
}

func state(kind replwire.ObjectKind, n byte, at int64) replwire.Object {
	t := timestamp.FromTime(time.Unix(1_000_000+at, 0))
	o := replwire.Object{Hash: name.Hash{n << 5, n}, Kind: kind, Times: timestamp.Packed{Data: t, ContentType: t, Meta: t}}
	if kind == replwire.Data {
		o.Length, o.CRC = at, uint32(at)
	}
	return o
}

// Whatever the devices hold, and whoever is out: what is counted is what a look at every copy of
// every object counts.
func TestDurability(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.page = rapid.IntRange(1, 3).Draw(t, "page")
		devices := []string{"d0", "d1", "d2", "d3", "d4"}
		for n := range byte(8) {
			for _, d := range devices {
				if rapid.IntRange(0, 2).Draw(t, "held") == 0 {
					continue
				}
				kind := rapid.SampledFrom([]replwire.ObjectKind{replwire.Data, replwire.Data, replwire.Data, replwire.Tombstone, replwire.Lost}).Draw(t, "kind")
				w.put(d, state(kind, n, int64(1+rapid.IntRange(0, 1).Draw(t, "version"))))
			}
		}
		for _, d := range devices {
			w.out[d] = rapid.IntRange(0, 5).Draw(t, "out") == 0
		}
		var list []Lacking
		tell := func(l Lacking) { list = append(list, l) }
		if rapid.Bool().Draw(t, "no list") {
			tell = nil
		}
		got, err := DurabilityOf(t.Context(), w, w.policies(), tell)
		if err != nil {
			t.Fatal(err)
		}
		objects, lacking := w.count()
		if got.Objects != objects || got.UnderReplicated != int64(len(lacking)) {
			t.Fatalf("%+v, want %d objects, of them %v", got, objects, lacking)
		}
		missing := map[int]int64{}
		for _, n := range lacking {
			missing[n]++
		}
		if !maps.Equal(got.Missing, missing) {
			t.Fatalf("missing are %v, want %v: %v of %+v, out are %v", got.Missing, missing, list, w.held, w.out)
		}
		sum, want := int64(0), int64(0)
		for _, n := range got.Copies {
			sum += n
		}
		for n, many := range missing {
			want += int64(n) * many
		}
		if sum != want {
			t.Fatalf("reasons are given for %d copies, want %d: %v", sum, want, got.Copies)
		}
		if tell != nil && len(list) != len(lacking) {
			t.Fatalf("listed are %v, want %v", list, lacking)
		}
		for _, l := range list {
			if lacking[l.Hash] != l.Missing || len(l.Reasons) != l.Missing {
				t.Fatalf("listed is %+v, want %d missing", l, lacking[l.Hash])
			}
		}
		if len(got.Unknown) != len(slices.DeleteFunc(slices.Clone(devices), func(d string) bool { return !w.out[d] })) {
			t.Fatalf("unknown are %v, out are %v", got.Unknown, w.out)
		}
	})
}

// count looks at every object: of those that exist it returns how many copies are missing, if any.
func (w *world) count() (objects int64, lacking map[name.Hash]int) {
	lacking = map[name.Hash]int{}
	for n := range byte(8) {
		h := name.Hash{n << 5, n}
		var newest *replwire.Object
		var primaries []string
		for _, d := range w.ring.AppendPrimaries(nil, w.ring.Partition(h)) {
			primaries = append(primaries, d.Name)
		}
		for d, held := range w.held {
			o, ok := held[h]
			if !ok || w.out[d] {
				continue
			}
			if newest == nil || o.Times.Data.After(newest.Times.Data) || o.Times.Data == newest.Times.Data && o.Kind == replwire.Tombstone ||
				o.Times.Data == newest.Times.Data && newest.Kind == replwire.Lost && o.Kind == replwire.Data {
				newest = &o
			}
		}
		if newest == nil || newest.Kind == replwire.Tombstone {
			continue
		}
		objects++
		good := 0
		for _, d := range primaries {
			if o, ok := w.held[d][h]; ok && !w.out[d] && newest.Kind == replwire.Data && o == *newest {
				good++
			}
		}
		if good < 3 {
			lacking[h] = 3 - good
		}
	}
	return objects, lacking
}

// Where all is whole nobody lists anything.
func TestWholeIsKnownBySums(t *testing.T) {
	w := newWorld(t)
	for n := range byte(8) {
		o := state(replwire.Data, n, 1)
		for _, d := range w.ring.AppendPrimaries(nil, w.ring.Partition(o.Hash)) {
			w.put(d.Name, o)
		}
	}
	got, err := DurabilityOf(t.Context(), w, w.policies(), nil)
	if err != nil || !got.Whole() || got.Objects != 8 || w.listed.Load() > 0 {
		t.Errorf("%+v, %v, after %d lists, want 8 objects and none", got, err, w.listed.Load())
	}
	left, err := RebalanceOf(t.Context(), w, w.policies())
	if err != nil || !left.Done() {
		t.Errorf("left is %+v, %v, want nothing", left, err)
	}
}

// Each reason, and what is left to be moved.
func TestReasons(t *testing.T) { synctest.Test(t, reasons) }

func reasons(t *testing.T) {
	for what, tt := range map[string]struct {
		held map[string]replwire.ObjectKind // of object 0, whose primaries are d0, d1 and d2
		out  string
		want map[Reason]int64
		left Left
	}{
		"one lacks":         {map[string]replwire.ObjectKind{"d0": replwire.Data, "d1": replwire.Data}, "", map[Reason]int64{Queued: 1}, Left{1, 1, 7, 0}},
		"on its way":        {map[string]replwire.ObjectKind{"d0": replwire.Data, "d1": replwire.Data, "d4": replwire.Data}, "", map[Reason]int64{OnHandoff: 1}, Left{1, 1, 7, 1}},
		"only on a handoff": {map[string]replwire.ObjectKind{"d4": replwire.Data}, "", map[Reason]int64{OnHandoff: 3}, Left{3, 3, 21, 1}},
		"damaged":           {map[string]replwire.ObjectKind{"d0": replwire.Data, "d1": replwire.Data, "d2": replwire.Lost}, "", map[Reason]int64{Quarantined: 1}, Left{1, 1, 7, 0}},
		"out":               {map[string]replwire.ObjectKind{"d0": replwire.Data, "d1": replwire.Data, "d2": replwire.Data}, "d2", map[Reason]int64{Unreachable: 1}, Left{}},
		"out and lacking":   {map[string]replwire.ObjectKind{"d0": replwire.Data, "d2": replwire.Data}, "d2", map[Reason]int64{Unreachable: 1, Queued: 1}, Left{1, 1, 7, 0}},
		"all damaged":       {map[string]replwire.ObjectKind{"d0": replwire.Lost, "d1": replwire.Lost, "d2": replwire.Lost}, "", map[Reason]int64{Quarantined: 3}, Left{}},
		"damaged, one none": {map[string]replwire.ObjectKind{"d0": replwire.Lost, "d1": replwire.Lost}, "", map[Reason]int64{Quarantined: 2, Nowhere: 1}, Left{}},
		"spare":             {map[string]replwire.ObjectKind{"d0": replwire.Data, "d1": replwire.Data, "d2": replwire.Data, "d3": replwire.Data}, "", nil, Left{0, 0, 0, 1}},
	} {
		w := newWorld(t)
		for d, kind := range tt.held {
			w.put(d, state(kind, 0, 7))
		}
		w.out[tt.out] = true
		got, err := DurabilityOf(t.Context(), w, w.policies(), nil)
		if err != nil || !maps.Equal(got.Copies, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", what, got, err, tt.want)
		}
		left, err := RebalanceOf(t.Context(), w, w.policies())
		if err != nil || left.Left != tt.left || left.Done() != (tt.left.Nothing() && tt.out == "") {
			t.Errorf("%s: left is %+v, %v, want %+v", what, left, err, tt.left)
		}
	}
}

// moving is a world that changes when devices have been asked for the first time.
type moving struct {
	*world
	asked atomic.Int64
	once  sync.Once
	then  func()
}

// Holdings implements Asker.
func (m *moving) Holdings(ctx context.Context, d *ring.Device, p policy.Index, power int, lost bool) ([]replwire.Holding, error) {
	if m.asked.Add(1) > 5 { // devices
		m.once.Do(m.then)
	}
	return m.world.Holdings(ctx, d, p, power, lost)
}

// What was on its way at the first look, and is there at the second, is not left.
func TestWritesUnderWayAreNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		young, old := state(replwire.Data, 0, 7), state(replwire.Data, 2, 9)
		for _, d := range w.ring.AppendPrimaries(nil, w.ring.Partition(old.Hash))[1:] {
			w.put(d.Name, old)
		}
		w.put("d0", young)
		m := &moving{world: w, then: func() {
			for _, d := range w.ring.AppendPrimaries(nil, w.ring.Partition(young.Hash)) {
				w.put(d.Name, young)
			}
			w.put("d2", state(replwire.Data, 4, 5)) // another one is under way
		}}
		left, err := RebalanceOf(t.Context(), m, w.policies())
		if err != nil || left.Left != (Left{1, 1, 9, 0}) {
			t.Errorf("left is %+v, %v, want the one that was missing both times", left, err)
		}
	})
}

// The cluster is done when the device is that takes longest; a device that takes nothing leaves it
// open, unless it waits for next to nothing.
func TestETA(t *testing.T) {
	seconds := func(n float64) *float64 { return &n }
	for what, tt := range map[string]struct {
		left   map[string]Left
		speeds map[string]Speed
		want   *float64
	}{
		"nothing left":        {nil, nil, seconds(0)},
		"the slowest":         {map[string]Left{"a": {1, 10, 1000, 0}, "b": {1, 10, 1000, 0}}, map[string]Speed{"a": {1000, 10}, "b": {100, 1}}, seconds(10)},
		"large ones are done": {map[string]Left{"a": {1, 10, 0, 0}}, map[string]Speed{"a": {4096, 0}}, seconds(10)},
		"one takes nothing":   {map[string]Left{"a": {1, 10, 1000, 0}, "b": {1, 10, 1000, 0}}, map[string]Speed{"a": {1000, 10}}, nil},
		"a crumb":             {map[string]Left{"a": {1, 1000, 100000, 0}, "b": {1, 1, 10, 0}}, map[string]Speed{"a": {1000, 10}}, seconds(100)},
		"nobody moves":        {map[string]Left{"a": {1, 10, 1000, 0}}, nil, nil},
		"handoffs alone":      {map[string]Left{"a": {0, 0, 0, 3}}, nil, seconds(0)},
	} {
		r := &Rebalance{}
		for device, l := range tt.left {
			r.Devices = append(r.Devices, DeviceLeft{Device: device, Left: l})
			r.add(l)
		}
		got := r.At(tt.speeds)
		if (got.ETASeconds == nil) != (tt.want == nil) || got.ETASeconds != nil && *got.ETASeconds != *tt.want {
			t.Errorf("%s: done in %v, want %v", what, got.ETASeconds, tt.want)
		}
	}
}

// A device that could not be asked at the first look, and can at the second, is taken for one that waits for nothing.
func TestBackAtTheSecondLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		young, old := state(replwire.Data, 0, 7), state(replwire.Data, 2, 9)
		w.put("d0", young) // on its way; there at the second look
		primaries := w.ring.AppendPrimaries(nil, w.ring.Partition(old.Hash))
		for _, d := range primaries[1:] {
			w.put(d.Name, old)
		}
		lacks := primaries[0].Name // lacks old for good
		w.out[lacks] = true
		m := &moving{world: w, then: func() {
			for _, d := range w.ring.AppendPrimaries(nil, w.ring.Partition(young.Hash)) {
				w.put(d.Name, young)
			}
			w.out[lacks] = false
		}}
		left, err := RebalanceOf(t.Context(), m, w.policies())
		if err != nil || left.Done() {
			t.Errorf("%s lacks an object, and was unknown at first: %+v, %v, done %v", lacks, left, err, left.Done())
		}
	})
}
