package builder

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// none stands for no device.
const none = 1<<32 - 1

// errStuck says that the algorithm is at fault: an assignment that meets all quotas
// always exists.
var errStuck = errors.New("rebalance found no way to meet its quotas")

// Options are what a Rebalance depends on beside the builder.
type Options struct {
	Seed uint64
	// Now is the time by which min_part_hours are counted, and which is noted for
	// what moves. Zero is the time of day. It is kept in whole seconds.
	Now time.Time
}

// Result is what a Rebalance did.
type Result struct {
	Assigned int   // replicas of partitions that have a device and had none before
	Moved    int   // replicas of partitions that have another device than before
	Removed  []int // ids of the devices that are gone

	// Waiting is how many replicas have yet to move, and may not now because of
	// another of their partition: one that moved now, or less than min_part_hours ago.
	Waiting int
	// Locked is how many of those wait for min_part_hours.
	Locked int
}

// Changed reports whether anything is as it was not before.
func (r *Result) Changed() bool { return r.Assigned+r.Moved+len(r.Removed) > 0 }

// Rebalance assigns what has no device, drains what was removed or has no weight,
// and evens out the rest, as far as one step may. It is done when nothing waits. On
// an error, which wraps ErrTooFew, nothing is changed.
func (b *Builder) Rebalance(o Options) (Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	a, err := b.best(o)
	if err != nil {
		return Result{}, err
	}
	result := a.settle(b)
	reshaped := len(b.rows) != b.rowCount || b.rows != nil && len(b.rows[b.rowCount-1]) != b.last
	b.rows = a.rows
	for id, m := range b.devices {
		if m != nil && m.Removed {
			b.devices[id] = nil
			result.Removed = append(result.Removed, id)
		}
	}
	if result.Changed() || reshaped {
		b.version++
		b.note(a.changed, o.Now)
	}
	return result, nil
}

// smallRing is up to how many partition-replicas several assignments are tried and
// the one that moves least is taken, where there are too many devices to shorten it.
// What chance costs is in proportion to the root of the size: it counts where trying
// again costs nothing.
const smallRing = 1 << 18

// best returns the best of some assignments, or of small rings the best there is.
func (b *Builder) best(o Options) (best *assignment, err error) {
	if b.shortenable() {
		a, err := b.assign(o, 0)
		if err != nil {
			return nil, err
		}
		return a, a.shorten(b)
	}
	least := 0
	for try := range uint64(max(1, min(16, smallRing/b.total()))) {
		a, err := b.assign(o, try)
		if err != nil {
			return nil, err
		}
		if moves := a.moves(b); best == nil || moves < least {
			best, least = a, moves
		}
		if b.rows == nil || least == 0 {
			break
		}
	}
	return best, nil
}

// moves counts the replicas that are to have another device than they have.
func (a *assignment) moves(b *Builder) (n int) {
	for p := range a.partitions {
		wants := a.wants(b, p)
		for r := range wants {
			if !slices.Contains(wants, b.at(r, p)) {
				n++
			}
		}
	}
	return n
}

// wants is where the replicas of a partition should be.
func (a *assignment) wants(b *Builder, p int) []uint32 {
	n := a.replicas
	if p >= b.last {
		n--
	}
	return a.to[p*a.replicas : p*a.replicas+n]
}

// note writes down which partitions have moved, and forgets what no min_part_hours
// can ask for any more.
func (b *Builder) note(changed []bool, now time.Time) {
	stamp := uint32(min(max(now.Unix(), 1), math.MaxUint32))
	oldest := int64(stamp) - 3600*MaxMinPartHours
	kept := false
	moved := make([]uint32, b.Partitions())
	for p := range moved {
		switch {
		case changed[p]:
			moved[p] = stamp
		case b.moved != nil && int64(b.moved[p]) > oldest:
			moved[p] = b.moved[p]
		}
		kept = kept || moved[p] != 0
	}
	b.moved = nil
	if kept {
		b.moved = moved
	}
}

// locked reports whether a partition moved less than min_part_hours ago, or, by the
// clock, will have.
func (b *Builder) locked(p int, now time.Time) bool {
	return b.moved != nil && b.moved[p] != 0 && b.minPartHours > 0 &&
		now.Unix() < int64(b.moved[p])+3600*int64(b.minPartHours)
}

// assignment is one Rebalance at work. A slot is one replica of one partition:
// slot = partition*replicas + replica.
type assignment struct {
	tree
	partitions int
	replicas   int      // slots of each partition, that of a short last row included
	from       []uint32 // by slot, the device it may stay on, or none
	to         []uint32 // by slot, the device it gets
	rng        *rand.Rand

	required float64    // the overload that would spread everything
	lowest   [kinds]int // by kind, how many replicas of every partition are spoken for by tiers

	fixed   []bool  // by partition: only what has no device may be assigned
	locked  []bool  // by partition: because of min_part_hours
	shrunk  []bool  // by partition: it loses a replica, since there are to be fewer
	leaving []uint8 // by partition, the slots that have no device, or leave theirs

	rows    [][]uint32 // the result
	changed []bool     // by partition: it has moved
}

