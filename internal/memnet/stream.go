package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// room is the size of a direction's buffer in bytes: a chunk of 64 KiB and what frames it go in, as does an answer of 64 KiB with
// its head.
const room = 72 << 10

var rooms = sync.Pool{New: func() any { return new([room]byte) }}

// stream is one direction of a connection.
//
// There is at most one that reads and one that writes, and each waits on a condition of its own. A reader that waits has all that was written, and so
// there is nothing in the buffer then and no writer that waits.
type stream struct {
	reading, writing sync.Mutex // held by whoever reads and writes; before mu

	mu                 sync.Mutex
	readable, writable sync.Cond // of mu

	// All that follows is guarded by mu.

	buf  *[room]byte // nil while there is nothing in it
	r, w int         // buf[r:w] was written and not read

	rest net.Buffers // what a writer has that waits, where it has it
	left int         // bytes in rest

	into []byte // of a reader that waits: what comes is put there
	got  int    // so much of it was

	ended bool // nothing more will be written
	reset bool // the writer's end was closed and had not read everything
	shut  bool // the writer's end was closed
	gone  bool // the reader's end was closed

	reads, writes deadline

	one [1][]byte // a write of one piece; its writer's
}

func (s *stream) open() {
	s.readable.L, s.writable.L = &s.mu, &s.mu
	s.reads.of, s.reads.who = s, &s.readable
	s.writes.of, s.writes.who = s, &s.writable
}

// read reads into p what there is, and waits for a byte.
func (s *stream) read(p []byte) (int, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	for {
		if err := s.mayRead(); err != nil || len(p) == 0 {
			s.mu.Unlock()
			return 0, err
		}
		n, freed := s.take(p)
		if n == 0 && !s.ended {
			s.into = p
			s.readable.Wait()
			n, s.into, s.got = s.got, nil, 0
			if n == 0 {
				continue // why it was woken up is seen above
			}
		}
		err := error(nil)
		if n == 0 {
			err = s.behind()
		}
		s.mu.Unlock()
		if freed {
			s.writable.Signal()
		}
		return n, err
	}
}

// await waits until read would not.
func (s *stream) await() error {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.mayRead(); err != nil || s.ended || s.unread() > 0 {
			return err
		}
		s.readable.Wait()
	}
}

func (s *stream) peek() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.unread(); {
	case s.gone:
		return 0, net.ErrClosed
	case n > 0:
		return n, nil
	case s.ended:
		return 0, s.behind()
	}
	return 0, nil
}

// unread is how many bytes wait for a reader. mu is held.
func (s *stream) unread() int { return s.w - s.r + s.left }

// waiting is unread for those who don't hold mu.
func (s *stream) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unread()
}

