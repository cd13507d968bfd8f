// Package model is what a store promises, as functions over what was seen of one: package
// history has the form of that, and docs/check.md says the same in words. It is pure: it
// asks nothing and waits for nothing.
package model

import "martlet/cmd/internal/check/history"

// A Violation is a promise that was broken.
type Violation struct {
	Rule  string         `json:"rule"`  // which one, as docs/check.md names them
	Names []history.Name `json:"names"` // which objects, or containers, it is about
	Ops   []int64        `json:"ops"`   // the operations that show it, in the order of their IDs
	Why   string         `json:"why"`   // one sentence, for people
}

// Counts is how much was judged.
type Counts struct {
	Ops    int `json:"ops"`
	Reads  int `json:"reads"`  // that saw something
	Steady int `json:"steady"` // reads of which more was asked, as nothing was broken and a write had been acknowledged
	Looks  int `json:"looks"`  // reads of settled names
}

// Reads judges what was read during a round.
func Reads(h history.History) ([]Violation, Counts) { return nil, Counts{} }

// Settled judges what was read at the end of a round, and returns the floor of the next one: what all of those reads agree on.
func Settled(h history.History, f history.Final) ([]Violation, []history.Entry, Counts) {
	return nil, nil, Counts{}
}

// Shrink returns the least of a history that it can find in which the same promise is broken: in the reads of the round,
// or where f is not nil, in what was read at its end.
func Shrink(h history.History, f *history.Final, v Violation) history.History { return h }
