package lean

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// lookEvery is how often requests are looked at that take longer.
const lookEvery = 250 * time.Millisecond

// errGone is why the context of a request ends whose peer went away.
var errGone = errors.New("the peer went away")

// A watcher looks whether the peers of requests that take long are still there. It
// runs only while there are requests.
type watcher struct {
	turn  atomic.Int64 // how often it has looked
	awake atomic.Bool  // it will look again
	wake  chan struct{}
}

// start has requests watched until the function that it returns is called.
func (w *watcher) start(s *serving) (stop func()) {
	w.wake = make(chan struct{}, 1)
	quit, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		w.run(s, quit)
	}()
	return func() { close(quit); <-over }
}

func (w *watcher) run(s *serving, quit <-chan struct{}) {
	again := time.NewTimer(lookEvery)
	defer again.Stop()
	for {
		select {
		case <-quit:
			return
		case <-w.wake:
			again.Reset(lookEvery)
		case <-again.C:
			if w.look(s) {
				again.Reset(lookEvery)
			}
		}
	}
}

// look looks at all requests that were there when it looked last, and reports
// whether there are any.
func (w *watcher) look(s *serving) bool {
	turn := w.turn.Add(1)
	if s.watchOver(turn) {
		return true
	}
	w.awake.Store(false)
	if !s.busy() {
		return false
	}
	w.awake.Store(true) // one has come before it was woken up by it, or after
	return true
}

// begun is told of each request that begins. It returns when.
func (w *watcher) begun() {
	if w.awake.Load() || !w.awake.CompareAndSwap(false, true) {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watchOver ends the requests whose peers are gone, and reports whether there are any
// requests.
func (s *serving) watchOver(turn int64) (busy bool) {
	s.each(func(c *conn) {
		x := c.current.Load()
		if x == nil {
			return
		}
		busy = true
		if x.turn < turn-1 && c.peerGone() {
			x.cancel(errGone)
		}
	})
	return busy
}

func (s *serving) busy() (busy bool) {
	s.each(func(c *conn) { busy = busy || c.current.Load() != nil })
	return busy
}

// peerGone looks without reading or waiting, and from any goroutine. What can't be
// looked at is there.
func (c *conn) peerGone() bool {
	if c.own != nil {
		n, err := c.own.Peek()
		return n == 0 && err != nil && !errors.Is(err, net.ErrClosed)
	}
	if c.raw == nil {
		return false
	}
	gone := false
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		for {
			n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				gone = err == nil && n == 0 || err != nil && err != syscall.EAGAIN
				return
			}
		}
	})
	return gone && err == nil
}
