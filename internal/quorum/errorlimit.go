package quorum

import (
	"slices"
	"sync"
	"time"

	"martlet/ring"
)

// An errorLimit remembers which devices have been failing. It only orders
// them: a device that is behind the others is still tried when they can't
// answer. A server that has no room for a request (503 with Retry-After) is gone
// past and not counted: it isn't broken, and those beside it have no more room.
type errorLimit struct {
	most int
	span time.Duration
	now  func() time.Time

	mu   sync.RWMutex
	seen map[deviceKey]failures // guarded by mu; only devices that failed lately
}

// deviceKey names a device across rings, whose ids differ.
type deviceKey struct{ addr, name string }

type failures struct {
	n    int
	late int // reads in a row in which another device answered before it
	last time.Time
}

func newErrorLimit(most int, span time.Duration) *errorLimit {
	return &errorLimit{most: most, span: span, now: time.Now, seen: map[deviceKey]failures{}}
}

func keyOf(d *ring.Device) deviceKey { return deviceKey{d.Addr(), d.Name} }

// failed counts n errors of a device.
func (e *errorLimit) failed(d *ring.Device, n int) { e.count(d, n, 0) }

func (e *errorLimit) count(d *ring.Device, n, late int) {
	now := e.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.seen[keyOf(d)]
	if now.Sub(f.last) > e.span {
		f = failures{}
	}
	f.n, f.late, f.last = f.n+n, f.late+late, now
	e.seen[keyOf(d)] = f
}

// overtaken notes that a device was asked first and another one answered before it
// did. That is no error, and writes go to it as before.
func (e *errorLimit) overtaken(d *ring.Device) { e.count(d, 0, 1) }

// answered forgets a device's errors: it works.
func (e *errorLimit) answered(d *ring.Device) {
	k := keyOf(d)
	e.mu.RLock()
	_, ok := e.seen[k]
	e.mu.RUnlock()
	if ok {
		e.mu.Lock()
		delete(e.seen, k)
		e.mu.Unlock()
	}
}

// limited reports whether a device is to come after the others.
func (e *errorLimit) limited(d *ring.Device) bool {
	f, ok := e.lately(d)
	return ok && f.n >= e.most
}

// behind is limited for reads, which also leave a device for last that has not
// answered one of them in time for as long as an errors' worth of them.
func (e *errorLimit) behind(d *ring.Device) bool {
	f, ok := e.lately(d)
	return ok && f.n+f.late >= e.most
}

func (e *errorLimit) lately(d *ring.Device) (failures, bool) {
	e.mu.RLock()
	f, ok := e.seen[keyOf(d)]
	e.mu.RUnlock()
	return f, ok && e.now().Sub(f.last) <= e.span
}

// order puts the devices that have been failing behind the others, each group
// in the order it was in.
func (e *errorLimit) order(list []*ring.Device) { orderBy(list, e.limited) }

// readOrder is order for reads.
func (e *errorLimit) readOrder(list []*ring.Device) { orderBy(list, e.behind) }

func orderBy(list []*ring.Device, last func(*ring.Device) bool) {
	slices.SortStableFunc(list, func(a, b *ring.Device) int {
		la, lb := last(a), last(b)
		switch {
		case la == lb:
			return 0
		case la:
			return 1
		}
		return -1
	})
}
