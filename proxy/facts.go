package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/proxy/versioning"
	"martlet/ring"
)

// facts is what a request needs to know of an account or container before it
// goes on. It does not change once made.
type facts struct {
	exists bool
	gone   bool           // an account, or that of a container, was deleted and is not reclaimed yet
	header backend.Header // of its HEAD
	policy policy.Index   // of a container

	versions bool      // objects of the container have versions, or had
	at       time.Time // when it was looked up
}

// An infoCache remembers what accounts and containers are like for a moment.
//
// Requests that want the same at the same time share one look-up. What this
// proxy writes it forgets at once. That something does not exist is never
// remembered: it may come to be through another proxy.
type infoCache struct {
	life time.Duration
	find func(ctx context.Context, p name.Path) (facts, error)

	mu    sync.Mutex
	known map[name.Path]facts   // guarded by mu
	under map[name.Path]*lookup // look-ups under way; guarded by mu
	swept time.Time             // guarded by mu

	settling sync.WaitGroup // look-ups, which outlive the requests that began them
}

// lookup is one look-up that several requests may wait for.
type lookup struct {
	done  chan struct{}
	facts facts
	err   error
}

func newInfoCache(life time.Duration, find func(context.Context, name.Path) (facts, error)) *infoCache {
	return &infoCache{life: life, find: find, known: map[name.Path]facts{}, under: map[name.Path]*lookup{}}
}

// get returns what is known of p, at most life old, or looks it up.
func (c *infoCache) get(ctx context.Context, p name.Path) (facts, error) {
	now := time.Now()
	c.mu.Lock()
	if i, ok := c.known[p]; ok && now.Sub(i.at) < c.life {
		c.mu.Unlock()
		return i, nil
	}
	return c.join(ctx, p) // unlocks
}

// remembered returns what is known of p, where it need not be looked up.
func (c *infoCache) remembered(p name.Path) (facts, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.known[p]
	return i, ok && time.Since(i.at) < c.life
}

// fresh looks p up, whatever is known of it: for use before a refusal.
func (c *infoCache) fresh(ctx context.Context, p name.Path) (facts, error) {
	c.forget(p)
	c.mu.Lock()
	return c.join(ctx, p)
}

// look returns fresh, or get.
func (c *infoCache) look(fresh bool) func(context.Context, name.Path) (facts, error) {
	if fresh {
		return c.fresh
	}
	return c.get
}

// join waits for a look-up of p that is under way, or begins one. It is called
// with mu held and lets it go.
func (c *infoCache) join(ctx context.Context, p name.Path) (facts, error) {
	l, ok := c.under[p]
	if !ok {
		l = &lookup{done: make(chan struct{})}
		c.under[p] = l
		// Others may wait for this: it does not end with the client that began it.
		c.settling.Go(func() { c.settle(context.WithoutCancel(ctx), p, l) })
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.facts, l.err
	case <-ctx.Done():
		return facts{}, errs.E(errs.Aborted, ctx.Err())
	}
}

// settle does a look-up, and tells who waits for it. No request ends its panics: they are errors.
func (c *infoCache) settle(ctx context.Context, p name.Path, l *lookup) {
	func() {
		defer func() {
			if broke := recover(); broke != nil {
				l.err = errs.E(errs.Op("proxy.info"), errs.Subject(p.String()), fmt.Errorf("panic: %v\n%s", broke, debug.Stack()))
			}
		}()
		l.facts, l.err = c.find(ctx, p)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under[p] == l { // not forgotten meanwhile
		delete(c.under, p)
		if l.err == nil && l.facts.exists {
			c.known[p] = l.facts
		}
	}
	c.sweep()
	close(l.done)
}

// forget drops what is known of p. A look-up that is under way does not put it
// back, and requests that come now do not share it.
func (c *infoCache) forget(p name.Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, p)
	delete(c.under, p) // its waiters get what it finds; nobody else does
}

