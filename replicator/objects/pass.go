package objects

import (
	"cmp"
	"context"
	"slices"
	"time"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// pass is one pass over one device.
type pass struct {
	*Objects
	device  string
	store   Store
	tally   *replicator.Tally
	before  timestamp.T // what is of that time or later may be left out; zero leaves out nothing
	horizon timestamp.T // one for the whole pass
	peers   replicator.Client
	steps   *stepping
	found   replicator.ToSend // by the questions of the pass
	looked  time.Time         // when those were answered
	left    *left             // to others who are bringing it
}

// pushed counts a push that a peer took.
func (p *pass) pushed(bytes int64) {
	p.tally.Add(replicator.Counts{Pushed: 1, Bytes: bytes})
	if bytes > 0 { // neither a tombstone nor metadata, nor what makes no difference
		p.Pace.Of(p.device).Progress().Sent(p.Name(), bytes)
	}
}

// newPass begins a pass over the disk that a device has now; nil where there is no such
// device.
func (o *Objects) newPass(device string, before timestamp.T, t *replicator.Tally) *pass {
	store := o.Stores[device]
	if store == nil {
		return nil
	}
	return &pass{
		Objects: o, device: device, store: store.Pinned(), tally: t, before: before, horizon: o.horizon(), left: o.left[device],
		peers: replicator.Client{Sender: o.Peers, Pace: o.Pace.Of(device), Kind: o.Name(), NodeID: o.NodeID, Device: device},
	}
}

// job is a piece of a pass that a worker does.
type job func(ctx context.Context)

// Pass implements replicator.Kind.
func (o *Objects) Pass(ctx context.Context, device string, before timestamp.T, t *replicator.Tally) {
	p := o.newPass(device, before, t)
	if p == nil {
		t.Fail(replicator.Failure{Reason: "the device has no store for objects"})
		return
	}
	p.left.begin()
	policies, err := p.store.Policies()
	if err == nil {
		p.steps, err = p.newStepping()
	}
	if err != nil {
		t.Fail(replicator.Failure{Reason: err.Error()})
		return
	}
	var all []*part
	var sets []steps.Set
	for _, index := range policies {
		sets = append(sets, SetOf(index))
		all = append(all, p.look(ctx, index)...)
	}
	p.steps.book.Nothing("object", sets, p.Now())
	p.looked = time.Now()
	p.Pace.Of(device).Progress().Found(o.Name(), p.found)
	p.save(ctx)
	inOrder(all)
	done := 0
	var old error // why not all is gone through
	replicator.Spread(ctx, p.peers.Pace, o.cfg.Concurrency, func(ctx context.Context, do job) { do(ctx) }, func(hand func(job) bool) {
		for wave := range waves(all) {
			if ctx.Err() != nil {
				return
			}
			if old = p.fresh(); old != nil {
				return
			}
			p.wave(ctx, wave, hand)
			done += len(wave)
		}
	})
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
		return
	}
	if old != nil {
		t.Fail(replicator.Failure{Reason: old.Error(), Count: int64(len(all) - done)})
	}
	p.endSteps(all[:done])
	p.save(ctx)
	if some := p.left.end(old == nil); t.Counts().Failed == 0 && !some {
		p.Pace.Of(device).Progress().Whole(o.Name())
	}
}

// inOrder puts the most urgent first. What another device begins with comes from the end, to meet that one as late
// as can be.
func inOrder(all []*part) {
	slices.SortStableFunc(all, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.good, b.good), cmp.Compare(a.late(), b.late()), cmp.Compare(a.policy, b.policy),
			cmp.Compare(a.mine.Range.Prefix, b.mine.Range.Prefix)*(1-2*min(1, a.late())))
	})
}

// inWave is how many partitions are gone into together, at most: what differs of them is
// asked about in one request for each peer and level.
const inWave = 256

// waves yields partitions that are as urgent as each other, some at a time.
func waves(all []*part) func(func([]*part) bool) {
	return func(yield func([]*part) bool) {
		for len(all) > 0 {
			n := 1
			for n < min(len(all), inWave) && all[n].good == all[0].good && all[n].late() == all[0].late() {
				n++
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// wave hands out what there is to do about some partitions: what peers lack first, then what
// is here as a handoff.
func (p *pass) wave(ctx context.Context, some []*part, hand func(job) bool) {
	type to struct {
		policy policy.Index
		peer   *peer
	}
	var order []to
	differ := map[to][]span{}
	for _, of := range some {
		for _, d := range of.differ {
			at := to{of.policy, d.peer}
			if differ[at] == nil {
				order = append(order, at)
			}
			differ[at] = append(differ[at], span{of, of.mine, d.theirs})
		}
	}
	for _, at := range order {
		bag := bag{pass: p, peer: at.peer, hand: hand}
		if !p.descend(ctx, at.peer, differ[at], bag.add) || !bag.empty() {
			return
		}
	}
	for _, of := range some {
		if of.handoff && !hand(func(ctx context.Context) { p.handoff(ctx, of) }) {
			return
		}
	}
}

// Held implements replicator.Kind.
func (o *Objects) Held(ctx context.Context, device string) ([]replicator.Held, error) {
	const op errs.Op = "objects.held"
	store := o.Stores[device]
	if store == nil {
		return nil, errs.E(op, errs.Subject(device), errs.BadDevice, "the device has no store for objects")
	}
	store = store.Pinned()
	policies, err := store.Policies()
	if err != nil {
		return nil, err
	}
	var all []replicator.Held
	for _, index := range policies {
		held := replicator.Held{Kind: o.Name(), Policy: index.String()}
		r := o.Ring(index)
		if r == nil {
			return all, errs.E(op, errs.Subject(device), errs.Invalid, "there are objects of storage policy "+index.String()+", which the cluster does not have")
		}
		for e, err := range store.Partitions(ctx, index, r.PartPower(), timestamp.T{}) {
			if err != nil {
				return append(all, held), err
			}
			held.Partitions++
			if _, handoff := replicator.Others(r, r.Partition(e.Range.First()), device, o.Self); handoff {
				held.Handoffs++
			}
		}
		all = append(all, held)
	}
	return all, nil
}

// current reports whether the ring by which something is to be done is still in use, and
// counts as not confirmed what isn't done where it is not.
func (p *pass) current(of *part, to *peer, objects int64) bool {
	if p.Ring(of.policy) == of.ring {
		return true
	}
	p.failMany(of, to, replicator.ErrRing.Error(), objects)
	p.lagging(of, to.String())
	return false
}

// failMany counts objects of a partition that could not be confirmed; at least one.
func (p *pass) failMany(of *part, to *peer, reason string, objects int64) {
	p.tally.Fail(replicator.Failure{
		Peer: to.String(), Policy: of.policy.String(), Partition: uint32(of.partition()), Reason: reason, Count: max(1, objects),
	})
}

func (p *pass) fail(w *work, to *replicator.Peer, hash, reason string, count int64) {
	p.tally.Fail(replicator.Failure{
		Peer: to.String(), Policy: w.policy.String(), Partition: uint32(w.Partition), Name: hash, Reason: reason, Count: count,
	})
}

func lookUp(list []replwire.Object, h [16]byte) *replwire.Object {
	if i, ok := find(list, h); ok {
		return &list[i]
	}
	return nil
}

// partition is where the range of a part is in its ring.
func (of *part) partition() ring.Partition { return of.ring.Partition(of.mine.Range.First()) }
