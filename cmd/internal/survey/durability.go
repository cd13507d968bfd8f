package survey

import (
	"bytes"
	"context"
	"slices"
	"time"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// A Reason is why a copy is not in its place.
type Reason string

// The reasons.
const (
	Unreachable Reason = "device unknown" // the device could not be asked: it may have it
	Quarantined Reason = "quarantined"    // it was damaged there
	OnHandoff   Reason = "on a handoff"   // a copy is on its way from there
	Queued      Reason = "to be copied"   // other copies are in their places
	Nowhere     Reason = "no good copy"   // that can be reached
)

// Durability is which objects have fewer good copies in their places than they should.
type Durability struct {
	Objects         int64            `json:"objects"` // that there are
	UnderReplicated int64            `json:"under_replicated"`
	Partitions      int64            `json:"partitions"` // with at least one of them
	Missing         map[int]int64    `json:"missing"`    // of them, by how many copies
	Copies          map[Reason]int64 `json:"copies"`     // that are missing, by why

	// UnknownPartitions are those of which all primaries are unknown, and nobody else
	// has anything: there may be objects or none.
	UnknownPartitions int64     `json:"unknown_partitions"`
	Unknown           []Unknown `json:"unknown_devices"`
}

// Whole reports whether every object has all its copies in place, as far as that is certain.
func (d *Durability) Whole() bool {
	return d.UnderReplicated == 0 && d.UnknownPartitions == 0 && len(d.Unknown) == 0
}

// Lacking is an object with fewer copies than it should have.
type Lacking struct {
	Policy    string
	Partition uint32
	Hash      name.Hash
	Missing   int
	Reasons   []Reason     // one for each that is missing
	Holder    *ring.Device // somebody who has it; nil if that is nobody who can be asked
}

const (
	// settling is how young a write is that is looked at a second time, after again: it may
	// still be under way.
	settling = time.Minute
	again    = time.Second

	// few is up to how many objects of a partition are looked at though their sums say how
	// many are lacking: they may be on their way just now.
	few = 256
)

// DurabilityOf asks which objects have too few copies, and calls list with each, unless it is
// nil, in which case objects are counted by sums where that is enough.
func DurabilityOf(ctx context.Context, ask Asker, policies []Policy, list func(Lacking)) (*Durability, error) {
	d := &Durability{Missing: map[int]int64{}, Copies: map[Reason]int64{}, Unknown: []Unknown{}}
	for _, p := range policies {
		h, err := gather(ctx, ask, p, true)
		if err != nil {
			return nil, err
		}
		x := examiner{held: h, ask: ask, sum: d, list: list}
		for c := range h.each {
			if err := x.partition(ctx, c); err != nil {
				return nil, err
			}
		}
		if err := x.lookAgain(ctx); err != nil {
			return nil, err
		}
		for _, u := range h.unknowns() {
			if !slices.ContainsFunc(d.Unknown, func(v Unknown) bool { return v.Device == u.Device }) {
				d.Unknown = append(d.Unknown, u)
			}
		}
	}
	return d, nil
}

// examiner looks at the partitions of a policy.
type examiner struct {
	*held
	ask  Asker
	sum  *Durability
	list func(Lacking)

	young []doubt // what is lacking, and was written lately
	kept  int     // how many objects those are together
}

// partition counts what is lacking of a partition.
func (x *examiner) partition(ctx context.Context, c *copies) error {
	if c.out == len(c.primaries) && len(c.handoffs) == 0 {
		x.sum.UnknownPartitions++
		return nil
	}
	switch objects, lack, known := x.bySums(c); {
	case known && len(lack) == 0:
		x.sum.Objects += objects
	case known && x.list == nil && (objects == 0 || objects > few || !slices.ContainsFunc(lack, func(r Reason) bool { return r != Unreachable })):
		x.sum.Objects += objects
		if objects > 0 {
			x.sum.Partitions++
			x.count(lack, objects)
		}
	default:
		return x.look(ctx, c, nil)
	}
	return nil
}

// doubt is objects of a partition that are looked at a second time.
type doubt struct {
	*copies
	of map[name.Hash]bool
}

// mostDoubts bounds how many objects are: others count at once.
const mostDoubts = 1 << 16

// lookAgain looks a second time at what was written lately, all of it after one wait.
func (x *examiner) lookAgain(ctx context.Context) error {
	if len(x.young) == 0 {
		return nil
	}
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, d := range x.young {
		if err := x.look(ctx, d.copies, d.of); err != nil {
			return err
		}
	}
	return nil
}

// add counts an object that lacks something.
func (x *examiner) add(c *copies, l *Lacking) {
	if !c.lacks {
		c.lacks = true
		x.sum.Partitions++
	}
	x.count(l.Reasons, 1)
	if x.list != nil {
		x.list(*l)
	}
}

// bySums counts the objects of a partition where those who have something all have the same,
// and says why copies are missing of each.
func (x *examiner) bySums(c *copies) (objects int64, lack []Reason, known bool) {
	var some *replwire.Holding
	for i := range c.of {
		switch h := &c.of[i]; {
		case h.Lost > 0:
			return 0, nil, false // also where all have lost the same
		case h.Sum == replwire.Digest{}:
		case some == nil:
			some = h
		case h.Sum != some.Sum:
			return 0, nil, false
		}
	}
	if some == nil {
		return 0, nil, true
	}
	for n, i := range c.primaries {
		switch {
		case x.unknown[i] != nil:
			lack = append(lack, Unreachable)
		case c.of[n].Sum == some.Sum:
		case len(c.handoffs) > 0:
			lack = append(lack, OnHandoff)
		default:
			lack = append(lack, Queued)
		}
	}
	return some.Objects, lack, true
}

func (x *examiner) count(lack []Reason, objects int64) {
	x.sum.UnderReplicated += objects
	x.sum.Missing[len(lack)] += objects
	for _, why := range lack {
		x.sum.Copies[why] += objects
	}
}

// look compares the states that all who can be asked hold of a partition, and counts what it
// finds; what is lacking and was written lately it leaves for a second look. With only it is
// that look, at those alone. Whoever can't be asked any more is unknown.
func (x *examiner) look(ctx context.Context, c *copies, only map[name.Hash]bool) error {
	doubts := doubt{c, map[name.Hash]bool{}}
	streams := make([]*stream, 0, len(c.of))
	for n, i := range slices.Concat(c.primaries, c.handoffs) {
		s := &stream{x: x, device: i, partition: c.partition, primary: n < len(c.primaries)}
		s.next.from = name.PartitionRange(x.Ring.PartPower(), c.partition).First()
		s.next.more = x.unknown[i] == nil
		streams = append(streams, s)
	}
	recent := timestamp.FromTime(time.Now().Add(-settling))
	for {
		var first *replwire.Object
		for _, s := range streams {
			o, err := s.peek(ctx)
			if err != nil {
				return err
			}
			if o != nil && (first == nil || bytes.Compare(o.Hash[:], first.Hash[:]) < 0) {
				first = o
			}
		}
		if first == nil {
			break
		}
		one := object{hash: first.Hash}
		for _, s := range streams {
			one.take(s)
		}
		if only != nil && !only[one.hash] || !one.exists() {
			continue
		}
		if only == nil {
			x.sum.Objects++
		}
		l := one.lacking(x)
		switch {
		case l.Missing == 0:
		case only == nil && one.newest().After(recent) && x.kept < mostDoubts:
			doubts.of[one.hash] = true
			x.kept++
		default:
			l.Policy, l.Partition = x.Name, c.partition
			x.add(c, &l)
		}
	}
	if len(doubts.of) > 0 {
		x.young = append(x.young, doubts)
	}
	return nil
}

// stream is the states that a device holds of a partition.
type stream struct {
	x         *examiner
	device    int
	partition uint32
	primary   bool
	list      []replwire.Object
	next      struct {
		from name.Hash
		more bool
	}
}

// peek returns the next state; nil where there are no more, or the device does not say.
func (s *stream) peek(ctx context.Context) (*replwire.Object, error) {
	for len(s.list) == 0 && s.next.more {
		list, more, err := s.x.ask.States(ctx, s.x.devices[s.device], s.x.Index, s.x.Ring.PartPower(), s.partition, s.next.from)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.x.unknown[s.device] = err
			s.next.more = false
			return nil, nil //nolint:nilerr // it is unknown from now on
		}
		s.list, s.next.more = list, more && len(list) > 0
		if s.next.more {
			s.next.from = after(list[len(list)-1].Hash)
		}
	}
	if len(s.list) == 0 {
		return nil, nil
	}
	return &s.list[0], nil
}

