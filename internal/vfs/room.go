package vfs

import (
	"sync/atomic"
	"time"

	"martlet/internal/errs"
)

// Room is what is left of a file system above a reserve, as it was seen a moment ago: so that something small does not cost a look at
// it. It is never asked of where little is left. The zero Room has seen nothing yet; it is safe for concurrent use, and of
// one file system and one reserve.
type Room struct {
	until atomic.Int64 // Unix time in ns up to when left counts
	left  atomic.Int64 // bytes, less those that were asked for since
}

const (
	// roomFor is how long a look counts.
	roomFor = 100 * time.Millisecond

	// roomEnough is with how many bytes left nobody looks within that time: no disk takes as many meanwhile.
	roomEnough = 1 << 30
)

// Take returns an error of kind errs.NoSpace if size bytes more would leave less than the reserve, which is a share of all there
// is, from 0 to 1. Look says at most ten times a second how full it is where there is plenty of room, and each time where there is
// not; its error is returned as it is.
func (r *Room) Take(size int64, share float64, look func() (Usage, error)) error {
	return r.take(time.Now(), size, share, look)
}

// take is Take at a time.
func (r *Room) take(now time.Time, size int64, share float64, look func() (Usage, error)) error {
	// A look that counts for longer is of a clock that has been set back since.
	if ahead := r.until.Load() - now.UnixNano(); ahead > 0 && ahead <= int64(roomFor) && r.left.Add(-size) >= roomEnough {
		return nil
	}
	u, err := look()
	if err != nil {
		return err
	}
	left := float64(u.Available-size) - share*float64(u.Total)
	if left < 0 {
		return errs.E(errs.NoSpace, "what is left is the device's reserve")
	}
	r.left.Store(int64(left))
	r.until.Store(now.Add(roomFor).UnixNano())
	return nil
}
