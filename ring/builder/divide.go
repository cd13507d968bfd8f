package builder

import "slices"

// division shares out the slots of one tier among its children.
//
// Of every partition a child takes low replicas or high, which are the same or one
// apart, so that the children's quotas come out. It is a table of partitions by
// children with given sums of rows and columns and cells that are 0 or 1; such a
// table exists, and what is here looks for one near what is there.
type division struct {
	*assignment
	tier   *tier
	slots  []int32 // sorted, so the slots of a partition stand together
	group  []int32 // by position in slots, the number of its partition's group
	starts []int32 // by group, its first position; one more at the end

	child []int32 // by position in slots, the child it is given to, or -1
	low   []int   // by child, the fewest replicas of one partition
	high  []int   // by child, the most
	load  []int   // by child, how many slots it is given
	count []int   // by child, scratch: how many of the group in hand it is given
}

// divide returns the slots that each child of t gets, sorted.
func (a *assignment) divide(t *tier, slots []int32) ([][]int32, error) {
	n := len(t.children)
	d := &division{
		assignment: a,
		tier:       t,
		slots:      slots,
		group:      make([]int32, len(slots)),
		child:      make([]int32, len(slots)),
		low:        make([]int, n),
		high:       make([]int, n),
		load:       make([]int, n),
		count:      make([]int, n),
	}
	for i, c := range t.children {
		d.low[i] = c.quota / a.partitions
		d.high[i] = (c.quota + a.partitions - 1) / a.partitions
	}
	last := int32(-1)
	for at, slot := range slots {
		if p := slot / int32(a.replicas); p != last {
			last = p
			d.starts = append(d.starts, int32(at))
		}
		d.group[at] = int32(len(d.starts) - 1)
	}
	d.starts = append(d.starts, int32(len(slots)))

	d.keep()
	d.relieve()
	d.fillLow()
	d.deal()
	if err := d.even(); err != nil {
		return nil, err
	}
	return d.shares(), nil
}

func (d *division) groups() int { return len(d.starts) - 1 }

// of is the part of child that belongs to the group of a partition.
func (d *division) of(group int) []int32 {
	return d.child[d.starts[group]:d.starts[group+1]]
}

// tally counts a group's slots by child. Its inverse, clear, makes count all zero
// again; both cost as much as there are replicas.
func (d *division) tally(group int) (free int) {
	for _, c := range d.of(group) {
		if c < 0 {
			free++
		} else {
			d.count[c]++
		}
	}
	return free
}

func (d *division) clear(group int) {
	for _, c := range d.of(group) {
		if c >= 0 {
			d.count[c] = 0
		}
	}
}

// has is how many slots of a group a child is given.
func (d *division) has(group int32, child int32) int {
	n := 0
	for _, c := range d.of(int(group)) {
		if c == child {
			n++
		}
	}
	return n
}

func (d *division) give(at int, child int) {
	d.child[at] = int32(child)
	d.load[child]++
}

// free takes a slot from the child it is given to, and from the device it is on.
func (d *division) free(at int) {
	d.load[d.child[at]]--
	d.child[at] = -1
	if d.from[d.slots[at]] != none {
		d.release(d.tier, d.slots[at])
	}
}

// keep gives each slot to the child that its device is in, but frees those that
// break the spread: more in a child than high, or so few left over that a child
// can't have low.
func (d *division) keep() {
	for at, slot := range d.slots {
		d.child[at] = -1
		if id := d.from[slot]; id != none {
			d.give(at, d.chains[id][d.tier.kind+1].index)
		}
	}
	for g := range d.groups() {
		free := d.tally(g)
		for _, c := range d.of(g) {
			for c >= 0 && d.count[c] > d.high[c] {
				d.freeFrom(g, func(child int32) bool { return child == c })
				d.count[c]--
				free++
			}
		}
		d.keepLow(g, free)
		clear(d.count)
	}
}

