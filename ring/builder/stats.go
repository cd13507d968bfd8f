package builder

import (
	"math"
	"slices"

	"martlet/ring"
)

// MaxBalance stands for a balance without bound: of a device that has partitions and
// wants none.
const MaxBalance = 999.99

// DeviceStats is how a device stands.
type DeviceStats struct {
	ring.Device
	Removed bool // it goes with the next Rebalance

	Held    int     // partition-replicas it has
	Target  int     // partition-replicas it is to have, by weights, spread and overload
	Wish    float64 // partition-replicas that its weight alone asks for
	Balance float64 // per cent that Held is above Wish, or, if negative, below
}

// Stats is how a builder stands.
type Stats struct {
	Devices []DeviceStats // by rising id
	// Balance is the greatest distance of a device from its wish, in per cent.
	Balance float64
	// Dispersion is the part of all replicas, in per cent, that share a region, zone,
	// node or device with more of their partition than there would be if replicas were
	// spread as evenly as can be, whatever the weights. It is what is lost beyond the
	// inevitable with one such domain; 0 is best.
	Dispersion float64
	// RequiredOverload is the overload that brings the targets to the best dispersion.
	RequiredOverload float64
}

// Stats tells how the builder stands: what each device has and is to have. Before
// the first Rebalance nobody has anything. The error wraps ErrTooFew.
func (b *Builder) Stats() (Stats, error) {
	a, err := b.plan()
	if err != nil {
		return Stats{}, err
	}
	held := make([]int, len(b.devices))
	total := 0
	for _, row := range b.rows {
		for _, id := range row {
			held[id]++
			total++
		}
	}
	s := Stats{RequiredOverload: a.required, Dispersion: b.dispersion()}
	ideal := a.ideal(b.total())
	for id, m := range b.devices {
		if m == nil {
			continue
		}
		d := DeviceStats{Device: m.Device, Removed: m.Removed, Held: held[id], Wish: m.wants() * ideal}
		if chain := a.chains[id]; chain != nil {
			d.Target = chain[device].quota
		}
		switch {
		case d.Wish > 0:
			d.Balance = 100 * (float64(d.Held)/d.Wish - 1)
		case d.Held > 0:
			d.Balance = MaxBalance
		}
		s.Balance = max(s.Balance, math.Abs(d.Balance))
		s.Devices = append(s.Devices, d)
	}
	return s, nil
}

// Domain is a failure domain, and how many partitions have how many replicas in it.
type Domain struct {
	Kind       string // region, zone, node or device
	Region     int
	Zone       int    // from kind zone on
	IP         string // from kind node on
	Device     int    // of kind device: the id
	Allowed    int    // replicas of a partition if they were spread evenly
	Partitions []int  // by number of replicas of a partition in it, from 0 to Replicas rounded up
}

// kindNames are the names of the kinds of tiers.
var kindNames = [kinds]string{"cluster", "region", "zone", "node", "device"}

// dispersal counts replicas by the tiers of all devices, those without weight too.
type dispersal struct {
	rank    [kinds]map[[4]any]int // by kind, a number for each tier
	chains  [][kinds]int          // by device id
	allowed [kinds][]int          // by kind and number
	names   [kinds][]Domain
}

func key(kind int, d *ring.Device) [4]any {
	k := [4]any{d.Region, 0, "", 0}
	if kind >= zone {
		k[1] = d.Zone
	}
	if kind >= node {
		k[2] = d.IP
	}
	if kind == device {
		k[3] = d.ID
	}
	return k
}

func (b *Builder) newDispersal() *dispersal {
	d := &dispersal{chains: make([][kinds]int, len(b.devices))}
	allowed := map[[4]any]int{}
	t := newTree(b.devices)
	t.root.allow(b.Replicas(), func(t *tier, n int) {
		allowed[key(t.kind, &b.devices[t.id].Device)] = n
	})
	for id, m := range b.devices {
		if m == nil {
			continue
		}
		for kind := region; kind < kinds; kind++ {
			if d.rank[kind] == nil {
				d.rank[kind] = map[[4]any]int{}
			}
			k := key(kind, &m.Device)
			n, ok := d.rank[kind][k]
			if !ok {
				n = len(d.rank[kind])
				d.rank[kind][k] = n
				d.allowed[kind] = append(d.allowed[kind], allowed[k])
				d.names[kind] = append(d.names[kind], Domain{
					Kind: kindNames[kind], Region: m.Region, Zone: k[1].(int), IP: k[2].(string), Device: k[3].(int), Allowed: allowed[k],
				})
			}
			d.chains[id][kind] = n
		}
	}
	return d
}

// allow tells of every tier how many replicas of a partition it has if they are
// spread evenly: at every tier the parent's share, divided and rounded up.
func (t *tier) allow(share float64, tell func(*tier, int)) {
	for _, c := range t.children {
		n := math.Ceil(share/float64(len(t.children)) - exact)
		if c.kind == device {
			n = min(n, 1)
		}
		tell(c, int(n))
		c.allow(n, tell)
	}
}

// count calls f for each partition with its number of replicas in each tier that has
// any: kind and number of the tier, and the count.
func (b *Builder) count(d *dispersal, f func(kind, tier, replicas int)) {
	if b.rows == nil {
		return
	}
	tiers := make([]int, 0, len(b.rows))
	for p := range b.Partitions() {
		for kind := region; kind < kinds; kind++ {
			tiers = tiers[:0]
			for _, row := range b.rows {
				if p < len(row) {
					tiers = append(tiers, d.chains[row[p]][kind])
				}
			}
			slices.Sort(tiers)
			for i := 0; i < len(tiers); {
				n := i
				for n < len(tiers) && tiers[n] == tiers[i] {
					n++
				}
				f(kind, tiers[i], n-i)
				i = n
			}
		}
		f(cluster, 0, 0)
	}
}

func (b *Builder) dispersion() float64 {
	d := b.newDispersal()
	total := 0
	for _, row := range b.rows {
		total += len(row)
	}
	if total == 0 {
		return 0
	}
	atRisk := 0
	var excess [kinds]int
	b.count(d, func(kind, tier, replicas int) {
		if kind == cluster { // the end of a partition
			atRisk += slices.Max(excess[:])
			excess = [kinds]int{}
			return
		}
		excess[kind] += max(0, replicas-d.allowed[kind][tier])
	})
	return 100 * float64(atRisk) / float64(total)
}

// Dispersion tells of every region, zone, node and device how many partitions have
// how many replicas in it, widest first.
func (b *Builder) Dispersion() []Domain {
	d := b.newDispersal()
	for kind := region; kind < kinds; kind++ {
		for i := range d.names[kind] {
			d.names[kind][i].Partitions = make([]int, len(b.rows)+1)
			d.names[kind][i].Partitions[0] = b.Partitions()
		}
	}
	b.count(d, func(kind, tier, replicas int) {
		if kind != cluster {
			d.names[kind][tier].Partitions[0]--
			d.names[kind][tier].Partitions[replicas]++
		}
	})
	return slices.Concat(d.names[region:]...)
}
