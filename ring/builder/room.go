package builder

// Looking ahead: a tier that lacks replicas is of no use to a partition if those of
// its devices that lack them have the partition already, or are where there is enough
// of it. What has been found room for is reserved, so that room is found only once.

// unreserve forgets what is reserved below a tier.
func (t *tier) unreserve() {
	for _, c := range t.children {
		c.coming = 0
		c.unreserve()
	}
}

// lacks reports whether a tier has fewer replicas than it should, and may have one
// more of a partition.
func (a *assignment) lacks(t *tier, p int32) bool {
	return t.held+t.coming < t.quota && a.in(t, p) < (t.quota+a.partitions-1)/a.partitions
}

// in is how many replicas of a partition are in a tier and may stay.
func (a *assignment) in(t *tier, p int32) (n int) {
	for _, id := range a.from[int(p)*a.replicas : int(p+1)*a.replicas] {
		if id != none && a.chains[id][t.kind] == t {
			n++
		}
	}
	return n
}

// room reports whether a device in a tier lacks a replica and can have one of a
// partition.
func (a *assignment) room(t *tier, p int32) bool {
	if !a.lacks(t, p) {
		return false
	}
	for _, c := range t.children {
		if a.room(c, p) {
			return true
		}
	}
	return t.kind == device
}

// reserve takes the room that there is.
func (a *assignment) reserve(t *tier, p int32) {
	t.coming++
	for _, c := range t.children {
		if a.room(c, p) {
			a.reserve(c, p)
			return
		}
	}
}

// missed reports whether a tier below t that a slot is in would have fewer replicas
// of its partition than it must without it.
func (a *assignment) missed(t *tier, slot int32) bool {
	for _, c := range a.chains[a.from[slot]][t.kind+1:] {
		if a.in(c, slot/int32(a.replicas)) <= c.quota/a.partitions {
			return true
		}
	}
	return false
}