// keepLow frees slots of a group, which is tallied, until there are as many free as
// its children still need for low.
func (d *division) keepLow(group, free int) {
	need := 0
	for c, low := range d.low {
		need += max(0, low-d.count[c])
	}
	for ; free < need; free++ {
		c := d.freeFrom(group, func(child int32) bool { return d.count[child] > d.low[child] })
		if c < 0 {
			return
		}
		d.count[c]--
	}
}

// freeFrom frees the slot of a group that can best be spared, among those of the
// children that may give one, and returns its child, or -1 if none may.
func (d *division) freeFrom(group int, may func(child int32) bool) int32 {
	best, most := -1, 0
	for at := d.starts[group]; at < d.starts[group+1]; at++ {
		if c := d.child[at]; c >= 0 && may(c) {
			if spare := d.spare(d.tier, d.slots[at]); best < 0 || spare > most {
				best, most = int(at), spare
			}
		}
	}
	if best < 0 {
		return -1
	}
	c := d.child[best]
	d.free(best)
	return c
}

// The passes of relieve, each of which may free more than the one before.
const (
	movable       = iota // of partitions that may move and lose nothing else, where every tier has too many and none needs it
	spareable            // where every tier has too many, none needs it, and the partition may move
	anySpare             // where every tier has too many
	anyReplica           // all
	relievePasses        // how many there are
)

// relieve frees slots of children that have more than their quota, where another
// child can take them; first where that has a device that lacks them and has not the
// partition yet.
func (d *division) relieve() {
	over := 0
	for c, t := range d.tier.children {
		over += max(0, d.load[c]-t.quota)
	}
	if over == 0 {
		return
	}
	d.tier.unreserve()
	order := d.rng.Perm(len(d.slots))
	for pass := range relievePasses {
		for _, at := range order {
			if over == 0 {
				return
			}
			if d.mayLeave(at, pass) {
				d.free(at)
				over--
			}
		}
	}
}

func (d *division) mayLeave(at, pass int) bool {
	c := d.child[at]
	if c < 0 || d.load[c] <= d.tier.children[c].quota {
		return false
	}
	p := d.slots[at] / int32(d.replicas)
	if pass <= spareable && d.fixed[p] || pass == movable && d.leaving[p] > 0 {
		return false
	}
	if pass <= anySpare && d.spare(d.tier, d.slots[at]) <= 0 || pass <= spareable && d.missed(d.tier, d.slots[at]) {
		return false
	}
	g := int(d.group[at])
	free := d.tally(g)
	defer d.clear(g)
	if d.count[c] <= d.low[c] {
		return false
	}
	// One place for it, and one for each that is free already.
	var takes *tier
	for other, t := range d.tier.children {
		if d.load[other] >= t.quota || d.count[other] >= d.high[other] {
			continue
		}
		if free--; takes == nil && (pass == anyReplica || d.room(t, p)) {
			takes = t
		}
	}
	if free >= 0 || takes == nil {
		return false
	}
	if pass < anyReplica {
		d.reserve(takes, p)
	}
	return true
}

// fillLow gives free slots to children that must have more of their partition.
func (d *division) fillLow() {
	if slices.Max(d.low) == 0 {
		return
	}
	for g := range d.groups() {
		free := d.tally(g)
		at := int(d.starts[g])
		for c := 0; c < len(d.low) && free > 0; c++ {
			for d.count[c] < d.low[c] && free > 0 {
				for d.child[at] >= 0 {
					at++
				}
				d.give(at, c)
				d.count[c]++
				free--
			}
		}
		d.clear(g)
	}
}

// shares splits the slots by child.
func (d *division) shares() [][]int32 {
	shares := make([][]int32, len(d.tier.children))
	for c := range shares {
		shares[c] = make([]int32, 0, d.load[c])
	}
	for at, c := range d.child {
		shares[c] = append(shares[c], d.slots[at])
	}
	return shares
}
