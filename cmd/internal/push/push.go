// Package push hands rings to all processes of a cluster, and finds out what each runs.
//
// Which storage nodes there are it learns from the rings that are handed out, from those that it is
// told of besides, and from the processes themselves, who name the servers in the rings that they have in use: so it finds
// those that a ring has let go of, too. Proxies are in no ring, and have to be named.
//
// Storage nodes get a ring first, and proxies when all of those have it that are in it: so nothing is written to a device
// before its node knows what it is there for. A ring that anybody has newer, or of the same version with something else in it,
// is sent to nobody. What was done is done, and doing it again is harmless.
package push

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/internal/clusterkey"
	"martlet/internal/ringpush"
	"martlet/ring"
)

// Options are what is to be done.
type Options struct {
	Rings   []*Ring            // to hand out; none only looks
	Others  []*ring.Ring       // whose nodes are asked as well
	Proxies []string           // their URLs
	Keys    *clusterkey.Source // the cluster's

	DryRun      bool          // only find out what would be sent
	Looking     bool          // and nothing is going to be: who could not be asked is in nobody's way
	GoOn        bool          // to the proxies, though some storage nodes could not be reached
	Concurrency int           // processes at one time; more than 0
	Timeout     time.Duration // for each request; more than 0

	Told func(format string, args ...any) // is told what is being done; nil for nobody
}

// The states of a ring in a process.
const (
	Has    = "has it"    // in use is what was to be sent
	Sent   = "sent"      // and it is in use now
	Behind = "behind"    // it would be sent
	Held   = "not sent"  // it would have been sent, had nothing been in the way
	Newer  = "newer"     // in use is a newer one
	Other  = "another"   // in use is the same version, which says something else
	None   = "not known" // the process has no such ring
	Failed = "failed"    // Error says why
	Seen   = "in use"    // nothing was to be sent
)

// unsynced is what is said of a file that is right, and was not put on stable storage.
const unsynced = "a power cut may undo it, as the folder could not be synced"

// State is a ring in a process.
type State struct {
	Name  string            `json:"name"`
	Was   *ringpush.Running `json:"was,omitempty"` // in use before; nil for none
	Now   *ringpush.Running `json:"now,omitempty"` // in use at the end
	State string            `json:"state"`
	Error string            `json:"error,omitempty"`

	// File is what was wrong with the process's file of the ring before: a restart or a power cut may
	// undo what is in use. "" is nothing.
	File string `json:"file,omitempty"`
}

// Process is a process, or an address at which there should be one.
type Process struct {
	Name      string   `json:"name"` // host, host:port or URL
	Kind      string   `json:"kind"`
	Addresses []string `json:"addresses"`
	Process   string   `json:"process,omitempty"` // as ringpush.Report has it
	Version   string   `json:"version,omitempty"` // of the program
	Leaves    bool     `json:"leaves,omitempty"`  // the rings to be handed out don't have it
	Error     string   `json:"error,omitempty"`   // why it could not be asked
	Rings     []*State `json:"rings"`

	to     address
	folder string // of its ring files, as ringpush.Report has it
}

// Good reports whether the process was reached, and runs the rings, or would be sent them in a dry run.
func (p *Process) Good() bool {
	return p.Error == "" && !slices.ContainsFunc(p.Rings, func(s *State) bool {
		return s.State != Has && s.State != Sent && s.State != Behind && s.State != Seen
	})
}

// Result is what has come of it.
type Result struct {
	Processes []*Process
	Conflicts []string // why nothing was sent; the same as some states
	Stopped   bool     // before the proxies

	Twice []string // URLs of proxies that lead to processes that others lead to as well

	// Shared are proxies that have their ring files in the folder of a storage node: what that one is handed they have, too, though others
	// lack it still.
	Shared []Shared

	Interrupted bool // while rings were handed out: nothing more was sent after that
}

// Shared is a proxy and a storage node that have one rings.folder.
type Shared struct{ Proxy, Node string }