// after is the hash behind one.
func after(h name.Hash) name.Hash {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i]++; h[i] != 0 {
			break
		}
	}
	return h
}

// object is what is held under one hash.
type object struct {
	hash   name.Hash
	copies []copyOf // of those who were asked; of handoffs only where there is one
}

type copyOf struct {
	state   *replwire.Object // nil for nothing
	stream  *stream
	unknown bool
}

// take takes what a device holds under the hash.
func (o *object) take(s *stream) {
	c := copyOf{stream: s, unknown: s.x.unknown[s.device] != nil}
	if len(s.list) > 0 && s.list[0].Hash == o.hash {
		state := s.list[0]
		c.state, s.list = &state, s.list[1:]
	}
	if s.primary || c.state != nil {
		o.copies = append(o.copies, c)
	}
}

// exists reports whether there is an object: data that no tombstone has ended, or that was
// damaged where nothing newer is.
func (o *object) exists() bool {
	var newest *replwire.Object
	for _, c := range o.copies {
		s := c.state
		if s == nil || s.Kind == replwire.Waiting {
			continue
		}
		if newest == nil {
			newest = s
			continue
		}
		if c := s.Times.CompareData(newest.Times); c > 0 || c == 0 && s.Kind == replwire.Tombstone {
			newest = s
		}
	}
	return newest != nil && newest.Kind != replwire.Tombstone
}

