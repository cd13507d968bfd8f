// Package forecast says what a change of rings means for disks before anything is
// moved: what each device gives and takes, how full it gets meanwhile, how many
// partitions are short of replicas for a time, and how long it takes.
//
// It is a pure function of two rings and a few numbers. The model:
//
//   - Every replica of a partition is as large as any other, BytesPerPartition.
//   - A device takes what it is given before anybody drops anything, which is the worst
//     case: the fullest that a device gets is what it holds and all it takes.
//   - A device reads what it gives and writes what it takes, both at once, at Rate each;
//     all devices work side by side, and nothing else slows them down. So the slowest
//     is the one with the most to give or to take, and the change takes as long as it.
//     What was on devices that are gone is read from other replicas, if there are any, which costs nothing
//     here: it is spread over many.
//
// In truth a replica is read from whichever node that has one comes to it first in a pass,
// so that some nodes read more than they give, and others less. What clients write meanwhile, the network, and files that are dear for their number and
// not for their size are left out: a measured rate has them in it.
//
// Where one ring has more partitions than the other, a partition of the smaller is that
// many of the larger's at the same devices: what is stored is found by its hash.
package forecast

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"martlet/ring"
)

// Options are what a forecast depends on beside the rings. Zeros are unknown, and
// what needs them is left out.
type Options struct {
	// BytesPerPartition is the size of one replica of a partition of the ring before.
	BytesPerPartition float64
	// Rate is how many bytes in a second a device can take, and how many it can give.
	Rate float64
	// Capacity tells how many bytes fit on a device, 0 where that is not known; nil for
	// not at all.
	Capacity func(*ring.Device) float64
}

// ErrOptions is wrapped by errors about numbers that nothing can be worked out with.
var ErrOptions = errors.New("bad option")

func (o *Options) check() error {
	for name, n := range map[string]float64{"bytes per partition": o.BytesPerPartition, "rate": o.Rate} {
		if !(n >= 0) || math.IsInf(n, 0) {
			return fmt.Errorf("%w: %s is %v", ErrOptions, name, n)
		}
	}
	return nil
}

// What a change is for a device.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed" // what the ring says of it, not only what it holds
	Same    = "same"
)

// Device is what the change means for a device: as it is in the ring after, or, if
// it is gone, as it was before. Partitions are those of the ring that has more.
type Device struct {
	ring.Device
	State string `json:"state"`

	Before int `json:"partitions_before"`
	After  int `json:"partitions_after"`
	Gives  int `json:"gives"` // partitions
	Takes  int `json:"takes"`
	Peak   int `json:"peak"` // the most it may hold on the way

	GivesBytes  float64 `json:"gives_bytes,omitempty"`
	TakesBytes  float64 `json:"takes_bytes,omitempty"`
	PeakBytes   float64 `json:"peak_bytes,omitempty"`
	PeakPercent float64 `json:"peak_percent,omitempty"` // of its capacity
	Seconds     float64 `json:"seconds,omitempty"`

	// Was is the device before, where State is Changed.
	Was *ring.Device `json:"was,omitempty"`
}

// Nobody stands for no device in a Flow.
const Nobody = -1

// Flow is how many partitions' places one device leaves to another. What is copied may
// come from any replica.
type Flow struct {
	From       int `json:"from"` // places in Change.Devices, or Nobody: replicas that had no device
	To         int `json:"to"`   // or Nobody: replicas that are no more
	Partitions int `json:"partitions"`
}

