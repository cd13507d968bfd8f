package lean

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	inSize = 8 << 10 // holds the head of a request, and a small body behind it

	// keepSize is the size up to which grown buffers are kept.
	keepSize = 64 << 10

	// deadlineGrain is how much longer than asked silence may last, at most: a
	// deadline that is good for a little longer is left, so that a busy connection
	// does not pay for timers at each step.
	deadlineGrain = time.Second

	// lingerTime is how long what still comes is read and thrown away before a
	// connection is closed, and mostLinger how many bytes of it: closing it at once
	// would have the peer's system throw away the answer.
	lingerTime = 500 * time.Millisecond
	mostLinger = 1 << 20
)

// buffer is what a connection reads to. Connections that wait have none.
type buffer struct{ in []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, inSize)} }}

func takeBuffer() *buffer { return buffers.Get().(*buffer) } //nolint:forcetypeassert // the pool holds nothing else

// The states of a connection.
const (
	fresh   int32 = iota // nothing has come yet
	waiting              // for the next request
	busy
	closed
)

// conn is one connection. Its goroutine alone uses it, but for what is atomic.
type conn struct {
	of     *serving
	nc     net.Conn
	raw    syscall.RawConn // nil where nc is not the kernel's
	own    watched         // nc, where it is one
	remote string

	readUntil, writeUntil time.Time // the deadlines that nc has
	fixed                 bool      // the read deadline is not to be moved

	b       *buffer // nil while there is nothing in it and nobody reads
	r, w    int     // b.in[r:w] has been read and not used
	readErr error   // of fill
	fillFn  func(fd uintptr) bool

	state    atomic.Int32
	current  atomic.Pointer[exchange] // the request that is worked on
	breaking atomic.Bool              // it is not to begin another one
}

// watched is a connection that is not the kernel's and does what is asked of those all the same, as one in memory.
type watched interface {
	Await() error       // waits until a read would not
	Peek() (int, error) // how much can be read without waiting; where nothing can, why nothing will be
	Unread() int        // how much was written that the peer has not read
}

func newConn(of *serving, nc net.Conn) *conn {
	c := &conn{of: of, nc: nc}
	if addr := nc.RemoteAddr(); addr != nil {
		c.remote = addr.String()
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	} else {
		c.own, _ = nc.(watched)
	}
	c.fillFn = c.fill
	return c
}

// serve answers requests until the connection is to be closed.
func (c *conn) serve() {
	for now := time.Now(); c.await(now); {
		began := time.Now()
		h, err := c.readHead(began)
		if err != nil {
			c.refuse(err)
			return
		}
		again, at := c.exchange(h, began)
		if !again {
			return
		}
		now = at
	}
	c.freeBuffer()
}

// await waits until something of the next request is at hand, and reports whether it is.
func (c *conn) await(now time.Time) bool {
	if c.r < c.w {
		return !c.of.closing.Load()
	}
	c.freeBuffer()
	first := c.state.Load() == fresh
	if !first {
		c.state.Store(waiting)
	}
	c.readBy(now, c.of.silence)
	if c.of.closing.Load() { // whoever closes looks at the state after that
		if !first {
			return false
		}
		c.dismiss()
	}
	if err := c.first(); err != nil {
		return false
	}
	return c.state.CompareAndSwap(fresh, busy) || c.state.CompareAndSwap(waiting, busy)
}

// dismiss closes the connection where it waits for a request, and has it do so soon
// where nothing has come yet: its first request may be on its way. Any goroutine may
// call it, once closing is set.
func (c *conn) dismiss() {
	if c.state.CompareAndSwap(waiting, closed) {
		_ = c.nc.Close() // nothing is under way on it
		return
	}
	if c.state.Load() == fresh {
		_ = c.nc.SetReadDeadline(time.Now().Add(min(freshTime, c.of.silence))) // fails only where it is closed
	}
}

// breakOff ends the connection with what is under way on it.
func (c *conn) breakOff() {
	c.breaking.Store(true)
	if x := c.current.Load(); x != nil {
		x.cancel(errEnding)
	}
	_ = c.nc.Close() // it is to break
}

