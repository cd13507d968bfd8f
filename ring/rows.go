package ring

import "slices"

// Rows returns a copy of the assignment: a row per replica, each with the device id
// of every partition; the last may be shorter, as in [Data].
func (r *Ring) Rows() [][]uint32 {
	rows := make([][]uint32, len(r.rows))
	for i, row := range r.rows {
		rows[i] = slices.Clone(row)
	}
	return rows
}
