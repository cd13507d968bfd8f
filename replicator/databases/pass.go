package databases

import (
	"context"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// pass is one pass over one device.
type pass struct {
	*Databases
	device  string
	tally   *replicator.Tally
	outages outages
}

// work is what the device holds of a partition, or as much of it as is looked at
// at once.
type work struct {
	ring      *ring.Ring
	partition ring.Partition
	again     bool // it is not the first of the partition
	hashes    []name.Hash
	list      []replwire.Database // those of hashes that can be read
}

// Pass implements replicator.Kind.
func (d *Databases) Pass(ctx context.Context, device string, t *replicator.Tally) {
	p := &pass{Databases: d, device: device, tally: t}
	queue := make(chan work)
	var workers sync.WaitGroup
	for range d.cfg.Concurrency {
		workers.Go(func() {
			for w := range queue {
				p.partition(ctx, w)
			}
		})
	}
	p.walk(ctx, queue)
	close(queue)
	workers.Wait()
	if ctx.Err() != nil {
		t.Fail(replicator.Failure{Reason: "the pass ended early: " + context.Cause(ctx).Error()})
	}
}

// walk hands out what the device holds, by partitions. It keeps one generation of
// the ring.
func (p *pass) walk(ctx context.Context, queue chan<- work) {
	w := work{ring: p.Ring()}
	var last name.Hash
	for i := range last {
		last[i] = 0xff
	}
	for h, err := range p.Store.Walk(ctx, p.device, name.Hash{}, last) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.tally.Fail(replicator.Failure{Reason: err.Error()})
			continue
		}
		at := w.ring.Partition(h)
		if len(w.hashes) > 0 && (at != w.partition || len(w.hashes) == maxDatabases) {
			if !hand(ctx, queue, w) {
				return
			}
			w = work{ring: w.ring, again: at == w.partition}
		}
		w.partition = at
		w.hashes = append(w.hashes, h)
	}
	if len(w.hashes) > 0 {
		hand(ctx, queue, w)
	}
}

// hand gives work to whoever is free and reports whether there was time for it.
func hand(ctx context.Context, queue chan<- work, w work) bool {
	select {
	case queue <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// partition compares what the device holds of a partition with what the primaries
// hold, pushes what they may lack, and, as a handoff, drops what all of them have.
func (p *pass) partition(ctx context.Context, w work) {
	var room [8]*ring.Device
	handoff := true
	var others []*peer
	for _, d := range w.ring.AppendPrimaries(room[:0], w.partition) {
		if d.Name == p.device && d.ReplicationAddr() == p.Self {
			handoff = false
			continue
		}
		others = append(others, &peer{addr: d.ReplicationAddr(), device: d.Name})
	}
	c := replicator.Counts{Compared: int64(len(w.hashes))}
	if !w.again {
		c.Partitions = 1
		if handoff {
			c.Handoffs = 1
		}
	}
	p.tally.Add(c)
	p.look(ctx, &w)
	if len(w.list) == 0 {
		return
	}
	for _, to := range others {
		p.bring(ctx, &w, to)
	}
	if handoff && ctx.Err() == nil {
		p.drop(ctx, &w, others)
	}
}

// look reads what is here of each database. One that can't be read is nobody's to
// have from here.
func (p *pass) look(ctx context.Context, w *work) {
	w.list = make([]replwire.Database, 0, len(w.hashes))
	for _, h := range w.hashes {
		if ctx.Err() != nil {
			return
		}
		switch d, err := p.Store.State(ctx, p.device, h); {
		case err == nil:
			w.list = append(w.list, d)
		case !errs.Is(err, errs.NotFound):
			p.fail(w, &peer{}, h.String(), err.Error(), 1)
		}
	}
}

// bring has a peer get what it may lack and notes which databases it is known to
// have all of.
func (p *pass) bring(ctx context.Context, w *work, to *peer) {
	to.has = make([]bool, len(w.list))
	if why, ok := p.outages.down(to); ok {
		p.fail(w, to, "", why, int64(len(w.list)))
		return
	}
	theirs, err := p.ask(ctx, w, to)
	if err != nil {
		if ctx.Err() == nil {
			p.fail(w, to, "", err.Error(), int64(len(w.list)))
		}
		return
	}
	for i := range w.list {
		if ctx.Err() != nil {
			return
		}
		mine := &w.list[i]
		their := find(theirs, mine.Hash)
		if their != nil && their.Digest == mine.Digest {
			to.has[i] = true
			p.learn(ctx, mine, their, mine.Change)
			continue
		}
		if to.has[i], err = p.push(ctx, w, to, mine, their); err == nil || ctx.Err() != nil {
			continue
		}
		p.fail(w, to, mine.Hash.String(), err.Error(), 1)
		if why, ok := p.outages.down(to); ok {
			if left := len(w.list) - i - 1; left > 0 {
				p.fail(w, to, "", why, int64(left))
			}
			return
		}
	}
}

// drop removes what every primary is known to have.
func (p *pass) drop(ctx context.Context, w *work, primaries []*peer) {
	if !distinct(primaries) {
		return
	}
databases:
	for i := range w.list {
		for _, to := range primaries {
			if !to.has[i] {
				continue databases
			}
		}
		if ctx.Err() != nil {
			return
		}
		switch gone, err := p.Store.Drop(ctx, p.device, w.list[i]); {
		case err != nil:
			p.fail(w, &peer{}, w.list[i].Hash.String(), err.Error(), 1)
		case gone:
			p.tally.Add(replicator.Counts{Dropped: 1})
		}
	}
}

func (p *pass) fail(w *work, to *peer, hash, reason string, count int64) {
	p.tally.Fail(replicator.Failure{Peer: to.String(), Partition: uint32(w.partition), Name: hash, Reason: reason, Count: count})
}
