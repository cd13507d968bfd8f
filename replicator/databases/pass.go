package databases

import (
	"context"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// pass is one pass over one device.
type pass struct {
	*Databases
	device string
	tally  *replicator.Tally
	peers  replicator.Client
	*stepping
}

// work is a batch of databases: their hashes, and what is here of those that can
// be read.
type work struct {
	replicator.Batch[name.Hash]
	list []replwire.Database
}

// Pass implements replicator.Kind. It leaves out nothing.
func (d *Databases) Pass(ctx context.Context, device string, _ timestamp.T, t *replicator.Tally) {
	p := &pass{
		Databases: d, device: device, tally: t,
		peers: replicator.Client{Sender: d.Peers, Pace: d.Pace.Of(device), Kind: d.name, NodeID: d.NodeID, Device: device},
	}
	var err error
	if p.stepping, err = d.lookAhead(ctx, device); err != nil {
		t.Fail(replicator.Failure{Reason: "nothing is pushed, as it is not known what the device may push: " + err.Error()})
		return
	}
	p.peers.Fresh = p.fresh
	if err := p.save(); err != nil {
		t.Fail(replicator.Failure{Reason: err.Error()})
	}
	whole := true
	var old error // why not all is gone through
	replicator.Spread(ctx, p.peers.Pace, d.cfg.Concurrency, p.partition, func(hand func(replicator.Batch[name.Hash]) bool) {
		whole = p.walk(ctx, replicator.Batcher[name.Hash]{Ring: p.Ring, Most: maxDatabases, Hand: func(b replicator.Batch[name.Hash]) bool {
			if old = p.fresh(); old != nil {
				p.forget(b.Partition) // it may have been begun
				return false
			}
			return hand(b)
		}})
	})
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
		return
	}
	if old != nil {
		t.Fail(replicator.Failure{Reason: old.Error()})
	}
	p.found(ctx)
	if whole || old != nil {
		err = p.end()
	}
	if err != nil {
		t.Fail(replicator.Failure{Reason: err.Error()})
	}
}

// Held implements replicator.Kind.
func (d *Databases) Held(ctx context.Context, device string) ([]replicator.Held, error) {
	held := replicator.Held{Kind: d.name}
	first, last := replicator.Whole()
	err := held.Count(ctx, d.Store.Walk(ctx, device, first, last), d.Ring(), device, d.Self)
	return []replicator.Held{held}, err
}

// walk hands out what the device holds, by partitions, and reports whether that was all.
func (p *pass) walk(ctx context.Context, batches replicator.Batcher[name.Hash]) (whole bool) {
	first, last := replicator.Whole()
	for h, err := range p.Store.Walk(ctx, p.device, first, last) {
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			p.tally.Fail(replicator.Failure{Reason: err.Error()})
			continue
		}
		if !batches.Add(h, h) {
			return false
		}
	}
	return batches.Flush()
}

// partition compares what the device holds of a partition with what the primaries
// hold, pushes what they may lack, and, as a handoff, drops what all of them have.
func (p *pass) partition(ctx context.Context, b replicator.Batch[name.Hash]) {
	w := work{Batch: b}
	others, handoff := replicator.Others(w.Ring, w.Partition, p.device, p.Self)
	c := replicator.Counts{Compared: int64(len(w.Items))}
	if !w.Again {
		c.Partitions = 1
		if handoff {
			c.Handoffs = 1
		}
	}
	p.tally.Add(c)
	if len(others) == 0 && !handoff { // there is nobody to be out of step with
		p.book.Only(p.set, w.Ring.PartPower(), uint32(w.Partition), p.Now())
	}
	if why := p.may(&w); why != nil {
		p.fail(&w, nil, "", why.Error(), int64(len(w.Items)))
		return
	}
	if whole := p.look(ctx, &w); len(w.list) == 0 {
		if whole {
			p.note(&w, p.began) // all that is here may be forgotten
		}
		return
	}
	var at time.Time
	if len(others) == 0 {
		at = p.began // there is nobody to be out of step with
	}
	for _, to := range others {
		if with := p.bring(ctx, &w, to); at.Before(with) && to.Primary() {
			at = with
		}
	}
	if ctx.Err() == nil {
		p.note(&w, at)
	}
	if handoff && ctx.Err() == nil {
		p.drop(ctx, &w, others)
	}
}

