package builder

import (
	"cmp"
	"math"
	"slices"
)

// apportion turns targets into quotas: whole numbers of partition-replicas that add
// up to total at every tier, each its target rounded up or down; or, where that is
// a whole number of replicas of each partition, exactly that.
//
// Whoever holds the higher number already has it, so that rounding alone moves
// nothing; but for two things. Where regions, zones or nodes may get more than an
// even spread allows, the lightest are rounded up, as the reference does it: that
// costs the least spread. And no device ends further from what its weight asks for
// than the worst one does if all are rounded like that; when nothing is held yet, the
// worst is as near as it can be.
func (t *tree) apportion(partitions, total int) {
	t.root.quota = total
	t.root.split(partitions)
	ideal := t.ideal(total)
	worst := 0.0
	if t.root.held > 0 {
		t.root.each(func(d *tier) { worst = max(worst, d.off(d.quota, ideal)) })
	} else {
		worst = t.bestBalance(ideal, partitions)
	}
	t.eachNode(func(n *tier) { n.roundDevices(ideal, partitions, worst) })
}

// around returns the whole numbers below and above a number, which are one where it
// is a whole number itself.
func around(x float64) (low, high int) {
	slack := exact * max(1, x)
	return int(math.Floor(x + slack)), int(math.Ceil(x - slack))
}

// split gives the children their quotas, and theirs: the lightest are rounded up.
func (t *tier) split(partitions int) {
	if t.kind == device {
		return
	}
	left := t.quota
	crowds := false
	for _, c := range t.children {
		low, high := around(c.target * float64(partitions))
		least, most := around(c.target)
		c.low, c.high = max(low, least*partitions), min(high, most*partitions)
		c.quota = c.low
		left -= c.quota
		crowds = crowds || c.kind == device || c.high > c.even*partitions
	}
	order := holders(partitions)
	if crowds {
		order = lightest
	}
	sorted := slices.SortedStableFunc(slices.Values(t.children), order)
	left = share(sorted, left)
	for i := 0; left != 0 && i < len(sorted); i++ { // float noise has added up
		step := min(max(left, -sorted[i].quota), partitions*sorted[i].devices-sorted[i].quota)
		sorted[i].quota += step
		left -= step
	}
	for _, c := range t.children {
		c.split(partitions)
	}
}

// lightest orders tiers by what they are to have; equal ones by what they hold.
func lightest(a, b *tier) int {
	if math.Abs(a.target-b.target) > exact {
		return cmp.Compare(a.target, b.target)
	}
	return cmp.Compare(b.held-b.quota, a.held-a.quota)
}

// holders puts those first that hold more than their quota, then those furthest
// below what they are to have.
func holders(partitions int) func(a, b *tier) int {
	lack := func(t *tier) float64 { return t.target*float64(partitions) - float64(t.quota) }
	return func(a, b *tier) int {
		return cmp.Or(
			cmp.Compare(min(1, max(0, b.held-b.quota)), min(1, max(0, a.held-a.quota))),
			cmp.Compare(lack(b), lack(a)),
		)
	}
}

// share gives what is left to tiers in their order, one each, as far as they may have
// more. It returns what it could not give.
func share(order []*tier, left int) int {
	for _, c := range order {
		if left > 0 && c.quota < c.high {
			c.quota++
			left--
		}
	}
	return left
}

// ideal is how many partition-replicas one unit of weight asks for.
func (t *tree) ideal(total int) float64 { return float64(total) / t.root.weight }

// off is how far a number of partition-replicas is from what a device's weight asks
// for, as a part of that.
func (t *tier) off(n int, ideal float64) float64 {
	return math.Abs(float64(n)/(t.weight*ideal) - 1)
}

func (t *tree) eachNode(f func(*tier)) {
	for _, r := range t.root.children {
		for _, z := range r.children {
			for _, n := range z.children {
				f(n)
			}
		}
	}
}

// bestBalance is the least that the worst device can be off.
func (t *tree) bestBalance(ideal float64, partitions int) (worst float64) {
	t.eachNode(func(n *tier) {
		var candidates []float64
		for _, d := range n.children {
			candidates = append(candidates, d.off(d.low, ideal), d.off(d.high, ideal))
		}
		slices.Sort(candidates)
		at, _ := slices.BinarySearchFunc(candidates, true, func(off float64, _ bool) int {
			if least, most := n.bounds(ideal, off); least <= n.quota && n.quota <= most {
				return 0
			}
			return -1
		})
		worst = max(worst, candidates[min(at, len(candidates)-1)])
	})
	return worst
}

// bounds are the least and the most that the devices of a node can have if none is
// off by more than worst. Where one can't but be, it is as near as it can be.
func (t *tier) bounds(ideal, worst float64) (least, most int) {
	for _, d := range t.children {
		low, high, ok := d.within(ideal, worst)
		if !ok {
			return 1, 0
		}
		least += low
		most += high
	}
	return least, most
}

// within are the bounds of a device's quota if it is off by no more than worst.
func (t *tier) within(ideal, worst float64) (low, high int, ok bool) {
	low, high = t.low, t.high
	if low < high && t.off(low, ideal) > worst {
		low++
	}
	if t.low < high && t.off(t.high, ideal) > worst {
		high--
	}
	return low, high, low <= high
}

// roundDevices rounds the quotas of a node's devices: within worst, holders first.
func (t *tier) roundDevices(ideal float64, partitions int, worst float64) {
	if least, most := t.bounds(ideal, worst); t.quota < least || t.quota > most {
		return // as they were split
	}
	left := t.quota
	for _, d := range t.children {
		d.low, d.high, _ = d.within(ideal, worst)
		d.quota = d.low
		left -= d.low
	}
	share(slices.SortedStableFunc(slices.Values(t.children), holders(partitions)), left)
}
