package memnet

import (
	"io"
	"net"
	"time"
)

// network is what connections in memory say that they go over.
const network = "memory"

// Addr is an end of a connection: host:port of a listener, and "in-process:N" of whoever has dialed, of whom nothing more is known.
type Addr string

// Network is "memory".
func (Addr) Network() string { return network }

func (a Addr) String() string { return string(a) }

// Conn is one end of a connection. It is a net.Conn, safe for concurrent use as those of sockets are.
type Conn struct {
	in, out       *stream
	local, remote Addr
}

// newPair returns the ends of a new connection.
func newPair(a, b Addr) (*Conn, *Conn) {
	p := &struct {
		ends    [2]Conn
		streams [2]stream
	}{}
	for i := range p.streams {
		p.streams[i].open()
	}
	p.ends[0] = Conn{in: &p.streams[0], out: &p.streams[1], local: a, remote: b}
	p.ends[1] = Conn{in: &p.streams[1], out: &p.streams[0], local: b, remote: a}
	return &p.ends[0], &p.ends[1]
}

// Read reads what there is, waiting for a byte at least.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil {
		err = c.failed("read", err)
	}
	return n, err
}

// Await waits until a Read would not. That may be because of an error: it returns those of this end alone.
func (c *Conn) Await() error {
	if err := c.in.await(); err != nil {
		return c.failed("read", err)
	}
	return nil
}

// Peek tells how many bytes can be read without waiting. The error is that of the next Read, where that waits for none and there are no
// bytes. Deadlines are not looked at.
func (c *Conn) Peek() (int, error) {
	n, err := c.in.peek()
	if err != nil {
		err = c.failed("read", err)
	}
	return n, err
}

// Unread tells how many bytes were written here that the other end has not read: none where it was closed.
func (c *Conn) Unread() int { return c.out.waiting() }

// Write writes all of p. It returns when all was read or has a place in the buffer; with an error, how much was.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.writeOne(p)
	if err != nil {
		err = c.failed("write", err)
	}
	return n, err
}

// WriteBuffers writes all of several pieces as one, and cuts off what was written, as net.Buffers does with sockets.
func (c *Conn) WriteBuffers(v *net.Buffers) (int64, error) {
	n, err := c.out.write(v)
	if err != nil {
		err = c.failed("write", err)
	}
	return n, err
}

// Close closes this end. It has no error.
func (c *Conn) Close() error {
	unread := c.in.leave()
	c.out.end(unread)
	return nil
}

// CloseWrite has the other end read io.EOF after what was written. Nothing can be written any more.
func (c *Conn) CloseWrite() error {
	c.out.finish()
	return nil
}

// LocalAddr is the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline bounds reads and writes, those under way as well: see net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if !c.in.readBy(t) {
		return c.failed("set", net.ErrClosed)
	}
	return nil
}

// SetWriteDeadline bounds writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.out.writeBy(t) {
		return c.failed("set", net.ErrClosed)
	}
	return nil
}

// failed says of which connection an error is. io.EOF is none.
func (c *Conn) failed(op string, err error) error {
	if err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: network, Source: c.local, Addr: c.remote, Err: err}
}
