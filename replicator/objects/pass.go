package objects

import (
	"context"
	"errors"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// pass is one pass over one device.
type pass struct {
	*Objects
	device  string
	store   Store
	tally   *replicator.Tally
	horizon timestamp.T // one for the whole pass
	peers   replicator.Client
}

// work is a batch of a policy's objects.
type work struct {
	policy policy.Index
	replicator.Batch[replwire.Object]
}

// Pass implements replicator.Kind.
func (o *Objects) Pass(ctx context.Context, device string, t *replicator.Tally) {
	p := &pass{
		Objects: o, device: device, store: o.Stores[device], tally: t, horizon: o.horizon(),
		peers: replicator.Client{Sender: o.Peers, Pace: o.Pace.Of(device), Kind: o.Name(), NodeID: o.NodeID, Device: device},
	}
	if p.store == nil {
		t.Fail(replicator.Failure{Reason: "the device has no store for objects"})
		return
	}
	p.store = p.store.Pinned()
	policies, err := p.store.Policies()
	if err != nil {
		t.Fail(replicator.Failure{Reason: err.Error()})
		return
	}
	replicator.Spread(ctx, p.peers.Pace, o.cfg.Concurrency, p.partition, func(hand func(work) bool) {
		for _, index := range policies {
			p.walk(ctx, index, hand)
		}
	})
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
	}
}

// Held implements replicator.Kind.
func (o *Objects) Held(ctx context.Context, device string) ([]replicator.Held, error) {
	store := o.Stores[device]
	if store == nil {
		return nil, errs.E(errs.Op("objects.held"), errs.Subject(device), errs.BadDevice, "the device has no store for objects")
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
			return all, errs.E(errs.Op("objects.held"), errs.Subject(device), errs.Invalid, "there are objects of storage policy "+index.String()+", which the cluster does not have")
		}
		first, last := replicator.Whole()
		hashes := func(yield func(name.Hash, error) bool) {
			for object, err := range store.Walk(ctx, index, first, last) {
				if !yield(object.Hash, err) {
					return
				}
			}
		}
		err := held.Count(ctx, hashes, r, device, o.Self)
		all = append(all, held)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// walk hands out what the device holds of a policy, by partitions.
func (p *pass) walk(ctx context.Context, index policy.Index, hand func(work) bool) {
	if p.Ring(index) == nil {
		p.tally.Fail(replicator.Failure{Policy: index.String(), Reason: "the cluster has no such storage policy"})
		return
	}
	batches := replicator.Batcher[replwire.Object]{
		Ring: func() *ring.Ring { return p.Ring(index) }, Most: maxObjects,
		Hand: func(b replicator.Batch[replwire.Object]) bool { return hand(work{index, b}) },
	}
	first, last := replicator.Whole()
	for o, err := range p.store.Walk(ctx, index, first, last) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			at := p.Ring(index).Partition(o.Hash)
			p.tally.Fail(replicator.Failure{Policy: index.String(), Partition: uint32(at), Reason: err.Error()})
			continue
		}
		if !batches.Add(o.Hash, o) {
			return
		}
	}
	batches.Flush()
}

// partition compares what the device holds of a partition with what the primaries
// hold, pushes what they lack, and, as a handoff, drops what all of them have.
func (p *pass) partition(ctx context.Context, w work) {
	others, handoff := replicator.Others(w.Ring, w.Partition, p.device, p.Self)
	c := replicator.Counts{Compared: int64(len(w.Items))}
	if !w.Again {
		c.Partitions = 1
		if handoff {
			c.Handoffs = 1
		}
	}
	p.tally.Add(c)
	for _, to := range others {
		p.bring(ctx, &w, to)
	}
	if handoff && ctx.Err() == nil {
		p.drop(ctx, &w, others)
	}
}

// bring has a peer get what it lacks and notes which names it is known to have.
func (p *pass) bring(ctx context.Context, w *work, to *replicator.Peer) {
	to.Has = make([]bool, len(w.Items))
	if why, ok := p.peers.Down(to); ok {
		p.fail(w, to, "", why, int64(len(w.Items)))
		return
	}
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		p.fail(w, to, "", err.Error(), int64(len(w.Items)))
		return
	}
	var unsure []int
	for i := range w.Items {
		o := &w.Items[i]
		if to.Has[i] = p.confirmed(o, theirs); to.Has[i] || o.Kind == replwire.Lost {
			continue // what is lost here is for others to bring
		}
		if ctx.Err() != nil {
			return
		}
		switch result, err := p.push(ctx, w, to, o.Hash, lookUp(theirs, o.Hash)); {
		case result == taken:
			to.Has[i] = true
		case result == refused:
			unsure = append(unsure, i)
		case err != nil:
			p.fail(w, to, o.Hash.String(), err.Error(), 1)
			if why, ok := p.peers.Down(to); ok {
				p.fail(w, to, "", why, int64(len(w.Items)-i-1))
				return
			}
		}
	}
	if len(unsure) > 0 && ctx.Err() == nil {
		p.askAgain(ctx, w, to, unsure)
	}
}

// askAgain settles what the peer did not take because it has something not less:
// only what shows that is believed.
func (p *pass) askAgain(ctx context.Context, w *work, to *replicator.Peer, refused []int) {
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		p.fail(w, to, "", err.Error(), int64(len(refused)))
		return
	}
	for _, i := range refused {
		o := &w.Items[i]
		t := lookUp(theirs, o.Hash)
		to.Has[i] = t != nil && t.Kind != replwire.Lost && o.SurelyLacks(t) == 0 || t == nil && forgettable(o, p.horizon)
		if !to.Has[i] {
			p.fail(w, to, o.Hash.String(), "refused, and what the peer has is not as new", 1)
		}
	}
}

// confirmed reports whether a list shows a state or something newer, or the state
// is one that may be forgotten and was.
func (p *pass) confirmed(o *replwire.Object, theirs []replwire.Object) bool {
	t := lookUp(theirs, o.Hash)
	if o.Kind == replwire.Lost {
		return false
	}
	return o.Lacks(t) == 0 && (t == nil || t.Kind != replwire.Lost) || t == nil && forgettable(o, p.horizon)
}

// drop removes what every primary is known to have.
func (p *pass) drop(ctx context.Context, w *work, primaries []*replicator.Peer) {
	var all []int
	for i := range w.Items {
		if replicator.Everywhere(primaries, i) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return
	}
	if at, why := replicator.Doubt(primaries); why != "" {
		p.fail(w, at, "", why, int64(len(all)))
		return
	}
	current := func() *ring.Ring { return p.Ring(w.policy) }
	for n, i := range all {
		if ctx.Err() != nil {
			return
		}
		o := &w.Items[i]
		gone, err := p.guard.Drop(p.device, w.Ring, current, func() (bool, error) { return p.store.Drop(ctx, w.policy, *o) })
		switch {
		case errors.Is(err, replicator.ErrRing):
			p.fail(w, nil, "", err.Error(), int64(len(all)-n))
			return
		case err != nil:
			p.fail(w, nil, o.Hash.String(), err.Error(), 1)
		case gone:
			p.tally.Add(replicator.Counts{Dropped: 1})
		}
	}
}

func lookUp(list []replwire.Object, h name.Hash) *replwire.Object {
	if i, ok := find(list, h); ok {
		return &list[i]
	}
	return nil
}

func (p *pass) fail(w *work, to *replicator.Peer, hash, reason string, count int64) {
	p.tally.Fail(replicator.Failure{
		Peer: to.String(), Policy: w.policy.String(), Partition: uint32(w.Partition), Name: hash, Reason: reason, Count: count,
	})
}
