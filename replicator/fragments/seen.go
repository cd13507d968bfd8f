package fragments

import (
	"maps"
	"sync"
	"time"

	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/ring"
)

// seen is what the passes over a device remember, as long as the process runs: of partitions
// those in which all was found in place, and since when there are fragments of writes that are
// not decided. It is safe for concurrent use.
type seen struct {
	mu    sync.Mutex
	parts map[place]sight              // guarded by mu
	since map[replwire.Write]time.Time // guarded by mu; of those that are not decided
}

// undecided returns since when a write has been known as one that is not decided.
func (s *seen) undecided(w replwire.Write, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.since[w]
	if !ok || since.After(now) {
		since = now
		s.since[w] = now
	}
	return since
}

// forget forgets writes that are known since before a time: they have been decided, or will be
// seen anew.
func (s *seen) forget(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.since, func(_ replwire.Write, since time.Time) bool { return since.Before(before) })
}

// place is a partition of a policy.
type place struct {
	policy    policy.Index
	partition ring.Partition
}

// sight is what was found of a partition.
type sight struct {
	ring    *ring.Ring      // by which
	mine    replwire.Digest // of the fragments here
	commits replwire.Digest // of the objects, where that was asked
	objects int64           // that there were, by the commits' sum
	whole   bool            // all was in place
	until   time.Time       // when something has to be looked at again all the same; zero for never
	left    int             // in how many passes fragments were left to who brings them
}

func (s *seen) of(p policy.Index, at ring.Partition) sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts[place{p, at}]
}

func (s *seen) note(p policy.Index, at ring.Partition, what sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[place{p, at}] = what
}

// current reports whether a partition is as it was when all was in place.
func (s *sight) current(of *part, now time.Time) bool {
	return s.whole && s.ring == of.ring && s.mine == of.mine && s.commits == of.commits && (s.until.IsZero() || now.Before(s.until))
}