// Run looks, and hands out rings. The error is of what makes no sense, or of ctx where that has ended before
// all were asked, and then nothing was sent; what could not be reached is in the result.
func Run(ctx context.Context, o Options) (*Result, error) {
	r := &run{Options: o, ask: newAsker(o.Keys, o.Timeout), in: map[string]bool{}}
	defer r.ask.close()
	if r.Told == nil {
		r.Told = func(string, ...any) {}
	}
	var first []address
	for _, ring := range o.Rings {
		for _, at := range serversOf(ring.ring) {
			r.in[at] = true
			first = append(first, address{text: at, at: at})
		}
	}
	for _, ring := range o.Others {
		for _, at := range serversOf(ring) {
			first = append(first, address{text: at, at: at})
		}
	}
	for _, text := range o.Proxies {
		a, err := proxyAt(text)
		if err != nil {
			return nil, err
		}
		first = append(first, a)
	}
	r.find(ctx, first)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.plan()
	if o.DryRun && !o.Looking && len(r.Conflicts) == 0 {
		r.stopped() // as it would be
	}
	if len(o.Rings) > 0 && !o.DryRun && len(r.Conflicts) == 0 {
		r.hand(ctx)
		if r.Interrupted = ctx.Err() != nil; r.Interrupted {
			r.mark(Behind, Held, func(*Process) bool { return true })
		}
	}
	return &r.Result, nil
}

// run is one Run.
type run struct {
	Options
	Result
	ask *asker
	in  map[string]bool // addresses in the rings to be handed out
}

func serversOf(r *ring.Ring) (all []string) {
	seen := map[string]bool{}
	for d := range r.Devices() {
		if at := d.Addr(); !seen[at] {
			seen[at] = true
			all = append(all, at)
		}
	}
	return all
}

// asked is what an address has said.
type asked struct {
	address
	report ringpush.Report
	err    error
}

// find asks all addresses, and those that they name, until there is none that is new.
func (r *run) find(ctx context.Context, next []address) {
	seen := map[string]bool{}
	var answers []*asked
	for len(next) > 0 {
		var wave []*asked
		for _, a := range next {
			if !seen[a.text] {
				seen[a.text] = true
				wave = append(wave, &asked{address: a})
			}
		}
		r.Told("asking %d addresses", len(wave))
		inTurn(wave, r.Concurrency, func(a *asked) { a.report, a.err = r.ask.report(ctx, a.address) })
		next = nil
		coming := map[string]bool{}
		for _, a := range wave {
			for _, at := range a.report.Nodes { // each server names all the others
				if !seen[at] && !coming[at] {
					coming[at] = true
					next = append(next, address{text: at, at: at})
				}
			}
			a.report.Nodes = nil
		}
		answers = append(answers, wave...)
	}
	r.group(answers)
}

// inTurn does something with all, so many at one time, and returns when it is done.
func inTurn[T any](all []T, most int, do func(T)) {
	slots := make(chan struct{}, most)
	var wait sync.WaitGroup
	for _, one := range all {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			do(one)
		})
	}
	wait.Wait()
}

// group puts the addresses of a process together. Those of a host of which nothing is known are taken for one.
func (r *run) group(answers []*asked) {
	of := map[string]*Process{}
	hosts := map[string]map[*Process]bool{}
	for _, a := range answers {
		host, _, _ := net.SplitHostPort(a.at)
		key := "process " + a.report.Process
		if a.err != nil {
			if key = "host " + host; a.proxy {
				key = "proxy " + a.text
			}
		}
		p := of[key]
		if p == nil {
			p = &Process{Process: a.report.Process, Kind: a.report.Kind, Version: a.report.Version, Leaves: len(r.Rings) > 0, to: a.address, folder: a.report.Folder}
			if a.err != nil {
				p.Error, p.Kind = plainly(a.err), ringpush.Storage
				if a.proxy {
					p.Kind = ringpush.Proxy
				}
			}
			p.states(r.Rings, a.report)
			of[key] = p
			r.Processes = append(r.Processes, p)
		} else if a.proxy {
			r.Twice = append(r.Twice, a.text)
		}
		p.Addresses = append(p.Addresses, a.text)
		p.Leaves = p.Leaves && !a.proxy && !r.in[a.text]
		if hosts[host] == nil {
			hosts[host] = map[*Process]bool{}
		}
		hosts[host][p] = true
	}
	for _, p := range r.Processes {
		slices.Sort(p.Addresses)
		p.Name = p.Addresses[0]
		if host, _, err := net.SplitHostPort(p.Name); err == nil && !p.to.proxy && len(hosts[host]) == 1 {
			p.Name = host
		}
	}
	slices.SortFunc(r.Processes, func(a, b *Process) int {
		return cmp.Or(-strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name)) // storage nodes first
	})
	r.share()
}

// share finds the proxies that have the folder of a storage node.
func (r *run) share() {
	storage, proxies := r.kinds()
	for _, p := range proxies {
		i := slices.IndexFunc(storage, func(node *Process) bool { return p.folder != "" && node.folder == p.folder })
		if i >= 0 {
			r.Shared = append(r.Shared, Shared{p.Name, storage[i].Name})
		}
	}
}

