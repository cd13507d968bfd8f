package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"martlet/internal/splice"
)

// named puts a transaction id on the answers that net/http gives by itself, to
// what it can't read as a request: no handler sees those. Each has a line in the
// log, too.
type named struct {
	net.Listener
	id  func() string
	log *slog.Logger
}

// Accept returns the next connection, as a *namedConn.
func (l *named) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &namedConn{Conn: c, of: l}, nil
}

// namedConn is one connection. What is written while no request is being handled
// is net/http's own.
type namedConn struct {
	net.Conn
	of      *named
	handled atomic.Bool     // from the start of a handler until all of its answer is written
	held    holding         // for who writes the answer; closing does not look at it
	raw     syscall.RawConn // of who writes the answer: see socket
}

type namedKey struct{}

// register makes the server tell connections when a handler has them.
func (l *named) register(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, namedKey{}, c) }
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		if c, ok := c.(*namedConn); ok && state == http.StateIdle {
			c.handled.Store(false)
		}
	}
	h := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(namedKey{}).(*namedConn); ok {
			c.handled.Store(true)
		}
		h.ServeHTTP(w, r)
	})
}

// Write sends p, with an id where it begins an answer of net/http's own.
func (c *namedConn) Write(p []byte) (int, error) {
	if c.held.on {
		return len(p), c.send(c.held.take(p))
	}
	line := bytes.Index(p, []byte("\r\n"))
	if c.handled.Load() || line < 0 || !bytes.HasPrefix(p, []byte("HTTP/1.")) {
		return c.Conn.Write(p)
	}
	id := c.of.id()
	c.of.log.LogAttrs(context.Background(), slog.LevelInfo, "request refused unread", slog.String("trans_id", id),
		slog.String("remote", c.RemoteAddr().String()), slog.String("answer", string(p[:line])))
	told := bytes.Join([][]byte{p[:line], []byte("X-Trans-Id: " + id), []byte("X-Openstack-Request-Id: " + id), p[line+2:]}, []byte("\r\n"))
	if _, err := c.Conn.Write(told); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadFrom sends what is in a pipe, as much of it as the socket takes at once, and anything else as Write does.
func (c *namedConn) ReadFrom(src io.Reader) (int64, error) {
	if p, ok := src.(*splice.Pipe); ok && !c.held.on {
		if raw := c.socket(); raw != nil {
			n, err := p.Drain(raw)
			return int64(n), err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, src)
}

// socket is that of the connection, nil where what is written to it is not what is sent: TLS.
func (c *namedConn) socket() syscall.RawConn {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.raw == nil {
		c.raw, _ = tcp.SyscallConn() // it fails only where it is closed
	}
	return c.raw
}

// send sends what was held of an answer.
func (c *namedConn) send(p []byte) error {
	if p == nil {
		return nil
	}
	defer c.held.free()
	_, err := c.Conn.Write(p)
	return err
}

// NetConn is the connection below.
func (c *namedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends one direction, where the connection can.
func (c *namedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