// look reads what is here of each database, and reports whether that was possible. One that
// can't be read is nobody's to have from here.
func (p *pass) look(ctx context.Context, w *work) (whole bool) {
	whole = true
	w.list = make([]replwire.Database, 0, len(w.Items))
	for _, h := range w.Items {
		if ctx.Err() != nil {
			return false
		}
		switch d, err := p.Store.State(ctx, p.device, h); {
		case err == nil:
			w.list = append(w.list, d)
		case !errs.Is(err, errs.NotFound):
			whole = false
			p.fail(w, nil, h.String(), err.Error(), 1)
		}
	}
	return whole
}

// bring has a peer get what it may lack and notes which databases it is known to
// have all of. It returns as of when the device is in step with it in all of them, zero for
// not at all.
func (p *pass) bring(ctx context.Context, w *work, to *replicator.Peer) (inStep time.Time) {
	to.Has = make([]bool, len(w.list))
	if why, ok := p.peers.Down(to); ok {
		p.fail(w, to, "", why, int64(len(w.list)))
		return time.Time{}
	}
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		if ctx.Err() == nil {
			p.fail(w, to, "", err.Error(), int64(len(w.list)))
		}
		return time.Time{}
	}
	inStep = p.began
	for i := range w.list {
		if ctx.Err() != nil {
			return time.Time{}
		}
		mine := &w.list[i]
		their := find(theirs, mine.Hash)
		if their != nil && their.Digest == mine.Digest {
			to.Has[i] = true
			p.learn(ctx, mine, their, mine.Change)
			continue
		}
		if at := p.asOf(to, mine, their); at.Before(inStep) {
			inStep = at
		}
		if to.Has[i], err = p.push(ctx, w, to, mine, their); err == nil || ctx.Err() != nil {
			continue
		}
		p.fail(w, to, mine.Hash.String(), err.Error(), 1)
		if why, ok := p.peers.Down(to); ok {
			if left := len(w.list) - i - 1; left > 0 {
				p.fail(w, to, "", why, int64(left))
			}
			return time.Time{}
		}
	}
	return inStep
}

// drop removes what every primary is known to have.
func (p *pass) drop(ctx context.Context, w *work, primaries []*replicator.Peer) {
	p.retell(ctx, w, primaries)
	n := p.guard.DropAll(ctx, replicator.Dropping{
		Device: p.device, Ring: w.Ring, Current: p.Ring, Primaries: primaries, N: len(w.list), Fresh: p.fresh,
		Drop: func(i int) (bool, error) { return p.Store.Drop(ctx, p.device, w.list[i]) },
		Fail: func(at *replicator.Peer, i int, reason string, count int64) {
			hash := ""
			if i >= 0 {
				hash = w.list[i].Hash.String()
			}
			p.fail(w, at, hash, reason, count)
		},
	})
	p.tally.Add(replicator.Counts{Dropped: n})
}

// retell has one primary of each database that is about to go, and of which this device has told an account, tell
// that anew (replwire.RetellHeader). One for which that fails does not go yet.
func (p *pass) retell(ctx context.Context, w *work, primaries []*replicator.Peer) {
	for i := range w.list {
		if ctx.Err() != nil {
			return
		}
		if !replicator.Everywhere(primaries, i) {
			continue
		}
		told, err := p.Store.Told(ctx, p.device, w.list[i].Hash)
		if err == nil && told {
			err = p.askToTell(ctx, w, primaries, &w.list[i])
		}
		if err != nil {
			primaries[0].Has[i] = false
			p.fail(w, nil, w.list[i].Hash.String(), "no primary could be asked to tell its account: "+err.Error(), 1)
		}
	}
}

func (p *pass) askToTell(ctx context.Context, w *work, primaries []*replicator.Peer, mine *replwire.Database) error {
	part, err := p.Store.Part(ctx, p.device, mine.Hash, replwire.Cursor{Row: mine.Change})
	if err != nil {
		return err
	}
	for _, to := range primaries {
		if _, _, err = p.put(ctx, w, to, &part, backend.Field{Name: replwire.RetellHeader, Value: "true"}); err == nil {
			return nil
		}
	}
	return err
}

func (p *pass) fail(w *work, to *replicator.Peer, hash, reason string, count int64) {
	p.tally.Fail(replicator.Failure{Peer: to.String(), Partition: uint32(w.Partition), Name: hash, Reason: reason, Count: count})
}
