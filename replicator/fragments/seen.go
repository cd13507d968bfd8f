package fragments

import (
	"maps"
	"sync"
	"time"

	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/ring"
)

// seen is what the passes over a device remember, as long as the process runs: of partitions
// those in which all was found in place; which objects all devices were asked about, in vain; and, what is kept on
// the device as well, for how long there are fragments of writes that are not decided. It is safe for concurrent use.
type seen struct {
	sought *lately[doubt]
	kept   *note // where the doubts are kept; nil for nowhere

	mu      sync.Mutex
	parts   map[place]sight         // guarded by mu
	watched time.Duration           // guarded by mu; for how long passes have looked: see watch
	last    time.Time               // guarded by mu; when one did last; zero for never
	doubts  map[doubt]time.Duration // guarded by mu; what watched was when what might be given up was first seen here
	changed bool                    // guarded by mu; since those were kept
	purged  time.Time               // guarded by mu; when it was last looked which of those are long gone
}

// doubt is a fragment: of a write that is not known to be committed, or one that can't be made.
type doubt struct {
	policy policy.Index
	hash   name.Hash
	write  ec.WriteID
}

func (x *piece) doubt() doubt {
	return doubt{x.of.policy.Index, x.state.Hash, x.header.Write.ID}
}

const (
	// mostDoubts is how many of those are remembered at most; the others wait.
	mostDoubts = 1 << 16
	// doubtful is after how long one is forgotten where there is no room.
	doubtful = 3 * longAgo
	// mostBetween is how much of the time between two looks counts. Passes come every half minute, and look again and again while they go on: what is more is
	// that the node was down, or that its clock has jumped.
	mostBetween = 2 * time.Hour
)

// watch counts the time since a pass has looked last.
func (s *seen) watch(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked(now)
}

func (s *seen) watchLocked(now time.Time) {
	if !s.last.IsZero() {
		d := now.Sub(s.last)
		if d < 0 && d > -mostBetween {
			return // another has looked since, that read the clock later
		}
		s.watched += max(0, min(d, mostBetween))
	}
	s.last = now
}

// ages returns for how long each doubt is known. The caller holds mu.
func (s *seen) ages() map[doubt]time.Duration {
	all := make(map[doubt]time.Duration, len(s.doubts))
	for d, since := range s.doubts {
		all[d] = s.watched - since
	}
	return all
}

// doubtful notes that a fragment is here of which it is not known that it was committed, and returns for how long that is
// known, by what passes have looked; known is false where there are too many.
func (s *seen) doubtful(x *piece, now time.Time) (age time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked(now)
	if since, known := s.doubts[x.doubt()]; known {
		return s.watched - since, true
	}
	if len(s.doubts) >= mostDoubts {
		if now.Sub(s.purged) < time.Hour {
			return 0, false
		}
		s.purged = now
		maps.DeleteFunc(s.doubts, func(_ doubt, since time.Duration) bool { return s.watched-since > doubtful })
		if len(s.doubts) >= mostDoubts {
			return 0, false
		}
	}
	s.doubts[x.doubt()], s.changed = s.watched, true
	return 0, true
}

// decided forgets fragments that are in doubt no more: each is gone, or its commit is known. Should one be in doubt again it is so from then on.
func (s *seen) decided(all ...*piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.doubts) == 0 {
		return
	}
	for _, x := range all {
		if _, known := s.doubts[x.doubt()]; known {
			delete(s.doubts, x.doubt())
			s.changed = true
		}
	}
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
	teller  int             // in which round the commits were told
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
