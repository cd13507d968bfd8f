package model

import (
	"fmt"
	"sort"
	"time"

	"martlet/cmd/internal/check/history"
)

// A view is what was seen of a name, and when.
type view struct {
	tale       *tale
	state      history.State
	start, end time.Duration
	op         *history.Op // that saw it; nil at the end of a round
	who        string      // for the sentence: "GET 12 of a/b (...) "

	// after is the write of data that it must not be older than, afterPost the POST that its metadata must not be older
	// than if that came after the data; nil where nothing is asked.
	after, afterPost *history.Op
	settled          bool
}

// read judges a read of a name.
func (b *book) read(c *Counts, o *history.Op, n history.Name, s history.State) {
	c.Reads++
	v := &view{tale: b.tale(n), state: s, start: o.Start, end: o.End, op: o, who: b.said(o) + " returned "}
	if o.End <= b.steady {
		v.after, v.afterPost = v.tale.quick.upTo(o.Start), v.tale.quickPosts.upTo(o.Start)
		if v.after != nil || v.afterPost != nil {
			c.Steady++
		}
	}
	b.judge(v)
}

// judge says what is wrong with a view, if anything is: the first thing only. It reports whether all is well.
func (b *book) judge(v *view) bool {
	if v.state.Missing {
		return b.missing(v)
	}
	from, ok := b.source(v)
	return ok && b.fresh(v, from) && b.metadata(v, from)
}

// fail notes what is wrong with a view.
func (b *book) fail(v *view, rule, why string, ops ...*history.Op) bool {
	b.add(rule, []history.Name{v.tale.name}, v.who+why, append(ops, v.op)...)
	return false
}

// missing judges a view in which there is nothing.
func (b *book) missing(v *view) bool {
	t := v.tale
	n := sort.Search(len(t.deletes), func(i int) bool { return t.deletes[i].Start >= v.end })
	if t.floor != nil && n == 0 {
		return b.fail(v, b.rule(v, Floor, Lost), "nothing, although it was there when the round began and nobody had deleted it")
	}
	if v.after == nil || n > 0 && t.gone[n-1] >= v.after.Start {
		return true
	}
	return b.fail(v, b.rule(v, Stale, Lost), "nothing, although "+b.did(v.after)+", and nobody has deleted it since", v.after)
}

// rule is the name of one that is another when all has settled.
func (b *book) rule(v *view, reading, settled string) string {
	if v.settled {
		return settled
	}
	return reading
}

// A source is where the data of a view may be from: these writes, or the floor.
type source struct {
	writes []*history.Op
	floor  bool
}

// source finds the writes whose data a view may show: those that its type of content names, or that stored its bytes. It
// reports whether there are any, and they fit.
func (b *book) source(v *view) (source, bool) {
	if v.state.Data != 0 {
		return b.byData(v)
	}
	t, s := v.tale, v.state
	if s.Body == 0 {
		return b.byNothing(v), true
	}
	var from source
	for _, o := range t.bodies[s.Body] {
		if o.Start < v.end {
			from.writes = append(from.writes, o)
		}
	}
	for _, o := range t.blind {
		if o.Start < v.end && b.mayCopy(o, s.Body) {
			from.writes = append(from.writes, o)
		}
	}
	from.floor = t.floor != nil && t.floor.Body == s.Body
	if len(from.writes) > 0 || from.floor {
		return from, true
	}
	return from, b.stranger(v, s.Body, "the body")
}

// byNothing is any write: the view shows neither bytes nor a type of content.
func (b *book) byNothing(v *view) source {
	from := source{floor: v.tale.floor != nil}
	for _, ops := range v.tale.bodies {
		from.writes = append(from.writes, ops...)
	}
	from.writes = append(from.writes, v.tale.blind...)
	return from
}

