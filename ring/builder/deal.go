package builder

// hand is what one group draws in a deal.
type hand struct {
	order  []int32  // the children, now and then reshuffled
	chance []uint64 // by child, how much it wants a slot of this group
	picked []int32
}

// deal gives the free slots to children below their quota, group by group in random
// order, at random: a child's chance is what it still lacks over the groups that
// could still give it something, and 1 if it needs all of those. Chance, not the
// greatest lack, so that every device shares partitions with many others and all of
// them help when it is lost. Slots that none such can take go where they may.
func (d *division) deal() {
	var pending []int32
	blocked := make([]int, len(d.low)) // by child, pending groups that it has high of
	for g := range d.groups() {
		if d.tally(g) > 0 {
			pending = append(pending, int32(g))
			d.eachFull(g, func(c int32) { blocked[c]++ })
		}
		d.clear(g)
	}
	for c, high := range d.high {
		if high == 0 {
			blocked[c] = len(pending)
		}
	}
	d.rng.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })

	h := &hand{chance: make([]uint64, len(d.low))}
	for i := range d.low {
		h.order = append(h.order, int32(i))
	}
	for i, g := range pending {
		if i%16 == 0 {
			d.rng.Shuffle(len(h.order), func(i, j int) { h.order[i], h.order[j] = h.order[j], h.order[i] })
		}
		free := d.tally(int(g))
		d.draw(h, free, len(pending)-i, blocked)
		d.eachFull(int(g), func(c int32) { blocked[c]-- })
		d.clear(int(g))
		d.hand(int(g), h.picked)
	}
}

// eachFull calls f for each child that can take no more of the group, whose count
// is tallied. Children with low = high = 0 are not told of.
func (d *division) eachFull(group int, f func(child int32)) {
	children := d.of(group)
	for i, c := range children {
		if c < 0 || d.count[c] < d.high[c] {
			continue
		}
		first := true
		for _, before := range children[:i] {
			first = first && before != c
		}
		if first {
			f(c)
		}
	}
}

// draw picks up to free different children that lack slots and can take one of the
// group whose count is tallied. Left is how many groups are pending, this included.
func (d *division) draw(h *hand, free, left int, blocked []int) {
	h.picked = h.picked[:0]
	var total uint64
	able := 0
	for c, t := range d.tier.children {
		h.chance[c] = 0
		lack := t.quota - d.load[c]
		if lack <= 0 || d.count[c] >= d.high[c] {
			continue
		}
		if groups := left - blocked[c]; lack < groups {
			h.chance[c] = max(1, uint64(lack)<<32/uint64(groups))
			total += h.chance[c]
			able++
		} else if len(h.picked) < free {
			h.picked = append(h.picked, int32(c))
		}
	}
	// Whoever has more than an even share of the chances is picked; then the rest
	// at equal steps along the chances, from a random start.
	for len(h.picked) < free && able > 0 {
		step := total / uint64(free-len(h.picked))
		sure := false
		for _, c := range h.order {
			if h.chance[c] > 0 && h.chance[c] >= step && len(h.picked) < free {
				h.picked = append(h.picked, c)
				total -= h.chance[c]
				h.chance[c] = 0
				able--
				sure = true
			}
		}
		if sure {
			continue
		}
		at := d.rng.Uint64N(step)
		for _, c := range h.order {
			if len(h.picked) == free {
				return
			}
			if at < h.chance[c] {
				h.picked = append(h.picked, c)
				at += step
			}
			at -= h.chance[c]
		}
		return
	}
}

// hand gives the picked children the free slots of a group, in random order; slots
// beyond those go to any child that may take one.
func (d *division) hand(group int, picked []int32) {
	d.rng.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	for at := int(d.starts[group]); at < int(d.starts[group+1]); at++ {
		if d.child[at] >= 0 {
			continue
		}
		if len(picked) > 0 {
			d.give(at, int(picked[0]))
			picked = picked[1:]
		}
	}
	for at := int(d.starts[group]); at < int(d.starts[group+1]); at++ {
		if d.child[at] < 0 {
			d.give(at, d.anywhere(group))
		}
	}
}

// anywhere is a child that may take one more of a group, the furthest from its quota.
func (d *division) anywhere(group int) int {
	best, most := 0, 0
	found := false
	for c, t := range d.tier.children {
		if d.has(int32(group), int32(c)) >= d.high[c] {
			continue
		}
		if lack := t.quota - d.load[c]; !found || lack > most {
			best, most, found = c, lack, true
		}
	}
	return best
}
