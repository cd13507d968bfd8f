package httpapi

import (
	"context"
	"errors"
	"io"
	"time"

	"martlet/internal/splice"
)

// leastSpliced is how much of a body has to be left that it is moved within the kernel, in bytes: less is
// copied as fast.
const leastSpliced = 128 << 10

// CopyBody sends a body to a client, through a pooled buffer, or through none where it is a large one that comes from a socket
// and goes to one. An error of the source, or a source that ends before length bytes (-1 is unknown), is returned;
// the caller ends the connection then, so that a part never looks like the whole.
func CopyBody(ctx context.Context, w io.Writer, src io.Reader, length int64) error {
	c := copying{w: w, src: src, left: length}
	defer c.free()
	var n int64
	for {
		got, err, werr := c.block()
		if werr != nil {
			return werr
		}
		n += int64(got)
		switch {
		case err == io.EOF: // not errors.Is: a failure may have one in it
			if length >= 0 && n != length {
				return io.ErrUnexpectedEOF
			}
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// copying is a body on its way.
type copying struct {
	w    io.Writer
	src  io.Reader
	left int64   // of the body in bytes; below 0 where that is unknown
	buf  *[]byte // nil before it is needed

	begun  bool          // the first block went out, and the header before it
	looked bool          // whether there is to be a pipe
	pipe   *splice.Pipe  // nil where blocks go through buf
	from   splice.Source // src, and
	to     *Writer       // w, where there is a pipe
}

// block sends what comes next. It returns how much that was, and what reading and writing said.
func (c *copying) block() (n int, err, werr error) {
	if c.begun && !c.looked && c.left >= leastSpliced {
		c.looked = true
		c.open()
	}
	whole := !c.begun && c.left <= copyBlock
	c.begun = true
	if c.pipe != nil {
		n, err = c.from.Splice(c.pipe)
		if !errors.Is(err, splice.ErrUnable) {
			c.left -= int64(n)
			return n, err, c.to.drain(c.pipe)
		}
	}
	if c.buf == nil {
		c.buf = copyBuffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	}
	if n, err = c.read(whole); n > 0 {
		_, werr = c.w.Write((*c.buf)[:n])
	}
	c.left -= int64(n)
	return n, err, werr
}

// read reads what comes next into the buffer: all of a body that is small, since what a node sends of it at once comes in two
// parts, that which is read with the head and the other, and would go out in as many.
func (c *copying) read(whole bool) (n int, err error) {
	n, err = c.src.Read(*c.buf)
	for whole && n > 0 && err == nil && int64(n) < c.left {
		var more int
		if more, err = c.src.Read((*c.buf)[n:]); more == 0 {
			break
		}
		n += more
	}
	return n, err
}

// open takes a pipe if both sides can do with it, and there is one.
func (c *copying) open() {
	to, ok := c.w.(*Writer)
	if !ok || !to.spliced() {
		return
	}
	if from, ok := c.src.(splice.Source); ok {
		if p, err := splice.Take(); err == nil {
			c.from, c.to, c.pipe = from, to, p
		}
	}
}

func (c *copying) free() {
	if c.buf != nil {
		copyBuffers.Put(c.buf)
	}
	if c.pipe != nil {
		c.pipe.Give()
	}
}

// spliced reports whether drain can be called.
func (w *Writer) spliced() bool {
	if w.conn == nil || w.duplex || w.status == 0 {
		return false
	}
	_, ok := w.ResponseWriter.(io.ReaderFrom) // net/http's for HTTP/1
	return ok && w.conn.socket() != nil
}

// drain is Write of all that is in a pipe.
func (w *Writer) drain(p *splice.Pipe) error {
	to := w.ResponseWriter.(io.ReaderFrom) //nolint:forcetypeassert // spliced has looked
	for p.Len() > 0 {
		w.q.beforeWrite()
		var began time.Time
		if w.q.paced() {
			began = time.Now()
		}
		n, err := to.ReadFrom(p) // it counts, sends what is before, and comes back to namedConn
		w.sent += n
		if err == nil && !began.IsZero() {
			err = w.q.keeps(&w.q.out, int(n), began)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