// byData is source where the type of the content names the write.
func (b *book) byData(v *view) (source, bool) {
	t, s := v.tale, v.state
	if t.floor != nil && t.floor.Data == s.Data {
		if s.Body != t.floor.Body && s.Body != 0 || s.Size != t.floor.Size {
			return source{}, b.fail(v, Mixed, fmt.Sprintf("%s with the type of write %d, which stored %s", body(s), s.Data, body(t.floor.State)))
		}
		return source{floor: true}, true
	}
	o := b.ops[s.Data]
	if o == nil || o.Name() != t.name || o.Outcome == history.Refused || o.Start >= v.end || !o.Kind.Data() || o.Kind == history.Delete {
		return source{}, b.stranger(v, s.Data, "what was stored by")
	}
	blind := o.Kind == history.Copy && o.Body == 0 && o.Outcome == history.Unknown
	switch {
	case blind && s.Body != 0 && !b.mayCopy(o, s.Body):
		return source{}, b.fail(v, Mixed, fmt.Sprintf("the body of write %d with the type of %s, whose source never had that", s.Body, b.said(o)), o)
	case blind:
	case s.Size != o.Size || s.Size > 0 && s.Body != 0 && s.Body != o.Body:
		return source{}, b.fail(v, Mixed, fmt.Sprintf("%s with the type of %s, which stored %s", body(s), b.said(o), body(history.State{Body: o.Body, Size: o.Size})), o)
	}
	return source{writes: []*history.Op{o}}, true
}

// mayCopy reports whether a copy can have found a body at its source.
func (b *book) mayCopy(o *history.Op, body int64) bool {
	t := b.tales[*o.From]
	return t != nil && (len(t.bodies[body]) > 0 || len(t.blind) > 0 || t.floor != nil && t.floor.Body == body)
}

// stranger says why what a view shows can't be of a write with the given ID.
func (b *book) stranger(v *view, id int64, what string) bool {
	what = fmt.Sprintf("%s of write %d, ", what, id)
	o := b.ops[id]
	switch {
	case o == nil:
		return b.fail(v, Floor, what+"which is from before the round, and was not there any more when it began")
	case o.Outcome == history.Refused && o.Name() == v.tale.name:
		return b.fail(v, Refused, what+"which was refused: "+b.said(o), o)
	case o.Name() != v.tale.name:
		return b.fail(v, Foreign, what+"which was written under another name: "+b.said(o), o)
	case o.Start >= v.end:
		return b.fail(v, Future, what+"which was only sent later: "+b.said(o), o)
	}
	return b.fail(v, False, what+"which is no write of data: "+b.said(o), o)
}

// fresh judges whether data is as new as it must be.
func (b *book) fresh(v *view, from source) bool {
	if v.after == nil {
		return true
	}
	for _, o := range from.writes {
		if !b.older(o, v.after) {
			return true
		}
	}
	if len(from.writes) == 0 && !from.floor {
		return true
	}
	what := "what was there when the round began"
	var shown *history.Op
	if len(from.writes) > 0 {
		shown = from.writes[len(from.writes)-1]
		what = "the data of " + b.said(shown)
	}
	settled := Lost
	if v.after.Kind == history.Delete {
		settled = Undeleted
	}
	return b.fail(v, b.rule(v, Stale, settled), what+", although "+b.did(v.after)+" after that", shown, v.after)
}

// metadata judges whose metadata is with the data.
func (b *book) metadata(v *view, from source) bool {
	t, s := v.tale, v.state
	if s.Mark == 0 {
		return true
	}
	m := b.ops[s.Mark]
	own := s.Data != 0 && s.Mark == s.Data // what the data came with
	old := t.floor != nil && s.Mark == t.floor.Mark && from.floor
	if !own && !old {
		switch {
		case m == nil && t.floor != nil && s.Mark == t.floor.Mark:
			return b.fail(v, Mixed, fmt.Sprintf("data of write %d with metadata from before the round", s.Data), b.ops[s.Data])
		case m == nil, m.Name() != t.name, m.Outcome == history.Refused, m.Start >= v.end:
			return b.stranger(v, s.Mark, "metadata")
		case m.Kind == history.Post:
		case s.Data == 0 && m.Kind != history.Delete: // which data it is was not shown
		default:
			return b.fail(v, Mixed, fmt.Sprintf("data of write %d with metadata of %s", s.Data, b.said(m)), m, b.ops[s.Data])
		}
	}
	if s.Data == 0 {
		return true
	}
	data := b.ops[s.Data] // nil for the floor
	if m != nil && data != nil && m != data && b.older(m, data) {
		return b.fail(v, Mixed, fmt.Sprintf("%s with metadata of %s, which is older", b.said(data), b.said(m)), m, data)
	}
	post := v.afterPost
	if post == nil || !b.older(data, post) || !b.older(m, post) {
		return true
	}
	return b.fail(v, b.rule(v, Stale, Lost), fmt.Sprintf("metadata of write %d, although %s after that", s.Mark, b.did(post)), m, data, post)
}
