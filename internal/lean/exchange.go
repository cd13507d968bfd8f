package lean

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
)

// exchange is one request, and the context of its handler: all that is kept of it is one
// allocation, and its head.
type exchange struct {
	httpapi.Carried
	cancel context.CancelCauseFunc
	turn   int64 // of the watcher, when it began
	req    backend.Request
	body   body

	status int
	sent   int64 // bytes of the answer's body
	broken bool  // the answer is not whole
}

// exchange answers a request whose head came at a time. It reports whether the connection
// is good for another one, and what time it is.
func (c *conn) exchange(h head, began time.Time) (again bool, now time.Time) {
	s := c.of
	x := &exchange{req: backend.Request{
		Method: h.method, Path: h.path, Query: h.query, Header: h.fields, Length: h.length, Remote: c.remote,
	}}
	x.body = body{c: c, left: max(h.length, 0), chunked: h.length < 0, ended: h.length == 0, asks: h.expects, trailer: &x.req.Trailer}
	if h.length != 0 {
		x.req.Body = &x.body
	}
	var ctx context.Context
	ctx, x.cancel = context.WithCancelCause(s.base)
	s.Watch.Begin(ctx, &x.Carried, &x.req, began)
	x.turn = s.watcher.turn.Load()
	c.current.Store(x)
	if c.breaking.Load() { // it may not have seen x
		x.cancel(errEnding)
	}
	s.watcher.begun()

	resp, place := x.answer(s)
	whole := x.settle()
	again = whole && !h.closing && !x.broken && !s.ending.Load()
	if x.body.lost && h.expects {
		x.broken = true // the peer may be asked for the body in the middle of the answer
	}
	if !x.broken {
		x.send(c, &h, resp, again)
	}
	x.closeBody(resp)
	place.Leave()
	c.current.Store(nil)
	x.cancel(nil)
	now = time.Now()
	var read int64
	if !x.body.lost {
		read = x.body.n
	}
	x.Answered(x.status, read, x.sent, x.broken, now)
	if !whole && !x.broken && !x.body.lost {
		c.linger()
	}
	return again && !x.broken, now
}

// settle ends the body, and reports whether the connection is good for another request.
func (x *exchange) settle() bool {
	if x.broken {
		x.body.lost = !x.body.shut()
		return false
	}
	return x.body.settle()
}

// answer has the handler answer, if there is a place for the request, which is to be
// given back when the answer was sent.
func (x *exchange) answer(s *serving) (resp *backend.Response, place httpapi.Place) {
	place, ok := s.Gate.Enter(&x.req)
	if !ok {
		return httpapi.NoRoom(), httpapi.Place{}
	}
	return x.handle(s), place
}

func (x *exchange) handle(s *serving) (resp *backend.Response) {
	defer func() {
		if p := recover(); p != nil {
			if x.broken = x.Panicked(p); !x.broken {
				resp = httpapi.Plain(http.StatusInternalServerError)
			}
		}
	}()
	resp, err := s.Handler.Serve(x, &x.req)
	if err == nil {
		if err = check(resp); err != nil {
			x.closeBody(resp)
		}
	}
	if err != nil {
		return httpapi.Failure(x, s.Log, &x.req, err)
	}
	return resp
}

// check returns why a response can't be sent, nil where it can be.
func check(resp *backend.Response) error {
	switch {
	case resp == nil:
		return errors.New("there is no response")
	case resp.Status < 200 || resp.Status > 999:
		return fmt.Errorf("a response has the status %d", resp.Status)
	case resp.Length < 0:
		return errors.New("a response has no length")
	}
	return nil
}

// send sends the answer. Where that fails the connection is to be closed.
func (x *exchange) send(c *conn, h *head, resp *backend.Response, again bool) {
	x.status = resp.Status
	defer func() {
		if p := recover(); p != nil {
			x.broken = true
			_ = x.Panicked(p)
		}
	}()
	a := answer{c: c, resp: resp, old: h.old, id: x.ID()}
	if again {
		a.connection = kept(h)
	} else {
		a.connection = "close"
	}
	n, err := a.send(h.method == http.MethodHead)
	x.sent = n
	if err != nil {
		x.broken = true
		x.BrokeOff(err)
	}
}

// kept is what a peer reads that asks for the connection to be kept: Swift's clients do,
// though HTTP/1.1 means it anyway.
func kept(h *head) string {
	if h.kept {
		return "keep-alive"
	}
	return ""
}

func (x *exchange) closeBody(resp *backend.Response) {
	if resp == nil || resp.Body == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			x.broken = true
			_ = x.Panicked(p)
		}
	}()
	_ = resp.Body.Close() // it was only read from
}

// refuse answers what is no request, and has the connection closed. err may be the
// connection's own: then there is nobody to answer.
func (c *conn) refuse(err error) {
	var r *refusedError
	if !errors.As(err, &r) {
		c.freeBuffer()
		return
	}
	c.of.logRefused(c.remote, r)
	a := answer{c: c, resp: httpapi.Plain(r.status), connection: "close"}
	if _, err := a.send(false); err == nil {
		c.linger()
	}
}
