package builder

import (
	"math"
	"slices"

	"martlet/ring"
)

// exact is how far from a whole number a target is taken for one: float noise.
const exact = 1e-9

// aim works out what every tier of the tree is to have, of that many replicas of
// each partition, for which there are devices enough.
func (t *tree) aim(replicas, overload float64) (required float64) {
	t.weigh(replicas)
	t.root.allow(replicas)
	t.root.scatter(replicas, replicas)
	required = t.requiredOverload()
	part := 1.0 // of the way from weighted to spread
	if required > overload {
		part = overload / required
	}
	t.root.mix(part)
	return required
}

// weigh gives each device replicas by its weight, but no more than one, and each
// tier what its devices have.
func (t *tree) weigh(replicas float64) {
	var all []*tier
	t.root.each(func(d *tier) { all = append(all, d) })
	slices.SortStableFunc(all, func(a, b *tier) int { return compare(b.weight, a.weight) })
	left, weight := replicas, t.root.weight
	for _, d := range all { // the heaviest first: once one is below 1, all that follow are
		d.weighted = min(1, left*(d.weight/weight))
		if d.weighted == 1 {
			left--
			weight -= d.weight
			continue
		}
		// With one factor for all of the rest, equal weights have equal shares.
		d.weighted = d.weight * (left / weight)
	}
	t.root.sumUp()
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (t *tier) sumUp() float64 {
	if t.kind == device {
		return t.weighted
	}
	t.weighted = 0
	for _, c := range t.children {
		t.weighted += c.sumUp()
	}
	return t.weighted
}

// scatter gives n replicas to the children so that they are spread: as evenly as the
// whole numbers around even shares, and the numbers of devices, let them; within
// that by weight. The even share of a tier, told here, is that of its parent divided
// by the number of children, whatever their sizes.
func (t *tier) scatter(n, even float64) {
	t.spread = n
	if t.kind == device {
		return
	}
	even /= float64(len(t.children))
	low := make([]float64, len(t.children))
	high := make([]float64, len(t.children))
	var least, most float64
	for i, c := range t.children {
		size := float64(c.devices)
		low[i] = min(math.Floor(even+exact), size)
		high[i] = min(math.Ceil(even-exact), size)
		least += low[i]
		most += high[i]
	}
	switch {
	case most < n-exact: // too few devices in some: the others take more
		for i, c := range t.children {
			low[i], high[i] = high[i], float64(c.devices)
		}
	case least > n+exact: // a sibling of the parent had too few devices for less
		clear(low)
	}
	for i, share := range fill(n, t.children, low, high) {
		t.children[i].scatter(share, even)
	}
}

// fill gives every child its share of n by weight, but no less than low and no more
// than high.
func fill(n float64, children []*tier, low, high []float64) []float64 {
	given := make([]float64, len(children))
	level := func(perWeight float64) (sum float64) {
		for i, c := range children {
			given[i] = min(max(float64(perWeight*c.weighted), low[i]), high[i])
			sum += given[i]
		}
		return sum
	}
	var below, above float64 // bounds of the replicas per weight
	for i, c := range children {
		above = max(above, min(high[i], n)/c.weighted)
	}
	for range 200 {
		middle := below + (above-below)/2
		if middle <= below || middle >= above {
			break
		}
		if level(middle) < n {
			below = middle
		} else {
			above = middle
		}
	}
	level(above)
	// What lies between its bounds shares exactly what the others leave.
	var weight float64
	rest := n
	for i, c := range children {
		if low[i] < given[i] && given[i] < high[i] {
			weight += c.weighted
		} else {
			rest -= given[i]
		}
	}
	for i, c := range children {
		if low[i] < given[i] && given[i] < high[i] {
			given[i] = min(max(rest*(c.weighted/weight), low[i]), high[i])
		}
	}
	return given
}

// requiredOverload is by which part of its weight's share the device that spreading
// asks most of would be above it.
func (t *tree) requiredOverload() (required float64) {
	t.root.each(func(d *tier) {
		required = max(required, (d.spread-d.weighted)/d.weighted)
	})
	if required < exact {
		return 0
	}
	return required
}

func (t *tier) mix(part float64) {
	t.target = t.weighted + part*(t.spread-t.weighted)
	for _, c := range t.children {
		c.mix(part)
	}
}

// shared is the narrowest kind of tier that two different devices have in common.
func shared(a, b *ring.Device) int {
	switch {
	case a.Region != b.Region:
		return cluster
	case a.Zone != b.Zone:
		return region
	case a.IP != b.IP:
		return zone
	}
	return node
}

// allow works out how many replicas of a partition each tier has if they are spread
// evenly whatever the weights: the parent's share, divided and rounded up.
func (t *tier) allow(share float64) {
	for _, c := range t.children {
		n := math.Ceil(share/float64(len(t.children)) - exact)
		if c.kind == device {
			n = min(n, 1)
		}
		c.even = int(n)
		c.allow(n)
	}
}
