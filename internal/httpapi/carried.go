package httpapi

import (
	"context"
	"net/http"
	"time"

	"martlet/internal/backend"
)

// Carried is a backend request that a server other than net/http's carries, watched as
// Observe watches those of net/http, and the context of its handler. Begin fills it in.
type Carried struct {
	context.Context
	watched watched
	began   time.Time
}

// Begin begins to watch a request, whose head had come at a time. Its transaction id is
// the one that its sender sent. The limits on silence are for the server to keep, and
// panics for it to end.
func (o *Observed) Begin(ctx context.Context, x *Carried, r *backend.Request, began time.Time) {
	*x = Carried{ctx, watched{id: r.Header.Get(backend.TransID), by: o, carried: r}, began}
}

// Value knows the transaction id, and leaves the rest to the context around it.
func (x *Carried) Value(key any) any {
	if key == (transKey{}) {
		return &x.watched
	}
	return x.Context.Value(key)
}

// ID is the transaction id, "" where there is none.
func (x *Carried) ID() string { return x.watched.id }

// Panicked logs that the handler panicked with p, and reports whether that was to break
// off the answer, which is no fault.
func (x *Carried) Panicked(p any) (abort bool) {
	if isAbort(p) {
		return true
	}
	r := x.watched.carried
	logPanic(x, x.watched.by.Log, r.Method, target(r), p)
	return false
}

// Answered counts and logs a request at its end: its status, the bytes of body that
// were read and sent, and whether the answer broke off.
func (x *Carried) Answered(status int, in, out int64, broken bool, now time.Time) {
	r, o := x.watched.carried, x.watched.by
	took := now.Sub(x.began)
	if o.Metrics != nil {
		o.Metrics.count(r.Method, status, took)
	}
	if o.Log.Enabled(x, o.Level) {
		remote, agent := x.watched.sender()
		o.access(x, line{r.Method, target(r), remote, agent, status, in, out, took, broken})
	}
}

// BrokeOff logs why an answer broke off.
func (x *Carried) BrokeOff(err error) {
	logBroken(x, x.watched.by.Log, x.watched.carried.Method, target(x.watched.carried), err)
}

// target is what a request asked for, as its sender wrote it.
func target(r *backend.Request) string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}

// sender is who sent a request, and with what.
func (w *watched) sender() (remote, agent string) {
	if w.carried != nil {
		return w.carried.Remote, w.carried.Header.Get("User-Agent")
	}
	return w.outer.RemoteAddr, w.outer.UserAgent()
}

// Place is a request's place inside of a gate.
type Place struct {
	g  *Gate
	of *share
}

// Enter takes a place for a backend request, which Leave gives back, and reports whether
// there is one. A nil gate has room for all.
func (g *Gate) Enter(r *backend.Request) (Place, bool) {
	if g == nil {
		return Place{}, true
	}
	p := Place{g: g}
	if g.cfg.Carried != nil {
		p.of = g.shareOf(g.cfg.Carried(r))
	}
	return p, g.enter(0, p.of)
}

// Leave gives the place back, once.
func (p Place) Leave() {
	if p.g != nil {
		p.g.leave(0, p.of)
	}
}

// NoRoom is the answer to a request for which there was no place.
func NoRoom() *backend.Response {
	resp := plain(http.StatusServiceUnavailable, "")
	resp.Header.Add(backend.RetryAfter, "1")
	return resp
}

// Plain answers with a status and its words.
func Plain(code int) *backend.Response { return plain(code, "") }