// Change is what it means to go from one ring to another.
type Change struct {
	Partitions int      `json:"partitions"` // of the ring that has more; all are counted in these
	Devices    []Device `json:"devices"`    // by region, zone, address and id

	Moved    int `json:"moved"`    // replicas that have another device
	Assigned int `json:"assigned"` // replicas that had none
	Dropped  int `json:"dropped"`  // replicas that are no more
	// Gone is how many of those moved were on devices that are gone. If they are broken,
	// there is a copy less until another is made.
	Gone int `json:"gone"`
	// Alone is how many of those have no other replica on a device that is still there:
	// if the devices are broken, what was on them is lost.
	Alone int `json:"alone"`
	// Reordered is how many replicas stay on a device, but at another place in the order
	// of replicas. Under erasure coding it would have to hold another fragment.
	Reordered int `json:"reordered"`

	// Moving is by number of replicas that are not yet in place how many partitions have
	// so many for a time. What moves is read from where it was until it has arrived.
	Moving []int `json:"moving"`

	Flows []Flow `json:"flows"` // the largest first

	Bytes   float64 `json:"bytes,omitempty"`   // to be copied
	Seconds float64 `json:"seconds,omitempty"` // until the slowest device is done
	Slowest int     `json:"slowest"`           // place of the device with most to give or take, or Nobody
	Fullest int     `json:"fullest"`           // place of the device that gets fullest, or Nobody
}

// Compare says what it means to go from one ring to another. Without a ring before
// (nil) everything is assigned.
//
// A device is the same in both if it has the same id, address and name; or else the
// same address and name; or else the same id, and holds at least half of what it held:
// it was given another address, while an id that was given to another disk begins anew.
func Compare(before, after *ring.Ring, o Options) (*Change, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	w := &work{before: tableOf(before), after: tableOf(after)}
	power := max(w.before.power, w.after.power)
	w.before.shift, w.after.shift = power-w.before.power, power-w.after.power
	w.change.Partitions = 1 << power
	w.pair()
	w.count()
	w.finish(o)
	return &w.change, nil
}

// table is one of the two rings.
type table struct {
	devices []*ring.Device // by id
	rows    [][]uint32
	power   int
	shift   int   // how much finer partitions are counted
	place   []int // by id, the place in Change.Devices
}

func tableOf(r *ring.Ring) table {
	if r == nil {
		return table{}
	}
	t := table{rows: r.Rows(), power: r.PartPower()}
	for d := range r.Devices() {
		for len(t.devices) <= d.ID {
			t.devices = append(t.devices, nil)
		}
		t.devices[d.ID] = d
	}
	t.place = make([]int, len(t.devices))
	return t
}

// at reports whether a replica of a fine partition is there, and on which id.
func (t *table) at(row, p int) (id uint32, ok bool) {
	p >>= t.shift
	if row >= len(t.rows) || p >= len(t.rows[row]) {
		return 0, false
	}
	return t.rows[row][p], true
}

type work struct {
	before, after table
	change        Change
	flows         map[[2]int]int
}

type disk struct{ addr, name string }

func diskOf(d *ring.Device) disk { return disk{d.Addr(), d.Name} }

// pair finds out which devices of the two rings are one, and gives each a place.
func (w *work) pair() {
	old := make([]*ring.Device, len(w.after.devices)) // by id after, the device before
	used := make([]bool, len(w.before.devices))
	match := func(after, before int) {
		old[after], used[before] = w.before.devices[before], true
	}
	byDisk := map[disk]int{}
	for id, d := range w.before.devices {
		if d != nil {
			byDisk[diskOf(d)] = id
		}
	}
	for id, d := range w.after.devices {
		if d != nil && id < len(w.before.devices) && w.before.devices[id] != nil && diskOf(w.before.devices[id]) == diskOf(d) {
			match(id, id)
		}
	}
	for id, d := range w.after.devices {
		if d == nil || old[id] != nil {
			continue
		}
		if was, ok := byDisk[diskOf(d)]; ok && !used[was] {
			match(id, was)
		}
	}
	held, kept := w.keeps()
	for id, d := range w.after.devices {
		if d != nil && old[id] == nil && id < len(used) && w.before.devices[id] != nil && !used[id] && 2*kept[id] >= held[id] && held[id] > 0 {
			match(id, id)
		}
	}
	w.place(old, used)
}

