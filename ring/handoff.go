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
	size  [kinds]int      // how many numbers of each kind are in use
	count [kinds]int      // how many of those hold partitions
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
			uint32(id),
		}
		t.count[byDevice]++
	}
	t.count[byRegion], t.count[byZone], t.count[byNode] = len(regions), len(zones), len(nodes)
	t.size = t.count
	t.size[byDevice] = len(devices)
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
// The walk is done as it is ranged over; the first few cost little.
func (r *Ring) Handoffs(p Partition) iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		if int64(p) >= int64(r.Partitions()) {
			return
		}
		w := newWalk(r)
		for _, row := range r.rows {
			if int(p) < len(row) {
				w.tick(row[p])
			}
		}
		for kind := range kinds {
			if !w.pass(kind, p, yield) {
				return
			}
		}
	}
}

// walk is one partition's search for handoffs.
type walk struct {
	ring *Ring
	seen [kinds][]uint64 // bitmaps of the domains that have a device already
	left [kinds]int      // how many domains have none
}

func newWalk(r *Ring) *walk {
	w := &walk{ring: r, left: r.tiers.count}
	words := 0
	for _, size := range r.tiers.size {
		words += (size + 63) / 64
	}
	bits := make([]uint64, words)
	for kind, size := range r.tiers.size {
		n := (size + 63) / 64
		w.seen[kind], bits = bits[:n:n], bits[n:]
	}
	return w
}

// tick marks the device and the domains it is in as seen.
func (w *walk) tick(id uint32) {
	for kind, n := range w.ring.tiers.of[id] {
		word, bit := &w.seen[kind][n/64], uint64(1)<<(n%64)
		if *word&bit == 0 {
			*word |= bit
			w.left[kind]--
		}
	}
}

// pass yields the devices that are the first of their domain of one kind. It is
// false when the caller wants no more.
func (w *walk) pass(kind int, p Partition, yield func(*Device) bool) bool {
	if w.left[kind] == 0 {
		return true
	}
	r, seen := w.ring, w.seen[kind]
	partitions := r.Partitions()
	// Swift's start and step, and its wrap: where the step divides the way to the
	// end, as a step of 1 does, it goes on from the step and leaves out partition 0.
	start := r.handoffStart(p)
	step := max(1, partitions/65536)
	again := step - (partitions-start)%step
	for _, span := range [2]struct{ from, to int }{{start, partitions}, {again, start}} {
		for at := span.from; at < span.to; at += step {
			for _, row := range r.rows {
				if at >= len(row) {
					continue
				}
				id := row[at]
				n := r.tiers.of[id][kind]
				if seen[n/64]>>(n%64)&1 != 0 {
					continue
				}
				w.tick(id)
				if !yield(r.devices[id]) {
					return false
				}
				if w.left[kind] == 0 {
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
