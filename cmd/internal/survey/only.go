package survey

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Only is what a device holds that no other device has as well.
type Only struct {
	Objects   int64            `json:"objects"`   // of which no other device has all that this one knows of them
	Fragments int64            `json:"fragments"` // of objects that can't be read from those that others have
	Databases map[string]int64 `json:"databases"` // that no other device has any of, by kind
	Differ    map[string]int64 `json:"differ"`    // that others have in another state, by kind: they may lack rows
	Unknown   []Unknown        `json:"unknown_devices"`
}

// None reports whether others have all of it, as far as that is certain.
func (o *Only) None() bool {
	n := o.Objects + o.Fragments
	for _, more := range o.Databases {
		n += more
	}
	return n == 0 && len(o.Unknown) == 0
}

// A Subject is a device that is asked about, as each kind's server has it: the policies' objects, and the kinds
// by their names.
type Subject struct {
	Objects   *ring.Device
	Databases map[string]*ring.Device
	Is        func(*ring.Device) bool // whether a device in a ring is that
}

// OnlyAt asks all devices what a device has that no other one has: objects by sums, and by their states where those of no
// other device are the same. A tombstone that no other device knows of counts only where one has something
// that it ends; what is damaged on the device does not count. A fragment counts where others have too few of the same object. What others seem to lack is looked at a second time, since it may just be under way. The error
// is that the device itself does not answer, or of ctx.
func OnlyAt(ctx context.Context, ask interface {
	Asker
	DatabaseAsker
}, policies []Policy, kinds []Kind, of Subject) (*Only, error) {
	var sum *Only
	for range 2 {
		sum = &Only{Databases: map[string]int64{}, Differ: map[string]int64{}, Unknown: []Unknown{}}
		unknown := map[string]error{}
		for _, p := range policies {
			if err := sum.objects(ctx, ask, p, of, unknown); err != nil {
				return nil, err
			}
			if err := sum.fragments(ctx, ask, p, of, unknown); err != nil {
				return nil, err
			}
		}
		for _, k := range kinds {
			if err := sum.databases(ctx, ask, k, of, unknown); err != nil {
				return nil, err
			}
		}
		for place, err := range unknown {
			sum.Unknown = append(sum.Unknown, Unknown{place, err.Error()})
		}
		if sum.None() || len(sum.Unknown) > 0 {
			break
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
	return sum, nil
}

// objects counts those of a policy.
func (o *Only) objects(ctx context.Context, ask Asker, p Policy, of Subject, unknown map[string]error) error {
	h, err := gather(ctx, ask, p, true, of.Objects)
	if err != nil {
		return err
	}
	me := len(h.devices) - 1 // it is asked a second time by that name, if it is in the ring
	if err := h.unknown[me]; err != nil {
		return fmt.Errorf("%s does not say what it holds: %w", Place(of.Objects), err)
	}
	x := &examiner{held: h, ask: ask}
	for c := range h.each {
		if err := x.only(ctx, c, me, of, o); err != nil {
			return err
		}
	}
	for i, d := range h.devices {
		if err := h.unknown[i]; err != nil && !of.Is(d) {
			unknown[Place(d)] = err
		}
	}
	return ctx.Err()
}

// only counts what a device alone holds of a partition.
func (x *examiner) only(ctx context.Context, c *copies, me int, of Subject, sum *Only) error {
	mine := x.Ring.PartPower()
	at := x.holding(c.partition, me)
	if at == nil || at.Sum == (replwire.Digest{}) {
		return nil
	}
	streams := []*stream{}
	add := func(i int) {
		s := &stream{x: x, device: i, partition: c.partition}
		s.next.from, s.next.more = name.PartitionRange(mine, c.partition).First(), true
		streams = append(streams, s)
	}
	add(me)
	for i, d := range x.devices {
		h := x.holding(c.partition, i)
		if i == me || of.Is(d) || h == nil {
			continue
		}
		if h.Sum == at.Sum && h.Lost == 0 && at.Lost == 0 {
			return nil
		}
		add(i)
	}
	for {
		own, err := streams[0].peek(ctx)
		if err != nil {
			return err
		}
		if err := x.unknown[me]; err != nil {
			return fmt.Errorf("%s does not say what it holds: %w", Place(of.Objects), err)
		}
		if own == nil {
			return nil
		}
		state, has, some := *own, false, false
		streams[0].list = streams[0].list[1:]
		for _, s := range streams[1:] {
			theirs, err := s.skipTo(ctx, state.Hash)
			if err != nil {
				return err
			}
			if theirs != nil && theirs.Kind != replwire.Lost {
				some = true
				has = has || state.SurelyLacks(theirs) == 0
			}
		}
		if !has && state.Kind != replwire.Lost && (some || state.Kind != replwire.Tombstone) {
			sum.Objects++
		}
	}
}

// holding is what a device holds of a partition; nil for nothing.
func (h *held) holding(partition uint32, device int) *replwire.Holding {
	for _, one := range h.holders[partition] {
		if int(one.device) == device {
			return &h.by[device][one.at]
		}
	}
	return nil
}

// skipTo returns the state under a hash, which is not before those that were asked for; nil for none.
func (s *stream) skipTo(ctx context.Context, h name.Hash) (*replwire.Object, error) {
	for {
		o, err := s.peek(ctx)
		if o == nil || err != nil {
			return nil, err
		}
		switch bytes.Compare(o.Hash[:], h[:]) {
		case 0:
			return o, nil
		case 1:
			return nil, nil
		}
		s.list = s.list[1:]
	}
}

// databases counts those of a kind.
func (o *Only) databases(ctx context.Context, ask DatabaseAsker, kind Kind, of Subject, unknown map[string]error) error {
	me := of.Databases[kind.Name]
	others := map[*ring.Device]*listing{}
	for d := range kind.Ring.Devices() {
		if !of.Is(d) {
			others[d] = &listing{device: d, more: true}
		}
	}
	mine := &listing{device: me, more: true}
	for {
		one, err := mine.peek(ctx, ask, kind.List)
		if err != nil {
			return fmt.Errorf("%s does not say what it holds: %w", Place(me), err)
		}
		if one == nil {
			return nil
		}
		mine.list = mine.list[1:]
		some, same := false, false
		for d, l := range others {
			theirs, err := l.skipTo(ctx, ask, kind.List, one.Hash)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				unknown[Place(d)] = err
				delete(others, d)
				continue
			}
			if h := (heldBase{d, replwire.Database{}}); theirs != nil {
				if h.Database = *theirs; !h.broken() {
					some, same = true, same || theirs.Digest == one.Digest
				}
			}
		}
		switch broken := (&heldBase{me, *one}); {
		case broken.broken() || same:
		case some:
			o.Differ[kind.Name]++
		default:
			o.Databases[kind.Name]++
		}
	}
}

// peek returns the next database of a listing; nil where there are no more.
func (l *listing) peek(ctx context.Context, ask DatabaseAsker, kind byte) (*replwire.Database, error) {
	for len(l.list) == 0 && l.more {
		list, more, err := ask.Databases(ctx, l.device, kind, l.from)
		if err != nil {
			return nil, err
		}
		if l.list, l.more = list, more && len(list) > 0; l.more {
			l.from = after(list[len(list)-1].Hash)
		}
	}
	if len(l.list) == 0 {
		return nil, nil
	}
	return &l.list[0], nil
}

// skipTo returns the database under a hash, which is not before those that were asked for; nil for none.
func (l *listing) skipTo(ctx context.Context, ask DatabaseAsker, kind byte, h name.Hash) (*replwire.Database, error) {
	for {
		d, err := l.peek(ctx, ask, kind)
		if d == nil || err != nil {
			return nil, err
		}
		switch bytes.Compare(d.Hash[:], h[:]) {
		case 0:
			return d, nil
		case 1:
			return nil, nil
		}
		l.list = l.list[1:]
	}
}
