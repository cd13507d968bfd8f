package model

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"martlet/cmd/internal/check/history"
)

const forever = time.Duration(math.MaxInt64)

// A book is a history by name.
type book struct {
	h     history.History
	ops   map[int64]*history.Op
	tales map[history.Name]*tale
	in    map[string][]*tale // by container, in the order of names

	// Up to when more is asked of reads, and of listings.
	steady, steadyLists time.Duration

	found []Violation
}

// A tale is what was done to one name in the round.
type tale struct {
	name  history.Name
	floor *history.Entry // nil where it was missing

	bodies  map[int64][]*history.Op // writes of data that may have been done, by whose body they store
	blind   []*history.Op           // copies that may have been done and do not know what they copied
	deletes []*history.Op           // that may have been done, by their start
	gone    []time.Duration         // and the latest end of those up to each

	all, quick           line          // acknowledged writes of data: all, and those that all replicas have answered
	allPosts, quickPosts line          // acknowledged POSTs, likewise
	loose                time.Duration // when the first write of data began that may not have come to all replicas
}

// A line is writes by their end, and with each the one of those so far that began last.
type line struct {
	ends []time.Duration
	last []*history.Op
}

// up to returns the write that began last of those that have ended by then; nil where none has.
func (l *line) upTo(end time.Duration) *history.Op {
	n := sort.Search(len(l.ends), func(i int) bool { return l.ends[i] > end })
	if n == 0 {
		return nil
	}
	return l.last[n-1]
}

func lineOf(ops []*history.Op) line {
	ops = slices.SortedFunc(slices.Values(ops), func(a, b *history.Op) int { return cmp.Compare(a.End, b.End) })
	l := line{make([]time.Duration, len(ops)), make([]*history.Op, len(ops))}
	var last *history.Op
	for i, o := range ops {
		if last == nil || byStart(o, last) > 0 {
			last = o
		}
		l.ends[i], l.last[i] = o.End, last
	}
	return l
}

func newBook(h history.History) *book {
	b := &book{h: h, ops: make(map[int64]*history.Op, len(h.Ops)), tales: map[history.Name]*tale{}, in: map[string][]*tale{}}
	for i := range h.Floor {
		b.tale(h.Floor[i].Name).floor = &h.Floor[i]
	}
	writes := map[history.Name][]*history.Op{}
	for i := range h.Ops {
		o := &h.Ops[i]
		b.ops[o.ID] = o
		if o.Kind.Writes() && o.Outcome != history.Refused {
			writes[o.Name()] = append(writes[o.Name()], o)
		}
	}
	for n, ops := range writes {
		slices.SortFunc(ops, byStart)
		b.fill(b.tale(n), ops)
	}
	for n, t := range b.tales {
		b.in[n.Container] = append(b.in[n.Container], t)
	}
	for _, all := range b.in {
		slices.SortFunc(all, func(x, y *tale) int { return cmp.Compare(x.name.Object, y.name.Object) })
	}
	b.steady, b.steadyLists = b.untilTrouble(10), b.untilTrouble(3)
	return b
}

func (b *book) tale(n history.Name) *tale {
	t := b.tales[n]
	if t == nil {
		t = &tale{name: n, loose: forever, bodies: map[int64][]*history.Op{}}
		b.tales[n] = t
	}
	return t
}

// fill tells what writes, in their order, did to a name.
func (b *book) fill(t *tale, writes []*history.Op) {
	var all, quick, posts, quickPosts []*history.Op
	for _, o := range writes {
		if !o.Kind.Data() {
			continue
		}
		switch {
		case o.Kind == history.Delete:
			t.deletes = append(t.deletes, o)
			latest := b.end(o)
			if n := len(t.gone); n > 0 {
				latest = max(latest, t.gone[n-1])
			}
			t.gone = append(t.gone, latest)
		case o.Body == 0 && o.Kind == history.Copy && o.Outcome == history.Unknown:
			t.blind = append(t.blind, o)
		default:
			t.bodies[o.Body] = append(t.bodies[o.Body], o)
		}
		if o.Outcome == history.Acked {
			all = append(all, o)
		}
		if b.wasQuick(o) {
			quick = append(quick, o)
		} else {
			t.loose = min(t.loose, o.Start)
		}
	}
	for _, o := range writes {
		if o.Kind != history.Post || o.Outcome != history.Acked {
			continue
		}
		posts = append(posts, o)
		// A replica that had not got the data yet may have refused it.
		if b.wasQuick(o) && o.End <= t.loose {
			quickPosts = append(quickPosts, o)
		}
	}
	t.all, t.quick, t.allPosts, t.quickPosts = lineOf(all), lineOf(quick), lineOf(posts), lineOf(quickPosts)
}

// wasQuick reports whether a write was acknowledged before anybody can have stopped waiting for a replica.
func (b *book) wasQuick(o *history.Op) bool {
	return o.Outcome == history.Acked && o.End-o.Start <= b.h.Grace
}

// small is how large a body is whose upload takes no time by itself, in bytes.
const small = 256 << 10

// untilTrouble returns when the n-th operation began that failed, or was slow by the fault of the store: then a proxy may
// have begun to pass over a device, and what is acknowledged is not on all primaries.
func (b *book) untilTrouble(n int) time.Duration {
	for i := range b.h.Ops { // in the order of their start
		o := &b.h.Ops[i]
		failed := o.Status >= 500 || o.Status == 0 && o.Outcome == history.Unknown
		slow := o.Kind.Writes() && o.Outcome == history.Acked && o.Size <= small && !b.wasQuick(o)
		if !failed && !slow {
			continue
		}
		if n--; n == 0 {
			return min(b.h.Steady, o.Start)
		}
	}
	return b.h.Steady
}

// end is when a write had got its place in the order of writes, by every clock: never, where it may still come.
func (b *book) end(o *history.Op) time.Duration {
	if o.Outcome != history.Acked {
		return forever
	}
	return o.End + b.h.Skew
}

// older reports whether a write is older than another one; nil is what the floor has.
func (b *book) older(x, than *history.Op) bool { return x == nil || b.end(x) < than.Start }
