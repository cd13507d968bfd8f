package databases

import (
	"context"
	"sync"
	"time"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// stepping is what a pass finds out about which partitions the device is in step with
// others in (package steps). It is safe for concurrent use.
type stepping struct {
	book  *steps.Book
	set   steps.Set
	began time.Time
	now   func() time.Time
	news  map[bringer]time.Time // when somebody brought all that he had of a database, since the pass before

	terms steps.Terms

	mu    sync.Mutex
	parts map[ring.Partition]time.Time // guarded by mu; as of when each is in step, zero for one that is not
	power int                          // guarded by mu
}

// lookAhead tells the book of what the device holds before anything is pushed of it. What
// can't be read is a failure of the pass itself.
func (d *Databases) lookAhead(ctx context.Context, device string) (*stepping, error) {
	book, err := d.Steps(device)
	if err != nil {
		return nil, err
	}
	r := d.Ring()
	var held []uint32
	all := true
	first, last := replicator.Whole()
	for h, err := range d.Store.Walk(ctx, device, first, last) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			all = false
			continue
		}
		if p := uint32(r.Partition(h)); len(held) == 0 || held[len(held)-1] != p {
			held = append(held, p)
		}
	}
	s := &stepping{
		book: book, set: steps.Set(d.name), now: d.Now, began: d.Now(), news: d.brought.take(device),
		parts: map[ring.Partition]time.Time{}, power: r.PartPower(), terms: book.Terms(),
	}
	book.Look(s.set, s.power, held, all, s.began)
	return s, nil
}

// fresh returns why nothing is to be pushed or dropped any more: what the pass goes by is too
// old.
func (s *stepping) fresh() error { return s.terms.Fresh(s.began, s.now()) }

// may reports whether what is here of a partition may be pushed, and if not why not.
func (s *stepping) may(w *work) error {
	return s.book.May(s.set, w.Ring.PartPower(), uint32(w.Partition), s.now())
}

// note notes of a batch of a partition as of when the device is in step with at least one
// of the peers, zero for not at all.
func (s *stepping) note(w *work, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.Ring.PartPower() != s.power {
		return
	}
	if before, ok := s.parts[w.Partition]; ok && before.Before(at) {
		return // another batch of it is not as far
	}
	s.parts[w.Partition] = at
}

// forget has nothing be noted of a partition that was not gone through whole, now or later.
func (s *stepping) forget(p ring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[p] = time.Time{} // which no later batch of it can make more of
}

// end writes down what a pass that was complete has found out.
func (s *stepping) end() error {
	s.mu.Lock()
	for p, at := range s.parts {
		if !at.IsZero() {
			s.book.InStep(s.set, s.power, uint32(p), at)
		}
	}
	s.mu.Unlock()
	return s.save()
}

func (s *stepping) save() error { return s.book.Save(s.now()) }

// asOf returns as of when the device is in step with a peer in one database: that had
// nothing newer, or has brought it since.
func (s *stepping) asOf(to *replicator.Peer, mine, theirs *replwire.Database) time.Time {
	if theirs == nil || theirs.Digest == mine.Digest {
		return s.began
	}
	return s.news[bringer{mine.Hash, to.Sender()}]
}

// maxBrought bounds how many databases are remembered that peers have brought.
const maxBrought = 1 << 20

// brought remembers which databases peers have brought, by device.
type brought struct {
	mu sync.Mutex
	at map[string]map[bringer]time.Time // guarded by mu
}

// bringer is who has brought a database: replwire.SenderHeader of the push, by which processes of one host
// are told apart, and one that was started again from the one before it.
type bringer struct {
	hash   name.Hash
	sender string
}

// maxSender bounds what a peer may call itself, in bytes; who says more, or nothing, has brought nothing.
const maxSender = 512

// note notes that a peer has pushed the last of what it had of a database.
func (b *brought) note(device string, by bringer, now time.Time) {
	if by.sender == "" || len(by.sender) > maxSender {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = map[string]map[bringer]time.Time{}
	}
	all := b.at[device]
	if all == nil {
		all = map[bringer]time.Time{}
		b.at[device] = all
	}
	if len(all) < maxBrought {
		all[by] = now
	}
}

// take returns what was noted of a device, and forgets it.
func (b *brought) take(device string) map[bringer]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.at[device]
	delete(b.at, device)
	return all
}
