package model

import (
	"cmp"
	"fmt"
	"slices"

	"martlet/cmd/internal/check/history"
)

// Settled judges what was read at the end of a round, and returns the floor of the next one: what those reads agree on.
func Settled(h history.History, f history.Final) ([]Violation, []history.Entry, Counts) {
	b := newBook(h)
	c := Counts{Ops: len(h.Ops)}
	truth := truths{}
	looked := map[history.Name]string{} // who has said so
	for i := range f.Looks {
		l := &f.Looks[i]
		c.Looks++
		b.look(l, truth, looked)
	}
	for n := range b.tales {
		if _, ok := looked[n]; !ok && len(f.Looks) > 0 && n.Object != "" {
			looked[n] = ""
			b.add(Unreadable, []history.Name{n}, fmt.Sprintf("when all had settled nobody has looked at %s", n))
		}
	}
	for i := range f.Containers {
		c.Looks++
		b.container(&f.Containers[i], truth)
	}
	for i := range f.Accounts {
		c.Looks++
		b.account(&f.Accounts[i], &f, truth)
	}
	slices.SortStableFunc(b.found, func(x, y Violation) int { return compareNames(x.Names[0], y.Names[0]) })
	return b.found, floorOf(truth), c
}

// truths are what names are, as the first read of each said that could.
type truths map[history.Name]known

type known struct {
	history.State
	counted int64 // what counts of it
}

func compareNames(x, y history.Name) int {
	return cmp.Or(cmp.Compare(x.Container, y.Container), cmp.Compare(x.Object, y.Object))
}

func floorOf(truth truths) []history.Entry {
	var floor []history.Entry
	for n, s := range truth {
		if !s.Missing {
			floor = append(floor, history.Entry{Name: n, State: s.State})
		}
	}
	slices.SortFunc(floor, func(x, y history.Entry) int { return compareNames(x.Name, y.Name) })
	return floor
}

// look judges one read. What the first one of a name that could say anything has said is the truth for the others.
func (b *book) look(l *history.Look, truth truths, by map[history.Name]string) {
	who := fmt.Sprintf("when all had settled a %s of %s by way of proxy %d", map[history.Kind]string{history.Head: "HEAD"}[l.How], l.Name, l.Proxy)
	if l.How != history.Head {
		who = fmt.Sprintf("when all had settled a GET of %s by way of proxy %d", l.Name, l.Proxy)
	}
	names := []history.Name{l.Name}
	if l.Failed != "" {
		by[l.Name] = cmp.Or(by[l.Name], who)
		b.add(Unreadable, names, fmt.Sprintf("%s failed: %s", who, l.Failed))
		return
	}
	if l.Seen.Wrong != "" {
		by[l.Name] = cmp.Or(by[l.Name], who)
		b.add(False, names, who+" "+l.Seen.Wrong)
		return
	}
	if was, ok := truth[l.Name]; ok {
		if l.Seen.State != was.State {
			b.add(Disagree, names, fmt.Sprintf("%s returned %s, and %s", who, state(l.Seen.State), by[l.Name]+" "+state(was.State)))
		}
		return
	}
	truth[l.Name], by[l.Name] = known{l.Seen.State, cmp.Or(l.Counted, l.Seen.Size)}, who
	t := b.tale(l.Name)
	b.judge(&view{
		tale: t, state: l.Seen.State, start: forever, end: forever, who: who + " returned ",
		after: t.all.upTo(forever), afterPost: t.allPosts.upTo(forever), settled: true,
	})
}

