package ring

import (
	"crypto/md5"
	"encoding/binary"
	"iter"
	"strconv"
)

// The kinds of failure domain, widest first.
const (
	byRegion = iota
	byZone
	byNode
	byDevice
	kinds
)

// tiers numbers the failure domains of the devices, so that a walk can tick them
// off in a bitmap. Only domains that hold partitions are counted: a walk over
// partitions never meets the others.
type tiers struct {
	of    [][kinds]uint32 // by device id: the number of its region, zone, node and itself
	count [kinds]int      // how many numbers of each kind there are
}

func makeTiers(devices []*Device, assigned []bool) tiers {
	type zone struct{ region, zone int }
	type node struct {
		zone
		ip string
	}
	t := tiers{of: make([][kinds]uint32, len(devices))}
	regions, zones, nodes := map[int]uint32{}, map[zone]uint32{}, map[node]uint32{}
	for id, d := range devices {
		if d == nil || !assigned[id] {
			continue
		}
		z := zone{d.Region, d.Zone}
		t.of[id] = [kinds]uint32{
			number(regions, d.Region),
			number(zones, z),
			number(nodes, node{z, d.IP}),
			uint32(t.count[byDevice]),
		}
		t.count[byDevice]++
	}
	t.count[byRegion], t.count[byZone], t.count[byNode] = len(regions), len(zones), len(nodes)
	return t
}

func number[K comparable](seen map[K]uint32, key K) uint32 {
	n, ok := seen[key]
	if !ok {
		n = uint32(len(seen))
		seen[key] = n
	}
	return n
}

// Handoffs yields every device that holds partitions and is no primary of p, in the
// order in which they stand in for the primaries: first one in each region that has
// none yet, then in each zone, on each node, then all others. The order is fixed for
// a partition and is Swift's, oddities included, since a reader that walks in
// another order than the writer did misses what was handed off. A partition that
// the ring doesn't have yields nothing.
//
// The walk is done as it is ranged over: what it costs grows with how many are taken.
func (r *Ring) Handoffs(p Partition) iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		switch {
		case int64(p) >= int64(r.Partitions()):
		case r.rows.narrow != nil:
			walkAll(r, r.rows.narrow, p, yield)
		default:
			walkAll(r, r.rows.wide, p, yield)
		}
	}
}

func walkAll[ID deviceID](r *Ring, table [][]ID, p Partition, yield func(*Device) bool) {
	w := walk[ID]{ring: r, table: table, start: r.handoffStart(p)}
	for _, row := range table {
		if int(p) < len(row) {
			w.take(uint32(row[p]))
		}
	}
	for kind := range kinds {
		if !w.pass(kind, yield) {
			return
		}
	}
}

// walk is one partition's search for handoffs.
type walk[ID deviceID] struct {
	ring  *Ring
	table [][]ID
	start int // the partition it begins at

	// The devices so far, primaries included. A short walk allocates nothing for them.
	few   [20]uint32
	taken int      // how many of few there are
	more  []uint32 // those that had no room

	bits [16]uint64 // a bitmap that is not large
}

func (w *walk[ID]) take(id uint32) {
	if w.taken < len(w.few) {
		w.few[w.taken] = id
		w.taken++
		return
	}
	if w.more == nil { // a walk that goes on this long may well go to the end
		w.more = make([]uint32, 0, w.ring.tiers.count[byNode])
	}
	w.more = append(w.more, id)
}

// unseen makes the bitmap of the domains of one kind that have a device already,
// and counts those that have none. Only a pass that is come to has one made.
func (w *walk[ID]) unseen(kind int) (seen []uint64, left int) {
	left = w.ring.tiers.count[kind]
	if words := (left + 63) / 64; words <= len(w.bits) {
		seen = w.bits[:words]
		clear(seen)
	} else {
		seen = make([]uint64, words)
	}
	for _, ids := range [2][]uint32{w.few[:w.taken], w.more} {
		for _, id := range ids {
			n := w.ring.tiers.of[id][kind]
			if word, bit := &seen[n/64], uint64(1)<<(n%64); *word&bit == 0 {
				*word |= bit
				left--
			}
		}
	}
	return seen, left
}

// pass yields the devices that are the first of their domain of one kind. It is
// false when the caller wants no more.
func (w *walk[ID]) pass(kind int, yield func(*Device) bool) bool {
	seen, left := w.unseen(kind)
	if left == 0 {
		return true
	}
	r := w.ring
	partitions := r.Partitions()
	// Swift's step and its wrap: where the step divides the way to the end, as a step
	// of 1 does, it goes on from the step and leaves out partition 0.
	step := max(1, partitions/65536)
	again := step - (partitions-w.start)%step
	for _, span := range [2]struct{ from, to int }{{w.start, partitions}, {again, w.start}} {
		for at := span.from; at < span.to; at += step {
			for _, row := range w.table {
				if at >= len(row) {
					continue
				}
				id := uint32(row[at])
				n := r.tiers.of[id][kind]
				word, bit := &seen[n/64], uint64(1)<<(n%64)
				if *word&bit != 0 {
					continue
				}
				*word |= bit
				if kind < byDevice { // no pass follows that would ask
					w.take(id)
				}
				if !yield(r.devices[id]) {
					return false
				}
				if left--; left == 0 {
					return true
				}
			}
		}
	}
	return true
}

// handoffStart is the partition at which the search for p's handoffs begins.
func (r *Ring) handoffStart(p Partition) int {
	var text [10]byte
	sum := md5.Sum(strconv.AppendUint(text[:0], uint64(p), 10))
	return int(binary.BigEndian.Uint32(sum[:4]) >> (32 - r.partPower))
}
