package direct

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// ErrCold says that Begin has no connection at hand that is good.
var ErrCold = errors.New("no connection is open")

// Begin sends a request without a body over a connection that is open already,
// and waits no longer than d for the head of the answer. Where that has not come
// by then the request goes on as a Pending. ErrCold says that a connection has to
// be made first, which Do does; the node has not answered anything then.
//
// All is done on the calling goroutine, so that a request that is answered in
// time costs what Do costs.
func (c *Client) Begin(ctx context.Context, addr string, r *backend.Request, d time.Duration) (*backend.Response, *Pending, error) {
	if r.Length != 0 {
		return nil, nil, refuse("a request that others may overtake has no body")
	}
	if err := checkDo(r); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, ctxError(ctx, addr)
	}
	b := takeBuffers()
	var err error
	if b.out, err = appendHead(b.out[:0], cmp.Or(c.pool.cfg.Host, addr), c.pool.cfg.UserAgent, r); err != nil {
		b.free()
		return nil, nil, err
	}
	cn := c.pool.take(addr)
	if cn == nil {
		b.free()
		return nil, nil, ErrCold
	}
	cn.begin(ctx, c.timeout, b)
	err = cn.sendAll(source{b: b})
	whole := err == nil
	if whole || err == ErrAnswered {
		var a *answer
		cn.timeout = min(d, c.timeout)
		a, err = cn.answer(r.Method, whole)
		cn.timeout = c.timeout
		if err == nil {
			return a.finish(), nil, nil
		}
		if errors.Is(err, ErrTimeout) && d < c.timeout {
			return nil, &Pending{c: cn, b: b, method: r.Method, whole: whole}, nil
		}
	}
	if cn.reused && cn.broken && !cn.heard {
		err = ErrCold
	}
	cn.drop()
	b.free()
	return nil, nil, err
}

// The states of a Pending.
const (
	pending int32 = iota
	answered
	cancelled
)

// A Pending is a request that was sent and not answered yet. Wait has to be
// called once, by any goroutine.
type Pending struct {
	c      *conn
	b      *buffers
	method string
	whole  bool
	state  atomic.Int32
}

// Wait waits for the head of the answer, for as long as the client allows silence.
// It returns what Do does; errs.Aborted where it was cancelled.
func (p *Pending) Wait() (*backend.Response, error) {
	a, err := p.c.answer(p.method, p.whole)
	if !p.state.CompareAndSwap(pending, answered) {
		err = errs.E(op, errs.Subject(p.c.host.addr), errs.Aborted, context.Canceled)
	}
	if err != nil {
		p.c.drop()
		p.b.free()
		return nil, err
	}
	return a.finish(), nil
}

// Cancel ends the request: Wait returns at once, and the connection is closed. It
// does nothing once there is an answer, whose connection may serve others already.
func (p *Pending) Cancel() {
	if p.state.CompareAndSwap(pending, cancelled) {
		p.c.poison()
	}
}