func (o *object) newest() (t timestamp.T) {
	for _, c := range o.copies {
		if c.state != nil {
			t = timestamp.Max(t, c.state.Newest())
		}
	}
	return t
}

// good reports whether a copy lacks nothing that another has, or had before it was damaged.
func (o *object) good(c *copyOf) bool {
	if c.unknown || c.state == nil || c.state.Kind != replwire.Data {
		return false
	}
	for i := range o.copies {
		s := o.copies[i].state
		if s != nil && (s.SurelyLacks(c.state) != 0 || s.Kind == replwire.Lost && s.Times.Data.After(c.state.Times.Data)) {
			return false
		}
	}
	return true
}

// lacking says which copies are missing.
func (o *object) lacking(x *examiner) Lacking {
	l := Lacking{Hash: o.hash}
	inPlace, elsewhere := false, false
	for i := range o.copies {
		c := &o.copies[i]
		if !o.good(c) {
			continue
		}
		if l.Holder == nil {
			l.Holder = x.devices[c.stream.device]
		}
		inPlace = inPlace || c.stream.primary
		elsewhere = elsewhere || !c.stream.primary
	}
	for i := range o.copies {
		c := &o.copies[i]
		if !c.stream.primary || o.good(c) {
			continue
		}
		l.Missing++
		why := Nowhere
		switch {
		case c.unknown:
			why = Unreachable
		case c.state != nil && c.state.Kind == replwire.Lost:
			why = Quarantined
		case elsewhere:
			why = OnHandoff
		case inPlace:
			why = Queued
		}
		l.Reasons = append(l.Reasons, why)
	}
	return l
}
