package fragments

import (
	"sync"
	"time"
)

// lately remembers when something was done that is not to be done again soon, of no more than a number of
// things. It is kept in memory only. It is safe for concurrent use.
type lately[K comparable] struct {
	most int

	mu   sync.Mutex
	at   map[K]done // guarded by mu
	full time.Time  // guarded by mu; before it nothing of that can be forgotten
}

// done is when something was done last, and for how long it isn't to be done again.
type done struct {
	when time.Time
	wait time.Duration
}

func newLately[K comparable](most int) *lately[K] { return &lately[K]{most: most, at: map[K]done{}} }

// due reports whether something may be done now, and notes that it is. It may when it was not, or when it has not been for as long as it
// was to wait, which is first at first, doubles each time, and is longest at most. What there is no room to remember may be
// done: to forget costs work, and nothing else.
func (l *lately[K]) due(key K, now time.Time, first, longest time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.at[key]
	switch {
	case known && now.Sub(last.when) < last.wait:
		return false
	case known:
		l.at[key] = done{now, min(2*last.wait, longest)}
		return true
	case len(l.at) >= l.most && !now.Before(l.full):
		l.makeRoom(now, longest)
	}
	if len(l.at) < l.most {
		l.at[key] = done{now, first}
		l.full = earlier(l.full, now.Add(first))
	}
	return true
}

// makeRoom forgets all that may be done again. It goes through all that is remembered, and so is not called before something of it
// has become due. The caller holds mu.
func (l *lately[K]) makeRoom(now time.Time, longest time.Duration) {
	l.full = now.Add(longest)
	for key, d := range l.at {
		if end := d.when.Add(d.wait); now.Before(end) {
			l.full = earlier(l.full, end)
		} else {
			delete(l.at, key)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// forget forgets something: it may be done at once.
func (l *lately[K]) forget(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.at, key)
}
