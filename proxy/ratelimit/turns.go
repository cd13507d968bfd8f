package ratelimit

import (
	"container/list"
	"sync"
	"time"

	"martlet/internal/name"
)

// maxKeys is how many accounts and containers are remembered at one time: those that
// were used last. About 20 MB at most with names of usual length.
const maxKeys = 100_000

// kind is what a limit is of.
type kind uint8

const (
	ofAccount     kind = iota // containers of an account that come and go
	ofContainer               // writes of objects of a container
	ofListing                 // its listings
	ofOpenListing             // those by nobody in particular, which may well be refused
	ofWrites                  // all writes of an account
)

// key is what requests are counted under.
type key struct {
	kind kind
	path name.Path
}

// turns is when the next request may go on, for each key. It is safe for concurrent use.
type turns struct {
	buffer, most time.Duration
	capacity     int

	mu    sync.Mutex
	known map[key]*list.Element // of order; guarded by mu
	order list.List             // of *turn, the one that was used last first; guarded by mu
}

// turn is the time up to which requests of a key are accounted for.
type turn struct {
	key  key
	upTo time.Time
}

func newTurns(buffer, most time.Duration) *turns {
	return &turns{buffer: buffer, most: most, capacity: maxKeys, known: map[key]*list.Element{}}
}

// grain is how near to the longest wait one may come.
const grain = 10 * time.Millisecond

// slowest is the time for one request of the lowest rate that there is.
const slowest = 24 * time.Hour

// take gives a request its turn, and says how long it is until then. It is false, and no
// turn is taken, where that would be too long. rate is more than 0.
func (t *turns) take(k key, rate float64, now time.Time) (wait time.Duration, ok bool) {
	each := time.Duration(min(float64(time.Second)/rate, float64(slowest)))
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.of(k)
	next := of.upTo.Add(each)
	if now.Sub(next) > t.buffer { // it was idle for longer than it may make up for
		of.upTo = now.Add(each)
		return 0, true
	}
	wait = max(of.upTo.Sub(now), 0)
	if wait > 0 && wait >= t.most-grain {
		return 0, false
	}
	of.upTo = next
	return wait, true
}

// of finds the turn of a key, or makes one that has never been used. It is called with
// mu held.
func (t *turns) of(k key) *turn {
	if e, ok := t.known[k]; ok {
		t.order.MoveToFront(e)
		return e.Value.(*turn) //nolint:forcetypeassert // nothing else is in it
	}
	if t.order.Len() >= t.capacity {
		last := t.order.Back()
		delete(t.known, last.Value.(*turn).key) //nolint:forcetypeassert // nothing else is in it
		t.order.Remove(last)
	}
	of := &turn{key: k}
	t.known[k] = t.order.PushFront(of)
	return of
}
