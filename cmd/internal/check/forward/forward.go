// Package forward carries TCP connections between the processes of a cluster, and does to
// them what networks do: it cuts hosts off, and makes them slow. It needs no right that a user
// has not, so that it works where network namespaces are not to be had.
//
// A Network has hosts, and forwarders at addresses of theirs. What is set of a host holds for
// all that it sends and is sent there, in connections that are open as well. It promises that every
// byte gets through in order, or none behind it. Connections are made by the kernel: also a host
// that is cut off seems to accept some, and then says nothing.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Cut is what becomes of the bytes of a host.
type Cut int

// The cuts.
const (
	Whole  Cut = iota // they get through
	Silent            // none does, and nobody is told; what is on its way waits for the end of that
	Reset             // connections are broken off, and so are new ones
)

// A Condition is what a network is like for a host. The zero Condition is a good one.
type Condition struct {
	Cut   Cut
	Rate  int64         // bytes a second of each connection and direction; 0 is no limit
	Delay time.Duration // of each few bytes
}

// with is what a network is like between two hosts.
func (c Condition) with(o Condition) Condition {
	c.Cut, c.Delay = max(c.Cut, o.Cut), c.Delay+o.Delay
	if o.Rate != 0 && (c.Rate == 0 || o.Rate < c.Rate) {
		c.Rate = o.Rate
	}
	return c
}

// A host is who is on a network.
type host struct {
	name    string
	address netip.Addr // as which others see it
	state   Condition
}

// A Network is the forwarders of one network. It is safe for concurrent use.
type Network struct {
	dialWithin time.Duration
	ctx        context.Context // ends with Close
	stop       context.CancelFunc
	all        sync.WaitGroup

	mu        sync.Mutex
	hosts     map[string]*host
	from      map[netip.Addr]*host
	listeners []net.Listener
	conns     map[*conn]struct{}
	changed   chan struct{} // closed with each change
}

// New returns a network without hosts.
func New() *Network {
	n := &Network{
		dialWithin: 5 * time.Second,
		hosts:      map[string]*host{}, from: map[netip.Addr]*host{}, conns: map[*conn]struct{}{}, changed: make(chan struct{}),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n
}

// Host names who speaks from an address of the machine, which is seen by others as coming from another.
// Whoever is at no host's address is not known, and only cut off by what is set of whom it speaks to. Who speaks to nobody has the zero
// Addr for that: one server of several on a host, say, which can be cut off alone.
func (n *Network) Host(name string, speaks, address netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{name: name, address: address}
	n.hosts[name], n.from[speaks] = h, h
}

// Forward listens at an address of a host and carries what comes to another, until Close.
func (n *Network) Forward(name, listen, to string) error {
	n.mu.Lock()
	h := n.hosts[name]
	n.mu.Unlock()
	if h == nil {
		return fmt.Errorf("forward: there is no host %s", name)
	}
	l, err := (&net.ListenConfig{}).Listen(n.ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, l)
	n.mu.Unlock()
	n.all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				continue // of one that has gone again
			}
			n.all.Go(func() { n.carry(h, in.(*net.TCPConn), to) }) //nolint:forcetypeassert // it listens for TCP
		}
	})
	return nil
}

// Set says what the network is like for a host from now on.
func (n *Network) Set(name string, c Condition) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	if h == nil {
		return fmt.Errorf("forward: there is no host %s", name)
	}
	h.state = c
	close(n.changed)
	n.changed = make(chan struct{})
	for conn := range n.conns {
		if c.Cut == Reset && (conn.to == h || conn.from == h) {
			conn.abort() // also where it waits for who reads
		} else {
			conn.wake()
		}
	}
	return nil
}

// Close ends all connections and stops listening.
func (n *Network) Close() error {
	n.stop()
	n.mu.Lock()
	var all []error
	for _, l := range n.listeners {
		all = append(all, l.Close())
	}
	n.listeners = nil
	for c := range n.conns {
		c.abort()
	}
	n.mu.Unlock()
	n.all.Wait()
	return errors.Join(all...)
}

// conn is a connection between two hosts; from is nil for one that is not known.
type conn struct {
	net      *Network
	from, to *host
	in, out  *net.TCPConn // out is nil until it is made
}

// wake has the copying look at what the network is like. The network's lock is held.
func (c *conn) wake() {
	now := time.Now()
	for _, end := range c.ends() {
		_ = end.SetReadDeadline(now) // one that is closed is no longer copied
	}
}

