package objects

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// Lost names an object of which a device has lost its copy to damage.
type Lost struct {
	Device string
	Policy policy.Index
	Hash   name.Hash
}

// wanted is what a peer would have brought to a device of its own.
type wanted struct {
	Lost        // by whom it is brought
	to   string // the device of the peer
}

// maxRepairs is how many repairs wait. What is more is left to passes, which find it.
const maxRepairs = 1024

// Repair has copies that were lost to damage brought back by other primaries, and brings
// others what they have lost, until ctx ends: it is all that does so at once. A pass does
// the same for what was missed.
//
// A node that has lost something asks for the list of that one hash, saying that it is
// wanted; who has the object answers as always, and then brings it as in a pass. So what
// is pushed, and whether it is taken, is as there.
func (o *Objects) Repair(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() {
		for {
			select {
			case l := <-o.Lost:
				o.askFor(ctx, l)
			case <-ctx.Done():
				return
			}
		}
	})
	both.Go(func() {
		for {
			select {
			case w := <-o.wants:
				o.bringBack(ctx, w)
			case <-ctx.Done():
				return
			}
		}
	})
	both.Wait()
	return nil
}

// repair is a pass over one object.
func (o *Objects) repair(l Lost) (p *pass, w work, others []*replicator.Peer, handoff bool) {
	r := o.Ring(l.Policy)
	p = o.newPass(l.Device, timestamp.T{}, replicator.NewTally(o.Name()))
	if r == nil || p == nil {
		return nil, w, nil, false
	}
	w = work{l.Policy, replicator.Batch[replwire.Object]{About: replicator.About{Ring: r, Partition: r.Partition(l.Hash)}}}
	others, handoff = p.others(r, w.Partition)
	return p, w, others, handoff
}

// askFor asks for what was lost, until somebody has it.
func (o *Objects) askFor(ctx context.Context, l Lost) {
	p, w, others, handoff := o.repair(l)
	if p == nil || handoff { // others are to have it
		return
	}
	h := append(policyHeader(w.policy), backend.Field{Name: replwire.WantHeader, Value: name.Quote(l.Device)})
	for _, to := range others {
		found := false
		err := p.peers.List(ctx, w.About, to, l.Hash, l.Hash, h, func(b []byte, from, last name.Hash) (name.Hash, bool, error) {
			list, more, err := replwire.ParseObjects(b, from, last)
			found = found || slices.ContainsFunc(list, has)
			return last, more, err
		})
		switch {
		case err != nil:
			o.Log.LogAttrs(ctx, slog.LevelWarn, "a peer can't be asked for what was lost", slog.String("peer", to.String()), slog.Any("err", err))
		case found:
			return
		}
	}
	o.Log.LogAttrs(ctx, slog.LevelError, "no other primary has what was lost",
		slog.String("device", l.Device), slog.String("policy", l.Policy.String()), slog.String("hash", l.Hash.String()))
}

// has reports whether there is something that can be brought.
func has(o replwire.Object) bool { return o.Kind != 0 && o.Kind != replwire.Lost }

// want notes that a peer wants what it has asked for, if that is one object.
func (o *Objects) want(p policy.Index, c *replicator.Call) {
	to, err := name.Unquote(c.Header.Get(replwire.WantHeader))
	if to == "" || err != nil || c.From != c.To {
		return
	}
	select {
	case o.wants <- wanted{Lost{c.Device, p, c.From}, to}:
	default:
	}
}

// bringBack brings a peer what it wants, if it is a primary and lacks it.
func (o *Objects) bringBack(ctx context.Context, want wanted) {
	p, w, others, _ := o.repair(want.Lost)
	if p == nil {
		return
	}
	s, err := p.store.Stat(ctx, want.Policy, want.Hash)
	if err != nil || !has(s.Object) {
		return // who is asked next may have it
	}
	if p.steps, err = p.newStepping(); err == nil {
		err = p.may(w.policy, w.Ring, w.Partition)
	}
	if err != nil {
		o.Log.LogAttrs(ctx, slog.LevelWarn, "what a peer has lost is not brought", slog.String("device", want.Device),
			slog.String("hash", want.Hash.String()), slog.Any("why", err))
		return
	}
	w.Items = []replwire.Object{s.Object}
	for _, to := range others {
		if to.Device == want.to { // of whichever node: who does not lack it gets nothing
			p.bringBackTo(ctx, &w, to)
		}
	}
	for _, f := range p.tally.Counts().Failures {
		o.Log.LogAttrs(ctx, slog.LevelWarn, "what a peer has lost could not be brought", slog.String("peer", f.Peer), slog.String("why", f.Reason))
	}
}

// bringBackTo has a peer get what it lacks of the work's names.
func (p *pass) bringBackTo(ctx context.Context, w *work, to *replicator.Peer) {
	to.Has = make([]bool, len(w.Items))
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		p.fail(w, to, "", err.Error(), int64(len(w.Items)))
		return
	}
	out := p.newOut(w.policy, w.Ring, &replicator.Peer{Addr: to.Addr, Device: to.Device})
	p.bringTo(ctx, out, &bringing{w: w, to: to, theirs: theirs})
	out.finish(ctx)
}