// keeps counts by id the replicas that an id had before, and those of them that it has
// at the same place.
func (w *work) keeps() (held, kept []int) {
	held, kept = make([]int, len(w.before.devices)), make([]int, len(w.before.devices))
	for r := range w.before.rows {
		for p := range w.change.Partitions {
			if id, ok := w.before.at(r, p); ok {
				held[id]++
				if now, ok := w.after.at(r, p); ok && now == id {
					kept[id]++
				}
			}
		}
	}
	return held, kept
}

// place lists the devices and notes their places by id.
func (w *work) place(old []*ring.Device, used []bool) {
	type entry struct {
		Device
		before, after int
	}
	var all []entry
	for id, d := range w.after.devices {
		if d == nil {
			continue
		}
		e := entry{Device{Device: *d, State: Added}, Nobody, id}
		if was := old[id]; was != nil {
			e.before, e.State = was.ID, Same
			if *was != *d {
				e.State, e.Was = Changed, was
			}
		}
		all = append(all, e)
	}
	for id, d := range w.before.devices {
		if d != nil && !used[id] {
			all = append(all, entry{Device{Device: *d, State: Removed}, id, Nobody})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.IP, b.IP), cmp.Compare(a.ID, b.ID))
	})
	for i, e := range all {
		w.change.Devices = append(w.change.Devices, e.Device)
		if e.before != Nobody {
			w.before.place[e.before] = i
		}
		if e.after != Nobody {
			w.after.place[e.after] = i
		}
	}
}

// held is one replica: the row it is in, and the place of its device.
type held struct{ row, device int }

// of appends the devices of a partition, each once.
func (t *table) of(dst []held, p int) []held {
	for r := range t.rows {
		id, ok := t.at(r, p)
		if !ok {
			continue
		}
		h := held{r, t.place[id]}
		if !slices.ContainsFunc(dst, func(other held) bool { return other.device == h.device }) {
			dst = append(dst, h)
		}
	}
	return dst
}

// count goes through all partitions.
func (w *work) count() {
	w.flows = map[[2]int]int{}
	var before, after []held
	for p := range w.change.Partitions {
		before, after = w.before.of(before[:0], p), w.after.of(after[:0], p)
		for _, h := range before {
			w.change.Devices[h.device].Before++
		}
		for _, h := range after {
			w.change.Devices[h.device].After++
		}
		if !slices.Equal(before, after) {
			w.partition(before, after)
		} else {
			w.moving(0)
		}
	}
}

// partition counts what a partition's change of devices is. What leaves a row goes with
// what comes into it, and what is left over with one another.
func (w *work) partition(before, after []held) {
	var gone, come []held
	for _, h := range before {
		i := slices.IndexFunc(after, func(other held) bool { return other.device == h.device })
		switch {
		case i < 0:
			gone = append(gone, h)
		case after[i].row != h.row:
			w.change.Reordered++
		}
	}
	for _, h := range after {
		if !slices.ContainsFunc(before, func(other held) bool { return other.device == h.device }) {
			come = append(come, h)
		}
	}
	w.moving(len(come))
	alone := !slices.ContainsFunc(before, func(h held) bool { return w.change.Devices[h.device].State != Removed })
	for _, h := range gone {
		w.change.Devices[h.device].Gives++
	}
	for i := 0; i < len(come); i++ {
		if j := slices.IndexFunc(gone, func(h held) bool { return h.row == come[i].row }); j >= 0 {
			w.move(gone[j].device, come[i].device, alone)
			gone, come = slices.Delete(gone, j, j+1), slices.Delete(come, i, i+1)
			i--
		}
	}
	for i := range max(len(gone), len(come)) {
		from, to := Nobody, Nobody
		if i < len(gone) {
			from = gone[i].device
		}
		if i < len(come) {
			to = come[i].device
		}
		w.move(from, to, alone)
	}
}

func (w *work) moving(replicas int) {
	for len(w.change.Moving) <= replicas {
		w.change.Moving = append(w.change.Moving, 0)
	}
	w.change.Moving[replicas]++
}

