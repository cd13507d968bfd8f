// Package node assembles processes: a proxy, or a storage node with the servers
// and the background work over its devices.
//
// What it opens is whole or not there at all. A process runs until its context
// ends, and then ends in this order: listeners, requests that are under way up to
// a deadline, background work, databases. A process that is killed instead loses
// nothing that was acknowledged.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/daemon"
	"martlet/internal/handover"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/lean"
	"martlet/internal/memnet"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/object/engine/blob"
	"martlet/ring"
)

// Options are what a process gets from who runs it.
type Options struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Gatherer prometheus.Gatherer // of the admin address; nil leaves /metrics out there
	Version  string              // for /info
	Lookup   hosts.Lookup        // of host names in rings; nil for the machine's
	Buffers  *blob.Buffers       // that bodies of objects move through, for all storage nodes of a process; nil for one of its own

	// Now is the clock of the times that a proxy gives to writes; nil is the machine's.
	Now func() time.Time

	// Inherited is what a predecessor has handed over; nil is nothing.
	Inherited *handover.Inherited

	// Memory is where those who share the process find each other: connections between proxies and storage nodes that
	// have the same one are in memory; nil has all of them be made with sockets.
	Memory *memnet.Network

	// Listen opens the address of a server ("object", "replication", "proxy", ...); nil is TCP.
	Listen func(server, address string) (net.Listener, error)
}

// process is what both kinds of process are made of, in the order of their end.
type process struct {
	log      *slog.Logger
	listener func(server, address string) (net.Listener, error) // nil is TCP
	servers  []opened
	work     []task
	loops    []loop
	closers  []func() error // called last to first
}

// task is a piece of background work.
type task struct {
	name  string
	every time.Duration
	pass  daemon.Pass
}

// takeOr returns the sockets that a predecessor has handed over, and opens the others.
func takeOr(in *handover.Inherited, open func(server, address string) (net.Listener, error)) func(server, address string) (net.Listener, error) {
	if in == nil {
		return open
	}
	return func(server, address string) (net.Listener, error) {
		if l, ok := in.Listener(server, address); ok {
			return l, nil
		}
		if open == nil {
			return httpapi.Listen(address)
		}
		return open(server, address)
	}
}

// opened is a server that listens.
type opened struct {
	name     string
	listener net.Listener
	run      func(context.Context) error
}

// listen opens an address for a server.
func (p *process) listen(s *httpapi.Server, address string) error {
	l, err := p.open(s.Name, address)
	if err != nil {
		return err
	}
	s.Listener = l
	p.servers = append(p.servers, opened{s.Name, l, s.Run})
	return nil
}

