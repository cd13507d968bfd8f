package objects

import (
	"context"
	"sync"

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
	peers   peers
}

// work is what the device holds of a partition, or as much of it as is looked at
// at once.
type work struct {
	policy    policy.Index
	ring      *ring.Ring
	partition ring.Partition
	again     bool // it is not the first of the partition
	list      []replwire.Object
}

// Pass implements replicator.Kind.
func (o *Objects) Pass(ctx context.Context, device string, t *replicator.Tally) {
	p := &pass{Objects: o, device: device, store: o.Stores[device], tally: t, horizon: o.horizon()}
	if p.store == nil {
		t.Fail(replicator.Failure{Reason: "the device has no store for objects"})
		return
	}
	policies, err := p.store.Policies()
	if err != nil {
		t.Fail(replicator.Failure{Reason: err.Error()})
		return
	}
	todo := make(chan work)
	var workers sync.WaitGroup
	for range o.cfg.Concurrency {
		workers.Go(func() {
			for w := range todo {
				p.partition(ctx, w)
			}
		})
	}
	for _, index := range policies {
		p.walk(ctx, index, todo)
	}
	close(todo)
	workers.Wait()
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
	}
}

// walk hands out what the device holds of a policy, by partitions. It keeps one
// generation of the ring.
func (p *pass) walk(ctx context.Context, index policy.Index, todo chan<- work) {
	r := p.Ring(index)
	if r == nil {
		p.tally.Fail(replicator.Failure{Policy: index.String(), Reason: "the cluster has no such storage policy"})
		return
	}
	w := work{policy: index, ring: r}
	var all name.Hash
	for i := range all {
		all[i] = 0xff
	}
	for o, err := range p.store.Walk(ctx, index, name.Hash{}, all) {
		at := r.Partition(o.Hash)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.tally.Fail(replicator.Failure{Policy: index.String(), Partition: uint32(at), Reason: err.Error()})
			continue
		}
		if len(w.list) > 0 && (at != w.partition || len(w.list) == maxObjects) {
			if !hand(ctx, todo, w) {
				return
			}
			w = work{policy: index, ring: r, again: at == w.partition}
		}
		w.partition = at
		w.list = append(w.list, o)
	}
	if len(w.list) > 0 {
		hand(ctx, todo, w)
	}
}

// hand gives work to whoever is free and reports whether there was time for it.
func hand(ctx context.Context, todo chan<- work, w work) bool {
	select {
	case todo <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// partition compares what the device holds of a partition with what the primaries
// hold, pushes what they lack, and, as a handoff, drops what all of them have.
func (p *pass) partition(ctx context.Context, w work) {
	var room [8]*ring.Device
	primaries := w.ring.AppendPrimaries(room[:0], w.partition)
	handoff := true
	others := make([]*peer, 0, len(primaries))
	for _, d := range primaries {
		if d.Name == p.device && d.ReplicationAddr() == p.Self {
			handoff = false
			continue
		}
		others = append(others, &peer{addr: d.ReplicationAddr(), device: d.Name})
	}
	c := replicator.Counts{Compared: int64(len(w.list))}
	if !w.again {
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
func (p *pass) bring(ctx context.Context, w *work, to *peer) {
	to.has = make([]bool, len(w.list))
	if why, ok := p.peers.down(to); ok {
		p.fail(w, to, "", why, int64(len(w.list)))
		return
	}
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		p.fail(w, to, "", err.Error(), int64(len(w.list)))
		return
	}
	var unsure []int
	for i := range w.list {
		o := &w.list[i]
		if to.has[i] = p.confirmed(o, theirs); to.has[i] || o.Kind == replwire.Lost {
			continue // what is lost here is for others to bring
		}
		if ctx.Err() != nil {
			return
		}
		switch result, err := p.push(ctx, w, to, o.Hash, lookUp(theirs, o.Hash)); {
		case result == taken:
			to.has[i] = true
		case result == refused:
			unsure = append(unsure, i)
		case err != nil:
			p.fail(w, to, o.Hash.String(), err.Error(), 1)
			if why, ok := p.peers.down(to); ok {
				p.fail(w, to, "", why, int64(len(w.list)-i-1))
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
func (p *pass) askAgain(ctx context.Context, w *work, to *peer, refused []int) {
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		p.fail(w, to, "", err.Error(), int64(len(refused)))
		return
	}
	for _, i := range refused {
		o := &w.list[i]
		t := lookUp(theirs, o.Hash)
		to.has[i] = t != nil && t.Kind != replwire.Lost && o.SurelyLacks(t) == 0 || t == nil && forgettable(o, p.horizon)
		if !to.has[i] {
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
func (p *pass) drop(ctx context.Context, w *work, primaries []*peer) {
	if len(primaries) == 0 {
		return
	}
	if a, b := sameDevice(primaries); a != nil {
		p.fail(w, a, "", "the same device answers as "+b.String(), int64(len(w.list)))
		return
	}
names:
	for i := range w.list {
		for _, to := range primaries {
			if !to.has[i] {
				continue names
			}
		}
		if err := ctx.Err(); err != nil {
			return
		}
		switch gone, err := p.store.Drop(ctx, w.policy, w.list[i]); {
		case err != nil:
			p.fail(w, &peer{}, w.list[i].Hash.String(), err.Error(), 1)
		case gone:
			p.tally.Add(replicator.Counts{Dropped: 1})
		}
	}
}

// sameDevice returns two of the peers that have turned out to be one device: what
// both have is there only once.
func sameDevice(all []*peer) (a, b *peer) {
	for i, a := range all {
		for _, b := range all[:i] {
			if a.node != "" && a.node == b.node && a.device == b.device {
				return a, b
			}
		}
	}
	return nil, nil
}

func lookUp(list []replwire.Object, h name.Hash) *replwire.Object {
	if i, ok := find(list, h); ok {
		return &list[i]
	}
	return nil
}

func (p *pass) fail(w *work, to *peer, hash, reason string, count int64) {
	p.tally.Fail(replicator.Failure{
		Peer: to.String(), Policy: w.policy.String(), Partition: uint32(w.partition), Name: hash, Reason: reason, Count: count,
	})
}
