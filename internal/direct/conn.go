package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"martlet/internal/errs"
	"martlet/internal/splice"
)

const (
	inSize  = 8 << 10 // holds head and body of a small answer
	outSize = 4 << 10

	// keepSize is the size up to which grown buffers are kept.
	keepSize = 64 << 10

	// watchEvery is how often a blocked write looks whether the node has answered
	// instead of reading on.
	watchEvery = 100 * time.Millisecond
)

// buffers serve one exchange. Unused connections have none.
type buffers struct {
	in  []byte // what was read and not yet handed out is a part of it
	out []byte // the request's head, and a small body behind it
}

var bufferPool = sync.Pool{New: func() any {
	return &buffers{in: make([]byte, inSize), out: make([]byte, 0, outSize)}
}}

func takeBuffers() *buffers { return bufferPool.Get().(*buffers) }

func (b *buffers) free() {
	if cap(b.in)+cap(b.out) <= keepSize {
		bufferPool.Put(b)
	}
}

// conn is a connection. Between begin and release or drop it belongs to one
// exchange, whose goroutine alone uses it; drop, and the watch on the context,
// may come from others.
type conn struct {
	host   *host
	nc     net.Conn
	raw    syscall.RawConn // nil where nc is not the kernel's
	own    Peeked          // nc, where it is one
	unused time.Time       // since when, while it is in the pool

	look       func(fd uintptr) // sets seen; bound once, as is poisonFunc
	poisonFunc func()
	one        [1]byte
	seen       sight

	readUntil, writeUntil time.Time // the deadlines that nc has

	// The exchange.
	ctx     context.Context
	stop    func() bool // ends the watch on ctx; nil where there is none
	timeout time.Duration
	b       *buffers
	r, w    int         // b.in[r:w] has been read from nc and not handed out
	vec     net.Buffers // what is being sent, of
	parts   [3][]byte
	early   head // the answer that came before all was sent; status 0 if none
	interim int  // how many 1xx answers were skipped
	reused  bool // it served another exchange before
	heard   bool // a byte of the answer has come
	broken  bool // the peer closed or reset it
	keep    bool // the request was sent to its end, and nobody wants to close
	dry     bool // only what was read already may be used
	patient bool // all of the request goes out at once: nothing to look up from

	cancelled atomic.Bool // ctx has ended; set before the deadlines are
}

func newConn(h *host, nc net.Conn) *conn {
	c := &conn{host: h, nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	} else {
		c.own, _ = nc.(Peeked)
	}
	c.look = c.lookAt
	c.poisonFunc = c.poison
	return c
}

func (c *conn) begin(ctx context.Context, timeout time.Duration, b *buffers) {
	c.ctx, c.timeout, c.b = ctx, timeout, b
	c.r, c.w, c.interim, c.early = 0, 0, 0, head{}
	c.heard, c.broken, c.keep, c.dry, c.patient = false, false, false, false, false
	if ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, c.poisonFunc)
	}
}

// poison interrupts what is under way. Whoever sets a deadline looks at
// cancelled afterwards, so that none undoes this one.
func (c *conn) poison() {
	c.cancelled.Store(true)
	_ = c.nc.SetDeadline(time.Unix(1, 0)) // fails only where it is closed already
}

// release ends an exchange that only its own goroutine still knows of. The
// connection is kept where nothing is left to read of it.
func (c *conn) release() {
	undisturbed := c.stop == nil || c.stop()
	good := undisturbed && c.keep && c.r == c.w
	c.b.free()
	c.b, c.ctx, c.stop, c.early = nil, nil, nil, head{}
	if good {
		c.host.put(c)
	} else {
		c.drop()
	}
}

// drop closes the connection. It may be called more than once, and while another
// goroutine reads or writes, for which reason it leaves the buffers alone.
func (c *conn) drop() {
	if stop := c.stop; stop != nil {
		stop()
	}
	_ = c.nc.Close() // nothing is lost by what it says
}

// sight is what can be seen of a connection without reading or waiting.
type sight uint8

const (
	quiet  sight = iota // nothing has come
	spoke               // there are bytes to read
	closed              // the peer closed or reset it
)

// seeing reports whether peek sees anything.
func (c *conn) seeing() bool { return c.raw != nil || c.own != nil }

// peek never blocks. What can't be examined is quiet.
func (c *conn) peek() sight {
	switch {
	case c.r < c.w:
		return spoke
	case c.own != nil:
		n, err := c.own.Peek()
		switch {
		case n > 0:
			return spoke
		case err != nil:
			return closed
		}
		return quiet
	case c.raw == nil:
		return quiet
	case c.raw.Control(c.look) != nil:
		return closed
	}
	return c.seen
}

func (c *conn) lookAt(fd uintptr) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), c.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.seen = quiet
		case err == nil && n > 0:
			c.seen = spoke
		default:
			c.seen = closed
		}
		return
	}
}

