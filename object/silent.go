package object

import (
	"sync"
	"time"
)

const (
	// silentAfter is how many updates in a row a container server must fail to take
	// before it is not waited for any more.
	silentAfter = 3
	// askAgain is how often one update is sent all the same, to see whether it is
	// back.
	askAgain = time.Second
)

// silent remembers the container servers that do not answer. An update for one of
// them goes to the durable queue at once, so that a client's write does not wait
// for a server that hangs.
type silent struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[string]muteness // by address; guarded by mu; only those that failed lately
}

type muteness struct {
	times int
	next  time.Time // when it is asked again
}

func newSilent() *silent { return &silent{now: time.Now, failed: map[string]muteness{}} }

// ask reports whether an update should be sent to a server.
func (s *silent) ask(addr string) bool {
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

// heard notes whether a server took an update.
func (s *silent) heard(addr string, took bool) {
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