// sweep drops what is too old, now and then. It is called with mu held.
func (c *infoCache) sweep() {
	now := time.Now()
	if now.Sub(c.swept) < c.life {
		return
	}
	c.swept = now
	for p, i := range c.known {
		if now.Sub(i.at) >= c.life {
			delete(c.known, p)
		}
	}
}

// forgetContainers drops what is known of the containers of an account.
func (c *infoCache) forgetContainers(account string) {
	of := func(p name.Path) bool { return p.Account == account && p.Container != "" }
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.known, func(p name.Path, _ facts) bool { return of(p) })
	maps.DeleteFunc(c.under, func(p name.Path, _ *lookup) bool { return of(p) })
}

// accountGone reports whether an account was deleted and is not reclaimed yet, so that
// clients find nothing in it, whatever there still is. Where its replicas can't say so in
// time it is taken to be there: who reads objects does not depend on them.
func (s *Server) accountGone(ctx context.Context, account string) bool {
	if strings.HasPrefix(account, s.cfg.Limits.AutoCreateAccountPrefix) {
		return false // internal accounts are never deleted
	}
	p := name.Path{Account: account}
	if i, ok := s.infos.remembered(p); ok {
		return i.gone
	}
	ctx, stop := context.WithTimeout(ctx, s.cfg.RecoverableNodeTimeout.D())
	defer stop()
	i, err := s.infos.get(ctx, p)
	return err == nil && i.gone
}

// noContainer is why there is none in an account that was deleted; nil in others.
func (s *Server) noContainer(rq *request) error {
	if s.accountGone(rq.ctx, rq.Path.Account) {
		return errs.E(errs.Op("proxy.container"), errs.NotFound)
	}
	return nil
}

// lookUp asks the storage nodes for the head of an account or container. There is no
// container in an account that was deleted.
func (s *Server) lookUp(ctx context.Context, p name.Path) (facts, error) {
	place := s.cluster.Account(p.Account)
	var gone chan bool
	if p.Container != "" {
		place = s.cluster.Container(p.Account, p.Container)
		gone = make(chan bool, 1)
		go func() { gone <- s.accountGone(ctx, p.Account) }() // beside the rest
	}
	began := time.Now()
	reply, err := s.cluster.Read(ctx, place, func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: "HEAD"}
	})
	if err != nil {
		return facts{}, err
	}
	a := s.cluster.Answered(0, reply.Device, reply.Response, nil)
	switch {
	case a.Status == http.StatusNotFound:
		return facts{header: a.Header, at: began, gone: isGone(a.Header)}, nil
	case a.Status/100 != 2:
		return facts{}, refusal(a)
	case gone != nil && <-gone:
		return facts{at: began, gone: true}, nil
	}
	i := facts{exists: true, header: a.Header, at: began}
	i.versions = a.Header.Get(versioning.Container) != ""
	if text := a.Header.Get(backend.PolicyIndex); text != "" {
		if i.policy, err = policy.ParseIndex(text); err != nil {
			return facts{}, errs.E(errs.Op("proxy.info"), errs.Subject(p.String()), errs.Unavailable, err)
		}
	}
	return i, nil
}

// container returns what is known of the container of a path. Where it does not
// exist the error is of kind errs.NotFound.
func (s *Server) container(ctx context.Context, p name.Path) (facts, error) {
	i, err := s.infos.get(ctx, name.Path{Account: p.Account, Container: p.Container})
	if err == nil && !i.exists {
		err = errs.E(errs.Op("proxy.container"), errs.NotFound)
	}
	return i, err
}

// moved reports whether a container, of which c was known when a request began, is
// another one by now, whose objects are elsewhere: it was deleted and made anew with
// another policy, by way of another proxy. It is asked before an object is said not
// to be there.
func (s *Server) moved(ctx context.Context, p name.Path, c facts, began time.Time) bool {
	if len(s.policies.All()) < 2 || !c.at.Before(began) {
		return false
	}
	now, err := s.infos.fresh(ctx, name.Path{Account: p.Account, Container: p.Container})
	return err == nil && now.exists && now.policy != c.policy
}
