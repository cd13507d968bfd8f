package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/crew"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/rowbatch"
)

// maxNear is how many requests of a node to itself are under way at most: others go over the network, many in one. Those that a
// disk holds up stay that long, although nobody waits for them any more.
const maxNear = 1024

// near sends updates of listings. Those for the node's own servers it hands over in memory: what the answer says is as
// durable as if it had come over the network, as it is the same handler that gives it. Other requests, and those for others, go the usual way.
//
// It is a rowbatch.Client and a pending.Sender, and safe for concurrent use once all servers are known.
type near struct {
	far     *rowbatch.Sender
	log     *slog.Logger
	servers []nearServer
	room    chan struct{} // one for each that is under way
	running crew.Crew
}

// nearServer is a server of this process.
type nearServer struct {
	at      hosts.Self
	handler backend.Handler
}

func newNear(far *rowbatch.Sender, log *slog.Logger) *near {
	return &near{far: far, log: log, room: make(chan struct{}, maxNear)}
}

// add has requests to an address be answered by a handler. It is for the time before the first request.
func (n *near) add(at hosts.Self, h backend.Handler) {
	n.servers = append(n.servers, nearServer{at, h})
}

// Close waits for what is under way. Nothing may be sent meanwhile, or later.
func (n *near) Close() error {
	n.running.Close()
	return nil
}

// Do sends a request, whose header is its own from then on. It returns soon after ctx ends.
func (n *near) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	h := n.handler(addr)
	if h == nil || r.Body != nil {
		return n.far.Do(ctx, addr, r)
	}
	select {
	case n.room <- struct{}{}:
	default:
		return n.far.Do(ctx, addr, r)
	}
	type outcome struct {
		resp *backend.Response
		err  error
	}
	done := make(chan outcome, 1) // has room, so that nobody need wait for it
	// Not on this goroutine: a disk that hangs does not know of ctx.
	n.running.Go(func() {
		defer func() { <-n.room }()
		resp, err := n.serve(ctx, h, r)
		done <- outcome{resp, err}
	})
	select {
	case o := <-done:
		return o.resp, o.err
	case <-ctx.Done():
		kind := errs.Aborted
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			kind = errs.Unavailable
		}
		return nil, errs.E(errs.Op("node.near"), errs.Subject(addr), kind, context.Cause(ctx))
	}
}

// handler returns what answers at an address, nil where that is not of this process.
func (n *near) handler(addr string) backend.Handler {
	if len(n.servers) == 0 {
		return nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	for i := range n.servers {
		if n.servers[i].at.Is(host, port) {
			return n.servers[i].handler
		}
	}
	return nil
}

// serve has a handler answer as it would over the network: what fails is an answer, and a panic ends nothing but its request.
func (n *near) serve(ctx context.Context, h backend.Handler, r *backend.Request) (resp *backend.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			n.log.LogAttrs(ctx, slog.LevelError, "panic in a handler", slog.String("method", r.Method), slog.String("path", r.Path),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			resp, err = nil, errs.E(errs.Op("node.near"), errs.Unavailable, fmt.Errorf("panic: %v", p))
		}
	}()
	resp, err = h.Serve(ctx, r)
	if err != nil {
		resp = httpapi.Failure(ctx, n.log, r, err)
	}
	return resp, nil
}
