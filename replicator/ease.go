package replicator

import (
	"context"
	"math/bits"
	"sync"
	"time"
)

// How a device adapts to those it pushes to. A push is slow when it takes more than
// slowAt times what the quickest of about its size took of late, and more than quickEnough
// at all. After inRow slow ones in a row as much time is left before each push as they
// take, after inRow more twice that, and so on up to maxGap times and longestGap; inRow
// that are not slow take a step back.
const (
	slowAt      = 3
	inRow       = 4
	maxGap      = 8                    // times what a push takes
	longestGap  = 10 * time.Second     // between two pushes, whatever they take: replication never stops
	quickEnough = 5 * time.Millisecond // no disk suffers that answers so soon
	ofLate      = 10 * time.Minute     // for how long the quickest counts, up to twice that
	maxEased    = 10_000               // peers that are kept in mind
)

// An easing is what a device knows of how fast its peers take what it pushes. The zero
// easing is ready for use and safe for concurrent use.
type easing struct {
	mu    sync.Mutex
	peers map[string]*eased // guarded by mu
}

// eased is what is known of a peer.
type eased struct {
	gap     float64 // times what a push takes; 0 or from 1 to maxGap
	slow    int     // how many were slow in a row, below zero how many were not
	since   time.Time
	classes [64]class // by the number of bits of the size
}

// class is the pushes of about one size: the largest is less than twice the smallest, so
// that size alone makes none of them slow.
type class struct {
	quickest, before time.Duration // since eased.since, and in the ofLate before; 0 is not known
	usual            time.Duration // an average of the latest ones
}

// gapBefore returns how long to wait before a push of a size to a peer.
func (e *easing) gapBefore(peer string, size int64) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[peer]
	if p == nil {
		return 0
	}
	return min(time.Duration(p.gap*float64(p.classes[classOf(size)].usual)), longestGap)
}

// note takes in how long a push has taken. It reports whether the gap is another than before.
func (e *easing) note(peer string, size int64, took time.Duration, now time.Time) (gap float64, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[peer]
	if p == nil {
		if e.peers == nil || len(e.peers) >= maxEased {
			e.peers = map[string]*eased{} // forgetting costs a few pushes
		}
		p = &eased{since: now}
		e.peers[peer] = p
	}
	before := p.gap
	p.note(&p.classes[classOf(size)], max(took, 1), now)
	return p.gap, p.gap != before
}

func (p *eased) note(c *class, took time.Duration, now time.Time) {
	if now.Sub(p.since) >= ofLate {
		for i := range p.classes {
			p.classes[i].before, p.classes[i].quickest = p.classes[i].quickest, 0
		}
		p.since = now
	}
	if c.quickest == 0 || took < c.quickest {
		c.quickest = took
	}
	quickest := c.quickest
	if c.before != 0 {
		quickest = min(quickest, c.before)
	}
	if c.usual == 0 || took < c.usual {
		c.usual = took
	} else {
		c.usual += (took - c.usual) / 4
	}
	if took > slowAt*quickest && took > quickEnough {
		p.slow = max(p.slow, 0) + 1
	} else {
		p.slow = min(p.slow, 0) - 1
	}
	switch {
	case p.slow >= inRow:
		p.slow, p.gap = 0, min(max(1, 2*p.gap), maxGap)
	case p.slow <= -inRow:
		if p.slow, p.gap = 0, p.gap/2; p.gap < 1 {
			p.gap = 0
		}
	}
}

// most returns the largest gap there is, and to how many peers there is any.
func (e *easing) most() (gap float64, peers int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.gap > 0 {
			peers++
		}
		gap = max(gap, p.gap)
	}
	return gap, peers
}

// classOf returns the class of a size in bytes.
func classOf(size int64) int { return bits.Len64(uint64(max(size, 0))) }

// pause waits, but not beyond the end of ctx, whose cause it returns then.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
