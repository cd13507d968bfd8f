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
	// LeastMoves is a lower bound of how many replicas have yet to get another device,
	// or their first.
	LeastMoves int
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
	s := Stats{RequiredOverload: a.required, Dispersion: b.dispersion(), LeastMoves: b.leastMoves(a)}
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
	rank    map[tierKey]int // a number for each tier, by kind from 0 on
	chains  [][kinds]int    // by device id
	allowed [kinds][]int    // by kind and number
	names   [kinds][]Domain
}

// tierKey is what tells tiers of one kind apart. Where it is not of that kind or a
// wider one a part is left out.
type tierKey struct {
	kind, region, zone int
	ip                 string
	device             int
}

func key(kind int, d *ring.Device) tierKey {
	k := tierKey{kind: kind, region: d.Region}
	if kind >= zone {
		k.zone = d.Zone
	}
	if kind >= node {
		k.ip = d.IP
	}
	if kind == device {
		k.device = d.ID
	}
	return k
}

func (b *Builder) newDispersal() *dispersal {
	d := &dispersal{rank: map[tierKey]int{}, chains: make([][kinds]int, len(b.devices))}
	allowed := map[tierKey]int{}
	t := newTree(b.devices)
	t.root.allow(b.Replicas())
	for id, chain := range t.chains {
		if chain != nil {
			for kind := region; kind < kinds; kind++ {
				allowed[key(kind, &b.devices[id].Device)] = chain[kind].even
			}
		}
	}
	for id, m := range b.devices {
		if m == nil {
			continue
		}
		for kind := region; kind < kinds; kind++ {
			k := key(kind, &m.Device)
			n, ok := d.rank[k]
			if !ok {
				n = len(d.names[kind])
				d.rank[k] = n
				d.allowed[kind] = append(d.allowed[kind], allowed[k])
				d.names[kind] = append(d.names[kind], Domain{
					Kind: kindNames[kind], Region: m.Region, Zone: k.zone, IP: k.ip, Device: k.device, Allowed: allowed[k],
				})
			}
			d.chains[id][kind] = n
		}
	}
	return d
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
