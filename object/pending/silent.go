package pending

import (
	"sync"
	"time"

	"martlet/internal/errs"
)

const (
	// silentAfter is how many updates in a row a container server must fail to take
	// before it is not waited for any more.
	silentAfter = 3
	// askAgain is how often one update is sent all the same, to see whether it is
	// back.
	askAgain = time.Second
)

// Silent remembers the container servers that do not answer. An update for one of
// them goes to the durable queue at once, so that neither a client's write nor other
// updates wait for a server that hangs. It is safe for concurrent use.
type Silent struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[string]muteness // by address; guarded by mu; only those that failed lately
}

type muteness struct {
	times int
	next  time.Time // when it is asked again
}

// NewSilent returns one that has heard of none, by a clock; nil is the machine's.
func NewSilent(now func() time.Time) *Silent {
	if now == nil {
		now = time.Now
	}
	return &Silent{now: now, failed: map[string]muteness{}}
}

// Ask reports whether an update should be sent to a server.
func (s *Silent) Ask(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.failed[addr]
	if !ok || f.times < silentAfter {
		return true
	}
	now := s.now()
	if now.Before(f.next) {
		return false
	}
	f.next = now.Add(askAgain)
	s.failed[addr] = f
	return true
}

// Back notes that a server has taken an update from the queue, as quickly as a write waits for it: it is there. Of one that fails to, or
// is slow, it says nothing.
func (s *Silent) Back(addr string) { s.heard(addr, true) }

// Heard notes what Deliver has said of an update: that a server has no such container is
// an answer as well.
func (s *Silent) Heard(addr string, err error) {
	s.heard(addr, err == nil || !errs.Is(err, errs.Unavailable))
}

// heard notes whether a server answered.
func (s *Silent) heard(addr string, took bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.failed[addr]
	switch {
	case took && known:
		delete(s.failed, addr)
	case !took:
		s.failed[addr] = muteness{f.times + 1, s.now().Add(askAgain)}
	}
}
