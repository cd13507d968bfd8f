//go:build !race

package engine

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object/index"
)

// write is one push of a replica.
type write struct {
	kind        int // 0 put, 1 delete, 2 update
	time, ctype int64
	body        byte
	meta        string
}

func (w write) do(e *Engine, l Location, terms Terms) error {
	switch w.kind {
	case 0:
		return put(e, l, ts(w.time), []byte{w.body, w.body}[:1+w.body%2], w.meta, terms)
	case 1:
		return del(e, l, w.time, terms)
	}
	return post(e, l, w.time, w.ctype, w.meta, terms)
}

func drawWrite(t *rapid.T) write {
	return write{
		kind:  rapid.IntRange(0, 2).Draw(t, "kind"),
		time:  rapid.Int64Range(1, 5).Draw(t, "time"),
		ctype: rapid.Int64Range(0, 5).Draw(t, "ctype"),
		body:  rapid.ByteRange(0, 3).Draw(t, "body"),
		meta:  rapid.SampledFrom([]string{"a", "b"}).Draw(t, "meta"),
	}
}

// permute calls f with every order of n numbers.
func permute(n int, f func([]int)) {
	order := make([]int, 0, n)
	used := make([]bool, n)
	var step func()
	step = func() {
		if len(order) == n {
			f(order)
			return
		}
		for i := range n {
			if !used[i] {
				used[i] = true
				order = append(order, i)
				step()
				order, used[i] = order[:len(order)-1], false
			}
		}
	}
	step()
}

// All orders of the same pushes, also repeated ones, end in the same state.
func TestEveryOrderEndsInTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writes := rapid.SliceOfN(rapid.Custom(drawWrite), 2, 4).Draw(t, "writes")
		want := ""
		permute(len(writes), func(order []int) {
			e := newEngine(vfs.NewMem(), "/")
			for _, i := range append(order, order[0]) {
				if err := writes[i].do(e, at(1), Terms{Merge: true}); err != nil && !errs.Is(err, errs.Stale) {
					t.Fatalf("%+v: %v", writes[i], err)
				}
			}
			s, err := e.Stat(ctx, at(1))
			if err != nil {
				t.Fatal(err)
			}
			if want == "" {
				want = show(s)
			}
			if got := show(s); got != want {
				t.Fatalf("order %v of %+v ends in\n%s, another in\n%s", order, writes, got, want)
			}
		})
	})
}

// A write that does not read what it replaces does what one does that has read it, and leaves the same entry: also where there is
// later metadata, an expiry, or both.
func TestUnreadIsAsRead(t *testing.T) {
	read := Terms{Check: func(State) error { return nil }}
	rapid.Check(t, func(t *rapid.T) {
		unread, other := newEngine(vfs.NewMem(), "/"), newEngine(vfs.NewMem(), "/")
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			w := drawWrite(t)
			w.time = rapid.Int64Range(1, 20).Draw(t, "stamp")
			w.meta = rapid.SampledFrom([]string{"a", "p3"}).Draw(t, "field") // the second one ends
			terms := Terms{Merge: rapid.IntRange(0, 3).Draw(t, "merge") == 0}
			got := w.do(unread, at(1), terms)
			terms.Check = read.Check
			if want := w.do(other, at(1), terms); errs.KindOf(got) != errs.KindOf(want) || (got == nil) != (want == nil) {
				t.Fatalf("%+v: %v, one that has read says %v", w, got, want)
			}
			if got, want := entryOf(t, unread), entryOf(t, other); got != want {
				t.Fatalf("%+v leaves %+v, one that has read %+v", w, got, want)
			}
		}
	})
}

// What clients write, of which the record that it replaces is not read, and what replicas push, with restarts and indexes that are lost, end in what
// the rules of the times say of it.
func TestClientsAndReplicasAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				w.open(w.fs)
			case 1:
				w.open(w.fs)
				if err := withoutIndex(w.cfg); err != nil {
					t.Fatal(err)
				}
			default:
				o := op{what: rapid.SampledFrom([]int{opPut, opPut, opDelete, opPost}).Draw(t, "op"), at: worldName(rapid.IntRange(0, 2).Draw(t, "name"))}
				o.n = rapid.Int64Range(1, 20).Draw(t, "time")
				if o.what == opPost && rapid.Bool().Draw(t, "with a type") {
					o.m = o.n
				}
				f := w.facts[o.at][0]
				do, model := o.do, o.model
				if rapid.Bool().Draw(t, "a client's") {
					do, model = o.doOfClient, o.modelOfClient
				}
				next, want := model(f)
				if err := do(w.e); errs.KindOf(err) != want || (err == nil) != (want == errs.Other) {
					t.Fatalf("%v: %v, want kind %v", o, err, want)
				}
				w.facts[o.at] = []fact{next}
			}
			if err := w.states(0); err != nil {
				t.Fatal(err)
			}
			if _, err := look(w.e); err != nil { // digests as well
				t.Fatal(err)
			}
		}
	})
}

