// Package crew runs functions on goroutines that stay for the next one.
//
// A goroutine begins with a small stack, which is copied to a larger one, and that to a larger one again, as calls
// go deeper: for what is short and goes deep, such as a row of a listing on its way to the log, that is as much as the work. Those
// of a crew have grown once.
//
// What it promises: nothing waits for another to end, as there are as many goroutines as are wanted; of those that nobody
// wants no more than a few stay. It leaves panics to what it runs.
package crew

import "sync"

// maxIdle is how many goroutines stay at most.
const maxIdle = 64

// A Crew is ready for use as it is, and safe for concurrent use.
type Crew struct {
	all sync.WaitGroup // of the goroutines

	mu     sync.Mutex
	idle   []*hand // mu; who came last goes first: the others are left to their rest
	closed bool    // mu
}

// hand is one goroutine.
type hand struct {
	next chan func() // closed when it is to go
}

// Go runs f beside the caller.
func (c *Crew) Go(f func()) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		h := c.idle[last]
		c.idle[last] = nil
		c.idle = c.idle[:last]
		c.mu.Unlock()
		h.next <- f // it has room, and nobody else has h
		return
	}
	c.mu.Unlock()
	c.all.Go(func() { c.serve(f) })
}

// serve runs f, and what comes then.
func (c *Crew) serve(f func()) {
	f()
	h := &hand{next: make(chan func(), 1)}
	for c.rest(h) {
		next, more := <-h.next
		if !more {
			return
		}
		next()
	}
}

// rest puts a goroutine among the idle ones, if there are not enough of them.
func (c *Crew) rest(h *hand) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) == maxIdle {
		return false
	}
	c.idle = append(c.idle, h)
	return true
}

// Close returns when all that was begun has ended, and no goroutine is left. Nothing may be begun meanwhile by others than
// what is under way, and nothing later.
func (c *Crew) Close() {
	c.mu.Lock()
	c.closed = true
	for _, h := range c.idle {
		close(h.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
}
