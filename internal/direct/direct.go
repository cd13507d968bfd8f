// Package direct is the client with which proxies, servers and daemons speak to
// storage nodes: backend requests over HTTP/1.1 on pooled connections.
//
// It writes and reads on the calling goroutine, since handing a small request
// from one goroutine to another costs more than the request. A request whose
// body is at hand goes through Do; one whose length shows only at its end goes
// through Open, in chunks, with what commits it in the trailer.
//
// What it promises: a body that ends with io.EOF is whole; a connection that
// breaks is an error. A request that could not be sent to its end, for whatever
// reason, looks broken to the node and never complete. Success that a node
// claims before it has been sent everything is not believed. What a node sends
// is held against strict and bounded rules, and a connection on which anything
// was out of order is not used again. The limit on time is one on silence, not
// on the length of a transfer.
//
// Which node to ask, how often, and what its status means is left to others.
package direct

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// Errors that callers tell apart.
var (
	// ErrTimeout is in the chain where a node did not take the connection in
	// ConnectTimeout, or was silent for NodeTimeout.
	ErrTimeout = errors.New("node was silent for too long")

	// ErrAnswered says that the node answered before the body was sent. The
	// answer is to be had from Stream.Response.
	ErrAnswered = errors.New("node answered before the end of the body")

	// ErrProtocol is in the chain where what the node sent is not the HTTP/1.1
	// that this client accepts.
	ErrProtocol = errors.New("malformed answer")
)

const op errs.Op = "direct"

// Config says how a Client behaves. The zero value of a field stands for its
// default.
type Config struct {
	// ConnectTimeout limits the making of a connection; 500 ms.
	ConnectTimeout time.Duration

	// NodeTimeout limits the silence between bytes, in either direction; 10 s.
	// It is kept to within an eighth, and never shorter than asked.
	NodeTimeout time.Duration

	// MaxIdlePerAddr is how many unused connections to one address are kept;
	// 128. A negative one keeps none.
	MaxIdlePerAddr int

	// IdleTimeout is how long an unused connection is kept; 30 s.
	IdleTimeout time.Duration

	// Host is what requests say that they are for; the address that they go to.
	Host string

	// UserAgent is sent with requests that don't bring their own; "martlet".
	UserAgent string

	// MaxHeaderBytes and MaxHeaders bound the head of an answer, and each also
	// the trailer; 128 KiB and 1024 fields.
	MaxHeaderBytes int
	MaxHeaders     int

	// Dial makes connections; net.Dialer's if nil. Those that are neither
	// syscall.Conn nor Peeked can't be examined without reading: staleness and
	// early answers are then seen only when they make a read or write fail.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Peeked is a connection that is not the kernel's and can be examined all the same,
// as one in memory.
type Peeked interface {
	// Peek tells how many bytes can be read without waiting. Where there are none
	// it returns why there will be none, if that is so.
	Peek() (int, error)

	// WriteBuffers does for it what net.Buffers.WriteTo does for sockets.
	WriteBuffers(v *net.Buffers) (int64, error)
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 500 * time.Millisecond
	}
	if c.NodeTimeout <= 0 {
		c.NodeTimeout = 10 * time.Second
	}
	if c.MaxIdlePerAddr == 0 {
		c.MaxIdlePerAddr = 128
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 30 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "martlet"
	}
	if c.MaxHeaderBytes <= 0 {
		c.MaxHeaderBytes = 128 << 10
	}
	if c.MaxHeaders <= 0 {
		c.MaxHeaders = 1024
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext // sets TCP_NODELAY
	}
	return c
}

// A Client sends requests to storage nodes. It is safe for concurrent use.
//
// Its errors are of kind errs.Unavailable with the address as subject, except:
// errs.Invalid for a request that can't be sent as it is (nothing was sent
// then); the context's own error, errs.Aborted where it was cancelled; and what
// the request's Body returned.
type Client struct {
	pool     *pool
	timeout  time.Duration
	patience time.Duration // until the answer's head has come; timeout where 0
}

// New makes a client.
func New(cfg Config) *Client {
	cfg = cfg.withDefaults()
	return &Client{pool: newPool(cfg), timeout: cfg.NodeTimeout}
}

// WithTimeout returns a client that differs in its NodeTimeout and shares the
// connections. Zero or less leaves the limit as it is.
func (c *Client) WithTimeout(d time.Duration) *Client {
	if d <= 0 {
		d = c.timeout
	}
	return &Client{pool: c.pool, timeout: d, patience: c.patience}
}

// WithPatience returns a client whose Do waits no longer than d for the head of
// an answer, and then fails with ErrTimeout: for requests that another node can
// answer as well. What follows the head has the client's usual limit. The
// connections are shared. Zero or less leaves the usual limit for the head, too.
func (c *Client) WithPatience(d time.Duration) *Client {
	return &Client{pool: c.pool, timeout: c.timeout, patience: max(d, 0)}
}

// Close closes the unused connections, and each of the others once its request
// is done. Requests made later still work, without keeping their connection.
func (c *Client) Close() { c.pool.close() }

// Do sends a request whose Length is known and returns the node's answer, once
// its head has come. The caller closes the answer's Body where it is not nil.
//
// It reads Length bytes of r.Body, in which fewer are an error. The framing
// fields (Content-Length, Transfer-Encoding, Trailer, Host, Connection and their
// like) are Do's own: those in r.Header are left out. Everything else is sent as
// the bytes it is.
//
// Where a kept connection turns out to be dead before the answer's first byte,
// the request is sent once more on a new one, provided that its body is small,
// absent or an io.Seeker.
func (c *Client) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	if err := checkDo(r); err != nil {
		return nil, err
	}
	b := takeBuffers()
	var err error
	if b.out, err = appendHead(b.out[:0], cmp.Or(c.pool.cfg.Host, addr), c.pool.cfg.UserAgent, r); err != nil {
		b.free()
		return nil, err
	}
	body, err := newSource(r, b)
	if err != nil {
		b.free()
		return nil, err
	}
	for again := false; ; again = true {
		cn, err := c.connect(ctx, addr, b, again)
		if err != nil {
			b.free()
			return nil, err
		}
		if c.patience > 0 {
			cn.timeout = min(c.patience, c.timeout)
		}
		a, err := cn.exchange(r.Method, body)
		cn.timeout = c.timeout
		if err == nil {
			return a.finish(), nil
		}
		retry := cn.reused && cn.broken && !cn.heard && body.rewind()
		cn.drop()
		if !retry {
			b.free()
			return nil, err
		}
	}
}

// connect takes a kept connection, or makes one, for one exchange with the
// buffers b.
func (c *Client) connect(ctx context.Context, addr string, b *buffers, fresh bool) (*conn, error) {
	if ctx.Err() != nil {
		return nil, ctxError(ctx, addr)
	}
	var cn *conn
	if !fresh {
		cn = c.pool.take(addr)
	}
	if cn == nil {
		var err error
		if cn, err = c.pool.dial(ctx, addr); err != nil {
			return nil, err
		}
	}
	cn.begin(ctx, c.timeout, b)
	return cn, nil
}

func ctxError(ctx context.Context, addr string) error {
	kind := errs.Aborted
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = errs.Unavailable
	}
	return errs.E(op, errs.Subject(addr), kind, ctx.Err())
}
