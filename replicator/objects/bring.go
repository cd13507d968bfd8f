package objects

import (
	"context"
	"slices"
	"time"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// work is a batch of a policy's objects.
type work struct {
	policy policy.Index
	replicator.Batch[replwire.Object]
}

// bringing is a work whose names a peer is brought.
type bringing struct {
	w      *work
	to     *replicator.Peer
	theirs []replwire.Object // what it has of those names
	unsure []int             // places of what it did not take, because it has something not less
	others bool              // others are bringing it
	home   bool              // the device is to have them no more
}

// bringAll has a peer get what it lacks of some ranges of one policy.
func (p *pass) bringAll(ctx context.Context, to *peer, spans []span) {
	out := p.newOut(spans[0].policy, spans[0].ring, to.fresh(0))
	slow := p.Pace.Of(p.device).Limits().BytesPerSecond > 0
	for i := range spans {
		s := &spans[i]
		if ctx.Err() != nil {
			return
		}
		if why, ok := p.peers.Down(out.via); ok {
			p.lagging(s.part, to.String())
			p.failMany(s.part, to, why, s.mine.Objects)
			continue
		}
		if p.current(s.part, to, s.mine.Objects) {
			if err := p.fresh(); err != nil {
				p.lagging(s.part, to.String())
				p.failMany(s.part, to, err.Error(), s.mine.Objects)
				continue
			}
			p.bringSpan(ctx, out, to, s)
			switch { // what was asked is to be so still: others bring it as well
			case slow:
				out.flush(ctx)
				out.wait(ctx)
			case s.late() > 0:
				out.flush(ctx)
			}
		}
	}
	out.finish(ctx)
}

// lately is for how long it is believed that a peer has nothing of a partition: others that hold the
// same have found that out as well, and bring it meanwhile.
const lately = time.Second

// bringSpan compares the states of a range with those that a peer has, and has it get what
// it lacks.
func (p *pass) bringSpan(ctx context.Context, out *out, to *peer, s *span) {
	w := &work{s.policy, replicator.Batch[replwire.Object]{About: replicator.About{Ring: s.ring, Partition: s.partition()}}}
	do := func() {
		b := &bringing{w: w, to: to.fresh(len(w.Items))}
		header := p.bring(s.part)
		if header != nil || !s.empty() || time.Since(p.looked) > lately {
			var err error
			if b.theirs, err = p.ask(ctx, w, b.to, header...); errs.Is(err, errs.Conflict) {
				p.leave(s.part, b.to)
				return
			}
			if err != nil {
				p.lagging(s.part, to.String())
				p.fail(w, b.to, "", err.Error(), int64(len(w.Items)))
				return
			}
			if !s.empty() { // else it is not in step with it: see looking.ask
				p.compared(s.part, b.to, w.Items, b.theirs)
			}
		}
		p.bringTo(ctx, out, b)
		if len(w.Items) > replwire.MaxPushes {
			out.flush(ctx) // so that what waits for answers is bounded
			out.again(ctx, b)
		}
	}
	for o, err := range p.store.Walk(ctx, s.policy, s.mine.Range.First(), s.mine.Range.Last()) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.lagging(s.part, to.String())
			p.tally.Fail(replicator.Failure{Policy: s.policy.String(), Partition: uint32(w.Partition), Reason: err.Error()})
			continue
		}
		if len(w.Items) == maxObjects {
			do()
			w = &work{s.policy, replicator.Batch[replwire.Object]{About: w.About}}
		}
		w.Items = append(w.Items, o)
	}
	if len(w.Items) > 0 {
		do()
	}
}

// bringTo has a peer get what it lacks and notes which names it is known to have: what is
// pushed with others once out is flushed.
func (p *pass) bringTo(ctx context.Context, out *out, b *bringing) {
	for i := range b.w.Items {
		o := &b.w.Items[i]
		theirs := lookUp(b.theirs, o.Hash)
		if b.to.Has[i] = p.confirmed(o, theirs); b.to.Has[i] || o.Kind == replwire.Lost && (o.LacksLeft(theirs) == 0 || needless(o, theirs) || p.forgotten(o, theirs) || p.ended(ctx, b, o, theirs)) {
			continue // what is lost here is for others to bring
		}
		if ctx.Err() != nil {
			return
		}
		out.push(ctx, b, i, theirs)
		if out.hurt {
			out.hurt = false
			if why, ok := p.peers.Down(b.to); ok {
				p.fail(b.w, b.to, "", why, int64(len(b.w.Items)-i-1))
				return
			}
		}
	}
}

