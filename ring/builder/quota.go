package builder

import (
	"cmp"
	"math"
	"slices"
)

// apportion turns targets into quotas: whole numbers of partition-replicas that add
// up to total at every tier. A device's is its target rounded up or down; and a
// tier's is between what its target comes to when it is rounded up or down for each
// partition, so that it can be had.
//
// Of all such roundings it takes one that leaves the device that is worst off, by
// its weight, as near to what the weight asks for as possible; within that, whoever
// holds the higher number already gets it, so that rounding alone moves nothing.
func (t *tree) apportion(partitions, total int) {
	worst := t.bestBalance(partitions, total)
	t.root.interval(t.ideal(total), partitions, worst)
	t.root.quota = total
	t.root.deal(partitions)
}

// ideal is how many partition-replicas one unit of weight asks for.
func (t *tree) ideal(total int) float64 { return float64(total) / t.root.weight }

// off is how far a number of partition-replicas is from what a device's weight asks
// for, as a part of that.
func (t *tier) off(n int, ideal float64) float64 {
	return math.Abs(float64(n)/(t.weight*ideal) - 1)
}

// bestBalance is the least that the worst device can be off.
func (t *tree) bestBalance(partitions, total int) float64 {
	ideal := t.ideal(total)
	var candidates []float64
	t.root.each(func(d *tier) {
		low, high := around(d.target * float64(partitions))
		candidates = append(candidates, d.off(low, ideal), d.off(high, ideal))
	})
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	feasible := func(worst float64) bool {
		t.root.interval(ideal, partitions, worst)
		return t.root.low <= total && total <= t.root.high
	}
	at, _ := slices.BinarySearchFunc(candidates, true, func(worst float64, _ bool) int {
		if feasible(worst) {
			return 0
		}
		return -1
	})
	if at == len(candidates) {
		return math.Inf(1)
	}
	return candidates[at]
}

// around returns the whole numbers below and above a number, which are one where it
// is a whole number itself.
func around(x float64) (low, high int) {
	slack := exact * max(1, x)
	return int(math.Floor(x + slack)), int(math.Ceil(x - slack))
}

// interval works out within what bounds the quotas of a tier and those below it can
// be, if no device is off by more than worst. Where there are none, low is above
// high.
func (t *tier) interval(ideal float64, partitions int, worst float64) {
	if t.kind == device {
		t.low, t.high = around(t.target * float64(partitions))
		if t.low < t.high {
			if t.off(t.low, ideal) > worst {
				t.low++
			}
			if t.off(t.high, ideal) > worst {
				t.high--
			}
		}
		return
	}
	t.low, t.high = 0, 0
	for _, c := range t.children {
		c.interval(ideal, partitions, worst)
		if c.low > c.high {
			t.low, t.high = 1, 0
			return
		}
		t.low += c.low
		t.high += c.high
	}
	if t.kind != cluster {
		low, high := around(t.target)
		t.low = max(t.low, low*partitions)
		t.high = min(t.high, high*partitions)
	}
}

// deal gives the children quotas within their bounds that add up to the tier's.
func (t *tier) deal(partitions int) {
	if t.kind == device {
		return
	}
	type part struct {
		*tier
		want float64
	}
	parts := make([]part, len(t.children))
	left := t.quota
	for i, c := range t.children {
		want := c.target * float64(partitions)
		low, _ := around(want)
		c.quota = min(max(low, c.low), c.high)
		left -= c.quota
		parts[i] = part{c, want}
	}
	// First those that hold more than that already, then the largest remainders.
	slices.SortStableFunc(parts, func(a, b part) int {
		return cmp.Or(
			-compareBool(a.held > a.quota && a.want > float64(a.quota), b.held > b.quota && b.want > float64(b.quota)),
			compare(b.want-float64(b.quota), a.want-float64(a.quota)),
		)
	})
	for changed := true; left > 0 && changed; {
		changed = false
		for _, p := range parts {
			if left > 0 && p.quota < p.high {
				p.quota++
				left--
				changed = true
			}
		}
	}
	for changed := true; left < 0 && changed; {
		changed = false
		for _, p := range slices.Backward(parts) {
			if left < 0 && p.quota > p.low {
				p.quota--
				left++
				changed = true
			}
		}
	}
	for _, c := range t.children {
		c.deal(partitions)
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
