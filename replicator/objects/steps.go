package objects

import (
	"context"
	"sync"
	"time"

	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// stepping is what a pass finds out about which partitions the device is in step with others
// in (package steps): of what it holds of a partition another primary had nothing newer. Equal
// sums say so, and where they differ the lists of the ranges that they differ in. It is safe for
// concurrent use.
type stepping struct {
	book  *steps.Book
	began time.Time
	at    timestamp.T // as of when that is so

	mu     sync.Mutex
	behind map[*part]map[string]bool // guarded by mu; whom each is not known to be in step with
}

// SetOf is what the partitions of a policy are called there.
func SetOf(index policy.Index) steps.Set { return steps.Set("object" + index.Suffix()) }

// newStepping begins what a pass notes.
func (p *pass) newStepping() (*stepping, error) {
	book, err := p.Steps(p.device)
	if err != nil {
		return nil, err
	}
	began := p.Now()
	at := p.before
	if at.IsZero() {
		at = timestamp.FromTime(began)
	}
	p.peers.Fresh = p.fresh
	return &stepping{book: book, began: began, at: at, behind: map[*part]map[string]bool{}}, nil
}

// held tells the book of the partitions of a policy that the device holds something of, also
// what the pass leaves out because it was written lately. All is whether there are no others.
func (l *looking) held(ctx context.Context, found []replwire.Extent, all bool) {
	numbers := make([]uint32, 0, len(found))
	add := func(e replwire.Extent) { numbers = append(numbers, uint32(l.ring.Partition(e.Range.First()))) }
	for _, e := range found {
		add(e)
	}
	if all && !l.before.IsZero() {
		numbers = numbers[:0]
		for e, err := range l.store.Partitions(ctx, l.policy, l.ring.PartPower(), timestamp.T{}) {
			if err != nil {
				all = false
				break
			}
			add(e)
		}
	}
	l.steps.book.Look(SetOf(l.policy), l.ring.PartPower(), numbers, all, l.Now())
}

// fresh returns why nothing is to be pushed or dropped any more: what the pass goes by is too
// old.
func (p *pass) fresh() error {
	return steps.Terms{ReclaimAge: p.cfg.ReclaimAge}.Fresh(p.steps.began, p.Now())
}

// may reports whether what the device holds of a partition may be pushed and dropped, and if
// not why not.
func (p *pass) may(index policy.Index, r *ring.Ring, at ring.Partition) error {
	return p.steps.book.May(SetOf(index), r.PartPower(), uint32(at), p.Now())
}

// inStep notes that the device is in step in a partition.
func (p *pass) inStep(of *part) {
	p.steps.book.InStep(SetOf(of.policy), of.ring.PartPower(), uint32(of.partition()), p.steps.at.Time())
}

// lagging notes that a peer may have something newer of a partition.
func (p *pass) lagging(of *part, to string) {
	s := p.steps
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind[of] == nil {
		s.behind[of] = map[string]bool{}
	}
	s.behind[of][to] = true
}

// laggingAll notes that all that a handoff belongs to may have.
func (p *pass) laggingAll(of *part) {
	for _, to := range of.home {
		p.lagging(of, to)
	}
}

// compared notes whether a peer's list has something of what is here that the device must hear
// of before it is forgotten: a delete, from before the time as of which it is in step. Newer
// data is never forgotten, and wins wherever it is. Mine is in order of hash.
func (p *pass) compared(of *part, to *replicator.Peer, mine, theirs []replwire.Object) {
	if !to.Primary() {
		p.lagging(of, to.String())
		return
	}
	for i := range theirs {
		t := &theirs[i]
		if t.Kind != replwire.Tombstone || !t.Times.Data.Happened().Before(p.steps.at) || forgettable(t, p.horizon) {
			continue
		}
		m := lookUp(mine, t.Hash)
		if m != nil && m.Left != 0 { // the tombstone beside what was lost is here
			good := *m
			good.Kind, m = m.Left, &good
		}
		if m != nil && t.SurelyLacks(m)&replwire.LackData != 0 {
			p.lagging(of, to.String())
			return
		}
	}
}

// endSteps notes in which of the partitions that there was something to do about the device is in
// step with some peer. Those that are given have all been gone through.
func (p *pass) endSteps(parts []*part) {
	p.steps.mu.Lock()
	defer p.steps.mu.Unlock()
	for _, of := range parts {
		behind := p.steps.behind[of]
		for _, to := range of.peers() {
			if !behind[to] {
				p.inStep(of)
				break
			}
		}
	}
}

// peers are those that a partition is gone through with.
func (of *part) peers() (all []string) {
	for _, d := range of.differ {
		all = append(all, d.peer.String())
	}
	return append(all, of.home...)
}

// save makes durable what the book knows.
func (p *pass) save(ctx context.Context) {
	if err := p.steps.book.Save(p.Now()); err != nil && ctx.Err() == nil {
		p.tally.Fail(replicator.Failure{Reason: err.Error()})
	}
}
