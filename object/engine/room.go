package engine

import "martlet/internal/vfs"

// reserve returns an error of kind errs.NoSpace if size bytes more would leave
// less than the reserve.
func (s *store) reserve(size int64) error {
	if s.cfg.Reserve <= 0 {
		return nil
	}
	return s.room.Take(size, s.cfg.Reserve, func() (vfs.Usage, error) { return s.cfg.FS.Usage(s.root) })
}