// states notes what a process runs, of the rings that are to be handed out, or of all.
func (p *Process) states(rings []*Ring, report ringpush.Report) {
	p.Rings = []*State{}
	if p.Error != "" {
		return
	}
	names := make([]string, 0, len(report.Rings))
	for _, r := range rings {
		names = append(names, r.Name)
	}
	if len(rings) == 0 {
		for name := range report.Rings {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	for _, name := range names {
		s := &State{Name: name, State: Seen}
		if is, ok := report.Rings[name]; ok {
			s.Was, s.Now = &is, &is
			if s.File = report.Files[name]; s.File == "" && slices.Contains(report.Unsynced, name) {
				s.File = unsynced
			}
		}
		p.Rings = append(p.Rings, s)
	}
}

// plan finds out what is to be sent to whom, and what is in the way.
func (r *run) plan() {
	if len(r.Rings) == 0 {
		return
	}
	for _, p := range r.Processes {
		for i, s := range p.Rings {
			switch is := r.Rings[i]; {
			case s.Was == nil:
				s.State = None
				s.Error = "its configuration has no such policy (cluster.policies)"
			case *s.Was == is.Running && s.File == "":
				s.State = Has
			case *s.Was == is.Running:
				s.State = Behind // in use, and not certain to be so after a restart or a power cut
			case s.Was.Version < is.Version:
				s.State = Behind
			case s.Was.Version > is.Version:
				s.State = Newer
				r.conflict("%s runs version %d of the %s ring, which is newer than version %d in %s", p.Name, s.Was.Version, s.Name, is.Version, is.Path)
			default:
				s.State = Other
				r.conflict("%s runs version %d of the %s ring, which is not what %s is: one of the two was made by another builder, or by an old copy of it", p.Name, s.Was.Version, s.Name, is.Path)
			}
		}
	}
	if len(r.Conflicts) > 0 {
		r.mark(Behind, Held, func(*Process) bool { return true })
	}
}

func (r *run) conflict(format string, args ...any) {
	r.Conflicts = append(r.Conflicts, fmt.Sprintf(format, args...))
}

// mark gives rings of some processes another state.
func (r *run) mark(from, to string, which func(*Process) bool) {
	for _, p := range r.Processes {
		for _, s := range p.Rings {
			if s.State == from && which(p) {
				s.State = to
			}
		}
	}
}

// kinds returns the storage nodes and the proxies.
func (r *run) kinds() (storage, proxies []*Process) {
	for _, p := range r.Processes {
		if p.Kind == ringpush.Proxy {
			proxies = append(proxies, p)
		} else {
			storage = append(storage, p)
		}
	}
	return storage, proxies
}

// stopped reports whether a storage node is in the way of the proxies, and notes that.
func (r *run) stopped() bool {
	storage, proxies := r.kinds()
	for _, p := range storage {
		// One that is on its way out and can't be reached may be gone for good, and is why the ring has changed. One
		// that was reached and refuses says that something is wrong with the ring.
		unreached := p.Error != ""
		if !p.Good() && !(unreached && (p.Leaves || r.GoOn)) {
			r.Stopped = len(proxies) > 0
			r.mark(Behind, Held, func(p *Process) bool { return p.Kind == ringpush.Proxy })
			return true
		}
	}
	return false
}

// hand sends what is to be sent: to storage nodes, and then to proxies.
func (r *run) hand(ctx context.Context) {
	storage, proxies := r.kinds()
	r.Told("handing rings to %d storage nodes", len(storage))
	inTurn(storage, r.Concurrency, func(p *Process) { r.give(ctx, p) })
	if ctx.Err() != nil || r.stopped() {
		return
	}
	r.Told("handing rings to %d proxies", len(proxies))
	inTurn(proxies, r.Concurrency, func(p *Process) { r.give(ctx, p) })
}

// give sends a process the rings that it lacks, one after the other.
func (r *run) give(ctx context.Context, p *Process) {
	for i, s := range p.Rings {
		if s.State != Behind || ctx.Err() != nil {
			continue
		}
		taken, err := r.ask.send(ctx, p.to, p.Process, r.Rings[i])
		switch {
		case err != nil && ctx.Err() != nil:
			s.State, s.Error = Failed, "interrupted: whether it has taken the ring is not known"
		case err != nil:
			s.State, s.Error = Failed, plainly(err)
		case taken.Running != r.Rings[i].Running:
			s.State, s.Now = Failed, &taken.Running
			s.Error = fmt.Sprintf("it says that it runs version %d, with another checksum than what was sent", taken.Running.Version)
		default:
			s.State, s.Now = Sent, &taken.Running
		}
	}
}