// container judges the listing and the counts of a container by what is in it.
func (b *book) container(l *history.Container, truth truths) {
	who := fmt.Sprintf("when all had settled proxy %d said of %s ", l.Proxy, l.Container)
	at := history.Name{Container: l.Container}
	switch {
	case l.Failed != "":
		b.add(Unreadable, []history.Name{at}, who+"nothing: "+l.Failed)
		return
	case l.Wrong != "":
		b.add(Listing, []history.Name{at}, who+l.Wrong)
		return
	}
	if why := misplaced(history.Query{}, l.Names); why != "" {
		b.add(Listing, []history.Name{at}, who+"that it has "+why)
		return
	}
	listed := make(map[string]bool, len(l.Names))
	for _, row := range l.Names {
		listed[row.Name] = true
		n := history.Name{Container: l.Container, Object: row.Name}
		is, ok := truth[n]
		switch {
		case !ok && b.tales[n] != nil: // nobody could say what it is, which has been told
		case !ok:
			b.add(Listing, []history.Name{n}, who+"that it has "+row.Name+", which nobody has written")
		case is.Missing:
			b.add(Listing, []history.Name{n}, who+"that it has "+row.Name+", which is not there", b.deletesOf(n)...)
		case row.Data != is.Data || row.Size != is.Size || row.Body != is.Body:
			b.add(Listing, []history.Name{n}, fmt.Sprintf("%sthat %s has %s of write %d, and it has %s", who, row.Name, body(stateOf(row)), row.Data, state(is.State)), b.ops[row.Data], b.ops[is.Data])
		}
	}
	var objects, bytes int64
	for n, s := range truth {
		if n.Container != l.Container || s.Missing {
			continue
		}
		objects++
		bytes += s.counted
		if !listed[n.Object] {
			b.add(Listing, []history.Name{n}, who+"nothing of "+n.Object+", which is there: "+state(s.State), b.ops[s.Data])
		}
	}
	if l.Objects != objects || l.Bytes != bytes {
		b.add(Count, []history.Name{at}, fmt.Sprintf("%sthat it has %d objects of %d bytes, and there are %d of %d", who, l.Objects, l.Bytes, objects, bytes))
	}
}

func (b *book) deletesOf(n history.Name) []*history.Op {
	if t := b.tales[n]; t != nil && len(t.deletes) > 0 {
		return t.deletes[len(t.deletes)-1:]
	}
	return nil
}

// account judges the counts of the account. Where it has containers that are not the workload's, only the rows of those that
// are.
func (b *book) account(a *history.Account, f *history.Final, truth truths) {
	who := fmt.Sprintf("when all had settled proxy %d said of the account ", a.Proxy)
	at := []history.Name{{}}
	if a.Failed != "" {
		b.add(Unreadable, at, who+"nothing: "+a.Failed)
		return
	}
	is := map[string]history.AccountEntry{}
	for i := range f.Containers {
		c := f.Containers[i].Container
		is[c] = history.AccountEntry{Container: c}
	}
	for n, s := range truth {
		if e, ok := is[n.Container]; ok && !s.Missing {
			e.Objects++
			e.Bytes += s.counted
			is[n.Container] = e
		}
	}
	var sum history.AccountEntry
	foreign, listed := false, map[string]bool{}
	for _, row := range a.Listed {
		e, ok := is[row.Container]
		if !ok {
			foreign = true
			continue
		}
		listed[row.Container] = true
		sum.Objects += e.Objects
		sum.Bytes += e.Bytes
		if row != e {
			b.add(Count, []history.Name{{Container: row.Container}}, fmt.Sprintf("%sthat %s has %d objects of %d bytes, and there are %d of %d",
				who, row.Container, row.Objects, row.Bytes, e.Objects, e.Bytes))
		}
	}
	for _, c := range slices.Sorted(keys(is)) {
		if !listed[c] {
			b.add(Listing, []history.Name{{Container: c}}, who+"nothing of "+c+", which is there")
		}
	}
	if foreign {
		return
	}
	if n := int64(len(is)); a.Containers != n || a.Objects != sum.Objects || a.Bytes != sum.Bytes {
		b.add(Count, at, fmt.Sprintf("%sthat it has %d containers with %d objects of %d bytes, and there are %d with %d of %d",
			who, a.Containers, a.Objects, a.Bytes, n, sum.Objects, sum.Bytes))
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
