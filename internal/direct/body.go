package direct

import (
	"bytes"
	"io"
	"net"
	"sync/atomic"

	"martlet/internal/chunked"
	"martlet/internal/errs"
	"martlet/internal/splice"
)

const (
	// maxChunkLine bounds the line that says how long a chunk is.
	maxChunkLine = 256

	// directRead is the size from which on a read goes past the buffer.
	directRead = 4 << 10
)

// The states of a body. Reading is for one goroutine; closing may come from
// another, to interrupt it.
const (
	atRest int32 = iota
	reading
	shut
)

// body is the body of an answer. It owns the connection until it is closed.
type body struct {
	c       *conn
	state   atomic.Int32
	left    int64 // of the body, or of the chunk
	chunked bool
	inside  bool // a chunk has begun whose end has not been read
	ended   bool // the last chunk and its trailer have been read
	err     error
}

// Read reads what there is, waiting for a byte at least. io.EOF means that the
// body is whole.
func (b *body) Read(p []byte) (int, error) {
	if !b.state.CompareAndSwap(atRest, reading) {
		return 0, net.ErrClosed
	}
	return b.rest(b.next(p))
}

// Splice is Read into a pipe. What has been read from the connection already has to be
// read, and so do chunks, and what comes over TLS.
func (b *body) Splice(p *splice.Pipe) (int, error) {
	if !b.state.CompareAndSwap(atRest, reading) {
		return 0, net.ErrClosed
	}
	return b.rest(b.nextOf(p))
}

// rest is the end of a read.
func (b *body) rest(n int, err error) (int, error) {
	if !b.state.CompareAndSwap(reading, atRest) {
		b.c.drop()
		return 0, errs.E(op, errs.Subject(b.c.host.addr), errs.Unavailable, net.ErrClosed)
	}
	return n, err
}

// Buffered returns how many bytes of the body have been read from the connection already: reading
// these waits for nothing. It is for the goroutine that reads.
func (b *body) Buffered() int {
	if !b.state.CompareAndSwap(atRest, reading) {
		return 0
	}
	n := 0
	if b.err == nil {
		n = int(min(int64(b.c.w-b.c.r), b.left))
	}
	if !b.state.CompareAndSwap(reading, atRest) {
		b.c.drop()
		return 0
	}
	return n
}

// Close gives the connection back if the body has come to its end, or if the
// rest is at hand already; otherwise it closes the connection. It interrupts a
// Read.
func (b *body) Close() error {
	switch b.state.Swap(shut) {
	case reading:
		_ = b.c.nc.Close() // the reader does the rest
	case atRest:
		b.drain()
		b.c.keep = b.c.keep && b.whole()
		b.c.release()
	}
	return nil
}

// drain takes what has come already, without waiting.
func (b *body) drain() {
	b.c.dry = true
	if !b.chunked {
		if n := int64(b.c.w - b.c.r); b.err == nil && n >= b.left {
			b.c.r += int(b.left)
			b.left = 0
		}
		return
	}
	var scrap [512]byte
	for b.err == nil && !b.ended {
		_, _ = b.next(scrap[:]) // ends with the buffer: its error is in b.err
	}
}

func (b *body) whole() bool {
	if b.chunked {
		return b.ended
	}
	return b.left == 0
}

func (b *body) next(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.chunked && b.left == 0 && !b.ended {
		b.err = b.nextChunk()
		if b.err != nil {
			return 0, b.err
		}
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	return b.took(b.take(p[:min(int64(len(p)), b.left)]))
}

// nextOf is next into a pipe.
func (b *body) nextOf(p *splice.Pipe) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0 && !b.chunked:
		return 0, io.EOF
	case b.chunked || b.c.raw == nil || b.c.r < b.c.w:
		return 0, splice.ErrUnable
	}
	return b.took(b.c.splice(p, b.left))
}

// took takes note of what was read.
func (b *body) took(n int, err error) (int, error) {
	b.left -= int64(n)
	b.err = err
	if err == nil && b.left == 0 && !b.chunked {
		return n, io.EOF
	}
	return n, err
}

// take reads into p from the buffer, or past it where p is large.
func (b *body) take(p []byte) (int, error) {
	c := b.c
	if c.r == c.w {
		if len(p) >= directRead {
			return c.read(p)
		}
		if err := c.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.b.in[c.r:c.w])
	c.r += n
	return n, nil
}

// nextChunk reads the end of the chunk before and the line that begins the
// next; after the last one also the trailer, which nobody asked for.
func (b *body) nextChunk() error {
	if b.inside {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return b.c.malformed("chunk is longer than announced")
		}
		b.inside = false
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunked.Size(line)
	if !ok {
		return b.c.malformed("length of a chunk")
	}
	if size > 0 {
		b.left, b.inside = size, true
		return nil
	}
	limit := b.c.host.pool.cfg.MaxHeaderBytes
	for range b.c.host.pool.cfg.MaxHeaders + 1 {
		line, err := b.line(min(limit, len(b.c.b.in)))
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.ended = true
			return nil
		}
		limit -= len(line)
	}
	return b.c.malformed("trailer is too large")
}

// line reads a line of at most limit bytes, and returns it without its CR LF. It
// is good until the next read.
func (b *body) line(limit int) ([]byte, error) {
	c := b.c
	for {
		have := c.b.in[c.r:c.w]
		if i := bytes.IndexByte(have, '\n'); i >= 0 && i < limit {
			if i == 0 || bytes.IndexByte(have[:i], '\r') != i-1 {
				return nil, c.malformed("line of a chunked body")
			}
			c.r += i + 1
			return have[:i-1], nil
		} else if i >= 0 || len(have) >= limit {
			return nil, c.malformed("overlong line of a chunked body")
		}
		c.room()
		if err := c.more(); err != nil {
			return nil, err
		}
	}
}
