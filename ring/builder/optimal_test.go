package builder

import (
	"container/heap"
	"math"
)

// fewestMoves is exactly how many replicas have to get another device, or their
// first, to get from where b is to where it should be: a flow of least cost, from
// partitions through the tiers they may use to devices with quotas, in which what
// stays where it is costs less. It is far too slow for more than small rings.
func fewestMoves(b *Builder, a *assignment) int {
	f := &flow{}
	source, sink := f.node(), f.node()
	devices := make([]int, len(b.devices))
	a.root.each(func(d *tier) {
		devices[d.id] = f.node()
		f.edge(devices[d.id], sink, d.quota, 0)
	})
	const must = 1 << 20 // what it costs to leave a tier without a replica that it must have
	for p := range b.Partitions() {
		stays := map[uint32]bool{}
		slots := 0
		for r := range b.rowCount {
			if p < b.partitionsOf(r) {
				slots++
				stays[b.at(r, p)] = true
			}
		}
		at := f.node()
		f.edge(source, at, slots, 0)
		var grow func(t *tier, at int)
		grow = func(t *tier, at int) {
			for _, c := range t.children {
				below := f.node()
				low, high := around(c.target)
				f.edge(at, below, low, -must)
				f.edge(at, below, high-low, 0)
				if c.kind < device {
					grow(c, below)
					continue
				}
				cost := 0
				if stays[uint32(c.id)] {
					cost = -1
				}
				f.edge(below, devices[c.id], 1, cost)
			}
		}
		grow(a.root, at)
	}
	total, cost := f.run(source, sink)
	// Every unit passes or misses the same number of musts in any full flow, so the
	// kept ones are what is left of the cost.
	kept := ((-cost)%must + must) % must
	return total - kept
}

type flow struct {
	first []int // by node, its first edge, or -1
	edges []flowEdge
}

type flowEdge struct{ to, room, cost, next int }

func (f *flow) node() int {
	f.first = append(f.first, -1)
	return len(f.first) - 1
}

func (f *flow) edge(from, to, room, cost int) {
	f.edges = append(f.edges, flowEdge{to, room, cost, f.first[from]}, flowEdge{from, 0, -cost, f.first[to]})
	f.first[from], f.first[to] = len(f.edges)-2, len(f.edges)-1
}

// run sends as much as can be, at the least cost: along shortest ways, one after the
// other, with potentials that keep lengths from being negative.
func (f *flow) run(source, sink int) (total, cost int) {
	high := f.distances(source)
	for {
		dist := make([]int, len(f.first))
		via := make([]int, len(f.first))
		for i := range dist {
			dist[i] = math.MaxInt
		}
		dist[source] = 0
		queue := &nearest{{source, 0}}
		for queue.Len() > 0 {
			x := heap.Pop(queue).(near)
			if x.dist > dist[x.node] {
				continue
			}
			for e := f.first[x.node]; e >= 0; e = f.edges[e].next {
				edge := &f.edges[e]
				if edge.room == 0 || high[edge.to] == math.MaxInt {
					continue
				}
				if d := x.dist + edge.cost + high[x.node] - high[edge.to]; d < dist[edge.to] {
					dist[edge.to], via[edge.to] = d, e
					heap.Push(queue, near{edge.to, d})
				}
			}
		}
		if dist[sink] == math.MaxInt {
			return total, cost
		}
		for i, d := range dist {
			if d < math.MaxInt {
				high[i] += d
			}
		}
		most := math.MaxInt
		for at := sink; at != source; at = f.edges[via[at]^1].to {
			most = min(most, f.edges[via[at]].room)
		}
		for at := sink; at != source; at = f.edges[via[at]^1].to {
			f.edges[via[at]].room -= most
			f.edges[via[at]^1].room += most
			cost += most * f.edges[via[at]].cost
		}
		total += most
	}
}

// distances are the lengths of the shortest ways from a node while nothing has been
// sent and there are no circles.
func (f *flow) distances(source int) []int {
	dist := make([]int, len(f.first))
	for i := range dist {
		dist[i] = math.MaxInt
	}
	dist[source] = 0
	queue := []int{source}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for e := f.first[at]; e >= 0; e = f.edges[e].next {
			edge := &f.edges[e]
			if edge.room > 0 && dist[at]+edge.cost < dist[edge.to] {
				dist[edge.to] = dist[at] + edge.cost
				queue = append(queue, edge.to)
			}
		}
	}
	return dist
}

type near struct{ node, dist int }

type nearest []near

func (n nearest) Len() int           { return len(n) }
func (n nearest) Less(i, j int) bool { return n[i].dist < n[j].dist }
func (n nearest) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *nearest) Push(x any)        { *n = append(*n, x.(near)) }
func (n *nearest) Pop() any {
	last := (*n)[len(*n)-1]
	*n = (*n)[:len(*n)-1]
	return last
}
