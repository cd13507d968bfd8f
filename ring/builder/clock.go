package builder

import "time"

// LockedUntil says how many partitions moved less than MinPartHours ago, when the next
// of them may move again, and when all of them may. Where there are none, both times
// are zero.
func (b *Builder) LockedUntil(now time.Time) (locked int, next, all time.Time) {
	for p := range b.moved {
		if !b.locked(p, now) {
			continue
		}
		locked++
		free := time.Unix(int64(b.moved[p])+3600*int64(b.minPartHours), 0)
		if next.IsZero() || free.Before(next) {
			next = free
		}
		if free.After(all) {
			all = free
		}
	}
	return locked, next, all
}

// Total is how many replicas of partitions there are, once all are assigned.
func (b *Builder) Total() int { return b.total() }
