package survey

import (
	"bytes"
	"container/heap"
	"context"
	"slices"
	"time"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// DatabaseAsker asks account and container servers. It is safe for concurrent use.
type DatabaseAsker interface {
	// Databases returns what a device of a ring of a kind, replwire.Accounts or Containers,
	// holds from a hash on, in order, and whether there is more.
	Databases(ctx context.Context, d *ring.Device, kind byte, from name.Hash) ([]replwire.Database, bool, error)
}

// Kind is the accounts or the containers of a cluster.
type Kind struct {
	Name string // "account" or "container"
	List byte   // replwire.Accounts or replwire.Containers
	Ring *ring.Ring
}

// Databases is which accounts or containers have fewer copies in their places than they should.
type Databases struct {
	Kind        string           `json:"kind"`
	Databases   int64            `json:"databases"`       // that there are; deleted ones until they may be forgotten
	TooFew      int64            `json:"too_few"`         // with a copy missing in its place
	HandoffOnly int64            `json:"only_on_handoff"` // of them, those of which no primary that can be asked has any
	Differ      int64            `json:"differ"`          // whose copies are not the same, while nobody writes to them
	Missing     map[int]int64    `json:"missing"`         // of those with too few, by how many copies
	Copies      map[Reason]int64 `json:"copies"`          // that are missing, by why
	Unknown     []Unknown        `json:"unknown_devices"`
}

// Whole reports whether every database has all its copies in place, as far as that is certain.
func (d *Databases) Whole() bool { return d.TooFew == 0 && d.Differ == 0 && len(d.Unknown) == 0 }

// LackingDatabase is a database with fewer copies than it should have, or with copies that differ.
type LackingDatabase struct {
	Kind      string
	Partition uint32
	Hash      name.Hash
	Missing   int
	Reasons   []Reason // one for each that is missing
	Differ    bool
}

// doubtful is how many databases are looked at again together: those that lack something may be
// under way just now. It bounds what is kept of them.
const doubtful = 4096

// DatabasesOf asks all devices of a ring which databases they hold, and calls list, unless it is
// nil, with each that has too few copies in place or copies that differ. It reads all lists at
// the same time, in order of hash, so that it keeps some of each device alone. What looks wrong
// is looked at again after a second, and counts if it still is; copies differ if all are then
// what they were before.
func DatabasesOf(ctx context.Context, ask DatabaseAsker, kind Kind, list func(LackingDatabase)) (*Databases, error) {
	sum := &Databases{Kind: kind.Name, Missing: map[int]int64{}, Copies: map[Reason]int64{}, Unknown: []Unknown{}}
	x := bases{Kind: kind, ask: ask, unknown: map[*ring.Device]error{}}
	x.wrong = func(b *base) bool {
		sum.Databases++
		l := x.lacking(b)
		return l.Missing > 0 || l.Differ
	}
	x.found = func(now, was *base) {
		if len(now.held) == 0 {
			now = was // whoever had it does not answer now, or it was only there
		}
		l := x.lacking(now)
		if l.Differ = l.Differ && slices.Equal(now.held, was.held); l.Missing == 0 && !l.Differ {
			return
		}
		sum.count(&l, now, x.Ring)
		if list != nil {
			list(l)
		}
	}
	if err := x.run(ctx); err != nil {
		return nil, err
	}
	sum.Unknown = append(sum.Unknown, x.unknowns()...)
	return sum, nil
}

// bases goes through the databases of a kind.
type bases struct {
	Kind
	ask     DatabaseAsker
	devices []*ring.Device
	unknown map[*ring.Device]error
	heads   heads
	again   []base // that look wrong

	wrong func(*base) bool     // is asked of each database, once
	found func(now, was *base) // is told what looked wrong, as it was and as it is after a second
	hurry bool                 // where much looks wrong it is told at once, as it was
	much  bool                 // much does
}

// run goes through all databases.
func (x *bases) run(ctx context.Context) error {
	for d := range x.Ring.Devices() {
		x.devices = append(x.devices, d)
		if err := x.push(ctx, &listing{device: d, more: true}); err != nil {
			return err
		}
	}
	for len(x.heads) > 0 {
		if err := x.next(ctx); err != nil {
			return err
		}
	}
	return x.lookAgain(ctx)
}

// unknowns lists the devices that could not be asked.
func (x *bases) unknowns() (list []Unknown) {
	for _, d := range x.devices {
		if err := x.unknown[d]; err != nil {
			list = append(list, Unknown{Place(d), err.Error()})
		}
	}
	return list
}

// base is who holds what of a database.
type base struct {
	hash name.Hash
	held []heldBase
}

type heldBase struct {
	device *ring.Device
	replwire.Database
}

// broken reports whether what is there can't be read.
func (h *heldBase) broken() bool { return h.Incarnation == [16]byte{} }

// listing is what a device has not yet been gone through of.
type listing struct {
	device *ring.Device
	list   []replwire.Database
	from   name.Hash
	more   bool
}

// heads are listings that have something, by the first of it.
type heads []*listing

func (h heads) Len() int { return len(h) }
func (h heads) Less(i, j int) bool {
	return bytes.Compare(h[i].list[0].Hash[:], h[j].list[0].Hash[:]) < 0
}
func (h heads) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface, as does Pop.
func (h *heads) Push(l any) { *h = append(*h, l.(*listing)) } //nolint:forcetypeassert // of nothing else

// Pop takes the last.
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// push puts a listing in its place, if there is more of it. A device that doesn't answer is
// unknown from then on.
func (x *bases) push(ctx context.Context, l *listing) error {
	first, err := l.peek(ctx, x.ask, x.List)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		x.unknown[l.device] = err
	case first != nil:
		heap.Push(&x.heads, l)
	}
	return nil
}

