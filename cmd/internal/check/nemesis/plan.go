package nemesis

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// An Event of a plan is a fault that begins, or ends.
type Event struct {
	At    time.Duration // since the plan began
	Ends  bool
	Fault Fault
}

// weights are how often kinds are chosen, of each other.
var weights = map[Kind]int{
	Kill: 12, KillAll: 3, Proxy: 5, Pause: 7, Restart: 5, Rolling: 1, Cut: 12, Slow: 7, Power: 9, PowerAll: 3, Full: 4, Fail: 6,
	Flip: 6, Ring: 4, Clock: 4, Queue: 2,
}

// Plan plans faults of some kinds for a round of some length, about one in each while: the same from the same seed. What May
// forbids is not in it, as long as its events happen in order, whenever that is. All has ended at the end.
func Plan(seed uint64, s Shape, kinds []Kind, length, every time.Duration) (events []Event) {
	if len(kinds) == 0 || length <= 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0x6e656d65736973))
	var last, before []Fault
	ends := func(f *Fault) time.Duration {
		for _, e := range events {
			if e.Ends && e.Fault.ID == f.ID {
				return e.At
			}
		}
		return 0
	}
	for at := chance(r, every); at < length; at += every/4 + chance(r, every*3/2) {
		of := kinds
		if all := whole(kinds); len(all) > 0 && r.IntN(14) == 0 {
			// These are alone, and would not come about while something else mostly is.
			for of = all; len(last) > 0; last = last[:len(last)-1] {
				at = max(at, ends(&last[len(last)-1]))
			}
		}
		last = slices.DeleteFunc(last, func(f Fault) bool { return ends(&f) <= at })
		for range 20 { // most of what chance offers may be
			f := choose(r, s, of)
			if at >= length || !s.May(f, last, before) {
				continue
			}
			f.ID = len(before) + 1
			f.For = min(f.For, length-at)
			last, before = append(last, f), append(before, f)
			events = append(events, Event{At: at, Fault: f}, Event{At: at + f.For, Ends: true, Fault: f})
			break
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		if c := cmp.Compare(a.At, b.At); c != 0 {
			return c
		}
		// What ends makes room for what begins; but a fault begins before it ends.
		if a.Fault.ID != b.Fault.ID && a.Ends != b.Ends {
			if a.Ends {
				return -1
			}
			return 1
		}
		return 0
	})
	return events
}

// whole are the kinds that are of the whole cluster.
func whole(kinds []Kind) (all []Kind) {
	for _, k := range kinds {
		if f := (Fault{Kind: k}); f.whole() {
			all = append(all, k)
		}
	}
	return all
}

// choose has chance choose a fault.
func choose(r *rand.Rand, s Shape, kinds []Kind) Fault {
	sum := 0
	for _, k := range kinds {
		sum += weights[k]
	}
	f := Fault{For: 300*time.Millisecond + chance(r, 4*time.Second)}
	n := r.IntN(max(1, sum))
	for _, k := range kinds {
		if n -= weights[k]; n < 0 {
			f.Kind = k
			break
		}
	}
	switch f.Kind {
	case Proxy:
		f.Proxy = 1 + r.IntN(max(1, s.Proxies))
	case Kill, Pause, Restart, Power:
		f.Node = 1 + r.IntN(s.Nodes)
	case Cut:
		f.Node, f.Network, f.Reset = 1+r.IntN(s.Nodes), network(r), r.IntN(3) == 0
	case Slow:
		f.Node, f.Network = 1+r.IntN(s.Nodes), network(r)
		f.Rate, f.Delay = 64<<10<<r.IntN(6), time.Duration(r.IntN(40))*time.Millisecond
	case Full, Fail:
		f.Node, f.Device = 1+r.IntN(s.Nodes), 1+r.IntN(s.Devices)
		f.For += 2 * time.Second
	case Flip:
		f.Node, f.Device, f.Seed, f.For = 1+r.IntN(s.Nodes), 1+r.IntN(s.Devices), r.Uint64(), 0
	case Clock:
		f.Node, f.By = 1+r.IntN(s.Nodes), time.Duration(r.IntN(41)-20)*time.Second
	case Ring:
		f.Seed, f.For = r.Uint64(), 0
	case Rolling:
		f.For = 0
	case KillAll, PowerAll:
		f.For /= 4
	case Queue:
		f.For /= 2 // and what restarts take
	}
	return f
}

// chance is from 0 up to d.
func chance(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// network is the one that clients depend on, mostly.
func network(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return Replication
	}
	return Storage
}
