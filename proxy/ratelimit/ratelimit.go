// Package ratelimit holds back accounts and containers that change too fast, so that
// their listings, which are few and in one place each, stay usable. The rules are
// Swift's.
//
// A request that comes too early waits for its turn. One that would wait too long is
// refused with 498. An account can be refused altogether, with 497, or never be held
// back. How fast a container may change goes by how many objects it has.
//
// What counts is what passed this proxy, in its memory: each proxy of a cluster allows
// as much as is configured, and a restart begins afresh. What is remembered is bounded,
// and what is not known holds nobody back: neither a name that was forgotten, nor a
// container or account that can't be looked up. Who sends no token takes no turns of those who do:
// their listings are counted apart, and what they would write is refused further in.
package ratelimit

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// The statuses of refusals, which are Swift's.
const (
	StatusBlacklisted = 497
	StatusRateLimited = 498
)

// blacklistedFor is how long a request of an account that is refused altogether waits
// for that, so that it does not come again at once.
const blacklistedFor = time.Second

// Find returns the header of a container or account, as it is known; false where that
// can't be found out in time, or there is none.
type Find func(ctx context.Context, p name.Path) (Fields, bool)

// Fields are those of a header; the value of one that is not there is "".
type Fields interface{ Get(name string) string }

// Limiter is the feature. It is one for all chains of a proxy, since it remembers.
type Limiter struct {
	cfg                  Config
	containers, listings steps
	find                 Find
	log                  *slog.Logger
	turns                *turns
}

// New returns a limiter for a configuration that Validate has passed; nil where it
// is off.
func New(cfg Config, find Find, log *slog.Logger) *Limiter {
	if !cfg.Enabled {
		return nil
	}
	return &Limiter{
		cfg: cfg, containers: stepsOf(cfg.Containers), listings: stepsOf(cfg.Listings), find: find, log: log,
		turns: newTurns(cfg.RateBuffer.D(), cfg.MaxSleepTime.D()),
	}
}

// Link returns the link; nil where it is off. It stands behind what finds out who sends
// a request, and in front of what makes several of one.
func (l *Limiter) Link() chain.Link {
	if l == nil {
		return nil
	}
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			if refused := l.hold(ctx, r); refused != nil {
				return refused
			}
			return next.Serve(ctx, r)
		})
	}
}

// hold returns when a request may go on, or why it may not.
func (l *Limiter) hold(ctx context.Context, r *chain.Request) *chain.Response {
	p := r.Path
	if p.Account == "" || p.Container == "" && r.Identity != nil && r.Identity.Reseller { // who lifts limits
		return nil
	}
	said := ""
	if h, ok := l.find(ctx, name.Path{Account: p.Account}); ok {
		said = h.Get(Meta)
	}
	switch {
	case said == allowed || slices.Contains(l.cfg.Whitelist, p.Account):
		return nil
	case said == denied || slices.Contains(l.cfg.Blacklist, p.Account):
		if err := sleep(ctx, blacklistedFor); err != nil {
			return chain.Fail(ctx, err)
		}
		return chain.Text(StatusBlacklisted, "Your account has been blacklisted")
	}
	if r.Identity == nil && r.Grant == nil && r.Method != http.MethodGet {
		return nil // nobody in particular changes nothing: it is refused, and must not take the owner's turns
	}
	for _, limit := range l.limits(ctx, r, said) {
		wait, ok := l.turns.take(limit.key, limit.rate, time.Now())
		if !ok {
			return chain.Text(StatusRateLimited, "Slow down")
		}
		if log := l.cfg.LogSleepTime.D(); log > 0 && wait > log {
			l.log.LogAttrs(ctx, slog.LevelWarn, "request held back", slog.String("trans_id", httpapi.TransID(ctx)),
				slog.String("method", r.Method), slog.String("path", p.String()), slog.Duration("wait", wait))
		}
		if err := sleep(ctx, wait); err != nil {
			return chain.Fail(ctx, err)
		}
	}
	return nil
}

// limit is how many requests a second there may be of a kind.
type limit struct {
	key  key
	rate float64
}

// limits are those that hold for a request, in the order in which it waits for them.
func (l *Limiter) limits(ctx context.Context, r *chain.Request, said string) []limit {
	var list []limit
	add := func(k kind, p name.Path, rate float64) {
		if rate > 0 {
			list = append(list, limit{key{k, p}, rate})
		}
	}
	p, container := r.Path, name.Path{Account: r.Path.Account, Container: r.Path.Container}
	account := name.Path{Account: p.Account}
	write := r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodDelete || r.Method == "COPY"
	switch {
	case p.Object != "" && write:
		add(ofContainer, container, l.rate(ctx, l.containers, container))
	case p.Object != "" || p.Container == "":
	case r.Method == http.MethodGet:
		k := ofListing
		if r.Identity == nil && r.Grant == nil {
			k = ofOpenListing
		}
		add(k, container, l.rate(ctx, l.listings, container))
	case r.Method == http.MethodPut || r.Method == http.MethodDelete:
		add(ofAccount, account, l.cfg.Account)
	}
	if write {
		add(ofWrites, account, writes(said))
	}
	return list
}

// rate is how fast a container may change, or be listed; 0 is as fast as it can.
func (l *Limiter) rate(ctx context.Context, s steps, container name.Path) float64 {
	if len(s) == 0 {
		return 0
	}
	h, ok := l.find(ctx, container)
	if !ok {
		return 0
	}
	return s.at(h.Get("X-Container-Object-Count"))
}

// sleep waits, or until the client has gone.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errs.E(errs.Op("ratelimit.wait"), errs.Aborted, ctx.Err())
	}
}