// askAgain settles what the peer did not take because it has something not less:
// only what shows that is believed.
func (p *pass) askAgain(ctx context.Context, b *bringing) {
	refused := b.unsure
	b.unsure = nil
	if len(refused) == 0 || ctx.Err() != nil {
		return
	}
	w := *b.w
	w.Items = b.w.Items[slices.Min(refused) : slices.Max(refused)+1]
	theirs, err := p.ask(ctx, &w, b.to)
	if err != nil {
		p.fail(b.w, b.to, "", err.Error(), int64(len(refused)))
		return
	}
	for _, i := range refused {
		o := &b.w.Items[i]
		t := lookUp(theirs, o.Hash)
		if o.Kind == replwire.Lost {
			b.to.Has[i] = p.confirmed(o, t)
			continue // onlyLost says so
		}
		b.to.Has[i] = t != nil && t.Kind != replwire.Lost && o.SurelyLacks(t) == 0 || t == nil && forgettable(o, p.horizon)
		if !b.to.Has[i] {
			p.fail(b.w, b.to, o.Hash.String(), "refused, and what the peer has is not as new", 1)
		}
	}
}

// confirmed reports whether what a list shows is a state or something newer, or the state
// is one that may be forgotten and was.
func (p *pass) confirmed(o, theirs *replwire.Object) bool {
	switch {
	case theirs == nil && forgettable(o, p.horizon):
		return true
	case o.Kind == replwire.Lost:
		return o.Replaced(theirs) || outlived(o, theirs, p.horizon)
	}
	return o.Lacks(theirs) == 0 && (theirs == nil || theirs.Kind != replwire.Lost)
}

// needless reports whether data that is good beside what was lost is probably there as well, and too large to be sent in each pass to find that out: the peer
// has lost something of just that version, and does not say what. Where it has lost the data, those bring it that are brought it themselves.
func needless(o, theirs *replwire.Object) bool {
	return theirs != nil && theirs.Kind == replwire.Lost && theirs.Times.Data == o.Times.Data && o.Length > maxTogether
}

// forgotten reports whether metadata that is good beside data that was lost is older than what a peer keeps that has nothing else of the name: it takes none.
func (p *pass) forgotten(o, theirs *replwire.Object) bool {
	return o.Left == 0 && theirs == nil && o.Times.Happened().Before(p.horizon)
}

// outlived reports whether metadata that was lost beside what is good is settled, and what is good is there.
func outlived(o, theirs *replwire.Object, horizon timestamp.T) bool {
	if o.Left != replwire.Data && o.Left != replwire.Tombstone || theirs == nil || theirs.Kind == replwire.Lost {
		return false
	}
	return settled(o, horizon) && o.LacksLeft(theirs) == 0
}

// settled reports whether metadata that was lost beside what is good is known to be from before the horizon, by which it is everywhere or nowhere.
func settled(o *replwire.Object, horizon timestamp.T) bool {
	known := timestamp.Max(o.Times.Meta, o.Times.ContentType).After(o.Times.Data.Until())
	return known && o.Times.Happened().Before(horizon)
}

// ended reports whether data that is good beside metadata that was lost came to its end before the horizon, by all that is known of it, and a peer that is to have
// it as well has nothing of the name: it would end it, forget the end, and be brought it again, for ever. It stays here, as what was lost may have given it a
// longer life. Where a peer has anything, the data is brought: metadata may show just that, and what is older has to go. So it is from a handoff, which keeps it no longer
// than until all primaries have had it.
func (p *pass) ended(ctx context.Context, b *bringing, o, theirs *replwire.Object) bool {
	if b.home || o.Left != replwire.Data || theirs != nil || !settled(o, p.horizon) {
		return false
	}
	v, err := p.store.Open(ctx, b.w.policy, o.Hash)
	if err != nil {
		return false // who brings it says so
	}
	over := v.Time == o.Times.Data && v.Ends > 0 && v.Ends < p.horizon.Seconds()
	return v.Body.Close() == nil && over
}

// drop removes what every primary is known to have.
func (p *pass) drop(ctx context.Context, w *work, primaries []*replicator.Peer) {
	n := p.guard.DropAll(ctx, replicator.Dropping{
		Device: p.device, Ring: w.Ring, Current: func() *ring.Ring { return p.Ring(w.policy) }, Primaries: primaries, N: len(w.Items), Fresh: p.fresh,
		Drop: func(i int) (bool, error) { return p.store.Drop(ctx, w.policy, w.Items[i]) },
		Fail: func(at *replicator.Peer, i int, reason string, count int64) {
			hash := ""
			if i >= 0 {
				hash = w.Items[i].Hash.String()
			}
			p.fail(w, at, hash, reason, count)
		},
	})
	p.tally.Add(replicator.Counts{Dropped: n})
}
