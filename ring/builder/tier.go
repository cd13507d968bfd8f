package builder

import (
	"cmp"
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
//
// What a tier is to have is told in replicas of each partition, on average: 1.5 is
// of half the partitions one and of the others two.
type tier struct {
	kind     int
	children []*tier
	index    int // among its parent's children
	id       int // of a device
	weight   float64
	devices  int // in it

	weighted float64 // what the weights ask for
	spread   float64 // what spreads the replicas
	target   float64 // what it is to have, between the two
	even     int     // the most it would have of one partition if all siblings had the same

	low, high int // the fewest and the most partition-replicas its quota may be
	quota     int // how many partition-replicas it is to have
	held      int // how many are on it and may stay
	coming    int // how many are reserved for it: see room
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
			same = shared(&sorted[i-1].Device, &m.Device)
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

// sum fills in weights and numbers of devices from the devices up.
func (t *tier) sum(weight func(id int) float64) {
	if t.kind == device {
		t.weight, t.devices = weight(t.id), 1
		return
	}
	for _, c := range t.children {
		c.sum(weight)
		t.weight += c.weight
		t.devices += c.devices
	}
}

// each calls f for every device.
func (t *tier) each(f func(*tier)) {
	if t.kind == device {
		f(t)
	}
	for _, c := range t.children {
		c.each(f)
	}
}
