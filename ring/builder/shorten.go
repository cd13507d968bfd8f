package builder

// shortener makes of an assignment one that moves as little as can be, and of those
// one that is well dispersed.
//
// It works on exchanges: a partition that is to be on one device goes to another
// instead, where the tiers of both allow it. A circle of exchanges, each from the
// device that the one before goes to, leaves every device as many partitions as it
// had. If the exchanges of a circle leave more replicas where they are than they take
// away, less has to move. Where there is no such circle, nothing that meets the
// quotas moves less: assignments are flows from partitions through tiers to devices,
// and two of them differ by circles. Of dispersion that can't be said, as what an
// exchange does to it depends on the others of its partition.
type shortener struct {
	*assignment
	b       *Builder
	devices []*tier      // those with weight
	common  []int8       // by pair of devices, the narrowest kind of tier both are in
	best    []exchange   // by pair of devices, what is best of what is known
	known   []int32      // by pair and class, the first of a list in links, or -1
	links   []link       // partitions that could be exchanged when they were put there
	touched []bool       // by partition, whether it was exchanged since best was true
	excess  [][kinds]int // by partition and kind, the replicas in tiers beyond an even spread
}

// link is a part of a list of partitions.
type link struct{ partition, next int32 }

// exchange is of a partition that is to be on another device than it was to be.
type exchange struct {
	cost      cost
	partition int32
}

// cost is what an exchange does, less being better: onTheMove times how many more
// replicas move, and how many more are not dispersed. Both are within -1 and 1.
type cost int32

const (
	onTheMove  cost = 1 << 12 // no circle is that long
	impossible cost = 1 << 30
	classes         = 9 // of cost
)

// class is the number of a cost, the best first.
func (c cost) class() int {
	moves := (c + onTheMove + 1) / onTheMove // from 0 to 2
	return int(3*moves + (c - (moves-1)*onTheMove + 1))
}

// costOf is the inverse.
func costOf(class int) cost {
	return cost(class/3-1)*onTheMove + cost(class%3-1)
}

// shortenable reports whether a ring is small enough to be shortened: what that takes
// goes by replicas times devices, and by pairs of devices times classes.
func (b *Builder) shortenable() bool {
	const most = 1 << 22
	devices := len(b.devices)
	return b.total()*devices <= most && classes*devices*devices <= most
}

// shorten changes where everything should be. An assignment that moves nothing is
// left alone, and so is one that moves the least and leaves no tier with more of a
// partition than an even spread has.
func (a *assignment) shorten(b *Builder) error {
	moves := a.moves(b)
	if moves == 0 {
		return nil
	}
	plan, err := b.plan()
	if err != nil {
		return err
	}
	s := &shortener{
		assignment: a, b: b,
		touched: make([]bool, a.partitions), excess: make([][kinds]int, a.partitions),
	}
	crowds := false
	for p := range a.partitions {
		s.weigh(p)
		crowds = crowds || s.excess[p] != [kinds]int{}
	}
	if !crowds && moves == b.leastMoves(plan) {
		return nil
	}
	a.root.each(func(d *tier) { s.devices = append(s.devices, d) })
	pairs := len(s.devices) * len(s.devices)
	s.common = make([]int8, pairs)
	s.best = make([]exchange, pairs)
	s.known = make([]int32, pairs*classes)
	for i := range s.known {
		s.known[i] = -1
	}
	for i, from := range s.devices {
		for j, to := range s.devices {
			s.common[s.pair(i, j)] = s.shared(from, to)
			s.best[s.pair(i, j)].cost = impossible
		}
	}
	// What may not move now is put there first, so that it is taken last.
	for _, fixed := range []bool{true, false} {
		for p := range a.partitions {
			if a.fixed[p] == fixed {
				s.learn(p)
			}
		}
	}
	for {
		better := false
		for _, c := range s.circles() {
			better = s.turn(c) || better
		}
		if !better {
			return nil
		}
		s.refresh()
	}
}