func (c *conn) abort() {
	for _, end := range c.ends() {
		_ = end.SetLinger(0) // with a reset; it may be closed
		_ = end.Close()      // it may be closed
	}
}

func (c *conn) ends() []*net.TCPConn {
	if c.out == nil {
		return []*net.TCPConn{c.in}
	}
	return []*net.TCPConn{c.in, c.out}
}

// state is what the network is like for the connection, and what is closed when that changes.
func (c *conn) state() (Condition, <-chan struct{}) {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	s := c.to.state
	if c.from != nil && c.from != c.to {
		s = s.with(c.from.state)
	}
	return s, n.changed
}

// good waits for the network to carry something, and returns what it is like then; false is a connection
// that is at its end.
func (c *conn) good() (Condition, bool) {
	for {
		s, changed := c.state()
		switch s.Cut {
		case Reset:
			return s, false
		case Silent:
			select {
			case <-changed:
			case <-c.net.ctx.Done():
				return s, false
			}
		default:
			return s, c.net.ctx.Err() == nil
		}
	}
}

// carry carries one connection to its end.
func (n *Network) carry(to *host, in *net.TCPConn, address string) {
	n.mu.Lock()
	c := &conn{net: n, to: to, in: in}
	if a, ok := in.RemoteAddr().(*net.TCPAddr); ok {
		c.from = n.from[a.AddrPort().Addr().Unmap()]
	}
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	ended := false // both directions, well
	defer func() {
		n.mu.Lock()
		delete(n.conns, c)
		n.mu.Unlock()
		if !ended {
			c.abort()
			return
		}
		for _, end := range c.ends() {
			_ = end.Close() // what is on its way is sent
		}
	}()
	if _, ok := c.good(); !ok {
		return
	}
	d := net.Dialer{Timeout: n.dialWithin}
	if c.from != nil {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from.address, 0))
	}
	out, err := d.DialContext(n.ctx, "tcp", address)
	if err != nil {
		return // to who has connected it looks as if it had broken off
	}
	n.mu.Lock()
	c.out = out.(*net.TCPConn) //nolint:forcetypeassert // it dials TCP
	n.mu.Unlock()
	var both sync.WaitGroup
	var there, back bool
	both.Go(func() { there = c.pump(c.out, c.in) })
	both.Go(func() { back = c.pump(c.in, c.out) })
	both.Wait()
	ended = there && back
}

// few is how many bytes are delayed together.
const few = 32 << 10

// pump copies one direction: its end is told to the other side, and a failure to both. It reports whether
// it came to its end.
func (c *conn) pump(dst, src *net.TCPConn) bool {
	var buffer []byte
	for {
		// Before the look at what holds: a change after that sets it again.
		_ = src.SetReadDeadline(time.Time{}) // a closed one says so below
		s, ok := c.good()
		if !ok {
			c.abort()
			return false
		}
		var err error
		if s.Rate == 0 && s.Delay == 0 {
			_, err = dst.ReadFrom(src) // in the kernel; nil at the end
			if err == nil {
				_ = dst.CloseWrite() // the other direction sees where it is closed
				return true
			}
		} else {
			if buffer == nil {
				buffer = make([]byte, few)
			}
			var ended bool
			if ended, err = c.slowly(dst, src, buffer[:chunk(s)], s); ended {
				_ = dst.CloseWrite()
				return true
			}
		}
		var woken net.Error
		if err != nil && (!errors.As(err, &woken) || !woken.Timeout()) {
			c.abort()
			return false
		}
	}
}

// chunk is how many bytes go at a time where there is a rate: no more than a tenth of a second's.
func chunk(s Condition) int {
	if s.Rate == 0 {
		return few
	}
	return int(max(1, min(few, s.Rate/10)))
}

// slowly copies once, and reports whether the end was read.
func (c *conn) slowly(dst, src *net.TCPConn, buffer []byte, s Condition) (ended bool, err error) {
	n, err := src.Read(buffer)
	if n > 0 {
		wait := s.Delay
		if s.Rate > 0 {
			wait += time.Duration(int64(n) * int64(time.Second) / s.Rate)
		}
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.net.ctx.Done():
			return false, c.net.ctx.Err()
		}
		if _, ok := c.good(); !ok { // what was read is on its way still
			return false, net.ErrClosed
		}
		if _, failed := dst.Write(buffer[:n]); failed != nil {
			return false, failed
		}
	}
	return n == 0 && errors.Is(err, io.EOF), err
}
