package builder

// even moves slots from children above their quota to children below it: straight
// where one partition allows it, first slots that move anyway, then any; and last
// along chains of children, a slot from each to the next.
func (d *division) even() error {
	if d.evenStraight(true) || d.evenStraight(false) {
		return nil
	}
	for c, t := range d.tier.children {
		for d.load[c] > t.quota {
			if !d.push(int32(c)) {
				return errStuck
			}
		}
	}
	return nil
}

// evenStraight is true when all is even.
func (d *division) evenStraight(moving bool) bool {
	over := 0
	for c, t := range d.tier.children {
		over += max(0, d.load[c]-t.quota)
	}
	for at := 0; at < len(d.slots) && over > 0; at++ {
		c := d.child[at]
		if d.load[c] <= d.tier.children[c].quota || moving && d.from[d.slots[at]] != none || !d.canGive(at) {
			continue
		}
		for to, t := range d.tier.children {
			if d.load[to] < t.quota && d.canTake(at, to) {
				d.free(at)
				d.give(at, to)
				over--
				break
			}
		}
	}
	return over == 0
}

// canGive says whether the child of a slot has more of its partition than it must.
func (d *division) canGive(at int) bool {
	c := d.child[at]
	return d.has(d.group[at], c) > d.low[c]
}

// canTake says whether a child may have one more of a slot's partition.
func (d *division) canTake(at, child int) bool {
	return d.has(d.group[at], int32(child)) < d.high[child]
}

// push moves one slot out of a child, one out of the child that takes it, and so on
// until a child below its quota takes one: the shortest such chain, found breadth
// first. It is false if there is none.
func (d *division) push(from int32) bool {
	via := make([]int, len(d.low)) // by child, the position of the slot that reaches it
	for c := range via {
		via[c] = -1
	}
	queue := []int32{from}
	for len(queue) > 0 {
		c := queue[0]
		queue = queue[1:]
		for at := range d.slots {
			if d.child[at] != c || !d.canGive(at) {
				continue
			}
			for to, t := range d.tier.children {
				if int32(to) == from || via[to] >= 0 || !d.canTake(at, to) {
					continue
				}
				via[to] = at
				if d.load[to] < t.quota {
					d.follow(via, from, int32(to))
					return true
				}
				queue = append(queue, int32(to))
			}
		}
	}
	return false
}

// follow moves the slots of a chain, from its end to its beginning.
func (d *division) follow(via []int, from, to int32) {
	for to != from {
		at := via[to]
		before := d.child[at]
		d.free(at)
		d.give(at, int(to))
		to = before
	}
}
