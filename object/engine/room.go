package engine

import (
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// room is what is left above the reserve of a device, as it was seen a moment ago: so that a small object does not cost a look at
// the file system. It is never asked of where little is left.
type room struct {
	until atomic.Int64 // Unix time in ns up to when left counts
	left  atomic.Int64 // bytes, less those that were asked for since
}

const (
	// roomFor is how long a look counts.
	roomFor = 100 * time.Millisecond

	// roomEnough is with how many bytes left nobody looks within that time: no disk takes as many meanwhile.
	roomEnough = 1 << 30
)

// reserve returns an error of kind errs.NoSpace if size bytes more would leave
// less than the reserve.
func (s *store) reserve(size int64) error {
	if s.cfg.Reserve <= 0 {
		return nil
	}
	return s.room.take(time.Now(), size, s.cfg.Reserve, func() (vfs.Usage, error) { return s.cfg.FS.Usage(s.root) })
}

// take is reserve, at a time, for a share of the device; look says how full that is.
func (r *room) take(now time.Time, size int64, share float64, look func() (vfs.Usage, error)) error {
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
