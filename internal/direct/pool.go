package direct

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"martlet/internal/errs"
)

// pool keeps the unused connections, per address the last used on top.
type pool struct {
	cfg Config

	mu     sync.RWMutex
	hosts  map[string]*host // mu
	closed bool             // mu
}

// host is one address. Its timer runs only while connections wait.
type host struct {
	pool *pool
	addr string

	mu     sync.Mutex
	idle   []*conn     // mu; the longest unused first
	timer  *time.Timer // mu
	armed  bool        // mu; the timer will call sweep
	closed bool        // mu
}

func newPool(cfg Config) *pool { return &pool{cfg: cfg, hosts: make(map[string]*host)} }

// known returns the host of an address that was reached before, nil for others:
// addresses that nobody listens on leave no trace.
func (p *pool) known(addr string) *host {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.hosts[addr]
}

func (p *pool) reached(addr string) *host {
	if h := p.known(addr); h != nil {
		return h
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[addr]
	if h == nil {
		h = &host{pool: p, addr: addr, closed: p.closed}
		p.hosts[addr] = h
	}
	return h
}

// take returns the last used connection that is still good, nil if there is
// none.
func (p *pool) take(addr string) *conn {
	h := p.known(addr)
	if h == nil {
		return nil
	}
	for {
		c := h.pop()
		if c == nil {
			return nil
		}
		if time.Since(c.unused) < p.cfg.IdleTimeout && c.peek() == quiet {
			c.reused = true
			return c
		}
		c.drop()
	}
}

func (h *host) pop() *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.idle) - 1
	if last < 0 {
		return nil
	}
	c := h.idle[last]
	h.idle[last] = nil
	h.idle = h.idle[:last]
	return c
}

// put keeps a connection on which nothing is under way, or closes it where
// there are enough.
func (h *host) put(c *conn) {
	c.unused = time.Now()
	if !h.push(c) {
		c.drop()
	}
}

func (h *host) push(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.idle) >= h.pool.cfg.MaxIdlePerAddr {
		return false
	}
	h.idle = append(h.idle, c)
	switch {
	case h.timer == nil:
		h.timer = time.AfterFunc(h.pool.cfg.IdleTimeout, h.sweep)
	case !h.armed:
		h.timer.Reset(h.pool.cfg.IdleTimeout)
	}
	h.armed = true
	return true
}

// sweep closes what was unused for too long and comes back for the next.
func (h *host) sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	limit, n := h.pool.cfg.IdleTimeout, 0
	for n < len(h.idle) && time.Since(h.idle[n].unused) >= limit {
		h.idle[n].drop()
		n++
	}
	rest := copy(h.idle, h.idle[n:])
	clear(h.idle[rest:])
	h.idle = h.idle[:rest]
	h.armed = rest > 0 && !h.closed
	if h.armed {
		h.timer.Reset(limit - time.Since(h.idle[0].unused))
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, h := range p.hosts {
		h.mu.Lock()
		h.closed = true
		if h.timer != nil {
			h.timer.Stop()
		}
		for _, c := range h.idle {
			c.drop()
		}
		h.idle = nil
		h.mu.Unlock()
	}
}

func (p *pool) dial(ctx context.Context, addr string) (*conn, error) {
	limited, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
	defer cancel()
	nc, err := p.cfg.Dial(limited, "tcp", addr)
	if err == nil {
		return newConn(p.reached(addr), nc), nil
	}
	var timed net.Error
	switch {
	case ctx.Err() != nil:
		return nil, ctxError(ctx, addr)
	case limited.Err() != nil, errors.As(err, &timed) && timed.Timeout():
		// The cause is left out: it would pass for the end of the caller's context.
		err = fmt.Errorf("connecting: %w", ErrTimeout)
	}
	return nil, errs.E(op, errs.Subject(addr), errs.Unavailable, err)
}
