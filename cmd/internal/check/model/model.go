// Package model is what a store promises, as functions over what was seen of one: package
// history has the form of that, and docs/check.md says the same in words. It is pure: it
// asks nothing and waits for nothing.
package model

import (
	"cmp"
	"slices"

	"martlet/cmd/internal/check/history"
)

// The rules, as a Violation names them.
const (
	False      = "false"      // bytes, a length, an ETag or a mark that nobody wrote
	Foreign    = "foreign"    // what was written under another name
	Refused    = "refused"    // what a refused write would have left
	Future     = "future"     // what was only sent later
	Mixed      = "mixed"      // parts of writes that do not belong together
	Floor      = "floor"      // older than what was settled when the round began
	Stale      = "stale"      // older than what was acknowledged, while nothing was broken
	Lost       = "lost"       // settled, and an acknowledged write is not there
	Undeleted  = "undeleted"  // settled, and what was deleted is there
	Unreadable = "unreadable" // settled, and there is no answer
	Disagree   = "disagree"   // settled, and two reads say different things
	Listing    = "listing"    // a listing that has what it must not have, or lacks what it must have
	Count      = "count"      // settled, and counts of a container or an account are wrong
)

// A Violation is a promise that was broken.
type Violation struct {
	Rule  string         `json:"rule"`  // one of the above
	Names []history.Name `json:"names"` // which objects it is about; of one without an object, which container
	Ops   []int64        `json:"ops"`   // the operations that show it, in the order of their IDs
	Why   string         `json:"why"`   // one sentence, for people
}

// Counts is how much was judged.
type Counts struct {
	Ops    int `json:"ops"`
	Reads  int `json:"reads"`  // that saw something
	Steady int `json:"steady"` // reads of which more was asked, as nothing was broken and a write had been acknowledged
	Looks  int `json:"looks"`  // reads of what had settled
}

// Reads judges what was read during a round. The violations are in the order of the reads.
func Reads(h history.History) ([]Violation, Counts) {
	b := newBook(h)
	c := Counts{Ops: len(h.Ops)}
	for i := range h.Ops {
		o := &h.Ops[i]
		switch {
		case o.Kind == history.Copy && o.Outcome == history.Acked && o.Body != 0:
			// It has read its source, of which it says nothing but whose body that was.
			b.read(&c, o, *o.From, history.State{Body: o.Body, Size: o.Size})
		case o.Kind == history.Post && o.Outcome == history.Acked && b.ofNothing(o):
			b.add(False, []history.Name{o.Name()}, b.said(o)+" was acknowledged, and nobody had written anything that it could be about", o)
		case o.Seen == nil:
		case o.Seen.Wrong != "":
			c.Reads++
			b.add(False, []history.Name{o.Name()}, b.said(o)+" "+o.Seen.Wrong, o)
		case o.Kind == history.List:
			b.list(&c, o)
		default:
			b.read(&c, o, o.Name(), o.Seen.State)
		}
	}
	return b.found, c
}

// ofNothing reports whether there was nothing under the name of an operation, whichever replica was asked.
func (b *book) ofNothing(o *history.Op) bool {
	t := b.tale(o.Name())
	if t.floor != nil {
		return false
	}
	first := forever
	for _, ops := range t.bodies {
		first = min(first, ops[0].Start)
	}
	if len(t.blind) > 0 {
		first = min(first, t.blind[0].Start)
	}
	return first >= o.End
}

// add notes a violation.
func (b *book) add(rule string, names []history.Name, why string, ops ...*history.Op) {
	v := Violation{Rule: rule, Names: names, Why: why}
	for _, o := range ops {
		if o != nil {
			v.Ops = append(v.Ops, o.ID)
		}
	}
	slices.Sort(v.Ops)
	v.Ops = slices.Compact(v.Ops)
	b.found = append(b.found, v)
}

// byStart orders operations.
func byStart(a, b *history.Op) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID))
}
