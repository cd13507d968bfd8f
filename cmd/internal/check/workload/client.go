package workload

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"martlet/cmd/internal/check/history"
)

// A client does one thing after the other.
type client struct {
	w      *Workload
	n      int
	proxy  int
	chance *rand.Rand
	due    time.Time // when the next operation is
	whole  []large   // large objects whose parts it has stored, at most keepLarge
}

func (c *client) run(ctx context.Context) {
	for c.wait(ctx) {
		c.step(ctx)
	}
}

// wait waits until the next operation is due; it reports whether there is to be one. What a slow store has put off is not
// made up for.
func (c *client) wait(ctx context.Context) bool {
	if rate := c.w.cfg.Rate; rate > 0 {
		every := float64(c.w.cfg.Clients) / rate * float64(time.Second)
		c.due = c.due.Add(time.Duration(every * (0.5 + rand.Float64()))) // of another source: times are not of the seed
		if now := time.Now(); c.due.Before(now) {
			c.due = now
		}
		t := time.NewTimer(time.Until(c.due))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return ctx.Err() == nil
}

// step does one thing, whose nature is chosen before anything is sent.
func (c *client) step(ctx context.Context) {
	ctx = context.WithoutCancel(ctx) // what has begun is ended: its outcome is known that way
	n := c.name()
	switch kind := c.w.mix.pick(c.chance); kind {
	case history.Put:
		c.put(ctx, n)
	case history.Copy:
		c.copy(ctx, n)
	case history.Post, history.Delete:
		c.small(ctx, n, kind)
	case history.List:
		c.list(ctx, n)
	default:
		c.read(ctx, n, kind)
	}
}

// name chooses one.
func (c *client) name() history.Name {
	return history.Name{
		Container: c.w.containers[c.chance.IntN(len(c.w.containers))],
		Object:    c.w.names[c.chance.IntN(len(c.w.names))],
	}
}

// start begins an operation.
func (c *client) start(kind history.Kind, n history.Name) history.Op {
	op := history.Op{Client: c.n, Proxy: c.proxy, Kind: kind, Container: n.Container, Object: n.Object}
	op.ID, op.Start = c.w.log.Start()
	return op
}

// end ends it.
func (c *client) end(op *history.Op) {
	op.End = c.w.log.Now()
	c.w.log.Add(*op)
}

// patience bounds an operation that moves so many bytes.
func (w *Workload) patience(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, w.cfg.Timeout+time.Duration(size)*time.Second/(1<<20))
}

// settle says what a write came to that was answered with a status, 0 for none.
func settle(op *history.Op, status int, whole bool) {
	op.Status = status
	switch {
	case !whole, refused(op.Kind, status):
		op.Outcome = history.Refused
	case status/100 == 2:
		op.Outcome = history.Acked
	default:
		op.Outcome = history.Unknown
	}
}

// refused reports whether a status says that nothing was done, and never will be. A 404, a 409 or a 412 may be what a
// majority has said, while others have done it.
func refused(kind history.Kind, status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusLengthRequired,
		http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusExpectationFailed,
		http.StatusUnprocessableEntity:
		return true
	case http.StatusNotFound: // of the source, or of the container
		return kind == history.Copy
	}
	return false
}
