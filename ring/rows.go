package ring

// Rows returns a copy of the assignment: a row per replica, each with the device id
// of every partition; the last may be shorter, as in [Data].
func (r *Ring) Rows() [][]uint32 {
	table := make([][]uint32, r.rows.count())
	for i := range table {
		row := make([]uint32, 0, r.rows.length(i))
		if r.rows.narrow != nil {
			for _, id := range r.rows.narrow[i] {
				row = append(row, uint32(id))
			}
		} else {
			row = append(row, r.rows.wide[i]...)
		}
		table[i] = row
	}
	return table
}

// First is the ring of the first n replicas alone, which shares the rest with r: all
// partitions, and the devices of the other replicas as handoffs. It is r itself where
// that has no more than n. n is 1 at least.
func (r *Ring) First(n int) *Ring {
	if n >= r.rows.count() {
		return r
	}
	cut := *r
	if r.rows.narrow != nil {
		cut.rows.narrow = r.rows.narrow[:n]
	} else {
		cut.rows.wide = r.rows.wide[:n]
	}
	return &cut
}
