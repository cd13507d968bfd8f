package vfs

import (
	"testing"
	"time"

	"martlet/internal/errs"
)

// The device is looked at once in a while as long as there is plenty of room, each time where there is not, and at once where much is
// asked for.
func TestRoomIsLookedAt(t *testing.T) {
	const gib = 1 << 30
	for name, tt := range map[string]struct {
		available int64 // of 100 GiB, of which 10 % are the reserve
		size      int64
		every     time.Duration
		looks     int // for ten
		kind      errs.Kind
	}{
		"plenty":                   {50 * gib, 4096, 0, 1, errs.Other},
		"as time goes":             {50 * gib, 4096, roomFor / 2, 5, errs.Other},
		"the clock is set back":    {50 * gib, 4096, -time.Hour, 10, errs.Other},
		"much is asked for":        {20 * gib, 4 * gib, 0, 5, errs.Other},
		"little is left":           {10*gib + 1<<20, 4096, 0, 10, errs.Other},
		"nothing":                  {10 * gib, 4096, 0, 10, errs.NoSpace},
		"more than there would be": {50 * gib, 41 * gib, 0, 10, errs.NoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			var r Room
			looks := 0
			now := time.Unix(1000, 0)
			for i := range 10 {
				err := r.take(now, tt.size, 0.1, func() (Usage, error) {
					looks++
					return Usage{Total: 100 * gib, Available: tt.available}, nil
				})
				if (err == nil) != (tt.kind == errs.Other) || err != nil && !errs.Is(err, tt.kind) {
					t.Fatalf("the %d. time: %v", i+1, err)
				}
				now = now.Add(tt.every)
			}
			if looks != tt.looks {
				t.Errorf("looked %d times, want %d", looks, tt.looks)
			}
		})
	}
}
