package replicator

import (
	"context"
	"sync"
)

// A gate bounds how many do something at one time; the others wait in line. The bound can
// be changed: those who are inside stay. It is safe for concurrent use.
type gate struct {
	mu     sync.Mutex
	most   int             // guarded by mu
	inside int             // guarded by mu
	line   []chan struct{} // guarded by mu; of those who wait, each closed when he is inside
}

// set changes the bound, which is at least 1.
func (g *gate) set(most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.most = most
	g.admit()
}

// enter returns when it is the caller's turn, who must leave then; or, with the cause, when
// ctx ends.
func (g *gate) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	turn := make(chan struct{})
	g.mu.Lock()
	g.line = append(g.line, turn)
	g.admit()
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, t := range g.line {
		if t == turn {
			g.line = append(g.line[:i], g.line[i+1:]...)
			return context.Cause(ctx)
		}
	}
	g.inside-- // its turn came meanwhile
	g.admit()
	return context.Cause(ctx)
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.admit()
}

// admit lets in whom there is room for, in order. The caller holds mu.
func (g *gate) admit() {
	for g.inside < g.most && len(g.line) > 0 {
		close(g.line[0])
		g.line = g.line[1:]
		g.inside++
	}
}

// count returns how many are inside, and how many wait.
func (g *gate) count() (inside, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside, len(g.line)
}
