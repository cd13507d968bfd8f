// Package daemon runs background work: finite passes, repeated.
//
// A piece of background work is written as one full sweep that ends. Tests and
// operators run exactly one; a daemon is the same sweep in the loop of Forever.
// Group owns what runs beside each other in a process and ends it together.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// A Pass is one full sweep. It ends by itself, or early with the context.
type Pass func(ctx context.Context) error

// Forever runs pass about once per interval until ctx ends, and returns why it
// ended. The first run comes after a random part of the interval, so that a
// fleet that was restarted does not sweep in step. A pass that fails or panics
// is logged; the next one is the retry.
func Forever(ctx context.Context, log *slog.Logger, every time.Duration, pass Pass) error {
	wait := rand.N(max(every, 1))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		began := time.Now()
		if err := guard(ctx, pass); err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelError, "pass failed", slog.Any("err", err))
		}
		timer.Reset(max(0, every-time.Since(began)) + rand.N(max(every/10, 1)))
	}
}

// guard turns a panic of a pass into an error: one damaged thing must not end
// the process that serves all the others.
func guard(ctx context.Context, pass Pass) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a pass: %v\n%s", p, debug.Stack())
		}
	}()
	return pass(ctx)
}

// A Group runs functions beside each other. When one of them returns an error,
// the context of the others ends.
type Group struct {
	ctx    context.Context //nolint:containedctx // the group's own life
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	first error // guarded by mu
}

// NewGroup returns a group whose functions end with ctx.
func NewGroup(ctx context.Context) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel}
}

// Go starts run. Its name is put before its error.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	g.wg.Go(func() {
		err := run(g.ctx)
		if err == nil || g.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(g.ctx))) {
			return
		}
		err = fmt.Errorf("%s: %w", name, err)
		g.mu.Lock()
		if g.first == nil {
			g.first = err
		}
		g.mu.Unlock()
		g.cancel(err)
	})
}

// Wait returns when every function has, with the first error; an end because
// the context ended is none.
func (g *Group) Wait() error {
	g.wg.Wait()
	g.cancel(nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.first
}