// move counts a replica that moves; alone is that none of its partition is on a device
// that stays.
func (w *work) move(from, to int, alone bool) {
	switch {
	case from == Nobody:
		w.change.Assigned++
	case to == Nobody:
		w.change.Dropped++
	default:
		w.change.Moved++
		if w.change.Devices[from].State == Removed {
			w.change.Gone++
			if alone {
				w.change.Alone++
			}
		}
	}
	if to != Nobody {
		w.change.Devices[to].Takes++
	}
	w.flows[[2]int{from, to}]++
}

// finish works out what follows from the counts.
func (w *work) finish(o Options) {
	c := &w.change
	for ends, n := range w.flows {
		c.Flows = append(c.Flows, Flow{ends[0], ends[1], n})
	}
	sortFlows(c.Flows)
	size := o.BytesPerPartition / float64(int64(1)<<w.before.shift)
	if len(w.before.rows) == 0 {
		size = o.BytesPerPartition
	}
	c.Bytes = float64(c.Moved+c.Assigned) * size
	c.Slowest, c.Fullest = Nobody, Nobody
	for i := range c.Devices {
		d := &c.Devices[i]
		d.Peak = d.Before + d.Takes
		d.GivesBytes, d.TakesBytes, d.PeakBytes = float64(d.Gives)*size, float64(d.Takes)*size, float64(d.Peak)*size
		if o.Capacity != nil {
			if room := o.Capacity(&d.Device); room > 0 {
				d.PeakPercent = 100 * d.PeakBytes / room
			}
		}
		if o.Rate > 0 {
			d.Seconds = float64(d.busy()) * size / o.Rate
		}
		if d.State == Removed {
			continue
		}
		if d.busy() > 0 && (c.Slowest == Nobody || d.busy() > c.Devices[c.Slowest].busy()) {
			c.Slowest = i
		}
		if d.Peak > 0 && (c.Fullest == Nobody || fuller(d, &c.Devices[c.Fullest])) {
			c.Fullest = i
		}
	}
	if c.Slowest != Nobody {
		c.Seconds = c.Devices[c.Slowest].Seconds
	}
}

// busy is how many partitions go through the busier direction of a device that is there.
func (d *Device) busy() int {
	if d.State == Removed {
		return 0
	}
	return max(d.Gives, d.Takes)
}

func fuller(a, b *Device) bool {
	if a.PeakPercent != b.PeakPercent {
		return a.PeakPercent > b.PeakPercent
	}
	return a.Peak > b.Peak
}

func sortFlows(flows []Flow) {
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(b.Partitions, a.Partitions), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}

// Differs reports whether the rings differ in what they say of devices or partitions.
func (c *Change) Differs() bool {
	return c.Moved+c.Assigned+c.Dropped+c.Reordered > 0 ||
		slices.ContainsFunc(c.Devices, func(d Device) bool { return d.State != Same })
}

// Short is how many partitions are for a time short of replicas in their places.
func (c *Change) Short() int { return c.Partitions - c.Moving[0] }

// Group sums up the flows between groups of devices, such as nodes: name says which
// one a device is in. In what is returned, From and To are places in names, which
// lists the groups in the order of the devices; flows within a group are left out.
func (c *Change) Group(name func(*Device) string) (names []string, flows []Flow) {
	place := map[string]int{}
	of := make([]int, len(c.Devices))
	for i := range c.Devices {
		n := name(&c.Devices[i])
		if _, ok := place[n]; !ok {
			place[n] = len(names)
			names = append(names, n)
		}
		of[i] = place[n]
	}
	group := func(i int) int {
		if i == Nobody {
			return Nobody
		}
		return of[i]
	}
	sums := map[[2]int]int{}
	for _, f := range c.Flows {
		if from, to := group(f.From), group(f.To); from != to {
			sums[[2]int{from, to}] += f.Partitions
		}
	}
	for ends, n := range sums {
		flows = append(flows, Flow{ends[0], ends[1], n})
	}
	sortFlows(flows)
	return names, flows
}
