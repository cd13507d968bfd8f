package quorum

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/ring"
)

// times remembers how long devices took lately to begin their answers to reads.
// It is read without a lock: the map is never changed, but replaced.
type times struct {
	known atomic.Pointer[map[deviceKey]*deviceTimes]
	mu    sync.Mutex // held to replace known
}

// deviceTimes is the answer times of one device, in nanoseconds. Two who note an
// answer at one time may lose one of them, which changes little.
type deviceTimes struct {
	mean atomic.Int64 // the latest counts for an eighth; 0 before the first
	p95  atomic.Int64 // what about 95 of 100 stay below
	last atomic.Int64 // when there was one, in nanoseconds since 1970
}

const (
	firstP95 = 50 * time.Millisecond // before anything is known
	leastP95 = time.Millisecond
	mostP95  = time.Second
)

func newTimes() *times {
	t := new(times)
	t.known.Store(&map[deviceKey]*deviceTimes{})
	return t
}

// of returns the times of a device.
func (t *times) of(d *ring.Device) *deviceTimes {
	k := keyOf(d)
	if dt, ok := (*t.known.Load())[k]; ok {
		return dt
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := *t.known.Load()
	if dt, ok := known[k]; ok {
		return dt
	}
	known = maps.Clone(known)
	dt := new(deviceTimes)
	dt.p95.Store(int64(firstP95))
	known[k] = dt
	t.known.Store(&known)
	return dt
}

// took notes an answer, or that there was none for so long.
func (d *deviceTimes) took(t time.Duration, now time.Time) {
	d.last.Store(now.UnixNano())
	if mean := d.mean.Load(); mean > 0 {
		d.mean.Store(mean + (int64(t)-mean)/8)
	} else {
		d.mean.Store(max(int64(t), 1))
	}
	// A step up for each that is above and a nineteenth of it down for each below
	// balance where one of 20 is above.
	p := d.p95.Load()
	if int64(t) > p {
		p += p / 8
	} else {
		p -= p / (8 * 19)
	}
	d.p95.Store(min(max(p, int64(leastP95)), int64(mostP95)))
}

// rank is what a device is ordered by: its mean in milliseconds, -1 where nothing
// has been heard of it since a time.
func (t *times) rank(d *ring.Device, since time.Time) int64 {
	dt := t.of(d)
	mean := dt.mean.Load()
	if mean == 0 || dt.last.Load() < since.UnixNano() {
		return -1
	}
	return (mean + 500_000) / 1_000_000
}

// order puts the fastest devices first, and before them those of which nothing was
// heard for as long as expiry, so that something will be. It keeps the order of those that are as fast
// to the millisecond.
func (t *times) order(list []*ring.Device, expiry time.Duration) {
	since := time.Now().Add(-expiry)
	slices.SortStableFunc(list, func(a, b *ring.Device) int { return cmp.Compare(t.rank(a, since), t.rank(b, since)) })
}
