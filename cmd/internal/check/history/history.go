// Package history is what clients did to a store and what they saw of it: the
// evidence that package model judges. It is pure data, and its form on disk: lines of
// JSON, one for each thing that happened, so that a run that was broken off can be read as
// far as it came, and grep is enough to follow one name.
//
// A history comes in rounds. A round begins settled, with one known state of each name, which
// is its floor; operations follow, and the round ends when everything has been read again.
package history

import (
	"fmt"
	"time"
)

// Kind is what an operation does.
type Kind uint8

// The kinds. Put, Copy and Delete write data, Post writes metadata, the others read.
const (
	Put Kind = iota + 1
	Post
	Delete
	Copy
	Get
	Range // a part of an object, or more than one
	Head
	List
)

var kinds = [...]string{Put: "put", Post: "post", Delete: "delete", Copy: "copy", Get: "get", Range: "range", Head: "head", List: "list"}

// String is the kind as it is in files.
func (k Kind) String() string { return text(kinds[:], int(k), "kind") }

// MarshalText is String.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *Kind) UnmarshalText(b []byte) error {
	n, err := parse(kinds[:], b, "kind of operation")
	*k = Kind(n)
	return err
}

// Data reports whether operations of the kind write data: after one that took place there is
// another body, or none.
func (k Kind) Data() bool { return k == Put || k == Copy || k == Delete }

// Writes reports whether operations of the kind change anything.
func (k Kind) Writes() bool { return k.Data() || k == Post }

// Outcome is what a client knows of an operation when it is over.
type Outcome uint8

// The outcomes.
const (
	// Acked is success: a write is promised to last, a read has been answered to its end.
	Acked Outcome = iota + 1
	// Refused is a write that certainly did nothing, and never will: of a request whose body
	// was not sent whole, for example.
	Refused
	// Unknown is a write that may have been done, or be done later, as long as its round lasts; or a read
	// that has not come to its end.
	Unknown
)

var outcomes = [...]string{Acked: "acked", Refused: "refused", Unknown: "unknown"}

// String is the outcome as it is in files.
func (o Outcome) String() string { return text(outcomes[:], int(o), "outcome") }

// MarshalText is String.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (o *Outcome) UnmarshalText(b []byte) error {
	n, err := parse(outcomes[:], b, "outcome")
	*o = Outcome(n)
	return err
}

func text(all []string, n int, what string) string {
	if n > 0 && n < len(all) {
		return all[n]
	}
	return fmt.Sprintf("%s(%d)", what, n)
}

