package clusterkey

import (
	"errors"
	"sync"
	"time"
)

// maxSeen is how many requests are kept in mind: 30 MB at most. Where more come within the
// time that is allowed, it becomes shorter.
const maxSeen = 1 << 19

var (
	errClock  = errors.New("it is signed at another time than now: the clocks of the nodes are too far apart, or it comes late")
	errBefore = errors.New("it was signed before this process began, so that it is not known whether it was served already")
	errReplay = errors.New("it was served already: it is a repetition")
	errOlder  = errors.New("so many came since it was signed that it is not known whether it was served already")
)

// seen keeps in mind which requests were served, so that none is served twice. It is safe
// for concurrent use.
type seen struct {
	skew  time.Duration // between the clocks of two nodes, at most
	most  int
	began time.Time

	mu    sync.Mutex
	spans map[int64]map[[nonceSize]byte]struct{} // guarded by mu; by time in units of span
	count int                                    // guarded by mu; of all
	from  int64                                  // guarded by mu; of which time on there are any
	floor int64                                  // guarded by mu; what is of an earlier time is refused
}

func newSeen(skew time.Duration, most int, now time.Time) *seen {
	return &seen{skew: skew, most: most, began: now.Truncate(time.Microsecond), spans: map[int64]map[[nonceSize]byte]struct{}{}}
}

// span is for how long requests are forgotten together.
func (s *seen) span() int64 { return max(s.skew.Microseconds()/16, 1) }

// take notes a request that is right in all else, or returns why it is not served.
func (s *seen) take(signed time.Time, nonce [nonceSize]byte, now time.Time) error {
	if d := now.Sub(signed); d > s.skew || d < -s.skew {
		return errClock
	}
	if signed.Before(s.began) {
		return errBefore
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now.Add(-s.skew).UnixMicro() / s.span())
	at := signed.UnixMicro() / s.span()
	if at < s.floor {
		return errOlder
	}
	if _, ok := s.spans[at][nonce]; ok {
		return errReplay
	}
	if s.count >= s.most {
		if s.drop(); at < s.floor {
			return errOlder
		}
	}
	if s.spans[at] == nil {
		s.spans[at] = map[[nonceSize]byte]struct{}{}
	}
	s.spans[at][nonce] = struct{}{}
	s.count++
	return nil
}

// forget forgets what is too old to be taken. The caller holds mu.
func (s *seen) forget(before int64) {
	if before <= s.from {
		return
	}
	s.from = before
	for at, span := range s.spans {
		if at < before {
			s.count -= len(span)
			delete(s.spans, at)
		}
	}
}

// drop makes room by refusing what is as old as the oldest. The caller holds mu.
func (s *seen) drop() {
	oldest := int64(1<<63 - 1)
	for at := range s.spans {
		oldest = min(oldest, at)
	}
	s.count -= len(s.spans[oldest])
	delete(s.spans, oldest)
	s.floor = oldest + 1
}
