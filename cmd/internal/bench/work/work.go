// Package work decides what the workers of a benchmark do next, and on which object.
//
// Objects have numbers (package body makes names and bytes of them). Where a mix deletes,
// each object belongs to one worker, which alone reads and deletes it: so a 404 is always
// the server's fault, and workers share nothing that they would have to wait for.
// Where nothing is deleted, all read everything.
package work

import (
	"math/rand/v2"
)

// An Op is an operation on an object. Of a List, the object is where the page begins.
type Op struct {
	Kind   Kind
	Object int64
}

// A Plan is what is to be done.
type Plan struct {
	Mix     Mix
	Workers int
	Seed    uint64 // what is chosen follows from it
	Objects int64  // how many are there before it begins; the first has the number First
	First   int64
	Names   int64 // PUTs go round so many names; each is a new one where it is 0
}

// Objects keeps what there is, for all workers.
type Objects struct {
	plan    Plan
	owned   bool // each object belongs to one worker
	workers []worker
}

// worker is touched by its own goroutine alone.
type worker struct {
	chance *rand.Rand
	live   []int64
	next   int64 // of the objects that it makes
	_      [64]byte
}

// New makes the work of a plan.
func New(p Plan) *Objects {
	o := &Objects{plan: p, owned: p.Mix[Delete] > 0, workers: make([]worker, p.Workers)}
	for i := range o.workers {
		w := &o.workers[i]
		w.chance = rand.New(rand.NewPCG(p.Seed, uint64(i)+1))
		w.next = p.First + p.Objects + int64(i)
		if p.Names > 0 {
			w.next = p.First + int64(i)
		}
	}
	if o.owned {
		for n := range p.Objects {
			w := &o.workers[n%int64(p.Workers)]
			w.live = append(w.live, p.First+n)
		}
	}
	return o
}

// Next returns what a worker does next; false where there is nothing left for it.
func (o *Objects) Next(i int) (Op, bool) {
	w := &o.workers[i]
	kind := o.plan.Mix.pick(w.chance.Float64())
	if kind == Put {
		return Op{Put, o.fresh(i)}, true
	}
	if !o.owned {
		if o.plan.Objects == 0 {
			return Op{}, false
		}
		return Op{kind, o.plan.First + w.chance.Int64N(o.plan.Objects)}, true
	}
	if len(w.live) == 0 {
		if o.plan.Mix[Put] == 0 {
			return Op{}, false
		}
		return Op{Put, o.fresh(i)}, true // else it could delete faster than it puts, and stand idle
	}
	at := w.chance.IntN(len(w.live))
	n := w.live[at]
	if kind == Delete {
		last := len(w.live) - 1
		w.live[at] = w.live[last]
		w.live = w.live[:last]
	}
	return Op{kind, n}, true
}

// fresh is the object that a worker puts next.
func (o *Objects) fresh(i int) int64 {
	w := &o.workers[i]
	n := w.next
	w.next += int64(o.plan.Workers)
	if o.plan.Names > 0 && w.next >= o.plan.First+o.plan.Names {
		w.next = o.plan.First + int64(i)
	}
	return n
}

// Done tells what an operation came to. What was put can be read from then on.
func (o *Objects) Done(i int, op Op, ok bool) {
	if ok && o.owned && op.Kind == Put {
		o.workers[i].live = append(o.workers[i].live, op.Object)
	}
}