// doOfClient does it as a client does.
func (o *op) doOfClient(e *Engine) error {
	switch o.what {
	case opPut:
		return put(e, o.at, ts(o.n), bodyOf(o.at, o.n), fmt.Sprint("p", o.n), Terms{})
	case opDelete:
		return del(e, o.at, o.n, Terms{})
	}
	c := Change{Name: path3(o.at), MetaTime: ts(o.n), Meta: fields(fmt.Sprint("m", o.n))}
	if o.m > 0 {
		c.ContentTypeTime, c.ContentType = ts(o.m), fmt.Sprint("type/m", o.m)
	}
	return written(e.Update(ctx, o.at, c, Terms{}))
}

// modelOfClient says what becomes of it: a client's write is newer than what is there, and its update is one of an object.
func (o *op) modelOfClient(f fact) (fact, errs.Kind) {
	switch {
	case o.what == opPost && f.kind != Live:
		return f, errs.NotFound
	case o.what == opPost && f.newest() >= o.n, o.what != opPost && f.time.n >= o.n:
		return f, errs.Stale
	}
	return o.model(f)
}

// entryOf is what the index has of a name.
func entryOf(t *rapid.T, e *Engine) index.Entry {
	d, err := e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := d.get(at(1))
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// model is what the rules say of a name, in memory.
type model map[byte]*struct {
	live              bool
	data, meta, type_ int64
	body              byte
	metaText, typeOf  string
}

// Random operations of clients on the engine, with restarts, and on a map.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		e := newEngine(fs, "/")
		m := model{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			key := rapid.ByteRange(1, 3).Draw(t, "key")
			w := drawWrite(t)
			w.time = rapid.Int64Range(1, 40).Draw(t, "stamp")
			if w.ctype > 0 {
				w.ctype = w.time
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				e = newEngine(fs, "/")
			}
			err := w.do(e, at(key), Terms{})
			if want := m.apply(key, w); errs.KindOf(err) != want || (err == nil) != (want == errs.Other) {
				t.Fatalf("%+v on %d: %v, want kind %v", w, key, err, want)
			}
			m.compare(t, e)
		}
	})
}

func (m model) apply(key byte, w write) errs.Kind {
	o := m[key]
	if o == nil {
		o = new(struct {
			live              bool
			data, meta, type_ int64
			body              byte
			metaText, typeOf  string
		})
	}
	switch {
	case w.kind == 2 && !o.live:
		return errs.NotFound
	case w.kind == 2 && max(o.data, o.meta, o.type_) >= w.time, w.kind != 2 && o.data >= w.time:
		return errs.Stale
	}
	m[key] = o
	if w.kind == 2 {
		o.meta, o.metaText = w.time, w.meta
		if w.ctype > 0 {
			o.type_, o.typeOf = w.time, w.meta
		}
		return errs.Other
	}
	wasLater := func(t int64) bool { return t > w.time }
	o.data, o.live, o.body = w.time, w.kind == 0, w.body
	if !wasLater(o.meta) {
		o.meta, o.metaText = w.time, w.meta
	}
	if !wasLater(o.type_) {
		o.type_, o.typeOf = w.time, w.meta
	}
	return errs.Other
}

func (m model) compare(t *rapid.T, e *Engine) {
	for key, o := range m {
		s, body, err := get(e, at(key))
		if !o.live {
			if !errs.Is(err, errs.NotFound) || s.Kind != Deleted || s.Time != ts(o.data) {
				t.Fatalf("%d: %s, %v, want a tombstone at %d", key, show(s), err, o.data)
			}
			continue
		}
		got := fmt.Sprint(s.Time, s.MetaTime, s.ContentTypeTime, body, s.Meta.Get("X-Object-Meta-M"), s.ContentType)
		want := fmt.Sprint(ts(o.data), ts(o.meta), ts(o.type_), []byte{o.body, o.body}[:1+o.body%2], o.metaText, "type/"+o.typeOf)
		if err != nil || got != want {
			t.Fatalf("%d: %s, %v, want %s", key, got, err, want)
		}
	}
}
