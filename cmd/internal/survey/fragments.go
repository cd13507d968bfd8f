package survey

import (
	"context"
	"time"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// ToBeMade is why a fragment is not in its place that has to be made again from others.
const ToBeMade Reason = "to be made again"

// CodedAsker is an Asker that can leave out what is not in fragments.
type CodedAsker interface {
	Asker

	// Coded is as States, of those objects alone whose data is in fragments.
	Coded(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error)
}

// Fragments is which objects of a policy of erasure coding have fewer good fragments in their places than they should.
type Fragments struct {
	Policy     string           `json:"policy"`
	Objects    int64            `json:"objects"` // whose data is in fragments
	Lacking    int64            `json:"lacking"`
	Unreadable int64            `json:"unreadable"` // of which fewer fragments can be found than it takes to read them
	Missing    map[int]int64    `json:"missing"`    // objects that lack some, by how many fragments
	Fragments  map[Reason]int64 `json:"fragments"`  // that are missing, by why
	Unknown    []Unknown        `json:"unknown_devices"`
}

// Whole reports whether every object has all its fragments in place, as far as that is certain.
func (f *Fragments) Whole() bool { return f.Lacking == 0 && len(f.Unknown) == 0 }

// FragmentsOf asks which objects of a policy of erasure coding lack fragments, and calls list with each, unless it is
// nil. It lists what there is: fragments of an object are on each device others, so that no sums can be compared.
func FragmentsOf(ctx context.Context, ask CodedAsker, p Policy, list func(Lacking)) (*Fragments, error) {
	x := &pieces{ask: ask, Policy: p, list: list, sum: &Fragments{Policy: p.Name, Missing: map[int]int64{}, Fragments: map[Reason]int64{}, Unknown: []Unknown{}}}
	var err error
	if x.commits, err = gather(ctx, ask, Policy{Index: p.Index, Ring: p.Ring}, false); err != nil {
		return nil, err
	}
	if x.parts, err = gather(ctx, ask, Policy{Index: p.Index.Fragments(), Ring: p.Fragments}, false); err != nil {
		return nil, err
	}
	young := map[uint32]map[name.Hash]bool{}
	for n := range x.commits.holders {
		if young[uint32(n)], err = x.look(ctx, uint32(n), nil); err != nil {
			return nil, err
		}
	}
	if err := x.lookAgain(ctx, young); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, h := range []*held{x.commits, x.parts} {
		for _, u := range h.unknowns() {
			if !seen[u.Device] {
				seen[u.Device] = true
				x.sum.Unknown = append(x.sum.Unknown, u)
			}
		}
	}
	return x.sum, nil
}

// pieces looks at the fragments of a policy.
type pieces struct {
	Policy
	ask            CodedAsker
	commits, parts *held
	sum            *Fragments
	list           func(Lacking)
}

// lookAgain looks a second time at what lacked something and was written lately.
func (x *pieces) lookAgain(ctx context.Context, young map[uint32]map[name.Hash]bool) error {
	waited := false
	for n, of := range young {
		if len(of) == 0 {
			continue
		}
		if !waited {
			timer := time.NewTimer(again)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
			waited = true
		}
		if _, err := x.look(ctx, n, of); err != nil {
			return err
		}
	}
	return nil
}

// there is what is under the hashes of fragments in a partition, by device.
type there map[int]map[name.Hash]replwire.ObjectKind

// look counts what is lacking of a partition, and returns what does of what was written lately; with only, of those alone,
// and all that lacks is counted.
func (x *pieces) look(ctx context.Context, n uint32, only map[name.Hash]bool) (young map[name.Hash]bool, err error) {
	if len(x.commits.holders[n]) == 0 {
		return nil, nil
	}
	objects, holder, err := x.coded(ctx, n)
	if err != nil || len(objects) == 0 {
		return nil, err
	}
	all := there{}
	for _, one := range x.parts.holders[n] {
		states := map[name.Hash]replwire.ObjectKind{}
		all[int(one.device)] = states
		if err := eachState(ctx, x.ask, x.parts, n, int(one.device), func(s *replwire.Object) { states[s.Hash] = s.Kind }); err != nil {
			return nil, err
		}
	}
	recent := timestamp.FromTime(time.Now().Add(-settling))
	young = map[name.Hash]bool{}
	for h, at := range objects {
		if only != nil && !only[h] {
			continue
		}
		if only == nil {
			x.sum.Objects++
		}
		l, few := x.lacking(n, h, at, all)
		switch {
		case l.Missing == 0:
		case only == nil && at.After(recent):
			young[h] = true
		default:
			if few {
				x.sum.Unreadable++
			}
			l.Holder = holder[h]
			x.count(&l)
		}
	}
	return young, nil
}

func (x *pieces) count(l *Lacking) {
	x.sum.Lacking++
	x.sum.Missing[l.Missing]++
	for _, why := range l.Reasons {
		x.sum.Fragments[why]++
	}
	if x.list != nil {
		x.list(*l)
	}
}

// coded returns the objects in force in a partition whose data is in fragments, with the time of that, and who has
// their commits.
func (x *pieces) coded(ctx context.Context, n uint32) (map[name.Hash]timestamp.T, map[name.Hash]*ring.Device, error) {
	current, err := inForce(ctx, x.ask, x.commits, n)
	if err != nil || len(current) == 0 {
		return nil, nil, err
	}
	all, holder := map[name.Hash]timestamp.T{}, map[name.Hash]*ring.Device{}
	for _, one := range x.commits.holders[n] {
		err := eachState(ctx, onlyCoded{x.ask}, x.commits, n, int(one.device), func(s *replwire.Object) {
			if current[versionOf(s)] {
				all[s.Hash], holder[s.Hash] = s.Times.Data, x.commits.devices[one.device]
			}
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return all, holder, nil
}

// onlyCoded asks for those objects alone whose data is in fragments.
type onlyCoded struct{ CodedAsker }

// States implements Asker.
func (a onlyCoded) States(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	return a.Coded(ctx, d, p, power, partition, from)
}

// lacking says which fragments of an object are not in their places, and whether there are too few of them anywhere to read it.
func (x *pieces) lacking(n uint32, h name.Hash, at timestamp.T, all there) (l Lacking, few bool) {
	l = Lacking{Policy: x.Name, Partition: n, Hash: h}
	primaries := x.Fragments.AppendPrimaries(nil, ring.Partition(n))
	anywhere, absent := 0, []int{}
	elsewhere := map[int]bool{}
	for i, d := range primaries {
		hash, home := h.Fragment(at, i), x.parts.place[d]
		for device, states := range all {
			if states[hash] == replwire.Data && device != home {
				elsewhere[i] = true
			}
		}
		if good := all[home][hash] == replwire.Data; good || elsewhere[i] {
			anywhere++
		}
		if all[home][hash] != replwire.Data {
			absent = append(absent, i)
		}
	}
	for _, i := range absent {
		home := x.parts.place[primaries[i]]
		why := ToBeMade
		switch {
		case x.parts.unknown[home] != nil:
			why = Unreachable
		case elsewhere[i]:
			why = OnHandoff
		case anywhere < x.Data:
			why = Nowhere
		case all[home][h.Fragment(at, i)] == replwire.Lost:
			why = Quarantined
		}
		l.Missing++
		l.Reasons = append(l.Reasons, why)
	}
	return l, anywhere < x.Data
}
