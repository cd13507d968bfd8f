// Package fragments keeps the fragments of erasure-coded objects in their places: it answers
// peers that look for them, takes what they bring, and makes passes over a device.
//
// Fragment i of an object belongs on the i-th primary of its partition, by the whole ring of
// the policy. Which objects there are is said by their commits (backend.Coded), which are on
// the first of those primaries and are replicated by package objects.
//
// A pass looks at each partition of which the device is a primary or holds fragments, unless
// all was found in place there before and neither the sum of what is here nor that of the
// commits has changed since. It reads the commits, its own or those that a replica tells,
// and what is here, and does four things:
//
//   - a fragment that should be here and is not is read from who has it, if that is somebody, or
//     made again from k others (ec.Rebuild), and given to the object server as any
//     PUT is: it counts once that has said that it is on stable storage. Of small objects many are read
//     in one request, and stored side by side. The objects of which the fewest fragments are left come first;
//   - one that is here and belongs elsewhere is pushed there, and dropped here;
//   - one of a write that was superseded is dropped;
//   - so is one of a write that never was committed, once it is older than the reclaim age.
//
// # What it takes to drop a fragment
//
// It is at home on another device: that one has shown exactly the same archive, checksum and
// all, as something that is durable there, and takes itself for the primary that it belongs on
// (replicator.Guard).
//
// It is superseded: as many replicas of the commit as a write has to be on say each that they
// have something newer. Where some of it may yet be void, since an object that has expired can
// have been given a longer life, all replicas have to say so.
//
// It was never decided: all replicas of the commit have answered, none has it, nor is in doubt, and it is older than
// the reclaim age, by which what is on handoffs has come home. That is so too where another
// write of just the same time is there: which of the two is in force at last is for the commits to settle. Since a write
// may be of a time long before it (another cluster's, or that of the data that a version is kept of), the process
// has to have known it for a day as well, or for the reclaim age if that is less, or another one before it on the same device (note): a day in which
// passes have looked at the device, without the time for which it was down. And since replicas may be such for no longer than
// a moment, all devices are asked: none has the commit, and no more of them are silent than may be lost.
//
// Of one that was lost to damage, and does not belong on the device, there is but the mark that says so. That goes where the write is superseded,
// where there is a commit of just its time and all fragments of that are on the devices that they belong on, each of which has shown its own
// and takes itself for its primary, and with age.
//
// Errors, silence, a device that was away for too long (package steps), one that does not take
// itself for a primary, two that answer as one and an answer that turns out to be the device's own confirm nothing.
// Nothing is dropped by a ring that is out of use.
//
// Memory is bounded by what is known of the objects in three times 8192 fragments or so that are gone into together, by the
// segments of the archives that are being made, and by 4 MiB of objects in each batch of small ones, of which as many are stored at one time as the pace lets be under way, and as many read.
package fragments

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/device"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// Entry is what is under a hash.
type Entry struct {
	replwire.Object
	Name     name.Path // zero where it is not known
	Coded    string    // backend.CodedWrite of an object; empty where it has none
	Fragment string    // backend.Fragment of a fragment
}

// Archive is a fragment as it was stored. Its Body must be closed, and returns no byte that was
// not checked.
type Archive struct {
	replwire.Object
	Body io.ReadCloser
}