func (s *shortener) pair(from, to int) int { return from*len(s.devices) + to }

func (s *shortener) shared(a, b *tier) int8 {
	kind := device
	for s.chains[a.id][kind] != s.chains[b.id][kind] {
		kind--
	}
	return int8(kind)
}

// has is whether a replica of a partition is on a device.
func (s *shortener) has(p int, d *tier) bool {
	for r := range s.wants(s.b, p) {
		if s.b.at(r, p) == uint32(d.id) {
			return true
		}
	}
	return false
}

// count is how many replicas of a partition should be in each tier of a device.
func (s *shortener) count(p int, d *tier) (n [kinds]int) {
	chain := s.chains[d.id]
	for _, id := range s.wants(s.b, p) {
		for kind, t := range s.chains[id] {
			if t == chain[kind] {
				n[kind]++
			}
		}
	}
	return n
}

// weigh counts what a partition has beyond an even spread.
func (s *shortener) weigh(p int) {
	s.excess[p] = [kinds]int{}
	wants := s.wants(s.b, p)
	for i, id := range wants {
		for kind := region; kind < kinds; kind++ {
			t, n := s.chains[id][kind], 1
			for _, before := range wants[:i] {
				if s.chains[before][kind] == t {
					n++
				}
			}
			if n > t.even {
				s.excess[p][kind]++
			}
		}
	}
}

// end is one of the devices of an exchange, with what it is to the partition.
type end struct {
	bound int8        // the narrowest kind of its tiers that can't change, cluster if all can
	had   cost        // 1 if the partition is on it
	moves [kinds]int8 // by kind, 1 if the tier's change is one of the excess
}

// giver is the end that a partition is taken from, ok if it is there.
func (s *shortener) giver(p int, d *tier) (e end, ok bool) {
	n := s.count(p, d)
	if n[device] == 0 {
		return e, false
	}
	for kind, t := range s.chains[d.id] {
		if kind > cluster && n[kind] <= t.quota/s.partitions {
			e.bound = int8(kind)
		}
		if kind > cluster && n[kind] > t.even {
			e.moves[kind] = 1
		}
	}
	if s.has(p, d) {
		e.had = 1
	}
	return e, true
}

// taker is the end that a partition is given.
func (s *shortener) taker(p int, d *tier) (e end) {
	n := s.count(p, d)
	for kind, t := range s.chains[d.id] {
		if kind > cluster && n[kind] >= (t.quota+s.partitions-1)/s.partitions {
			e.bound = int8(kind)
		}
		if kind > cluster && n[kind] >= t.even {
			e.moves[kind] = 1
		}
	}
	if s.has(p, d) {
		e.had = 1
	}
	return e
}

// between is what an exchange between two ends costs.
func (s *shortener) between(p int, from, to end, common int8) cost {
	if from.bound > common || to.bound > common {
		return impossible
	}
	before, after := 0, 0
	for kind := region; kind < kinds; kind++ {
		n := s.excess[p][kind]
		before = max(before, n)
		if kind > int(common) {
			n += int(to.moves[kind] - from.moves[kind])
		}
		after = max(after, n)
	}
	return (from.had-to.had)*onTheMove + cost(after-before)
}

// cost is what an exchange of a partition would cost.
func (s *shortener) cost(p, i, j int) cost {
	from, ok := s.giver(p, s.devices[i])
	if !ok {
		return impossible
	}
	return s.between(p, from, s.taker(p, s.devices[j]), s.common[s.pair(i, j)])
}

// learn takes in the exchanges of a partition.
func (s *shortener) learn(p int) {
	type place struct {
		device int
		end
	}
	var places [16]place
	givers := places[:0]
	for i, d := range s.devices {
		if e, ok := s.giver(p, d); ok {
			givers = append(givers, place{i, e})
		}
	}
	for j, d := range s.devices {
		to := s.taker(p, d)
		if to.bound == device {
			continue
		}
		for _, from := range givers {
			pair := s.pair(from.device, j)
			c := s.between(p, from.end, to, s.common[pair])
			if c == impossible {
				continue
			}
			first := &s.known[pair*classes+c.class()]
			s.links = append(s.links, link{int32(p), *first})
			*first = int32(len(s.links) - 1)
			if c < s.best[pair].cost {
				s.best[pair] = exchange{c, int32(p)}
			}
		}
	}
}

