// Package lean is the HTTP/1.1 server of storage nodes: backend requests are read
// from their connections straight into what handlers take, and answered, on one
// goroutine for each connection.
//
// What it promises: what is not HTTP/1.1 to the letter is refused, and its
// connection closed, so that nobody can have a part of one request pass for
// another; every input is bounded. A body that ends with io.EOF came whole. An
// answer that can't be sent to its end breaks its connection, and never looks
// whole: the last of a body is sent when its source has confirmed that it was the
// last. A small answer leaves in one write.
//
// The limit on time is one on silence, not on the length of a transfer.
//
// The context of a request ends when its peer goes away, which is noticed between
// 250 and 500 ms later, and only on connections of the kernel's (syscall.Conn) and in memory (package memnet): a
// request that is answered sooner pays nothing for it. A peer that has sent more
// than the request is not seen going, and one that closes its side of the
// connection alone is taken to be gone, as by net/http.
//
// How errors become statuses, transaction ids, the access log and metrics are
// package httpapi's, and the same as for net/http's servers. TLS is not spoken.
package lean

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
)

// Server is one listening address.
type Server struct {
	Name     string // for errors and the log
	Listener net.Listener
	Memory   net.Listener // takes connections of those who share the process, beside it; nil where there are none
	Handler  backend.Handler
	Log      *slog.Logger

	// Watch is how requests are watched. Its Silence is also the longest that a peer
	// may take over a head, or stay idle between requests; default 60 s. Its NewID,
	// LeastPace and Pressed are not looked at: a request has the transaction id that
	// it brings.
	Watch httpapi.Observed
	Gate  *httpapi.Gate // which lets requests in; nil lets all in

	Drain     time.Duration // how long requests may go on after the end was asked for; default 30 s
	MaxHeader int           // bytes of a request's line and header; default 256 KiB
}

const (
	// farewell is for how long, after another process has taken over, connections are
	// kept for clients that have yet to learn of it.
	farewell = 5 * time.Second

	// freshTime is how long, at the end, connections are kept on which nothing has come.
	freshTime = 5 * time.Second

	// breakTime is how long handlers have to return when they were broken off.
	breakTime = 5 * time.Second
)

// serving is a Server that runs.
type serving struct {
	*Server
	silence   time.Duration
	maxHeader int
	base      context.Context // of requests, which outlive the end that was asked for

	ending  atomic.Bool // answers end their connections
	closing atomic.Bool // connections that wait for a request are closed

	date    atomic.Pointer[dateLine]
	watcher watcher

	running sync.WaitGroup // of connections
	mu      sync.Mutex
	conns   map[*conn]struct{} // mu
}

// Run serves until ctx ends. Then it stops accepting, lets requests go on for
// Drain, and breaks off what is left; it returns when no handler runs any more, or
// 5 s after it has broken off those that do. Where the cause of the end is
// httpapi.ErrHandedOver connections are answered on for a while before, and told
// that they end.
func (s *Server) Run(ctx context.Context) error {
	r := &serving{Server: s, silence: s.Watch.Silence, maxHeader: s.MaxHeader, conns: map[*conn]struct{}{}}
	if r.silence <= 0 {
		r.silence = time.Minute
	}
	if r.maxHeader <= 0 {
		r.maxHeader = 256 << 10
	}
	drain := s.Drain
	if drain <= 0 {
		drain = 30 * time.Second
	}
	r.base = context.WithoutCancel(ctx)
	over := r.watcher.start(r)
	defer over()
	accepted := make(chan error, 1)
	go func() { accepted <- r.accept(s.Listener) }() //nolint:contextcheck // requests have contexts of their own, which outlive ctx
	beside := r.acceptMemory()                       //nolint:contextcheck // likewise
	select {
	case err := <-accepted:
		beside()
		r.end(ctx, 0)
		return fmt.Errorf("%s on %s: %w", s.Name, s.Listener.Addr(), err)
	case <-ctx.Done():
	}
	r.ending.Store(true)
	beside() // first: who takes over the address of the socket is not to find the other one taken
	err := s.Listener.Close()
	if refused := <-accepted; !errors.Is(refused, net.ErrClosed) {
		err = errors.Join(err, refused)
	}
	bound := time.Now().Add(drain)
	if errors.Is(context.Cause(ctx), httpapi.ErrHandedOver) {
		<-time.After(min(farewell, drain))
	}
	r.end(ctx, time.Until(bound))
	if err != nil {
		return fmt.Errorf("%s on %s: %w", s.Name, s.Listener.Addr(), err)
	}
	return nil
}

// accept takes connections until the listener is closed. Other failures, as that of
// having no file descriptor left, pass.
func (s *serving) accept(from net.Listener) error {
	var pause time.Duration
	for {
		nc, err := from.Accept()
		if err == nil {
			pause = 0
			s.admit(nc)
			continue
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.Log.LogAttrs(s.base, slog.LevelWarn, "connection was not accepted", slog.String("server", s.Name), slog.Any("err", err))
		<-time.After(pause)
	}
}

// acceptMemory takes connections in memory until the function that it returns is called.
func (s *serving) acceptMemory() (stop func()) {
	l := s.Memory
	if l == nil {
		return func() {}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = s.accept(l) // it fails only where it is closed
	}()
	return func() {
		_ = l.Close() // it has no errors
		<-over
	}
}

func (s *serving) admit(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.running.Go(func() {
		defer s.forget(c)
		c.serve()
	})
}

func (s *serving) forget(c *conn) {
	_ = c.nc.Close() // nothing depends on it any more
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// each calls f with every connection that is open.
func (s *serving) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// end lets requests go on for a while, and breaks off those that are left.
func (s *serving) end(ctx context.Context, drain time.Duration) {
	s.ending.Store(true)
	s.closing.Store(true)
	s.each((*conn).dismiss)
	over := make(chan struct{})
	go func() { s.running.Wait(); close(over) }()
	if ended(over, drain) {
		return
	}
	s.Log.LogAttrs(ctx, slog.LevelWarn, "requests broken off at shutdown", slog.String("server", s.Name))
	s.each((*conn).breakOff) // what they wrote is as durable as their answers said
	if !ended(over, breakTime) {
		s.Log.LogAttrs(ctx, slog.LevelError, "requests that do not end", slog.String("server", s.Name))
	}
}

// ended waits for something to be over, and reports whether it was in time.
func ended(over <-chan struct{}, within time.Duration) bool {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-over:
		return true
	case <-late.C:
		return false
	}
}
