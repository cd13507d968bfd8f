// Package memnet connects what shares a process: streams in memory that are net.Conn to both ends, and a Network on which
// they are dialed by the address that a server listens on with a socket as well. A connection of it costs no system call and no
// copy through the kernel; what is said over it, and what is promised of that, is as over a socket.
//
// What it promises: bytes come in order and once. What was written before an end was closed is still read by the other one, and
// then io.EOF; an end that was closed before it had read everything is a reset to the other one (ECONNRESET), as with TCP. Writing to an end that was closed is EPIPE.
// Closing interrupts whoever reads or writes, as a deadline does, which may be moved while somebody waits; an operation on an end that is closed is
// net.ErrClosed. Memory is bounded: a direction has one pooled buffer while there is something in it, and none otherwise.
//
// What a write can't leave in the buffer is read from where the writer has it, and the writer waits for that: a large
// body is copied once. So a peer that reads nothing is felt sooner than over a socket, whose buffers take megabytes.
//
// What is not there: urgent data, keep-alives, and a kernel that closes what a process has forgotten.
package memnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// backlog is how many connections wait to be accepted at most: those that are dialed then are made with sockets.
const backlog = 1024

// ErrInUse says that somebody listens at an address already.
var ErrInUse = errors.New("address is already in use in this process")

// Network is where those who share a process find each other. It is safe for concurrent use; a nil one is empty.
type Network struct {
	dialed atomic.Uint64

	mu sync.RWMutex
	at map[netip.AddrPort]*Listener // guarded by mu
}

// New returns a network on which nobody listens.
func New() *Network { return &Network{at: map[netip.AddrPort]*Listener{}} }

// Listen has connections be dialed to an address until the listener is closed, after which another one may take its place. The error
// is ErrInUse where there is one.
func (n *Network) Listen(at netip.AddrPort) (*Listener, error) {
	at = plain(at)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[at] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: Addr(at.String()), Err: ErrInUse}
	}
	l := &Listener{of: n, at: at}
	l.came.L = &l.mu
	n.at[at] = l
	return l, nil
}

// plain is an address in the one way in which it is a key.
func plain(at netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()) }

// leave takes a listener away.
func (n *Network) leave(l *Listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[l.at] == l {
		delete(n.at, l.at)
	}
}

// dial returns a connection to whoever listens at host:port, nil where nobody does, or where too many wait there. A host name is
// at no address.
func (n *Network) dial(addr string) net.Conn {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil
	}
	n.mu.RLock()
	l := n.at[plain(at)]
	n.mu.RUnlock()
	if l == nil {
		return nil
	}
	// As host and port, for whoever takes it apart: connections can be told from each other in a log.
	here, there := newPair(Addr("in-process:"+strconv.FormatUint(n.dialed.Add(1), 10)), Addr(addr))
	if !l.offer(there) {
		return nil
	}
	return here
}

// Dial is how connections are made: see net.Dialer.DialContext.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Dialer returns what connects in memory where somebody listens there, and otherwise as next does, which is net.Dialer's where
// it is nil.
func (n *Network) Dialer(next Dial) Dial {
	if next == nil {
		next = new(net.Dialer).DialContext
	}
	if n == nil {
		return next
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if c := n.dial(addr); c != nil {
			return c, nil
		}
		return next(ctx, network, addr)
	}
}

// Listener takes the connections to an address. It is a net.Listener.
type Listener struct {
	of *Network
	at netip.AddrPort

	mu     sync.Mutex
	came   sync.Cond // of mu
	queue  []*Conn   // guarded by mu; those that nobody has accepted
	closed bool      // guarded by mu
}

// offer has a connection accepted, and reports whether it will be.
func (l *Listener) offer(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= backlog {
		return false
	}
	l.queue = append(l.queue, c)
	l.came.Signal()
	return true
}

// Accept waits for the next connection. The error is net.ErrClosed at the end.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.came.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: network, Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue = slices.Delete(l.queue, 0, 1)
	return c, nil
}

// Close has nobody find the address any more, and closes the connections that were not accepted. It may be called more than once.
func (l *Listener) Close() error {
	l.of.leave(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, c := range l.queue {
		_ = c.Close() // it has no error
	}
	l.queue = nil
	l.came.Broadcast()
	return nil
}

// Addr is the address that it was given.
func (l *Listener) Addr() net.Addr { return Addr(l.at.String()) }
