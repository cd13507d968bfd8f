package builder

import (
	"cmp"
	"math"
	"slices"
)

// The kinds of tier, widest first.
const (
	cluster = iota
	region
	zone
	node
	device
	kinds
)

// tier is a failure domain: the cluster, a region in it, a zone in that, down to a
// device. Only devices with weight are in the tree.
type tier struct {
	kind     int
	children []*tier
	index    int // among its parent's children
	id       int // of a device
	weight   float64
	width    [kinds]int // how many tiers of a kind it spans; 1 for its own

	want  float64 // how many replicas it should have, exactly
	quota int     // want, rounded up or down
	held  int     // how many replicas are on it and may stay
}

// tree is the tiers over the devices with weight.
type tree struct {
	root   *tier
	chains []*[kinds]*tier // by device id, the tiers it is in; nil without weight
}

func newTree(members []*member) tree {
	t := tree{root: &tier{kind: cluster}, chains: make([]*[kinds]*tier, len(members))}
	var sorted []*member
	for _, m := range members {
		if m.wants() > 0 {
			sorted = append(sorted, m)
		}
	}
	slices.SortFunc(sorted, func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone),
			cmp.Compare(a.IP, b.IP), cmp.Compare(a.ID, b.ID))
	})
	chain := [kinds]*tier{t.root}
	for i, m := range sorted {
		same := 0 // the tiers it shares with the one before
		if i > 0 {
			same = shared(sorted[i-1], m)
		}
		for kind := same + 1; kind < kinds; kind++ {
			parent := chain[kind-1]
			chain[kind] = &tier{kind: kind, index: len(parent.children), id: m.ID}
			parent.children = append(parent.children, chain[kind])
		}
		own := chain
		t.chains[m.ID] = &own
	}
	t.root.sum(func(id int) float64 { return members[id].Weight })
	return t
}

// shared is the narrowest kind of tier that two devices have in common.
func shared(a, b *member) int {
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

// sum fills in weights and widths from the devices up.
func (t *tier) sum(weight func(id int) float64) {
	t.width[t.kind] = 1
	if t.kind == device {
		t.weight = weight(t.id)
		return
	}
	for _, c := range t.children {
		c.sum(weight)
		t.weight += c.weight
		for kind := t.kind + 1; kind < kinds; kind++ {
			t.width[kind] += c.width[kind]
		}
	}
}

// share works out, from the top down, how many replicas each tier should have.
//
// Replicas go to the children by weight, within bounds. Of one partition, each child
// takes one before any takes a second; then each takes as many as it has zones before
// any takes more than that, and so on by nodes and devices. Within those bounds the
// replicas of a partition are on as many regions, zones, nodes and devices as can be.
func (t *tier) share(partitions int) {
	if t.kind == device {
		return
	}
	low, high := t.bounds(partitions)
	wants := fill(t.want, t.children, low, high)
	for i, c := range t.children {
		c.want = wants[i]
	}
	t.round(high)
	for _, c := range t.children {
		c.share(partitions)
	}
}

// bounds are the fewest and the most replicas of each child.
func (t *tier) bounds(partitions int) (low, high []float64) {
	low = make([]float64, len(t.children))
	high = make([]float64, len(t.children))
	for kind := t.kind + 1; kind < kinds; kind++ {
		var sum float64
		for i, c := range t.children {
			high[i] = float64(c.width[kind] * partitions)
			sum += high[i]
		}
		if t.want <= sum {
			return low, high
		}
		low, high = high, low
	}
	for i := range high { // fewer devices than replicas
		high[i] = math.Inf(1)
	}
	return low, high
}

// fill gives every child its share of n by weight, but no less than low and no more
// than high.
func fill(n float64, children []*tier, low, high []float64) []float64 {
	given := make([]float64, len(children))
	level := func(perWeight float64) (sum float64) {
		for i, c := range children {
			given[i] = min(max(float64(perWeight*c.weight), low[i]), high[i])
			sum += given[i]
		}
		return sum
	}
	var below, above float64 // bounds of the replicas per weight
	for i, c := range children {
		above = max(above, min(high[i], n)/c.weight)
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
			weight += c.weight
		} else {
			rest -= given[i]
		}
	}
	for i, c := range children {
		if low[i] < given[i] && given[i] < high[i] {
			given[i] = min(max(rest*(c.weight/weight), low[i]), high[i])
		}
	}
	return given
}

// round makes quotas of the children's wants that add up to the parent's. A child
// that holds more than the lower number already is rounded up first, then those with
// the largest remainder: so that rounding alone moves nothing.
func (t *tier) round(high []float64) {
	const exact = 1e-6 // less than this from a whole number is float noise
	type part struct {
		*tier
		remainder float64
		holds     bool
	}
	parts := make([]part, len(t.children))
	left := t.quota
	for i, c := range t.children {
		c.quota = int(math.Floor(c.want + exact))
		left -= c.quota
		remainder := max(c.want-float64(c.quota), 0)
		if remainder < exact {
			remainder = 0
		}
		parts[i] = part{c, remainder, remainder > 0 && c.held > c.quota}
	}
	slices.SortStableFunc(parts, func(a, b part) int {
		if a.holds != b.holds {
			if a.holds {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.remainder, a.remainder)
	})
	for i := len(parts) - 1; i >= 0 && left < 0; i-- { // noise added up
		if parts[i].quota > 0 {
			parts[i].quota--
			left++
		}
	}
	for left > 0 {
		before := left
		for _, p := range parts {
			if left > 0 && float64(p.quota) < high[p.index] {
				p.quota++
				left--
			}
		}
		if left == before {
			return // no room; cannot be while the bounds hold the parent's quota
		}
	}
}