// plan prepares the tiers with their targets and quotas.
func (b *Builder) plan() (*assignment, error) {
	a := &assignment{tree: newTree(b.devices), partitions: b.Partitions(), replicas: b.rowCount}
	if n := a.root.devices; n < b.rowCount {
		return nil, fmt.Errorf("%w: %v replicas need %d devices with weight, there are %d", ErrTooFew, b.Replicas(), b.rowCount, n)
	}
	for r, row := range b.rows {
		if r >= b.rowCount {
			break
		}
		for _, id := range row[:min(len(row), b.partitionsOf(r))] {
			if chain := a.chains[id]; chain != nil {
				chain[device].held++
			}
		}
	}
	a.root.hold()
	a.required = a.aim(b.Replicas(), b.overload)
	a.apportion(a.partitions, b.total())
	a.root.spokenFor(&a.lowest)
	return a, nil
}

// total is how many partition-replicas there are.
func (b *Builder) total() int { return (b.rowCount-1)*b.Partitions() + b.last }

// hold sums up what is held from the devices up.
func (t *tier) hold() int {
	for _, c := range t.children {
		t.held += c.hold()
	}
	return t.held
}

// spokenFor adds up by kind how many replicas of every partition tiers are to have.
func (t *tier) spokenFor(sum *[kinds]int) {
	low, _ := around(t.target)
	sum[t.kind] += low
	for _, c := range t.children {
		c.spokenFor(sum)
	}
}

// assign works out where everything should be, by quotas, and near to where it is.
func (b *Builder) assign(o Options, try uint64) (*assignment, error) {
	a, err := b.plan()
	if err != nil {
		return nil, err
	}
	a.rng = rand.New(rand.NewPCG(o.Seed, try<<48|uint64(b.partPower)<<32|uint64(b.rowCount)))
	a.start(b, o.Now)
	all := make([]int32, 0, b.total())
	for p := range a.partitions {
		for r := range a.replicas {
			if p < b.partitionsOf(r) {
				all = append(all, int32(p*a.replicas+r))
			}
		}
	}
	if err := a.place(a.root, all); err != nil {
		return nil, err
	}
	return a, nil
}

// start takes over what the rows have on devices with weight, and which partitions
// may move.
func (a *assignment) start(b *Builder, now time.Time) {
	a.from = make([]uint32, a.partitions*a.replicas)
	a.to = make([]uint32, len(a.from))
	a.fixed = make([]bool, a.partitions)
	a.locked = make([]bool, a.partitions)
	a.shrunk = make([]bool, a.partitions)
	a.leaving = make([]uint8, a.partitions)
	for p := range a.partitions {
		a.locked[p] = b.locked(p, now)
		a.shrunk[p] = b.shrinks(p)
		a.fixed[p] = a.locked[p] || a.shrunk[p]
		for r := range a.replicas {
			slot := p*a.replicas + r
			a.from[slot] = none
			if p >= b.partitionsOf(r) {
				continue
			}
			id := b.at(r, p)
			if id != none && a.chains[id] != nil {
				a.from[slot] = id
				continue
			}
			a.leave(int32(slot))
			if b.homeless(id) {
				a.fixed[p] = true
			}
		}
	}
}

// at is the device of a replica, none where it has none.
func (b *Builder) at(row, p int) uint32 {
	if row < len(b.rows) && p < len(b.rows[row]) {
		return b.rows[row][p]
	}
	return none
}

// shrinks reports whether a partition has more replicas than it is to have.
func (b *Builder) shrinks(p int) bool {
	for r, row := range b.rows {
		if p < len(row) && (r >= b.rowCount || p >= b.partitionsOf(r)) {
			return true
		}
	}
	return false
}

// homeless reports whether what is on a device has to be assigned at once.
func (b *Builder) homeless(id uint32) bool { return id == none || b.devices[id].Removed }

func (a *assignment) leave(slot int32) {
	if n := &a.leaving[slot/int32(a.replicas)]; *n < math.MaxUint8 {
		*n++
	}
}

// place gives every one of the slots, which are sorted, a device within t.
func (a *assignment) place(t *tier, slots []int32) error {
	if t.kind == device {
		for _, slot := range slots {
			a.to[slot] = uint32(t.id)
		}
		return nil
	}
	shares := [][]int32{slots}
	if len(t.children) > 1 {
		var err error
		if shares, err = a.divide(t, slots); err != nil {
			return err
		}
	}
	for i, c := range t.children {
		if err := a.place(c, shares[i]); err != nil {
			return err
		}
		shares[i] = nil // the memory is wanted further down
	}
	return nil
}

// release takes a slot off its device, and off the tiers below t that it is in.
func (a *assignment) release(t *tier, slot int32) {
	for _, c := range a.chains[a.from[slot]][t.kind+1:] {
		c.held--
	}
	a.from[slot] = none
	a.leave(slot)
}

// spare says by how much the tiers below t that a slot is in hold more than they
// should, the least of them. Where it is above 0, taking the slot away is a step
// towards the quotas everywhere, and nothing need come back in its stead.
func (a *assignment) spare(t *tier, slot int32) int {
	chain := a.chains[a.from[slot]]
	least := chain[device].held - chain[device].quota
	for _, c := range chain[t.kind+1 : device] {
		least = min(least, c.held-c.quota)
	}
	return least
}