// listenLean does the same for one of a storage node, which takes connections of the same process too, where memory is not nil: those are
// dialed to the address of the socket.
func (p *process) listenLean(s *lean.Server, address string, memory *memnet.Network) error {
	l, err := p.open(s.Name, address)
	if err != nil {
		return err
	}
	s.Listener = l
	p.servers = append(p.servers, opened{s.Name, l, s.Run})
	if memory == nil {
		return nil
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	beside, err := memory.Listen(at)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	s.Memory = beside
	p.atEnd(beside.Close) // Run has closed it, where there was one
	return nil
}

func (p *process) open(name, address string) (net.Listener, error) {
	open := p.listener
	if open == nil {
		open = func(_, address string) (net.Listener, error) { return httpapi.Listen(address) }
	}
	l, err := open(name, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// admin opens the admin address with what every process serves there; more, where
// not nil, adds to it.
func (p *process) admin(c config.Admin, gatherer prometheus.Gatherer, more func(*http.ServeMux)) error {
	if c.Listen == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/", httpapi.Admin(gatherer, c.Profiling))
	if more != nil {
		more(mux)
	}
	return p.listen(&httpapi.Server{Name: "admin", Handler: mux, Log: p.log, Drain: time.Second}, c.Listen)
}

// listeners are the sockets of a process that has not been run, by the names of their servers.
func (p *process) listeners() map[string]net.Listener {
	all := map[string]net.Listener{}
	for _, s := range p.servers {
		all[s.name] = s.listener
	}
	return all
}

// addressOf is where the server of that name listens.
func (p *process) addressOf(name string) string {
	for _, s := range p.servers {
		if s.name == name {
			return s.listener.Addr().String()
		}
	}
	return ""
}

// loop is background work that paces itself.
type loop struct {
	name string
	run  func(context.Context) error
}

// beside has a function run while the process does.
func (p *process) beside(name string, run func(context.Context) error) {
	p.loops = append(p.loops, loop{name, run})
}

func (p *process) every(name string, interval time.Duration, pass daemon.Pass) {
	p.work = append(p.work, task{name, interval, pass})
}

// atEnd has a function called when everything that was opened later is closed.
func (p *process) atEnd(f func() error) { p.closers = append(p.closers, f) }

// run serves until ctx ends and closes everything.
func (p *process) run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	work := daemon.NewGroup(background)
	for _, t := range p.work {
		log := p.log.With(slog.String("work", t.name))
		work.Go(t.name, func(ctx context.Context) error { return daemon.Forever(ctx, log, t.every, t.pass) })
	}
	for _, l := range p.loops {
		work.Go(l.name, l.run)
	}
	listeners := daemon.NewGroup(ctx)
	for _, s := range p.servers {
		p.log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("server", s.name), slog.String("address", s.listener.Addr().String()))
		listeners.Go(s.name, s.run)
	}
	p.servers = nil // their listeners are Run's to close
	err := listeners.Wait()
	stop()
	return errors.Join(err, work.Wait(), p.close())
}

// close closes what was opened, last to first.
func (p *process) close() error {
	var all []error
	for _, s := range p.servers {
		all = append(all, s.listener.Close())
	}
	for _, f := range slices.Backward(p.closers) {
		all = append(all, f())
	}
	p.servers, p.closers, p.work, p.loops = nil, nil, nil, nil
	return errors.Join(all...)
}

// rings are the ring files of a process.
type rings struct {
	account, container *ring.Source
	objects            map[policy.Index]*ring.Source
	needs              map[policy.Index]int
	notes              *ringNotes
}

// quorum is the rings as those who ask storage nodes have them.
func (r rings) quorum() quorum.Rings {
	return quorum.Rings{Account: r.account, Container: r.container, Objects: r.objects, Needs: r.needs}
}

// openRings opens the rings of the kinds that every process needs.
func openRings(folder string, policies policy.Set) (rings, error) {
	r := rings{objects: map[policy.Index]*ring.Source{}, needs: map[policy.Index]int{}, notes: &ringNotes{}}
	open := func(name string) (*ring.Source, error) {
		s, err := ring.Open(filepath.Join(folder, name+".ring.gz"))
		if err != nil {
			return nil, fmt.Errorf("ring: %w", err)
		}
		return s, nil
	}
	var err error
	if r.account, err = open("account"); err != nil {
		return r, err
	}
	if r.container, err = open("container"); err != nil {
		return r, err
	}
	for _, p := range policies.All() {
		source, err := open("object" + p.Index.Suffix())
		if err == nil {
			err = r.add(p, source)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// add adds the ring of a policy. Where it codes, that is the ring of the fragments, and the first
// replicas of it are that of the objects.
func (r rings) add(p policy.Policy, source *ring.Source) error {
	r.objects[p.Index] = source
	if !p.Coded() {
		return nil
	}
	if n := source.Ring().ReplicaCount(); n != p.Fragments() {
		return fmt.Errorf("ring: object%s has %d replicas, and the policy %q of erasure coding needs %d+%d", p.Index.Suffix(), n, p.Name, p.Data, p.Parity)
	}
	r.objects[p.Index.Fragments()], r.needs[p.Index.Fragments()] = source, p.FragmentQuorum()
	r.objects[p.Index], r.needs[p.Index] = source.First(p.Replicas()), p.Quorum()
	return nil
}

// named yields each ring with the name of its file.
func (r rings) named(yield func(string, *ring.Source) bool) {
	if !yield("account", r.account) || !yield("container", r.container) {
		return
	}
	for i, s := range r.objects {
		if _, parted := r.objects[i.Fragments()]; parted && !i.IsFragments() {
			continue // of the same file
		}
		if !yield("object"+i.Objects().Suffix(), s) {
			return
		}
	}
}

// reload has the process look for newer rings, and do something after each look.
func (p *process) reload(r rings, every time.Duration, after ...daemon.Pass) {
	p.every("ring reload", every, func(ctx context.Context) error {
		var all []error
		for name, s := range r.named {
			reloaded, err := s.Check()
			r.notes.checked(name, err)
			if err != nil {
				all = append(all, fmt.Errorf("%s ring: %w", name, err)) // the one in use stays
			}
			if reloaded {
				p.log.LogAttrs(ctx, slog.LevelInfo, "new ring in use", slog.String("ring", name), slog.Int64("version", s.Ring().Version()))
			}
		}
		for _, f := range after {
			all = append(all, f(ctx))
		}
		return errors.Join(all...)
	})
}

// hosts yields what the rings have in the place of addresses.
func (r rings) hosts(yield func(string) bool) {
	for _, s := range r.named {
		for d := range s.Ring().Devices() {
			if !yield(d.ReplicationIP) || !yield(d.IP) {
				return
			}
		}
	}
}

// compare logs where the rings of one kind and the devices of a node disagree: either is
// what an operator may have forgotten, and neither keeps the node from serving the rest. Of
// several policies a device has to be in the ring of one.
func (p *process) compare(of map[string]*ring.Ring, self hosts.Self, devices []string) {
	names := slices.Sorted(maps.Keys(of))
	warn := func(text, ringName, device string) {
		p.log.LogAttrs(context.Background(), slog.LevelWarn, text,
			slog.String("ring", ringName), slog.String("address", self.String()), slog.String("device", device))
	}
	placed := map[string]bool{}
	for _, name := range names {
		unknown := map[string]bool{}
		for d := range of[name].Devices() {
			if self.Is(d.IP, d.Port) {
				placed[d.Name] = true
				unknown[d.Name] = !slices.Contains(devices, d.Name)
			}
		}
		for device, is := range unknown {
			if is {
				warn("the ring has a device of this node that its configuration doesn't name", name, device)
			}
		}
	}
	for _, device := range devices {
		if !placed[device] {
			warn("a device of this node is not in the ring", strings.Join(names, ", "), device)
		}
	}
}