// due reports whether a deadline has to be set anew for a wait of at least d
// from now. Leaving one that is good for a little longer spares most requests
// the setting of timers.
func due(until, now time.Time, d time.Duration) bool {
	left := until.Sub(now)
	return left < d || left > d+d/8
}

// more reads what comes next behind b.in[:w], which has room.
func (c *conn) more() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	n, err := c.read(c.b.in[c.w:])
	c.w += n
	return err
}

// read reads at least one byte into p, waiting for as long as silence may last.
func (c *conn) read(p []byte) (int, error) {
	if err := c.beforeRead(); err != nil {
		return 0, err
	}
	for range 16 {
		n, err := c.nc.Read(p)
		if n > 0 {
			c.heard = true
			return n, nil // an error comes again
		}
		if err != nil {
			return 0, c.fail(err)
		}
	}
	return 0, c.fail(io.ErrNoProgress)
}

// beforeRead bounds the silence of what is read next, and fails where nothing may be.
func (c *conn) beforeRead() error {
	if c.dry {
		return errDry
	}
	if now := time.Now(); due(c.readUntil, now, c.timeout) {
		c.readUntil = now.Add(c.timeout + c.timeout/8)
		if err := c.nc.SetReadDeadline(c.readUntil); err != nil {
			return c.fail(err)
		}
	}
	if c.cancelled.Load() {
		return c.fail(context.Canceled)
	}
	return nil
}

// splice is read into a pipe.
func (c *conn) splice(p *splice.Pipe, most int64) (int, error) {
	if err := c.beforeRead(); err != nil {
		return 0, err
	}
	n, err := p.Fill(c.raw, most)
	if n > 0 {
		c.heard = true
		return n, nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, c.fail(err)
}

// errDry ends the reading of what must not wait.
var errDry = errors.New("nothing more without waiting")

// send sends all of the parts, in one call where the socket takes them.
// ErrAnswered says that it stopped because the node has answered.
func (c *conn) send(parts ...[]byte) error {
	c.vec = c.parts[:copy(c.parts[:], parts)]
	defer clear(c.parts[:])
	wait := c.timeout
	if !c.patient && c.seeing() {
		wait = min(wait, watchEvery)
	}
	since := time.Now()
	for now := since; ; now = time.Now() {
		if due(c.writeUntil, now, wait) {
			c.writeUntil = now.Add(wait + wait/8)
			if err := c.nc.SetWriteDeadline(c.writeUntil); err != nil {
				return c.fail(err)
			}
		}
		if c.cancelled.Load() {
			return c.fail(context.Canceled)
		}
		n, err := c.write()
		if err == nil {
			return nil
		}
		now = time.Now()
		if n > 0 {
			since = now
		}
		late := errors.Is(err, os.ErrDeadlineExceeded) && now.Sub(since) < c.timeout && c.seeing()
		if err = c.afterWrite(err, late); err != nil {
			return err
		}
	}
}

// write writes what is left of vec and cuts off what went out.
func (c *conn) write() (int64, error) {
	switch {
	case c.own != nil:
		return c.own.WriteBuffers(&c.vec)
	case len(c.vec) != 1:
		return c.vec.WriteTo(c.nc)
	}
	n, err := c.nc.Write(c.vec[0]) // a little cheaper than the same as a vector
	c.vec[0] = c.vec[0][n:]
	return int64(n), err
}

// afterWrite decides what a failed write comes to; nil means that there is time
// to go on. A node that answers and closes makes the write fail, and the answer
// can be read all the same.
func (c *conn) afterWrite(err error, late bool) error {
	if c.cancelled.Load() {
		return c.fail(context.Canceled)
	}
	if c.seeing() {
		answered, lookErr := c.answered()
		if answered {
			return ErrAnswered
		}
		if late {
			return lookErr
		}
	}
	return c.fail(err)
}

// answered reports whether the node has answered already, without waiting for
// it. The answer is then in early. Interim answers are skipped.
func (c *conn) answered() (bool, error) {
	if c.early.status != 0 {
		return true, nil
	}
	for {
		switch c.peek() {
		case quiet:
			return false, nil
		case closed:
			return false, c.fail(io.EOF)
		}
		h, err := c.nextHead()
		if err != nil {
			return false, err
		}
		if h.status >= 200 {
			c.early = h
			return true, nil
		}
	}
}

// fail makes the error for what went wrong with the connection.
func (c *conn) fail(err error) error {
	if c.ctx.Err() != nil {
		return ctxError(c.ctx, c.host.addr)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrTimeout
	case err == io.EOF:
		c.broken = true
		err = io.ErrUnexpectedEOF
	default:
		c.broken = true
	}
	return errs.E(op, errs.Subject(c.host.addr), errs.Unavailable, err)
}

// malformed makes the error for an answer that breaks the rules.
func (c *conn) malformed(what string) error {
	return errs.E(op, errs.Subject(c.host.addr), errs.Unavailable, fmt.Errorf("%w: %s", ErrProtocol, what))
}
