package direct

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// Stream is a request under way whose body is sent piece by piece. Write, Commit
// and Response are for one goroutine; Abort may come from any, also to interrupt
// them. Every Stream ends with Commit, with Response or with Abort; after an
// error from any of these Abort is still due, and harmless where it was not.
type Stream struct {
	client *Client
	ctx    context.Context
	addr   string
	method string
	sent   bool // something of the body went out
	err    error
	digits []byte // room for the line before a chunk

	mu    sync.Mutex
	c     *conn // mu for setting; nil once it was handed on
	ended bool  // mu; by Commit, Response or Abort
}

// Open begins a request whose body's length is not known: it sends the head.
// r.Length and r.Body are not looked at. r.Trailer may name the fields (their
// values don't matter) that Commit will send, so as to announce them.
//
// The context holds for the whole exchange, the reading of the answer's body
// included.
func (c *Client) Open(ctx context.Context, addr string, r *backend.Request) (*Stream, error) {
	b := takeBuffers()
	chunked := *r
	chunked.Length = -1
	var err error
	if b.out, err = appendHead(b.out[:0], cmp.Or(c.pool.cfg.Host, addr), c.pool.cfg.UserAgent, &chunked); err != nil {
		b.free()
		return nil, err
	}
	s := &Stream{client: c, ctx: ctx, addr: addr, method: r.Method, digits: make([]byte, 0, 20)}
	if s.c, err = c.connect(ctx, addr, b, false); err != nil {
		b.free()
		return nil, err
	}
	err = s.c.send(b.out)
	if err != nil && err != ErrAnswered && s.dead() {
		err = s.reopen()
	}
	if err != nil && err != ErrAnswered {
		s.Abort()
		return nil, err
	}
	s.err = err
	return s, nil
}

// dead reports whether the connection was a kept one that had been closed on the
// other side before the node saw anything of the body.
func (s *Stream) dead() bool { return !s.sent && s.c.reused && s.c.broken && !s.c.heard }

// reopen begins again on a new connection.
func (s *Stream) reopen() error {
	b := s.c.b
	s.c.drop()
	next, err := s.client.connect(s.ctx, s.addr, b, true)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.c = next
	ended := s.ended
	s.mu.Unlock()
	if ended {
		next.drop()
		return net.ErrClosed
	}
	return next.send(b.out)
}

// Write sends p as one chunk. It does not keep p. ErrAnswered says that the node
// has answered and wants no more: see Response. After any error the stream can't
// be written to.
func (s *Stream) Write(p []byte) (int, error) {
	if err := s.ready(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil // an empty chunk would be the last
	}
	s.digits = append(strconv.AppendUint(s.digits[:0], uint64(len(p)), 16), "\r\n"...)
	s.sent = true
	if s.err = s.c.send(s.digits, p, s.digits[len(s.digits)-2:]); s.err != nil {
		return 0, s.err
	}
	return len(p), nil
}

// ready looks whether the stream can be written to.
func (s *Stream) ready() error {
	if s.err != nil {
		return s.err
	}
	if s.over() {
		return errs.E(op, errs.Subject(s.addr), errs.Unavailable, net.ErrClosed)
	}
	answered, err := s.c.answered()
	if err != nil && s.dead() {
		err = s.reopen()
	}
	if answered {
		err = ErrAnswered
	}
	s.err = err
	return err
}

func (s *Stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Commit ends the body, sends the trailer and returns the node's answer, which
// the caller closes. If the node has refused before, this is its refusal. If the
// trailer can't be sent as it is (errs.Invalid), nothing was sent.
func (s *Stream) Commit(trailer backend.Header) (*backend.Response, error) {
	if s.err == nil || s.err == ErrAnswered {
		if err := s.commit(trailer); err != nil {
			return nil, err
		}
	}
	if s.err != nil && s.err != ErrAnswered {
		return nil, s.err
	}
	return s.answer(s.err == nil)
}

func (s *Stream) commit(trailer backend.Header) error {
	end, err := appendFields(append(make([]byte, 0, 256), "0\r\n"...), trailer)
	if err != nil {
		return err
	}
	if s.ready() == nil {
		s.sent = true
		s.err = s.c.send(append(end, "\r\n"...))
	}
	return nil
}

// Response returns the answer that came early, after ErrAnswered; without that
// it is an error of kind errs.Invalid. An early answer of success is an error:
// a node can't have kept what it was not sent.
func (s *Stream) Response() (*backend.Response, error) {
	if s.err == nil {
		return nil, refuse("the node has not answered")
	}
	if s.err != ErrAnswered {
		return nil, s.err
	}
	return s.answer(false)
}

// answer reads the answer and takes it out of Abort's reach.
func (s *Stream) answer(whole bool) (*backend.Response, error) {
	gone := errs.E(op, errs.Subject(s.addr), errs.Unavailable, net.ErrClosed)
	if s.over() {
		return nil, gone
	}
	a, err := s.c.answer(s.method, whole)
	if err != nil {
		s.err = err
		s.Abort()
		return nil, err
	}
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	s.mu.Unlock()
	if ended {
		return nil, gone
	}
	return a.finish(), nil
}

// Abort drops the connection, by which the node sees that the body is broken. It
// may be called more than once. After an answer was returned it does nothing.
func (s *Stream) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.c.drop()
	}
}