// mayRead returns why nothing may be read. mu is held, as in all that follow.
func (s *stream) mayRead() error {
	switch {
	case s.gone:
		return net.ErrClosed
	case s.reads.passed:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// behind is what is read behind the last byte.
func (s *stream) behind() error {
	if s.reset {
		return syscall.ECONNRESET
	}
	return io.EOF
}

// take takes what there is into p. It reports whether the writer need not wait any more.
func (s *stream) take(p []byte) (n int, freed bool) {
	if s.buf != nil {
		n = copy(p, s.buf[s.r:s.w])
		if s.r += n; s.r < s.w {
			return n, false
		}
		s.giveRoom()
	}
	if s.left == 0 {
		return n, false
	}
	n += s.cut(p[n:], &s.rest)
	return n, s.left == 0
}

// cut moves bytes from the front of rest into p.
func (s *stream) cut(p []byte, from *net.Buffers) int {
	n := move(p, from)
	s.left -= n
	return n
}

// move moves bytes from the front of some pieces into p.
func move(p []byte, from *net.Buffers) (n int) {
	for len(*from) > 0 {
		m := copy(p[n:], (*from)[0])
		n += m
		if m < len((*from)[0]) {
			(*from)[0] = (*from)[0][m:]
			return n
		}
		(*from)[0] = nil
		*from = (*from)[1:]
	}
	return n
}

func (s *stream) giveRoom() {
	rooms.Put(s.buf)
	s.buf, s.r, s.w = nil, 0, 0
}

// writeOne is write of one piece.
func (s *stream) writeOne(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.one[0] = p
	v := net.Buffers(s.one[:])
	n, err := s.put(&v)
	s.one[0] = nil
	return int(n), err
}

// write writes all of v, and cuts off what was written.
func (s *stream) write(v *net.Buffers) (int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.put(v)
}

// put writes all of v. writing is held.
func (s *stream) put(v *net.Buffers) (int64, error) {
	total := 0
	for _, p := range *v {
		total += len(p)
	}
	s.mu.Lock()
	if err := s.mayWrite(); err != nil || total == 0 {
		s.mu.Unlock()
		return 0, err
	}
	left := total
	if s.into != nil {
		n := move(s.into[s.got:], v)
		s.got += n
		left -= n
	}
	if left <= room-(s.w-s.r) {
		s.keep(v, left)
		s.mu.Unlock()
		s.readable.Signal()
		return int64(total), nil
	}
	s.readable.Signal()
	s.rest, s.left = *v, left
	var err error
	for s.left > 0 && err == nil {
		s.writable.Wait()
		err = s.mayWrite()
	}
	left = s.left
	*v, s.rest, s.left = s.rest, nil, 0
	s.mu.Unlock()
	if left == 0 {
		err = nil
	}
	return int64(total - left), err
}

// keep puts the rest of a write into the buffer, which has room for it.
func (s *stream) keep(v *net.Buffers, n int) {
	if n == 0 {
		move(nil, v) // empty pieces
		return
	}
	if s.buf == nil {
		s.buf = rooms.Get().(*[room]byte) //nolint:forcetypeassert // the pool holds nothing else
	}
	if room-s.w < n {
		s.w = copy(s.buf[:], s.buf[s.r:s.w])
		s.r = 0
	}
	s.w += move(s.buf[s.w:], v)
}

// mayWrite returns why nothing may be written.
func (s *stream) mayWrite() error {
	switch {
	case s.shut:
		return net.ErrClosed
	case s.writes.passed:
		return os.ErrDeadlineExceeded
	case s.ended, s.gone:
		return syscall.EPIPE
	}
	return nil
}

// finish has nothing more be written.
func (s *stream) finish() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
}

// end is what becomes of the stream when the writer's end is closed, which has read all that came to it, or not.
func (s *stream) end(unread bool) {
	s.mu.Lock()
	if !s.shut {
		s.shut, s.ended, s.reset = true, true, unread
		s.writes.stop()
	}
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
}

// leave is what becomes of it when the reader's end is closed. It reports whether there was something left to read.
func (s *stream) leave() (unread bool) {
	s.mu.Lock()
	if !s.gone {
		s.gone = true
		unread = s.unread() > 0
		if s.buf != nil {
			s.giveRoom()
		}
		s.reads.stop()
	}
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
	return unread
}

// readBy sets the deadline of reads, and reports whether the reader's end is open.
func (s *stream) readBy(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.reads.set(t)
	}
	return !s.gone
}

// writeBy sets the deadline of writes, and reports whether the writer's end is open.
func (s *stream) writeBy(t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.writes.set(t)
	}
	return !s.shut
}

// deadline is until when one side of a stream may wait. Its fields are guarded by the stream's mu.
//
// Its timer is left as it is where a deadline moves away, which it mostly does: when it fires too early it is set anew. So moving one costs no more
// than keeping the time.
type deadline struct {
	of     *stream
	who    *sync.Cond
	at     time.Time // zero is none
	passed bool
	timer  *time.Timer // nil before the first
	fires  time.Time   // when timer does; zero where it doesn't
}

func (d *deadline) set(t time.Time) {
	d.at, d.passed = t, false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		d.who.Signal()
		return
	}
	if d.fires.IsZero() || t.Before(d.fires) {
		d.arm(left)
	}
}

func (d *deadline) arm(left time.Duration) {
	d.fires = d.at
	if d.timer == nil {
		d.timer = time.AfterFunc(left, d.fired)
	} else {
		d.timer.Reset(left)
	}
}

func (d *deadline) fired() {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	d.fires = time.Time{}
	if d.at.IsZero() || d.passed {
		return
	}
	if left := time.Until(d.at); left > 0 {
		d.arm(left)
		return
	}
	d.passed = true
	d.who.Signal()
}

func (d *deadline) stop() {
	d.at, d.fires = time.Time{}, time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}
