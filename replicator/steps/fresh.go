package steps

import (
	"errors"
	"time"
)

// ErrStale is why nothing is pushed or dropped any more for what was found out a while ago.
var ErrStale = errors.New("it was too long ago that it was found out what others have: the next pass asks anew")

// Fresh returns nil as long as what was found out from a time on may be gone by, and then
// ErrStale. It goes by the clock on the wall, which goes on while a machine is suspended.
func (t Terms) Fresh(since, now time.Time) error {
	if now.Unix()-since.Unix() > int64(t.Look()/time.Second) {
		return ErrStale
	}
	return nil
}
