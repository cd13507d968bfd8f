package steps

import (
	"time"

	"martlet/internal/timestamp"
)

// Terms say when something may be forgotten. The zero value is of no use.
type Terms struct {
	// ReclaimAge is how old tombstones get at least. All nodes of a cluster must have
	// the same.
	ReclaimAge time.Duration
}

// Horizon is the time before which tombstones may be forgotten at a time: the reclaim age
// ago, rounded down to a whole number of grains since 1970. So it is the same on all
// nodes most of the time, whose digests then count the same tombstones.
func (t Terms) Horizon(now time.Time) timestamp.T {
	return timestamp.FromTime(now.Add(-t.ReclaimAge).Truncate(t.Grain()))
}

// Grain is by how much the horizon moves at once: a day, or an eighth of the reclaim age
// if that is less.
func (t Terms) Grain() time.Duration {
	return max(min(24*time.Hour, t.ReclaimAge/8), 1)
}

// Look is for how long what was found out about who has what may be gone by: half of what is
// between the limit and the reclaim age, so that a delete which was known when it was found
// out is not forgotten while what it has ended is still being pushed.
func (t Terms) Look() time.Duration { return (t.ReclaimAge - t.Limit()) / 2 }

// Limit is how long a device may have been out of step. It is less than the reclaim age
// by a margin for what takes its time on the way, such as what waits on a handoff: an
// eighth, but at least an hour, if that is no more than a quarter.
func (t Terms) Limit() time.Duration {
	return t.ReclaimAge - min(max(t.ReclaimAge/8, time.Hour), t.ReclaimAge/4)
}