var errEnding = errors.New("the server ends")

// first reads what comes first, into a buffer that it takes when something has come.
func (c *conn) first() error {
	if c.raw == nil {
		if c.own != nil {
			if err := c.own.Await(); err != nil {
				return err
			}
		}
		c.b, c.r, c.w = takeBuffer(), 0, 0
		return c.more()
	}
	c.readErr = nil
	if err := c.raw.Read(c.fillFn); err != nil {
		return err
	}
	return c.readErr
}

// fill reads without waiting, and reports whether anything came, be it an error.
func (c *conn) fill(fd uintptr) bool {
	c.b = takeBuffer()
	for {
		n, err := syscall.Read(int(fd), c.b.in)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.freeBuffer()
			return false
		case err == nil && n == 0:
			err = io.EOF
		}
		c.r, c.w, c.readErr = 0, max(n, 0), err
		return true
	}
}

func (c *conn) freeBuffer() {
	if c.b != nil && cap(c.b.in) <= keepSize {
		buffers.Put(c.b)
	}
	c.b, c.r, c.w = nil, 0, 0
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

// room makes room behind b.in[:w].
func (c *conn) room() {
	switch {
	case c.w < len(c.b.in):
	case c.r > 0:
		c.w = copy(c.b.in, c.b.in[c.r:c.w])
		c.r = 0
	default:
		c.b.in = append(c.b.in, make([]byte, len(c.b.in))...)
	}
}

// read reads at least one byte into p, waiting for as long as silence may last.
func (c *conn) read(p []byte) (int, error) {
	if !c.fixed {
		c.readBy(time.Now(), c.of.silence)
	}
	for range 16 {
		if n, err := c.nc.Read(p); n > 0 || err != nil {
			if n > 0 {
				err = nil // it comes again
			}
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// write writes all of p, under the limit on silence.
func (c *conn) write(p []byte, now time.Time) error {
	for {
		unread := c.unread() + len(p)
		if due(c.writeUntil, now, c.of.silence) {
			c.writeUntil = now.Add(c.of.silence + grain(c.of.silence))
			if err := c.nc.SetWriteDeadline(c.writeUntil); err != nil {
				return err
			}
		}
		n, err := c.nc.Write(p)
		p = p[n:]
		if c.own == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.unread()+len(p) == unread {
			return err
		}
		// There are no buffers of the kernel's, so each byte that is read is a sign of life: the peer is not silent because a client of it is slow.
		now = time.Now()
	}
}

// unread is how much the peer has yet to read, where that is known.
func (c *conn) unread() int {
	if c.own == nil {
		return 0
	}
	return c.own.Unread()
}

// readBy sees to it that a read ends when nothing comes for d.
func (c *conn) readBy(now time.Time, d time.Duration) {
	if due(c.readUntil, now, d) || c.of.closing.Load() { // then dismiss may have set another one
		c.readUntil = now.Add(d + grain(d))
		_ = c.nc.SetReadDeadline(c.readUntil) // fails only where it is closed
	}
}

// readUntilTime has all reads end at a time, until it is lifted.
func (c *conn) readUntilTime(t time.Time) {
	c.readUntil, c.fixed = t, true
	_ = c.nc.SetReadDeadline(t) // fails only where it is closed
}

func grain(d time.Duration) time.Duration { return min(deadlineGrain, d/8) }

// due reports whether a deadline has to be set anew for a wait of d from now.
func due(until, now time.Time, d time.Duration) bool {
	left := until.Sub(now)
	return left < d || left > d+grain(d)
}

// linger closes the connection in a way that has the peer get what was sent, though
// it has sent what nobody reads.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.b == nil {
		c.b = takeBuffer()
	}
	c.readUntilTime(time.Now().Add(lingerTime))
	for read := 0; read < mostLinger; {
		n, err := c.nc.Read(c.b.in)
		if err != nil {
			break
		}
		read += n
	}
	c.freeBuffer()
}
