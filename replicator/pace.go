package replicator

import (
	"context"
	"sync"
	"time"
)

// A Pace holds work back so that it leaves room for clients: so many bytes and so many
// operations a second. It is safe for concurrent use; nil holds nothing back.
type Pace struct {
	mu         sync.Mutex
	bytes, ops debt          // guarded by mu
	as         time.Time     // guarded by mu; when the debts were what they say
	changed    chan struct{} // guarded by mu; closed when the limits change; nil before anybody waits
}

// debt is what was let through and is not paid for yet.
type debt struct {
	rate float64 // that is paid off in a second; 0 is no limit
	owed float64 // not above 0 means that something may begin
}

// slack is how much that was not used in time may be used later: a timer that is late
// must not make the rate less. It bounds what goes beyond the rate, too.
const slack = 100 * time.Millisecond

// NewPace returns a pace of so many bytes and operations a second; 0 is no limit.
func NewPace(bytes, operations int64) *Pace {
	p := &Pace{}
	p.Set(bytes, operations)
	return p
}

// Set changes the limits, of bytes and operations a second; 0 is no limit. What waits goes
// by the new ones at once: what it waits for is paid off at the new rate.
func (p *Pace) Set(bytes, operations int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.as.IsZero() { // else nothing was let through yet
		p.settle(time.Now())
	}
	p.bytes.set(bytes)
	p.ops.set(operations)
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// Wait takes one operation of so many bytes and returns when it may begin: what was
// taken before is paid for first, and a large one goes at once where nothing is owed. It
// returns early, with the cause, when ctx ends.
func (p *Pace) Wait(ctx context.Context, bytes int64) error { return p.wait(ctx, bytes, 1) }

// WaitBytes takes so many bytes, of an operation that was taken before, and returns as Wait does.
func (p *Pace) WaitBytes(ctx context.Context, bytes int64) error { return p.wait(ctx, bytes, 0) }

func (p *Pace) wait(ctx context.Context, bytes, operations int64) error {
	for ctx.Err() == nil {
		wait, changed := p.take(float64(bytes), float64(operations))
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return context.Cause(ctx)
}

// take takes what has been paid for, or returns how long that will be from now.
func (p *Pace) take(bytes, operations float64) (wait time.Duration, changed <-chan struct{}) {
	if p == nil {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(time.Now())
	if wait = max(p.bytes.wait(), p.ops.wait()); wait > 0 {
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		return wait, p.changed
	}
	p.bytes.owed += bytes
	p.ops.owed += operations
	return 0, nil
}

// settle pays off what time has brought. The caller holds mu.
func (p *Pace) settle(now time.Time) {
	passed := now.Sub(p.as).Seconds()
	if p.as.IsZero() {
		passed = 0
	}
	p.as = now
	p.bytes.pay(passed)
	p.ops.pay(passed)
}

func (d *debt) set(rate int64) {
	d.rate = float64(max(rate, 0))
	d.owed = max(d.owed, -slack.Seconds()*d.rate)
}

func (d *debt) pay(seconds float64) {
	if d.rate == 0 {
		d.owed = 0
		return
	}
	d.owed = max(d.owed-seconds*d.rate, -slack.Seconds()*d.rate)
}

// wait is how long it takes until nothing is owed.
func (d *debt) wait() time.Duration {
	if d.rate == 0 || d.owed <= 0 {
		return 0
	}
	const longest = float64(time.Hour)                                         // then it is looked at again
	return time.Duration(min(d.owed/d.rate*float64(time.Second), longest)) + 1 // rounded up, or it would wake before its time
}
