package replicator

import (
	"context"
	"sync"
	"time"
)

// A Pace holds pushes back so that they leave room for clients. It is safe for
// concurrent use; nil holds nothing back.
type Pace struct {
	perByte, perOp float64 // nanoseconds; 0 is no limit

	mu   sync.Mutex
	free time.Time // mu; when what was let through so far will have been paid for
}

// NewPace returns a pace of so many bytes and operations a second; 0 is no limit.
func NewPace(bytes, operations int64) *Pace {
	p := &Pace{}
	if bytes > 0 {
		p.perByte = float64(time.Second) / float64(bytes)
	}
	if operations > 0 {
		p.perOp = float64(time.Second) / float64(operations)
	}
	return p
}

// Wait takes one operation of so many bytes and returns when it may begin: what
// was taken before is paid for first, and a large one goes at once where nothing
// is owed. It returns early, with the cause, when ctx ends.
func (p *Pace) Wait(ctx context.Context, bytes int64) error {
	if p == nil || p.perByte == 0 && p.perOp == 0 {
		return context.Cause(ctx)
	}
	p.mu.Lock()
	now := time.Now()
	begin := now
	if p.free.After(now) {
		begin = p.free
	}
	p.free = begin.Add(time.Duration(p.perOp + float64(bytes)*p.perByte))
	p.mu.Unlock()
	wait := begin.Sub(now)
	if wait <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