func parse(all []string, b []byte, what string) (int, error) {
	for n, s := range all {
		if n > 0 && s == string(b) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q is no %s", b, what)
}

// An Op is one request of a client, and what came of it.
type Op struct {
	// ID numbers operations in the order of their start, from 1, through all rounds. It is also the
	// mark that a write leaves: Put, Post and Copy store it as metadata, Put and Copy as the type of
	// the content, too.
	ID     int64 `json:"id"`
	Client int   `json:"client"`
	Proxy  int   `json:"proxy"` // which of the endpoints was asked, from 0
	Kind   Kind  `json:"kind"`

	Container string `json:"container"`
	Object    string `json:"object,omitempty"` // "" of a List
	From      *Name  `json:"from,omitempty"`   // of a Copy: what was copied

	// Start is before the first byte was sent, End when the client knew, or gave up: both since the
	// history began, on one monotonic clock.
	Start time.Duration `json:"start"`
	End   time.Duration `json:"end"`

	Status  int     `json:"status"` // of the answer; 0 where there was none
	Outcome Outcome `json:"outcome"`
	Note    string  `json:"note,omitempty"` // for people: what was special about it, or went wrong

	// Body of a write of data is the ID of the Put whose body it stores: its own of a Put. A Copy learns it
	// from the answer; 0 is one that doesn't know.
	Body int64 `json:"body,omitempty"`
	Size int64 `json:"size,omitempty"` // of that body, in bytes

	Query *Query `json:"query,omitempty"` // of a List
	Seen  *Seen  `json:"seen,omitempty"`  // of a read, or of a write whose answer was wrong; nil where it saw nothing
}

// Name returns the name of the object.
func (o *Op) Name() Name { return Name{o.Container, o.Object} }

// A Name is that of an object.
type Name struct {
	Container string `json:"container"`
	Object    string `json:"object"`
}

// String is container/object.
func (n Name) String() string { return n.Container + "/" + n.Object }

// Query is which part of a container a List asked for.
type Query struct {
	Prefix string `json:"prefix,omitempty"`
	Marker string `json:"marker,omitempty"` // names behind it
	End    string `json:"end,omitempty"`    // names before it, where it is not ""
	Limit  int    `json:"limit,omitempty"`  // 0 is none of the client's
}

// Seen is what a read saw.
type Seen struct {
	State
	// Wrong says what nobody can have written: bytes, a length, an ETag or a mark. "" is nothing of the kind.
	Wrong string `json:"wrong,omitempty"`

	Names []Listed `json:"names,omitempty"` // of a List, in the order of the answer
	Whole bool     `json:"whole,omitempty"` // of a List: it went up to the end of what was asked for
}

// State is the state of a name, as far as it was shown: 0 of an ID is one that was not.
type State struct {
	Missing bool  `json:"missing,omitempty"`
	Data    int64 `json:"data,omitempty"` // the Put or Copy that stored it, by its type of content
	Body    int64 `json:"body,omitempty"` // the Put whose bytes these are; 0 for no bytes, which all look alike
	Mark    int64 `json:"mark,omitempty"` // the write whose metadata this is
	Size    int64 `json:"size,omitempty"` // in bytes
}

// Listed is a row of a listing.
type Listed struct {
	Name string `json:"name"`
	Data int64  `json:"data,omitempty"` // as of State
	Body int64  `json:"body,omitempty"`
	Size int64  `json:"size"`
}

// An Entry is a name and its state.
type Entry struct {
	Name
	State
}

// An Event is what happened to the store, or to the run, at a moment: a fault that began, one that ended.
type Event struct {
	At   time.Duration `json:"at"`
	What string        `json:"what"`
}

// Header begins a history.
type Header struct {
	Version int    `json:"history"` // of the form of the file
	Seed    uint64 `json:"seed"`
	// Options are those of the run, for people.
	Options map[string]string `json:"options,omitempty"`
	Limits
}

// Limits are what a history is judged by.
type Limits struct {
	// Skew is how far the clocks of proxies may be apart: of two writes one is older only where more than this is
	// between them.
	Skew time.Duration `json:"skew"`
	// Grace is how long a proxy waits for the last replicas of a write once it may answer. Of a write that took
	// less in all it is known that it did not give up on any.
	Grace time.Duration `json:"grace"`
}

// History is one round.
type History struct {
	Limits
	Round int // from 1
	// Floor is the state that each name had when the round began; who is not in it was missing.
	Floor []Entry
	// Ops are in the order of their IDs.
	Ops []Op
	// Began is when the round did. Up to Steady nothing was broken: everything was up and reachable, all of
	// the time since; 0 where nothing is known of that.
	Began, Steady time.Duration
	Events        []Event
}

// Final is what was read when a round had ended and the store had settled.
type Final struct {
	Looks      []Look      `json:"looks"`
	Containers []Container `json:"containers"`
	Accounts   []Account   `json:"accounts"`
}

// A Look is one read of one name.
type Look struct {
	Name
	Proxy  int    `json:"proxy"`
	How    Kind   `json:"how"` // Get or Head
	Status int    `json:"status"`
	Failed string `json:"failed,omitempty"` // why nothing was seen
	Seen   Seen   `json:"seen"`
	// Counted is what the container counts of it, in bytes, where that is not its size: a large object's manifest.
	Counted int64 `json:"counted,omitempty"`
}

// A Container is what one proxy says of a container.
type Container struct {
	Container string   `json:"container"`
	Proxy     int      `json:"proxy"`
	Failed    string   `json:"failed,omitempty"`
	Wrong     string   `json:"wrong,omitempty"`
	Names     []Listed `json:"names"`   // all rows
	Objects   int64    `json:"objects"` // its counts
	Bytes     int64    `json:"bytes"`
}

// An Account is what one proxy says of the account. Extra is whether it holds what is none of the
// workload's.
type Account struct {
	Proxy      int            `json:"proxy"`
	Failed     string         `json:"failed,omitempty"`
	Containers int64          `json:"containers"` // its counts
	Objects    int64          `json:"objects"`
	Bytes      int64          `json:"bytes"`
	Listed     []AccountEntry `json:"listed"`
}

// AccountEntry is a row of the listing of an account.
type AccountEntry struct {
	Container string `json:"container"`
	Objects   int64  `json:"objects"`
	Bytes     int64  `json:"bytes"`
}

// Only returns what was read of some names, and of their containers the rows of just those.
func (f *Final) Only(names []Name) *Final {
	of := make(map[Name]bool, len(names))
	for _, n := range names {
		of[n] = true
	}
	all := *f
	all.Looks = nil
	for _, l := range f.Looks {
		if of[l.Name] || of[Name{Container: l.Container}] || of[Name{}] {
			all.Looks = append(all.Looks, l)
		}
	}
	return &all
}
