package objects

import (
	"context"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// handoff compares what the device holds of a partition, which it is no primary of, name by
// name with what all primaries hold, pushes what they lack, and drops what all of them have.
func (p *pass) handoff(ctx context.Context, of *part) {
	batches := replicator.Batcher[replwire.Object]{
		Ring: func() *ring.Ring { return p.Ring(of.policy) }, Most: maxObjects,
		Hand: func(b replicator.Batch[replwire.Object]) bool {
			p.bringHome(ctx, of, &work{of.policy, b})
			return ctx.Err() == nil
		},
	}
	for o, err := range p.store.Walk(ctx, of.policy, of.mine.Range.First(), of.mine.Range.Last()) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.laggingAll(of)
			p.tally.Fail(replicator.Failure{Policy: of.policy.String(), Partition: uint32(of.partition()), Reason: err.Error()})
			continue
		}
		if !batches.Add(o.Hash, o) {
			return
		}
	}
	batches.Flush()
}

// bringHome has all primaries get what they lack of a work's names, and drops what all of
// them have. Where another ring has come into use meanwhile, by which the device is one of
// them, nothing is dropped.
func (p *pass) bringHome(ctx context.Context, of *part, w *work) {
	primaries, handoff := p.others(w.Ring, w.Partition)
	if w.Ring != of.ring {
		p.laggingAll(of) // those who are asked are others
	}
	p.tally.Add(replicator.Counts{Compared: int64(len(w.Items))})
	home := make([]*bringing, 0, len(primaries))
	names := w.named()
	for _, to := range primaries {
		to.Has = make([]bool, len(w.Items))
		if why, ok := p.peers.Down(to); ok {
			p.lagging(of, to.String())
			p.fail(w, to, "", why, int64(len(w.Items)))
			continue
		}
		b := &bringing{w: w, to: to, home: handoff}
		var err error
		b.theirs, err = p.ask(ctx, w, to, slices.Concat(names, p.bring(of))...)
		if b.others = errs.Is(err, errs.Conflict); b.others && len(w.Items) <= maxSeen {
			b.theirs, err = p.ask(ctx, w, to, names...) // what is there by now can go, whoever has brought it
		} else if b.others {
			p.leave(of, to)
			continue
		}
		if err != nil {
			p.lagging(of, to.String())
			p.fail(w, to, "", err.Error(), int64(len(w.Items)))
			continue
		}
		home = append(home, b)
	}
	if handoff {
		p.takeOver(ctx, w, home, len(home) == len(primaries))
	}
	for _, b := range home {
		p.compared(of, b.to, w.Items, b.theirs)
		if b.others {
			if !p.seen(b) {
				p.leave(of, b.to)
			}
			continue
		}
		out := p.newOut(w.policy, w.Ring, &replicator.Peer{Addr: b.to.Addr, Device: b.to.Device})
		p.bringTo(ctx, out, b)
		out.finish(ctx)
	}
	if handoff && ctx.Err() == nil {
		p.drop(ctx, w, primaries)
		p.onlyLost(w, home)
	}
}

// maxSeen is of how many names a handoff looks at what a primary has that somebody else is bringing them to, to drop those that
// are there. Most partitions have few here; of many each look costs too much, and they are left.
const maxSeen = 1024

// seen notes which names of a work a primary has already, which others are bringing it, and reports whether those are all
// that there is to bring.
func (p *pass) seen(b *bringing) (all bool) {
	all = true
	for i := range b.w.Items {
		o := &b.w.Items[i]
		b.to.Has[i] = p.confirmed(o, lookUp(b.theirs, o.Hash))
		all = all && b.to.Has[i]
	}
	return all
}

// onlyLost counts as failed what was lost here to damage and what some primary has nothing as new as: what kept it from being dropped. What
// others are just bringing a primary it may be: the next passes see.
func (p *pass) onlyLost(w *work, home []*bringing) {
	for i := range w.Items {
		if o := &w.Items[i]; o.Kind == replwire.Lost {
			for _, b := range home {
				if !b.to.Has[i] && !b.others {
					p.fail(w, b.to, o.Hash.String(), "it is damaged here, and the primary has nothing as new", 1)
					break
				}
			}
		}
	}
}

// takeOver has tombstones that primaries show take the place of what they have ended here,
// unless all primaries (all is whether their lists are all there) have what ends it:
// else it would wait here longer than the tombstones that keep it from coming back. What one of them
// shows to be void has not ended it: the data here may be the last that there is.
func (p *pass) takeOver(ctx context.Context, w *work, home []*bringing, all bool) {
	for i := range w.Items {
		o := &w.Items[i]
		var newest *replwire.Object
		var said timestamp.T
		everywhere := all
		for _, b := range home {
			theirs := lookUp(b.theirs, o.Hash)
			everywhere = everywhere && p.confirmed(o, theirs)
			if theirs != nil {
				said = timestamp.Max(said, theirs.Times.Meta)
			}
			if theirs != nil && ends(theirs, o) && (newest == nil || theirs.Times.Data.After(newest.Times.Data)) {
				newest = theirs
			}
		}
		if newest == nil || everywhere || newest.Times.Data.Void(said) || ctx.Err() != nil {
			continue
		}
		if err := p.end(ctx, w, o, newest); err != nil {
			p.fail(w, nil, o.Hash.String(), err.Error(), 1)
		}
	}
}

// ends reports whether something is a tombstone that ends a state, in whole or its data.
func ends(t, o *replwire.Object) bool {
	if o.Kind == replwire.Waiting {
		return t.Kind == replwire.Tombstone && t.Times.Data.Until().After(o.Newest())
	}
	return t.Kind == replwire.Tombstone && t.Times.CompareData(o.Times) > 0
}

// end has the object server merge a tombstone with what is here, and looks at what that has
// come to.
func (p *pass) end(ctx context.Context, w *work, o, tombstone *replwire.Object) error {
	s, err := p.store.Stat(ctx, w.policy, o.Hash)
	if err != nil || s.Kind == 0 || p.Hasher.Hash(s.Name) != o.Hash {
		return err // it is gone, or so damaged that its name is
	}
	resp, err := p.Merge.Serve(ctx, &backend.Request{
		Method: "DELETE", Path: backend.Target{Device: p.device, Partition: uint32(w.Partition), Path: s.Name}.Quoted(),
		Header: pushHeader(w.policy, tombstone.Times.Data, 0),
	})
	if err != nil {
		return err // it was merged, or waits for the next pass
	}
	if err := closeBody(resp); err != nil {
		return err
	}
	if s, err = p.store.Stat(ctx, w.policy, o.Hash); err == nil && s.Kind != 0 {
		*o = s.Object
	}
	return err
}
