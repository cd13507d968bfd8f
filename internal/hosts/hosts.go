// Package hosts knows which addresses are behind the host names that rings may have in
// the place of addresses: a node has to tell its own devices in a ring, and the
// addresses of its peers, from others.
//
// It promises that looking something up here never waits: names are looked up by Learn,
// now and then, and what a name was last known for is kept while it can't be. It leaves
// to others when that is done, and connecting, which goes by the name itself.
package hosts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// fresh is how long a name that was found is not looked up again.
	fresh = time.Minute
	// atOnce is how many names are looked up at a time.
	atOnce = 16
)

// A Lookup finds the addresses of a host name.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// System is the Lookup of the machine: its hosts file and DNS.
func System(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// Names are the addresses of host names. A nil *Names knows addresses only. It is safe
// for concurrent use.
type Names struct {
	lookup Lookup

	mu    sync.Mutex
	known map[string]found // mu
	turn  int              // mu; grows as what is known changes
}

type found struct {
	addrs []netip.Addr
	at    time.Time // when they were looked up; zero where that failed since
}

// NewNames returns Names that know none yet.
func NewNames(lookup Lookup) *Names { return &Names{lookup: lookup, known: map[string]found{}} }

// literal reads what is an address, as rings have it.
func literal(host string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return a.Unmap(), err == nil
}

// Addrs are the addresses of a host: itself, if it is one, or those that its name was
// last known for.
func (n *Names) Addrs(host string) []netip.Addr {
	if a, ok := literal(host); ok {
		return []netip.Addr{a}
	}
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known[host].addrs
}

// Turn is a number that is another one when something has become known since.
func (n *Names) Turn() int {
	if n == nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.turn
}

// Learn looks up the hosts that are names and were not looked up lately, and forgets
// all others. The error names those that could not be found.
func (n *Names) Learn(ctx context.Context, all iter.Seq[string]) error {
	names := map[string]bool{}
	for host := range all {
		if _, ok := literal(host); !ok {
			names[host] = true
		}
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error // mu
	slots := make(chan struct{}, atOnce)
	for _, name := range n.due(names) {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			addrs, err := n.lookup(ctx, name)
			if err == nil && len(addrs) == 0 {
				err = errors.New("it has no address")
			}
			n.put(name, addrs, err)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("host name %s: %w", name, err))
			}
		})
	}
	wait.Wait()
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// due forgets all names but these, and returns those to be looked up.
func (n *Names) due(names map[string]bool) (due []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.known {
		if !names[name] {
			delete(n.known, name)
			n.turn++
		}
	}
	for name := range names {
		if f, ok := n.known[name]; !ok || f.at.IsZero() || time.Since(f.at) >= fresh {
			due = append(due, name)
		}
	}
	return due
}

func (n *Names) put(name string, addrs []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, ok := n.known[name]
	if err != nil {
		if ok { // what it was known for is good until there is something better
			n.known[name] = found{addrs: was.addrs}
		}
		return
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap().WithZone("")
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	n.known[name] = found{addrs, time.Now()}
	if !ok || !slices.Equal(was.addrs, addrs) {
		n.turn++
	}
}

// Self is a node's own address for one kind of traffic. Its zero value is nobody's.
type Self struct {
	ip    netip.Addr
	port  int
	names *Names
}

// At returns the Self of an address. Where names is nil rings have to have it as an
// address.
func At(address netip.AddrPort, names *Names) Self {
	return Self{address.Addr().Unmap(), int(address.Port()), names}
}

func (s Self) String() string { return netip.AddrPortFrom(s.ip, uint16(s.port)).String() }

// IsZero reports whether it is nobody's.
func (s Self) IsZero() bool { return !s.ip.IsValid() }

// Is reports whether a host of a ring, and a port, are the node's own. A name is if it
// leads to the node's address; or, as a machine's own name often does on itself, to the
// loopback network, where that is not where the node listens.
func (s Self) Is(host string, port int) bool {
	if port != s.port {
		return false
	}
	if a, ok := literal(host); ok {
		return a == s.ip
	}
	return slices.ContainsFunc(s.names.Addrs(host), func(a netip.Addr) bool {
		return a == s.ip || a.IsLoopback() && !s.ip.IsLoopback()
	})
}
