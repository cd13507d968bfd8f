package model

import (
	"fmt"
	"strings"

	"martlet/cmd/internal/check/history"
)

// list judges a listing.
func (b *book) list(c *Counts, o *history.Op) {
	c.Reads++
	steady := o.End <= b.steadyLists
	if steady {
		c.Steady++
	}
	container := history.Name{Container: o.Container}
	if o.Seen.Missing {
		if steady {
			b.add(Listing, []history.Name{container}, b.said(o)+" returned that there is no such container", o)
		}
		return
	}
	q := history.Query{}
	if o.Query != nil {
		q = *o.Query
	}
	if why := misplaced(q, o.Seen.Names); why != "" {
		b.add(Listing, []history.Name{container}, b.said(o)+" returned "+why, o)
		return
	}
	there := make(map[string]bool, len(o.Seen.Names))
	for _, row := range o.Seen.Names {
		there[row.Name] = true
		b.row(o, row, steady)
	}
	if !steady {
		return // names may be absent
	}
	upTo := ""
	if !o.Seen.Whole {
		if len(o.Seen.Names) == 0 {
			return
		}
		upTo = o.Seen.Names[len(o.Seen.Names)-1].Name
	}
	for _, t := range b.in[o.Container] {
		if n := t.name.Object; there[n] || !within(q, n) || upTo != "" && n > upTo {
			continue
		}
		v := &view{tale: t, state: history.State{Missing: true}, start: o.Start, end: o.End, op: o,
			who: b.said(o) + " had of " + t.name.Object + " ", after: t.quick.upTo(o.Start)}
		b.missing(v)
	}
}

// row judges a row of a listing.
func (b *book) row(o *history.Op, row history.Listed, steady bool) {
	n := history.Name{Container: o.Container, Object: row.Name}
	t := b.tales[n]
	if t == nil {
		b.add(Listing, []history.Name{n}, b.said(o)+" had "+row.Name+", which nobody has written", o)
		return
	}
	v := &view{tale: t, state: stateOf(row), start: o.Start, end: o.End, op: o, who: b.said(o) + " had of " + row.Name + " "}
	if steady {
		v.after = t.quick.upTo(o.Start)
	}
	b.judge(v)
}

func stateOf(row history.Listed) history.State {
	return history.State{Data: row.Data, Body: row.Body, Size: row.Size}
}

// within reports whether a listing was asked for a name.
func within(q history.Query, name string) bool {
	return strings.HasPrefix(name, q.Prefix) && name > q.Marker && (q.End == "" || name < q.End)
}

// misplaced says which row is not where it belongs, or not asked for.
func misplaced(q history.Query, rows []history.Listed) string {
	if q.Limit > 0 && len(rows) > q.Limit {
		return fmt.Sprintf("%d names, more than the %d that were asked for", len(rows), q.Limit)
	}
	for i, row := range rows {
		switch {
		case i > 0 && rows[i-1].Name == row.Name:
			return row.Name + " twice"
		case i > 0 && rows[i-1].Name > row.Name:
			return row.Name + " behind " + rows[i-1].Name
		case !within(q, row.Name):
			return row.Name + ", which was not asked for"
		}
	}
	return ""
}
