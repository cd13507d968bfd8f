package clusterkey

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// maxSeen is how many requests are kept in mind: 30 MB at most. Where more come within the
	// time that is allowed, it becomes shorter.
	maxSeen = 1 << 19

	// keepSeen is for how long a request is kept in mind, though it is too old to be served: so a clock that
	// is put back by no more than that serves nothing twice, and refuses nothing for it.
	keepSeen = time.Hour

	// maxGone bounds how exactly it is known of which times requests are not kept in mind any more.
	maxGone = 64
)

var (
	errClock  = errors.New("it is signed at another time than now: the clocks of the nodes are too far apart, or it comes late")
	errBefore = errors.New("it was signed before this process began, so that it is not known whether it was served already")
	errReplay = errors.New("it was served already: it is a repetition")
	errOlder  = errors.New("so many came since others of its time that it is not known whether it was served already")
)

// seen keeps in mind which requests were served, so that none is served twice. It is safe
// for concurrent use.
//
// What is signed carries the time of a clock, and clocks are put right. So what is remembered goes by how long
// the process has run, which no clock changes, and the clock is only asked what is of now:
//
//   - when the process began is what its clock says now less how long it has run. A clock that was ahead at the
//     start, and was put back, so refuses nothing of after the start;
//   - what was served is forgotten after it was kept in mind for keepSeen, or to make room, and not because the
//     clock says that it is old: one that goes ahead and comes back has forgotten nothing;
//   - what was forgotten leaves behind its time, which is refused if the clock comes there again.
//
// What is left is a clock that is put back, wrongly, to when the process began, or before: then what an earlier process has served at
// what the clock says from then on is served a second time if somebody repeats it in its time.
type seen struct {
	skew time.Duration // between the clocks of two nodes, at most
	most int

	mu    sync.Mutex
	began time.Time       // when the process began, by its clock as it is now; guarded by mu
	spans map[int64]*span // guarded by mu; by time in units of span
	count int             // guarded by mu; of all
	swept time.Duration   // how long the process had run when it was last looked what is to be forgotten; guarded by mu
	gone  []interval      // guarded by mu; of which times not all is kept in mind, in order
}

// span is what was signed at about one time.
type span struct {
	nonces map[[nonceSize]byte]struct{}
	last   time.Duration // how long the process had run when the last of them came
}

// interval is a range of times in units of span, both included.
type interval struct{ from, to int64 }

func newSeen(skew time.Duration, most int, now time.Time) *seen {
	return &seen{skew: skew, most: most, began: now.Truncate(time.Microsecond), spans: map[int64]*span{}}
}

// unit is for how long requests are forgotten together. A clock that moves by less was not put right.
func (s *seen) unit() time.Duration { return max(s.skew/16, time.Microsecond) }

// take notes a request that is right in all else, or returns why it is not served. The process has run for up, and its
// clock says now.
func (s *seen) take(signed time.Time, nonce [nonceSize]byte, now time.Time, up time.Duration) error {
	if d := now.Sub(signed); d > s.skew || d < -s.skew {
		return errClock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(now, up)
	if signed.Before(s.began) {
		return errBefore
	}
	s.forget(now, up)
	at := s.at(signed)
	if s.isGone(at) {
		return errOlder
	}
	of := s.spans[at]
	if of != nil {
		if _, ok := of.nonces[nonce]; ok {
			return errReplay
		}
	}
	if s.count >= s.most {
		if s.drop(); s.isGone(at) {
			return errOlder
		}
	}
	if of == nil {
		of = &span{nonces: map[[nonceSize]byte]struct{}{}}
		s.spans[at] = of
	}
	of.nonces[nonce] = struct{}{}
	of.last = up
	s.count++
	return nil
}

func (s *seen) at(t time.Time) int64 { return t.UnixMicro() / s.unit().Microseconds() }

// look finds out whether the clock was put right. The caller holds mu.
func (s *seen) look(now time.Time, up time.Duration) {
	began := now.Add(-up).Truncate(time.Microsecond)
	if began.Sub(s.began).Abs() > s.unit() {
		s.began = began
	}
}

// forget forgets what was kept in mind for long enough, and is too old to be served. The caller holds mu.
func (s *seen) forget(now time.Time, up time.Duration) {
	if up-s.swept < s.unit() {
		return
	}
	s.swept = up
	old := s.at(now.Add(-s.skew))
	for at, of := range s.spans {
		if at < old && up-of.last > max(keepSeen, 2*s.skew) {
			s.lose(at)
		}
	}
}

// drop makes room by forgetting those of which none has come for longest. The caller holds mu.
func (s *seen) drop() {
	oldest, found := int64(0), false
	for at, of := range s.spans {
		if was := s.spans[oldest]; !found || of.last < was.last || of.last == was.last && at < oldest {
			oldest, found = at, true
		}
	}
	s.lose(oldest)
}

// lose forgets what is of a time, and that it has. The caller holds mu.
func (s *seen) lose(at int64) {
	s.count -= len(s.spans[at].nonces)
	delete(s.spans, at)
	if s.isGone(at) {
		return // it is between two that were joined
	}
	i, _ := slices.BinarySearchFunc(s.gone, at, func(g interval, at int64) int { return cmp.Compare(g.from, at) })
	s.gone = slices.Insert(s.gone, i, interval{at, at})
	if i > 0 && s.gone[i-1].to == at-1 {
		s.join(i - 1)
		i--
	}
	if i+1 < len(s.gone) && s.gone[i+1].from == at+1 {
		s.join(i)
	}
	if len(s.gone) <= maxGone {
		return
	}
	nearest := 0
	for i := range len(s.gone) - 1 {
		if s.gone[i+1].from-s.gone[i].to < s.gone[nearest+1].from-s.gone[nearest].to {
			nearest = i
		}
	}
	s.join(nearest)
}

// join makes one interval of two, and of what is between them. The caller holds mu.
func (s *seen) join(i int) {
	s.gone[i].to = s.gone[i+1].to
	s.gone = slices.Delete(s.gone, i+1, i+2)
}

func (s *seen) isGone(at int64) bool {
	_, is := slices.BinarySearchFunc(s.gone, at, func(g interval, at int64) int {
		switch {
		case g.to < at:
			return -1
		case g.from > at:
			return 1
		}
		return 0
	})
	return is
}