// Store is what is needed of one device's objects and fragments, the latter under the policy's
// own index for them.
type Store interface {
	// Pinned returns the store of the disk that is attached now. It fails once that
	// is detached, whatever is attached later.
	Pinned() Store

	// Partitions yields what each partition of a ring with 2^power partitions comes to of
	// which there is something, in order. No object is read. An error ends it.
	Partitions(ctx context.Context, p policy.Index, power int, before timestamp.T) iter.Seq2[replwire.Extent, error]

	// Walk yields what is under the hashes from `from` to `to`, both included, in
	// their order, without any body. An error comes with the hash that it concerns, or with none and then ends the walk.
	Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[Entry, error]

	// Present yields the hashes from `from` to `to`, both included, under which there is something that
	// is not known to be damaged, in their order. No object is read. An error ends it.
	Present(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[name.Hash, error]

	// Stat returns what is under one hash. Nothing is an Entry of no Kind.
	Stat(ctx context.Context, p policy.Index, h name.Hash) (Entry, error)

	// Open opens a fragment. The error is of kind errs.NotFound where there is none.
	Open(ctx context.Context, p policy.Index, h name.Hash) (*Archive, error)

	// OpenAll opens many fragments, one after the other, and yields of each what Open returns. In order of hash that is less work.
	OpenAll(ctx context.Context, p policy.Index, hashes []name.Hash) iter.Seq2[*Archive, error]

	// Drop removes a hash whose state is exactly that, all of it, and reports whether
	// it was. It is gone durably then. Of a fragment that was lost that is the mark which says so.
	Drop(ctx context.Context, p policy.Index, o replwire.Object) (bool, error)

	// Quarantine takes a fragment whose state is exactly that out of use because of what is wrong with it, durably, and has
	// Deps.Lost say so. It does nothing where there is another state.
	Quarantine(ctx context.Context, p policy.Index, o replwire.Object, why error) error
}

// Config is what Fragments can be told.
type Config struct {
	Concurrency int           // partitions of one device, or fragments, under way at one time, where there is no pace to say so
	ReclaimAge  time.Duration // after which a write that was never decided is given up; it was known for a day then, or as long
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config { return Config{Concurrency: 4, ReclaimAge: 7 * 24 * time.Hour} }

// Lost names something that a device has lost to damage.
type Lost struct {
	Device string
	Policy policy.Index // that of fragments
	Hash   name.Hash
}

// Deps is what Fragments work with.
type Deps struct {
	Stores   map[string]Store // by device
	Devices  *device.Set      // on which it is kept what has to outlast the process; nil for nowhere
	Policies policy.Set
	Ring     func(policy.Index) *ring.Ring // the one in use: of commits, or of fragments
	Self     hosts.Self                    // the replication address of this node, as the rings have it
	NodeID   string                        // as the replicator's
	Hasher   interface{ Hash(name.Path) name.Hash }
	Server   backend.Handler // the object server
	Peers    replicator.Sender
	Pace     *replicator.Paces // nil for none but Config.Concurrency
	Now      func() time.Time  // nil for the machine's clock
	Log      *slog.Logger      // nil for none

	// Lost says what devices of this node have lost: see Repair. Nil is nothing.
	Lost <-chan Lost

	// May returns why what a device holds of the objects of a partition says nothing, since it
	// was away for too long (package steps); nil where it may be believed.
	May func(device string, p policy.Index, r *ring.Ring, at ring.Partition) error
}

// Fragments is the replicator.Kind of fragments.
type Fragments struct {
	cfg Config
	Deps
	guard    replicator.Guard
	seen     map[string]*seen         // by device; what passes remember
	suspects chan Lost                // that others have found damaged
	looked   *lately[Lost]            // at which of those
	asked    map[string]chan struct{} // by device: who is answered with many fragments takes one of them
	turns    map[string]chan struct{} // by device: who has a fragment stored of several that are small takes one of them

	allTurns chan struct{} // and one of these
	rooms    rooms         // for answers with many fragments

	mu    sync.Mutex
	codes map[ec.Layout]*ec.Code // guarded by mu
	rings map[policy.Index]rings // guarded by mu; by that of fragments
}

// rings are the one in use, and the one before it, nil where that is not known.
type rings struct{ now, before *ring.Ring }

var (
	_ replicator.Kind  = (*Fragments)(nil)
	_ replicator.Giver = (*Fragments)(nil)
)

// New returns the fragments of a node.
func New(cfg Config, deps Deps) (*Fragments, error) {
	const op errs.Op = "fragments.new"
	if cfg.Concurrency <= 0 || cfg.ReclaimAge <= 0 {
		return nil, errs.E(op, errs.Invalid, "concurrency and reclaim age must be positive")
	}
	if deps.Ring == nil || deps.Self.IsZero() || deps.NodeID == "" || deps.Hasher == nil || deps.Server == nil || deps.Peers == nil || deps.May == nil {
		return nil, errs.E(op, errs.Invalid, "rings, address, node id, hasher, object server, sender and steps are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Pace == nil {
		limits := replicator.DefaultLimits()
		limits.Concurrency = cfg.Concurrency
		deps.Pace = replicator.NewPaces(slices.Collect(maps.Keys(deps.Stores)), limits, deps.Log)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	f := &Fragments{
		cfg: cfg, Deps: deps, seen: map[string]*seen{}, codes: map[ec.Layout]*ec.Code{}, rings: map[policy.Index]rings{},
		asked: map[string]chan struct{}{}, turns: map[string]chan struct{}{}, suspects: make(chan Lost, mostSuspects), looked: newLately[Lost](mostLooked),
	}
	f.allTurns = make(chan struct{}, allTurns)
	notes := map[string]*note{}
	if deps.Devices != nil {
		for d := range deps.Devices.All() {
			notes[d.Name()] = newNote(d, deps.Log)
		}
	}
	for device := range deps.Stores {
		f.asked[device] = make(chan struct{}, maxAsked)
		f.turns[device] = make(chan struct{}, max(leastTurns, allTurns/len(deps.Stores)))
		f.seen[device] = &seen{kept: notes[device], sought: newLately[doubt](mostSought), parts: map[place]sight{}, doubts: map[doubt]time.Duration{}}
	}
	return f, nil
}

// Name implements replicator.Kind.
func (f *Fragments) Name() string { return "fragment" }

// Gives implements replicator.Giver.
func (f *Fragments) Gives() {}

// horizon is the time before which a write was given up that is not decided.
func (f *Fragments) horizon() timestamp.T {
	return steps.Terms{ReclaimAge: f.cfg.ReclaimAge}.Horizon(f.Now())
}

// code returns what encodes in a layout. A process has few of them.
func (f *Fragments) code(l ec.Layout) (*ec.Code, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.codes[l]; c != nil {
		return c, nil
	}
	c, err := ec.New(l)
	if err == nil {
		f.codes[l] = c
	}
	return c, err
}

// ringsOf returns the ring of a policy's fragments, and the one that was in use before it.
func (f *Fragments) ringsOf(p policy.Index) rings {
	now := f.Ring(p.Fragments())
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.rings[p]
	if all.now != now {
		all = rings{now, all.now}
		f.rings[p] = all
	}
	return all
}

// Held implements replicator.Kind. What a device holds as a primary, but of another fragment than
// its own, is on a handoff as well: it is not looked at one by one here.
func (f *Fragments) Held(ctx context.Context, device string) ([]replicator.Held, error) {
	const op errs.Op = "fragments.held"
	store := f.Stores[device]
	if store == nil {
		return nil, errs.E(op, errs.Subject(device), errs.BadDevice, "the device has no store for fragments")
	}
	store = store.Pinned()
	var all []replicator.Held
	for _, p := range f.Policies.All() {
		r := f.Ring(p.Index.Fragments())
		if !p.Coded() || r == nil {
			continue
		}
		held := replicator.Held{Kind: f.Name(), Policy: p.Index.String()}
		for e, err := range store.Partitions(ctx, p.Index.Fragments(), r.PartPower(), timestamp.T{}) {
			if err != nil {
				return append(all, held), err
			}
			held.Partitions++
			if replicator.PlaceOf(r, r.Partition(e.Range.First()), device, f.Self) < 0 {
				held.Handoffs++
			}
		}
		all = append(all, held)
	}
	return all, nil
}
