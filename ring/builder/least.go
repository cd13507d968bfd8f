package builder

// leastMoves is a lower bound of the replicas that have to get another device, or
// their first, before all is as it should be: what devices have to gain, or what
// partitions have to change, if that is more.
func (b *Builder) leastMoves(a *assignment) int {
	gains := 0
	a.root.each(func(d *tier) { gains += max(0, d.quota-d.held) })
	changes := 0
	for p := range b.Partitions() {
		changes += b.leastChanges(a, p)
	}
	return max(gains, changes)
}

// leastChanges is how many replicas of one partition have to get another device:
// those that have none which may keep them, and those that are too many in a tier; or
// those that tiers have too few of.
func (b *Builder) leastChanges(a *assignment, p int) int {
	missing, excess, lack := 0, 0, 0
	for kind := region; kind < kinds; kind++ {
		missing = 0
		var here [8]*tier
		tiers := here[:0]
		for r := range b.rowCount {
			if p >= b.partitionsOf(r) {
				continue
			}
			if id := b.at(r, p); id != none && a.chains[id] != nil {
				tiers = append(tiers, a.chains[id][kind])
			} else {
				missing++
			}
		}
		over, met := 0, 0
		for i, t := range tiers {
			same := 1
			for _, other := range tiers[:i] {
				if other == t {
					same++
				}
			}
			low, high := around(t.target)
			if same > high {
				over++
			}
			if same <= low {
				met++
			}
		}
		excess = max(excess, over)
		lack = max(lack, a.lowest[kind]-met)
	}
	return max(missing+excess, lack)
}
