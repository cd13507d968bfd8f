package fragments

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// pass is one pass over one device.
type pass struct {
	*Fragments
	device  string
	store   Store
	tally   *replicator.Tally
	before  timestamp.T // what is of that time or later is left alone; zero leaves nothing alone
	horizon timestamp.T // one for the whole pass
	began   time.Time
	seen    *seen
	work    *work
	peers   replicator.Client // of fragments
	sums    replicator.Client // of the sums of objects and of fragments, which package objects tells

	noting   sync.Mutex    // held while it is noted why something is not known, or who is not versed
	unversed map[peer]bool // guarded by noting; who is not asked for many fragments at a time
	judging  sync.Mutex    // held while answers about writes are noted

	keeping sync.WaitGroup // batches that were read, and are stored
	makers  *makers        // who makes and stores what is in them; there while something is got
}

// part is a partition that the pass is about.
type part struct {
	policy  policy.Policy
	rings              // of the fragments
	ring    *ring.Ring // the one in use of them
	objects *ring.Ring // of the commits
	number  ring.Partition
	index   int // of the fragment that belongs here; -1 for none

	mine    replwire.Digest // of the fragments here
	here    int64           // how many those are
	size    int64           // bytes of them
	own     bool            // the commits here may be believed
	told    bool            // a sum of the commits is known
	commits replwire.Digest
	asked   int   // which replica has told that sum: see teller
	many    int64 // objects, by the commits' sum
	good    int   // devices that have as many fragments as there are objects
	lacks   int64 // how many fragments others have more here

	mu    sync.Mutex
	again bool      // not all is in place, or known to be; guarded by mu
	until time.Time // when something is due at the earliest; guarded by mu
	left  bool      // something is left to who brings it; guarded by mu
	next  int       // which replica the next pass asks first; guarded by mu
	units int       // that are not done; guarded by mu
}

func (of *part) lookAgain() {
	of.mu.Lock()
	defer of.mu.Unlock()
	of.again = true
}

// due says that something may be done about the partition from a time on.
func (of *part) due(at time.Time) {
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.until.IsZero() || at.Before(of.until) {
		of.until = at
	}
}

func (of *part) leave() {
	of.mu.Lock()
	defer of.mu.Unlock()
	of.again, of.left = true, true
}

// teller is the replica of the commits that is asked in a round. Each partition begins with another one.
func (of *part) teller(others []*replicator.Peer, round int) *replicator.Peer {
	return others[(int(of.number)+round)%len(others)]
}

// toldBy notes in which round the commits were told. If that was not the one in which their sum was, what is remembered would be of others:
// what the one lacked would be taken for in place by the sum of the other.
func (of *part) toldBy(round int) {
	of.mu.Lock()
	defer of.mu.Unlock()
	if round != of.asked {
		of.again, of.next = true, round
	}
}

func (of *part) about() replicator.About {
	return replicator.About{Ring: of.ring, Partition: of.number}
}

func (of *part) whole() name.Range {
	return name.PartitionRange(of.ring.PartPower(), uint32(of.number))
}

// newPass begins a pass over the disk that a device has now; nil where there is no such
// device.
func (f *Fragments) newPass(device string, before timestamp.T, t *replicator.Tally) *pass {
	store := f.Stores[device]
	if store == nil {
		return nil
	}
	p := &pass{
		Fragments: f, device: device, store: store.Pinned(), tally: t, before: before, horizon: f.horizon(), began: f.Now(), seen: f.seen[device], unversed: map[peer]bool{},
		peers: replicator.Client{Sender: f.Peers, Pace: f.Pace.Of(device), Kind: f.Name(), NodeID: f.NodeID, Device: device},
		sums:  replicator.Client{Sender: f.Peers, Pace: f.Pace.Of(device), Kind: "object", NodeID: f.NodeID, Device: device},
	}
	p.peers.Fresh = p.fresh
	p.work = &work{progress: p.peers.Pace.Progress()}
	return p
}

// fresh returns why nothing is to be pushed or dropped any more: what the pass goes by is too
// old.
func (p *pass) fresh() error {
	return steps.Terms{ReclaimAge: p.cfg.ReclaimAge}.Fresh(p.began, p.Now())
}

// coded yields the policies that code, for which there are rings.
func (f *Fragments) coded(yield func(policy.Policy) bool) {
	for _, p := range f.Policies.All() {
		if p.Coded() && f.Ring(p.Index) != nil && f.Ring(p.Index.Fragments()) != nil && !yield(p) {
			return
		}
	}
}

// Pass implements replicator.Kind.
func (f *Fragments) Pass(ctx context.Context, device string, before timestamp.T, t *replicator.Tally) {
	p := f.newPass(device, before, t)
	if p == nil {
		t.Fail(replicator.Failure{Reason: "the device has no store for fragments"})
		return
	}
	p.seen.watch(p.began)
	p.seen.kept.recall(ctx, p.seen)
	defer func() {
		now := p.Now()
		p.seen.watch(now)
		p.seen.kept.keep(ctx, p.seen, now)
	}()
	var all []*part
	for policy := range f.coded {
		all = append(all, p.look(ctx, policy)...)
	}
	slices.SortStableFunc(all, func(a, b *part) int { return cmp.Compare(a.good, b.good) })
	p.tellFound(all)
	if !p.waves(ctx, all) {
		return
	}
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
	}
	if t.Counts().Failed == 0 {
		p.peers.Pace.Progress().Whole(f.Name())
	}
}

