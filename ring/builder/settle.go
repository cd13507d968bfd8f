package builder

import "martlet/ring"

// settler makes of where everything should be the rows of one step.
//
// What a partition loses and what it gets are matched so that as much as can be
// stays within a node, else a zone, else a region. Then in each region, zone and
// node either only losses are left unmatched or only gains, and any part of the
// moves alone leaves it no more replicas of the partition than before or in the end.
// So moves can be put off one by one: those beyond one of a partition, and all of
// one that may not move now.
type settler struct {
	*assignment
	b      *Builder
	load   []int // by device, as the step goes on
	result Result

	got   []uint32 // of the partition in hand: devices it should have and has not
	moves []move
}

// move is a replica that should have another device.
type move struct {
	row  int
	from uint32 // or none
	to   uint32
}

// settle makes the rows of one step, and says what it has done.
func (a *assignment) settle(b *Builder) Result {
	s := &settler{assignment: a, b: b, load: make([]int, len(b.devices))}
	a.rows = make([][]uint32, a.replicas)
	for r := range a.rows {
		a.rows[r] = make([]uint32, b.partitionsOf(r))
		for p := range a.rows[r] {
			id := b.at(r, p)
			a.rows[r][p] = id
			if id != none {
				s.load[id]++
			}
		}
	}
	a.changed = make([]bool, a.partitions)
	for p := range a.partitions {
		s.partition(p)
	}
	return s.result
}

// partition makes the moves of one partition that may be made now.
func (s *settler) partition(p int) {
	// One that loses a replica has one less while another moves, as if two moved.
	forced := s.shrunk[p]
	s.changed[p] = s.shrunk[p]
	s.match(p)
	if len(s.moves) == 0 {
		return
	}
	best := -1
	for i, m := range s.moves {
		if s.b.homeless(m.from) {
			forced = true
			s.apply(p, m)
		} else if best < 0 || s.gain(p, m) > s.gain(p, s.moves[best]) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	for i, m := range s.moves {
		switch {
		case s.b.homeless(m.from):
		case i == best && !forced && !s.locked[p]:
			s.apply(p, m)
		default:
			s.result.Waiting++
			if s.locked[p] {
				s.result.Locked++
			}
		}
	}
}

// gain is how much a move is worth: first that it takes the partition away from a
// tier that has too many of it, then how far it goes towards the quotas.
func (s *settler) gain(p int, m move) int {
	gain := s.excess(m.from) - s.excess(m.to)
	if s.crowded(p, m.from) {
		gain += s.partitions * s.replicas
	}
	return gain
}

// crowded reports whether a tier that a device is in has more replicas of a
// partition than it may.
func (s *settler) crowded(p int, id uint32) bool {
	chain := s.chains[id]
	if chain == nil {
		return false
	}
	for kind := region; kind < kinds; kind++ {
		count := 0
		for r := range s.replicas {
			if p < len(s.rows[r]) && s.rows[r][p] != none {
				if other := s.chains[s.rows[r][p]]; other != nil && other[kind] == chain[kind] {
					count++
				}
			}
		}
		if count > (chain[kind].quota+s.partitions-1)/s.partitions {
			return true
		}
	}
	return false
}

// excess is how much more a device has than it should.
func (s *settler) excess(id uint32) int {
	if s.chains[id] == nil {
		return s.load[id]
	}
	return s.load[id] - s.chains[id][device].quota
}

func (s *settler) apply(p int, m move) {
	s.rows[m.row][p] = m.to
	s.load[m.to]++
	if m.from == none {
		s.result.Assigned++
	} else {
		s.load[m.from]--
		s.result.Moved++
	}
	if s.b.rows != nil {
		s.changed[p] = true
	}
}

// match pairs what a partition loses with what it gets.
func (s *settler) match(p int) {
	s.got, s.moves = s.got[:0], s.moves[:0]
	wants := s.to[p*s.replicas : (p+1)*s.replicas]
	for r := range s.replicas {
		if p < len(s.rows[r]) && !s.had(p, wants[r]) {
			s.got = append(s.got, wants[r])
		}
	}
	if len(s.got) == 0 {
		return
	}
	for r := range s.replicas {
		if p >= len(s.rows[r]) {
			continue
		}
		if id := s.rows[r][p]; id == none || !s.stays(p, r, id, wants) {
			s.moves = append(s.moves, move{r, id, none})
		}
	}
	// What may be put off comes first, so that nothing that can't be takes the place
	// that it would have left for it.
	for _, homeless := range []bool{false, true} {
		for kind := node; kind >= cluster; kind-- {
			for i := range s.moves {
				if m := &s.moves[i]; m.to == none && m.from != none && s.b.homeless(m.from) == homeless {
					m.to = s.take(kind, m.from)
				}
			}
		}
	}
	for i := range s.moves {
		if m := &s.moves[i]; m.to == none {
			m.to, s.got = s.got[0], s.got[1:]
		}
	}
}

// had reports whether a partition has a device.
func (s *settler) had(p int, id uint32) bool {
	for r := range s.replicas {
		if p < len(s.rows[r]) && s.rows[r][p] == id {
			return true
		}
	}
	return false
}

// stays reports whether the device of a replica is one that the partition should
// have, and no earlier replica has it.
func (s *settler) stays(p, r int, id uint32, wants []uint32) bool {
	for before := range r {
		if s.rows[before][p] == id {
			return false
		}
	}
	for i, w := range wants {
		if w == id && p < len(s.rows[i]) {
			return true
		}
	}
	return false
}

// take takes out of what is got a device that has a kind of tier in common with
// another, none if there is none.
func (s *settler) take(kind int, from uint32) uint32 {
	for i, id := range s.got {
		if shared(s.dev(from), s.dev(id)) >= kind {
			s.got = append(s.got[:i], s.got[i+1:]...)
			return id
		}
	}
	return none
}

func (s *settler) dev(id uint32) *ring.Device { return &s.b.devices[id].Device }