// refresh brings best up to date after exchanges.
func (s *shortener) refresh() {
	for i := range s.devices {
		for j := range s.devices {
			if e := &s.best[s.pair(i, j)]; e.cost != impossible && s.touched[e.partition] {
				*e = s.find(i, j)
			}
		}
	}
	for p, touched := range s.touched {
		if touched {
			s.touched[p] = false
			s.learn(p)
		}
	}
}

// find is the best exchange of two devices, of what is known. What is true no longer
// is forgotten.
func (s *shortener) find(i, j int) exchange {
	for class := range classes {
		for first := &s.known[s.pair(i, j)*classes+class]; *first >= 0; *first = s.links[*first].next {
			if p := s.links[*first].partition; s.cost(int(p), i, j) == costOf(class) {
				return exchange{costOf(class), p}
			}
		}
	}
	return exchange{cost: impossible}
}

// step is one exchange of a circle: of a partition from one device to another.
type step struct{ partition, from, to int }

// circles finds circles that cost less than nothing and have no device in common,
// none if there are none. It is the way of Bellman and Ford: the lengths of ways are
// made shorter by the last step, until last steps form circles. The steps of a circle
// go from its end to its beginning: where one begins, the next ends.
func (s *shortener) circles() (circles [][]step) {
	n := len(s.devices)
	length := make([]cost, n)
	via := make([]int, n) // by device, where the last step begins
	for i := range via {
		via[i] = -1
	}
	for range n + 1 {
		shorter := false
		for i := range n {
			for j, e := range s.best[i*n : (i+1)*n] {
				if e.cost != impossible && length[i]+e.cost < length[j] {
					length[j], via[j] = length[i]+e.cost, i
					shorter = true
				}
			}
		}
		if !shorter {
			return nil
		}
		seen := make([]int, n) // by device, 1 + where the way to it was followed from
		for start := range n {
			at := start
			for at >= 0 && seen[at] == 0 {
				seen[at] = start + 1
				at = via[at]
			}
			if at >= 0 && seen[at] == start+1 {
				circles = append(circles, s.circle(via, at))
			}
		}
		if len(circles) > 0 {
			return circles
		}
	}
	return nil
}

func (s *shortener) circle(via []int, end int) (circle []step) {
	for at := end; ; {
		circle = append(circle, step{int(s.best[s.pair(via[at], at)].partition), via[at], at})
		if at = via[at]; at == end {
			return circle
		}
	}
}

// turn makes the exchanges of a circle, if that is for the better. Two of one
// partition might not go together, where their ways through the tiers meet. Then the
// circle is left, and with it what might be gained: the tests have never seen one.
func (s *shortener) turn(circle []step) (better bool) {
	var sum cost
	for n, at := range circle {
		c := s.cost(at.partition, at.from, at.to)
		if c == impossible {
			s.undo(circle[:n])
			return false
		}
		sum += c
		s.exchange(at)
	}
	if sum >= 0 {
		s.undo(circle)
		return false
	}
	return true
}

func (s *shortener) exchange(at step) {
	wants := s.wants(s.b, at.partition)
	for r, id := range wants {
		if id == uint32(s.devices[at.from].id) {
			wants[r] = uint32(s.devices[at.to].id)
			break
		}
	}
	s.weigh(at.partition)
	s.touched[at.partition] = true
}

func (s *shortener) undo(steps []step) {
	for n := len(steps) - 1; n >= 0; n-- {
		s.exchange(step{steps[n].partition, steps[n].to, steps[n].from})
	}
}