// next takes the next database in order.
func (x *bases) next(ctx context.Context) error {
	one := base{hash: x.heads[0].list[0].Hash}
	for len(x.heads) > 0 && x.heads[0].list[0].Hash == one.hash {
		l := heap.Pop(&x.heads).(*listing) //nolint:forcetypeassert // of nothing else
		one.held = append(one.held, heldBase{l.device, l.list[0]})
		l.list = l.list[1:]
		if err := x.push(ctx, l); err != nil {
			return err
		}
	}
	if !x.wrong(&one) {
		return nil
	}
	x.again = append(x.again, one)
	x.much = x.much || x.hurry && len(x.again) == doubtful
	if len(x.again) < doubtful && !x.much {
		return nil
	}
	return x.lookAgain(ctx)
}

// lacking says what a database lacks.
func (x *bases) lacking(b *base) LackingDatabase {
	p := x.Ring.Partition(b.hash)
	l := LackingDatabase{Kind: x.Name, Partition: uint32(p), Hash: b.hash}
	primaries := x.Ring.AppendPrimaries(nil, p)
	onHandoff, inPlace, broken := false, false, false
	var some *heldBase
	for i := range b.held {
		h := &b.held[i]
		if h.broken() {
			broken = true
			continue
		}
		at := slices.Contains(primaries, h.device)
		onHandoff, inPlace = onHandoff || !at, inPlace || at
		if some == nil {
			some = h
		}
		l.Differ = l.Differ || h.Digest != some.Digest
	}
	for _, d := range primaries {
		at := slices.IndexFunc(b.held, func(h heldBase) bool { return h.device == d })
		if at >= 0 && !b.held[at].broken() {
			continue
		}
		l.Missing++
		why := Nowhere
		switch {
		case at >= 0:
			why = Quarantined
		case x.unknown[d] != nil:
			why = Unreachable
		case onHandoff:
			why = OnHandoff
		case inPlace:
			why = Queued
		case broken:
			why = Quarantined // the only ones that knew of it
		}
		l.Reasons = append(l.Reasons, why)
	}
	return l
}

// lookAgain looks a second time at what looks wrong, all of it after one wait, and tells what it finds.
func (x *bases) lookAgain(ctx context.Context) error {
	if len(x.again) == 0 {
		return nil
	}
	if x.much {
		for i := range x.again {
			x.found(&x.again[i], &x.again[i])
		}
		x.again = x.again[:0]
		return nil
	}
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for i := range x.again {
		now, err := x.look(ctx, &x.again[i])
		if err != nil {
			return err
		}
		x.found(&now, &x.again[i])
	}
	x.again = x.again[:0]
	return nil
}

// look asks those who had a database, and its primaries, for it.
func (x *bases) look(ctx context.Context, was *base) (now base, err error) {
	now.hash = was.hash
	for _, d := range x.devices {
		had := slices.ContainsFunc(was.held, func(h heldBase) bool { return h.device == d })
		if x.unknown[d] != nil || !had && !slices.Contains(x.Ring.AppendPrimaries(nil, x.Ring.Partition(was.hash)), d) {
			continue
		}
		list, _, err := x.ask.Databases(ctx, d, x.List, was.hash)
		if ctx.Err() != nil {
			return now, ctx.Err()
		}
		if err != nil {
			x.unknown[d] = err
			continue
		}
		if len(list) > 0 && list[0].Hash == was.hash {
			now.held = append(now.held, heldBase{d, list[0]})
		}
	}
	slices.SortFunc(now.held, func(a, b heldBase) int { return a.device.ID - b.device.ID })
	slices.SortFunc(was.held, func(a, b heldBase) int { return a.device.ID - b.device.ID })
	return now, nil
}

// count counts a database that lacks something.
func (d *Databases) count(l *LackingDatabase, b *base, r *ring.Ring) {
	if l.Missing > 0 {
		d.TooFew++
		d.Missing[l.Missing]++
		primaries := r.AppendPrimaries(nil, ring.Partition(l.Partition))
		if !slices.ContainsFunc(b.held, func(h heldBase) bool { return slices.Contains(primaries, h.device) }) {
			d.HandoffOnly++
		}
	}
	for _, why := range l.Reasons {
		d.Copies[why]++
	}
	if l.Differ {
		d.Differ++
	}
}
