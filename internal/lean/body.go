package lean

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

const (
	// directRead is the size from which on a read goes past the buffer.
	directRead = 4 << 10

	// mostRest is how much of a body that nobody wants is read, in bytes, so that its
	// connection can be used again, and restTime how long for.
	mostRest = 256 << 10
	restTime = time.Second
)

// The states of a body. One goroutine may read it at a time; the end of its request may
// come while one still does.
const (
	atRest int32 = iota
	reading
	shut
)

// body is the body of a request.
type body struct {
	c       *conn
	state   atomic.Int32
	n       int64 // bytes that were read of it
	left    int64 // of the body, or of the chunk
	chunked bool
	inside  bool // a chunk has begun whose end has not been read
	ended   bool // all of it has been read, with its trailer
	asks    bool // the peer waits to be asked for it
	lost    bool // somebody was still reading it when its request ended
	err     error
	trailer *backend.Header
}

// Read reads what there is, waiting for a byte at least. io.EOF means that all of the
// body came. Other errors are of kind errs.Timeout where the peer was silent for too
// long, errs.Invalid where what it sent is no body, and errs.Aborted where it went away.
func (b *body) Read(p []byte) (int, error) {
	if !b.state.CompareAndSwap(atRest, reading) {
		return 0, errs.E(errs.Op("http.body"), errs.Aborted, net.ErrClosed)
	}
	n, err := b.next(p)
	if !b.state.CompareAndSwap(reading, atRest) {
		return 0, errs.E(errs.Op("http.body"), errs.Aborted, net.ErrClosed) // the request has ended meanwhile
	}
	return n, err
}

// shut takes the body from whoever reads it, and reports whether nobody was just doing
// so: else the connection and its buffer are not to be touched any more.
func (b *body) shut() bool { return b.state.Swap(shut) != reading }

func (b *body) next(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.step(p)
	b.n += int64(n)
	if err != nil && err != io.EOF {
		b.err = bodyError(err)
		return n, b.err
	}
	return n, err
}

func (b *body) step(p []byte) (int, error) {
	if b.asks {
		b.asks = false
		if err := b.c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"), time.Now()); err != nil {
			return 0, err
		}
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil || b.ended {
			return 0, errOr(err, io.EOF)
		}
	}
	n, err := b.take(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == nil && b.left == 0 && !b.chunked {
		b.ended = true
		return n, io.EOF
	}
	return n, err
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// take reads into p from the buffer, or past it where p is large.
func (b *body) take(p []byte) (int, error) {
	c := b.c
	if c.r == c.w {
		if len(p) >= directRead {
			n, err := c.read(p)
			return n, cutOff(err)
		}
		if err := b.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.b.in[c.r:c.w])
	c.r += n
	return n, nil
}

// more reads what comes next of a body that has not ended.
func (b *body) more() error { return cutOff(b.c.more()) }

// cutOff makes an end that comes too early an error.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bodyError gives an error of reading a body its kind.
func bodyError(err error) error {
	const op errs.Op = "http.body"
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return errs.E(op, errs.Invalid, errs.Public(refused.why), err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errs.E(op, errs.Timeout, err)
	}
	return errs.E(op, errs.Aborted, err)
}

// settle reads what is left of a body that nobody will read any more, and reports
// whether the connection is good for another request.
func (b *body) settle() bool {
	switch {
	case !b.shut():
		b.lost = true
		return false
	case b.ended:
		return true
	case b.err != nil || b.asks || !b.chunked && b.left > mostRest:
		return false
	}
	b.c.readUntilTime(time.Now().Add(min(restTime, b.c.of.silence)))
	var scrap [directRead]byte
	for rest := 0; rest <= mostRest && b.err == nil && !b.ended; {
		n, _ := b.next(scrap[:]) // its error is in b.err
		rest += n
	}
	b.c.fixed = false
	return b.ended
}