// tellFound says how much the pass has to do, as far as that is known before anything was gone into: what the device holds as
// a handoff is to be sent, and what others have more of to be got.
func (p *pass) tellFound(all []*part) {
	var send replicator.ToSend
	lacks := int64(0)
	for _, x := range all {
		lacks += x.lacks
		if x.index < 0 && x.here > 0 {
			send.Partitions++
			send.Objects += x.here
			send.Bytes += x.size
		}
	}
	p.peers.Pace.Progress().Found(p.Name(), send)
	p.work.expect(lacks)
}

// unit is a piece of a partition that is gone into at once.
type unit struct {
	of    *part
	at    name.Range
	lacks int64 // how many fragments others probably have more in it
}

const (
	// inUnit is about how many fragments, or objects, there are in a unit, and inWave in all units
	// that are gone into together. It is few, as that is what has to be found out before anything is got, and
	// as what it takes to find out slows down what is got meanwhile: so that is slowed evenly.
	inUnit, inWave = 1 << 12, 1 << 13
	// inFirst is how many there are in the first of those; each other one may have twice as many as the one before: nothing is got before the
	// first was gone into.
	inFirst = 1 << 10
	// mostUnits is how many those are at most.
	mostUnits = 512
	// mostWaves is of how many something is in memory: one that is looked into, and two of which fragments are got.
	mostWaves = 3
)

// units yields the pieces of a partition.
func (of *part) pieces() iter.Seq[name.Range] {
	bits := uint8(0)
	for n := max(of.here, of.many); n > inUnit && bits < 16; n /= 2 {
		bits++
	}
	return of.whole().Parts(bits)
}

// waves yields all pieces of some partitions, some at a time.
func waves(all []*part) iter.Seq[[]unit] {
	return func(yield func([]unit) bool) {
		var wave []unit
		weight, most := int64(0), int64(inFirst)
		for _, of := range all {
			n := int64(0)
			for range of.pieces() {
				n++
			}
			of.units = int(n)
			left := of.lacks
			for r := range of.pieces() {
				share := min(left, (of.lacks+n-1)/n)
				left -= share
				wave = append(wave, unit{of, r, share})
				if weight += max(of.here, of.many) / n; weight >= most || len(wave) == mostUnits {
					if !yield(wave) {
						return
					}
					wave, weight, most = nil, 0, min(2*most, inWave)
				}
			}
		}
		if len(wave) > 0 {
			yield(wave)
		}
	}
}

// wave is some pieces of partitions that are gone into together.
type wave struct {
	units []unit
	found []*found
	left  atomic.Int64 // batches of what is missing that are not done
}

// waves goes into all pieces of some partitions. What is missing of some is got while the next ones are looked at, so that
// there is always something to get. It reports whether the pass may go on.
func (p *pass) waves(ctx context.Context, all []*part) bool {
	looked := make(chan *wave)
	room := make(chan struct{}, mostWaves)
	var getting sync.WaitGroup
	getting.Go(func() { p.getAll(ctx, looked, func() { <-room }) })
	defer getting.Wait()
	defer close(looked)
	for units := range waves(all) {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return true
		}
		if ctx.Err() != nil {
			return true
		}
		if why := p.fresh(); why != nil {
			p.tally.Fail(replicator.Failure{Reason: why.Error()})
			return false
		}
		select {
		case looked <- &wave{units: units, found: p.prepare(ctx, units)}:
		case <-ctx.Done():
			return true
		}
	}
	return true
}

// end notes that all is done about a wave.
func (p *pass) end(ctx context.Context, w *wave) {
	if ctx.Err() != nil {
		return
	}
	for _, u := range w.units {
		p.done(u.of)
	}
}

// prepare goes into some pieces of partitions, drops and brings home what is to be, and finds out of what that is made which is missing.
func (p *pass) prepare(ctx context.Context, units []unit) []*found {
	found := make([]*found, len(units))
	p.spread(ctx, len(units), func(ctx context.Context, i int) { found[i] = p.goInto(ctx, units[i]) })
	if ctx.Err() != nil {
		return nil
	}
	p.decide(ctx, found)
	p.spread(ctx, len(units), func(ctx context.Context, i int) { p.bringHome(ctx, found[i]) })
	p.locateAll(ctx, found)
	return found
}

// spread does n things, as many at one time as the pace lets be under way.
func (p *pass) spread(ctx context.Context, n int, do func(context.Context, int)) {
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, do, func(hand func(int) bool) {
		for i := range n {
			if !hand(i) {
				return
			}
		}
	})
}

// done notes that a piece of a partition was gone into; with the last of them what the next pass
// remembers.
func (p *pass) done(of *part) {
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.units--; of.units > 0 || !of.told {
		return
	}
	last := p.seen.of(of.policy.Index, of.number)
	s := sight{ring: of.ring, mine: of.mine, commits: of.commits, objects: of.many, whole: !of.again, until: of.until, teller: of.next}
	if of.left {
		s.left = last.left + 1
	}
	p.seen.note(of.policy.Index, of.number, s)
}

// fail counts something that could not be done or confirmed, and sees to it that the next pass
// looks again.
func (p *pass) fail(of *part, to *replicator.Peer, what, reason string, count int64) {
	of.lookAgain()
	p.tally.Fail(replicator.Failure{
		Peer: to.String(), Policy: of.policy.Index.String(), Partition: uint32(of.number), Name: what, Reason: reason, Count: count,
	})
}
