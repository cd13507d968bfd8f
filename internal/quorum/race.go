package quorum

import (
	"context"
	"io"
	"slices"
	"time"

	"martlet/internal/backend"
	"martlet/internal/splice"
)

// attempt is a request of a read that was sent to one device.
type attempt struct {
	candidate
	began    time.Time
	cancel   func() // makes it end at once; harmless when it has ended
	hedge    bool   // it was sent while another had its time
	followed bool   // it was decided whether another is sent while it has its time
}

// outcome is how an attempt ended.
type outcome struct {
	of   *attempt
	resp *backend.Response
	err  error
}

// A race is a read of which more than one request may be under way. It begins when
// the first one is not answered in time, or a connection has to be made for it: as
// long as neither is so, a read is work for one goroutine.
//
// The first good answer wins and the others are cancelled. A refusal or a failure
// has the next device asked at once, as in a read that asks one after the other;
// only handoffs wait until those that were asked have had their time, and where the
// newest version is wanted those that may have an older one until none that has it is
// under way. Nobody is asked twice: those that are slow are waited for when there is
// nobody else.
type race struct {
	*reading
	ctx     context.Context //nolint:containedctx // of the read
	results chan outcome
	over    chan struct{} // closed at the end
	running []*attempt    // the youngest last
	all     bool          // nobody is left to ask
}

// race goes on with a read whose first attempt is waited for with wait.
func (r *reading) race(ctx context.Context, first *attempt, wait func() (*backend.Response, error)) (Reply, error) {
	ra := &race{reading: r, ctx: ctx, results: make(chan outcome), over: make(chan struct{})}
	ra.run(first, wait)
	reply, won := ra.watch()
	ra.end(won)
	if won {
		return reply, nil
	}
	return r.verdict(ctx)
}

// run has a goroutine wait for an attempt.
func (ra *race) run(a *attempt, wait func() (*backend.Response, error)) {
	ra.running = append(ra.running, a)
	ra.c.late.Go(func() {
		resp, err := wait()
		select {
		case ra.results <- outcome{a, resp, err}:
		case <-ra.over:
			if err == nil {
				ra.drop(resp)
			}
		}
	})
}

// watch sends what is to be sent and takes answers, until one is good or nobody is
// left to give one.
func (ra *race) watch() (Reply, bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case o := <-ra.results:
			ra.running = slices.DeleteFunc(ra.running, func(a *attempt) bool { return a == o.of })
			if reply, ok := ra.settle(ra.ctx, o.of.candidate, o.of.began, o.resp, o.err); ok {
				if o.of.hedge {
					ra.manner.hedges.won.Inc()
				}
				return o.of.lasting(reply), true
			}
			if ra.no.Response != nil && ra.no.Response == o.resp {
				ra.no = o.of.lasting(ra.no) // it may be what is answered
			} else {
				o.of.cancel()
			}
			if ra.asked < len(ra.order) && !ra.older() {
				ra.send(false)
			}
		case <-timer.C:
		case <-ra.ctx.Done():
			return Reply{}, false
		}
		wait, done := ra.step(time.Now())
		if done {
			return Reply{}, false
		}
		timer.Reset(wait)
	}
}

// step asks those whose turn it is and returns how long there is nothing to do but
// to wait; done where nobody is left to wait for.
func (ra *race) step(now time.Time) (wait time.Duration, done bool) {
	const long = time.Hour // some answer, or the lack of it, comes before
	patience := ra.c.cfg.Patience
	for {
		if len(ra.running) == 0 && !ra.send(false) {
			return 0, true
		}
		young := ra.running[len(ra.running)-1]
		age := now.Sub(young.began)
		switch {
		case ra.all: // all have had their time
			return long, ra.refusals >= ra.p.absent()
		case ra.older():
			return long, false
		case age >= patience:
			ra.send(false)
			continue
		case young.followed || len(ra.running) > 1 || !ra.mayHedge(young):
			return patience - age, false
		}
		if delay := min(ra.delay(), patience); age < delay {
			return delay - age, false
		}
		young.followed = true
		if ra.manner.hedges.take() {
			ra.send(true)
		}
	}
}

// older reports whether all that are left to ask may have something older than one that has its time.
func (ra *race) older() bool {
	return ra.newest && ra.asked >= ra.alike && slices.ContainsFunc(ra.running, func(a *attempt) bool { return a.alike })
}

// mayHedge reports whether the device that is next may be asked beside another.
func (ra *race) mayHedge(young *attempt) bool {
	return ra.manner.hedges.share > 0 && young.alike && ra.asked < ra.alike && !ra.c.errors.behind(ra.order[ra.asked])
}

// send asks the device that is next and reports whether there was one.
func (ra *race) send(hedge bool) bool {
	at, ok := ra.next()
	if !ok {
		ra.all = true
		return false
	}
	a := &attempt{candidate: at, hedge: hedge}
	ra.run(a, ra.do(ra.ctx, a))
	return true
}

// do makes an attempt to be run, over a connection that may have to be made.
func (r *reading) do(ctx context.Context, a *attempt) func() (*backend.Response, error) {
	own, cancel := context.WithCancel(ctx)
	a.cancel, a.began = cancel, time.Now()
	req := r.request(ctx, a.device)
	return func() (*backend.Response, error) { return r.c.client.Do(own, a.device.Addr(), req) }
}

// end cancels those that are still running, and says of their devices what their
// silence says.
func (ra *race) end(won bool) {
	close(ra.over)
	now := time.Now()
	for _, a := range ra.running {
		a.cancel()
		if silent := now.Sub(a.began); won || ra.ctx.Err() == nil {
			ra.c.times.of(a.device).took(silent, now)
			if silent >= ra.c.cfg.Patience {
				ra.c.errors.failed(a.device, 1)
			} else {
				ra.c.errors.overtaken(a.device)
			}
		}
	}
}

// lasting has what an attempt holds let go with the body of its reply.
func (a *attempt) lasting(reply Reply) Reply {
	if reply.Body == nil {
		a.cancel()
		return reply
	}
	reply.Body = &lastingBody{reply.Body, a.cancel}
	return reply
}

type lastingBody struct {
	io.ReadCloser
	end func()
}

// Buffered returns how many bytes can be read without waiting, as far as the body knows.
func (b *lastingBody) Buffered() int {
	if in, ok := b.ReadCloser.(interface{ Buffered() int }); ok {
		return in.Buffered()
	}
	return 0
}

// Splice is that of the body.
func (b *lastingBody) Splice(p *splice.Pipe) (int, error) {
	if inner, ok := b.ReadCloser.(splice.Source); ok {
		return inner.Splice(p)
	}
	return 0, splice.ErrUnable
}

func (b *lastingBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}
