package ratelimit

import (
	"sync"
	"time"

	"martlet/internal/lru"
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

	mu   sync.Mutex
	upTo *lru.Map[key, time.Time] // the time up to which requests are accounted for; guarded by mu
}

func newTurns(buffer, most time.Duration) *turns {
	return &turns{buffer: buffer, most: most, upTo: lru.New[key, time.Time](maxKeys)}
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
	upTo, _ := t.upTo.Get(k) // long ago, where it is not known
	next := upTo.Add(each)
	if now.Sub(next) > t.buffer { // it was idle for longer than it may make up for
		t.upTo.Put(k, now.Add(each))
		return 0, true
	}
	wait = max(upTo.Sub(now), 0)
	if wait > 0 && wait >= t.most-grain {
		return 0, false
	}
	t.upTo.Put(k, next)
	return wait, true
}
