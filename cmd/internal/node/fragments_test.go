package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
)

// What a device lacks is made again from others, byte for byte, and is then looked at no more.
func TestFragmentsRebuilt(t *testing.T) {
	for _, shape := range []ec.Shape{{Data: 1, Parity: 1}, {Data: 2, Parity: 1}, {Data: 4, Parity: 2}} {
		t.Run(shape.String(), func(t *testing.T) {
			f := newCells(t, shape, shape.Fragments()+1)
			var all []*wholeObject
			for i, size := range []int{0, 1, 100, 1024, 5000} {
				all = append(all, f.object(fmt.Sprint("o", i), size))
			}
			streamed := f.encode("streamed", f.source.Next(), []byte("no one knew how long this is"), false)
			f.putAll(streamed)
			f.commit(streamed)
			all = append(all, streamed)
			if c := f.clean(); c.Rebuilt+c.Pushed+c.Dropped > 0 {
				t.Errorf("all is in place, and %+v", c)
			}
			for i := range shape.Fragments() {
				f.wipe(i)
				f.pass() // what others hold of the commits is brought
				f.clean(i)
				f.inPlace(fmt.Sprint("node ", i), all...)
			}
			f.clean()
			before := f.requests("REPLICATE")
			f.clean()
			if n := f.requests("REPLICATE") - before; n > 3*len(f.nodes)*len(f.nodes) {
				t.Errorf("%d questions when all is in place", n)
			}
		})
	}
}

// Fragments that handoffs hold go home, and so do those of primaries that have another one.
func TestFragmentsGoHome(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 8)
	o := f.encode("o", f.source.Next(), bytes.Repeat([]byte("data"), 1000), true)
	f.putAll(o, 1, 3)
	f.put(o, 1, 6)
	f.put(o, 3, 2, 7)
	f.commit(o)
	if c := f.clean(6, 7, 2); c.Rebuilt > 0 || c.Dropped != 3 || c.Pushed != 2 {
		t.Errorf("%+v", c)
	}
	f.inPlace("passes of who has them", o)

	late := f.encode("late", f.source.Next(), []byte("of which no commit is known yet"), true)
	f.putAll(late, 0)
	f.put(late, 0, 7)
	f.clean()
	f.inPlace("an undecided write", late)
	f.commit(late)
	f.clean()
	f.inPlace("decided", o, late)
}

// What another device has just so is read from there and not made again, if that was its primary before.
func TestFragmentsFetched(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	f.rings.Store(f.ringsOf(0, 6, 2, 3, 4, 5))
	o := f.encode("o", f.source.Next(), bytes.Repeat([]byte("data"), 1000), true)
	f.putAll(o, 1)
	f.put(o, 1, 6)
	f.commit(o, 0, 6, 2, 3)
	f.clean()
	f.rings.Store(f.ringsOf(0, 1, 2, 3, 4, 5))
	f.clean(0) // which brings the commit
	before := f.requests("GET")
	if c := f.clean(1); c.Rebuilt != 1 || f.requests("GET") != before+1 {
		t.Errorf("%+v with %d reads", c, f.requests("GET")-before)
	}
	if got := f.where(o); got != "0:0 1:1 2:2 3:3 4:4 5:5 6:1" {
		t.Errorf("there is %s", got)
	}
	f.clean()
	f.inPlace("then", o)
}

// A pass in the background leaves what another device has and is to bring, but not for ever, and what was written just now.
func TestFragmentsLeft(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	settled := func() replicator.Counts {
		t.Helper()
		r, err := f.nodes[1].repl.Pass(t.Context(), replicator.Options{Settled: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.Devices[0].Kinds[1]
	}
	f.rings.Store(f.ringsOf(0, 6, 2, 3, 4, 5))
	o := f.encode("o", timestamp.FromTime(time.Now().Add(-time.Minute)), bytes.Repeat([]byte("data"), 1000), true)
	f.putAll(o, 1)
	f.put(o, 1, 6)
	f.commit(o, 0, 6, 2, 3)
	f.clean()
	f.rings.Store(f.ringsOf(0, 1, 2, 3, 4, 5))
	f.clean(0) // which brings the commit
	young := f.encode("young", f.source.Next(), []byte("of which a fragment may be under way"), true)
	f.putAll(young, 1)
	f.commit(young)
	for range 2 {
		if c := settled(); c.Rebuilt > 0 || c.Failed > 0 {
			t.Errorf("%+v", c)
		}
	}
	if c := settled(); c.Rebuilt != 1 || c.Failed > 0 {
		t.Errorf("it was left to another one for two passes, and %+v", c)
	}
	if got := f.where(young); strings.Contains(got, "1:1") {
		t.Errorf("of what was written just now there is %s", got)
	}
	f.clean()
	f.inPlace("at last", o, young)
}

// A ring that has others as primaries, or the same in another order: all goes where it belongs now, and never is any object out of reach.
func TestFragmentsRingChange(t *testing.T) {
	shape := ec.Shape{Data: 4, Parity: 2}
	for what, to := range map[string][]int{
		"turned round": {5, 4, 3, 2, 1, 0}, "one moved": {0, 1, 6, 3, 4, 5}, "two swapped": {1, 0, 2, 3, 4, 5}, "two others": {6, 1, 2, 3, 4, 7},
	} {
		t.Run(what, func(t *testing.T) {
			f := newCells(t, shape, 8)
			var all []*wholeObject
			for i := range 10 {
				all = append(all, f.object(fmt.Sprint("o", i), 3000))
			}
			f.clean()
			f.rings.Store(f.ringsOf(to...))
			for range 3 {
				for i := range f.nodes {
					f.pass(i)
					f.readable(t, all...)
				}
			}
			if c := f.clean(); c.Rebuilt+c.Dropped+c.Pushed > 0 {
				t.Errorf("there was still something to do: %+v", c)
			}
			f.inPlace("at last", all...)
			for i := range f.nodes {
				want := 0
				if slices.Contains(to, i) {
					want = len(all)
				}
				if n := f.total(i); n != want {
					t.Errorf("node %d has %d fragments, want %d", i, n, want)
				}
			}
		})
	}
}

// distinct is how many different fragments of an object there are anywhere.
func (f *cells) distinct(o *wholeObject) int {
	seen := map[string]bool{}
	for _, at := range strings.Fields(f.where(o)) {
		_, index, _ := strings.Cut(at, ":")
		seen[index] = true
	}
	return len(seen)
}

// readable fails the test where fewer fragments of an object are left than it takes to read it.
func (f *cells) readable(t interface{ Fatalf(string, ...any) }, all ...*wholeObject) {
	for _, o := range all {
		if n := f.distinct(o); n < f.policy.Data {
			t.Fatalf("%d fragments of %s are left: %s", n, o.path.Object, f.where(o))
		}
	}
}

// gone fails the test if anything is left of an object.
func (f *cells) gone(what string, all ...*wholeObject) {
	f.t.Helper()
	for _, o := range all {
		if got := f.where(o); got != "" {
			f.t.Errorf("%s: of %s there is %s", what, o.path.Object, got)
		}
	}
}

// What a later write, or a delete, has superseded goes once as many replicas say so as a write has to be on, and not before.
func TestFragmentsSuperseded(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 8)
	f.object("kept", 100)
	var next *wholeObject
	for what, end := range map[string]func(o *wholeObject, nodes ...int){
		"overwritten": func(o *wholeObject, nodes ...int) {
			if next == nil {
				next = f.encode(o.path.Object, o.at.Add(time.Millisecond), []byte("something else"), true)
				f.putAll(next)
			}
			f.commit(next, nodes...)
		},
		"deleted":             func(o *wholeObject, nodes ...int) { f.delete(o.path.Object, o.at.Add(time.Millisecond), nodes...) },
		"deleted at its time": func(o *wholeObject, nodes ...int) { f.delete(o.path.Object, o.at, nodes...) },
	} {
		o := f.object(what, 2000)
		f.put(o, 2, 7) // one of a handoff, too
		end(o, 1, 2)
		for _, i := range []int{0, 3} { // so that nothing is brought to them
			f.nodes[i].down.Store(true)
		}
		f.pass(1, 2, 4, 5, 7)
		f.readable(t, o)
		if n := f.distinct(o); n != 6 {
			t.Errorf("%s: two of four replicas know it, and %d fragments are left", what, n)
		}
		end(o, 3)
		f.nodes[3].down.Store(false)
		f.pass(1, 2, 3, 4, 5, 7)
		if got := f.where(o); got != "0:0" {
			t.Errorf("%s: three of four know it, and there is %q", what, got)
		}
		f.nodes[0].down.Store(false)
		f.pass()
		f.clean()
		f.gone(what, o)
	}
}

// What must not be dropped because of who does not answer, or can't be believed.
func TestFragmentsKept(t *testing.T) {
	for what, doubt := range map[string]func(f *cells){
		"silence":      func(f *cells) { f.nodes[1].down.Store(true); f.nodes[2].down.Store(true) },
		"other rings":  func(f *cells) { r := f.ringsOf(5, 4, 7, 6, 1, 2); f.nodes[1].ring.Store(r); f.nodes[2].ring.Store(r) },
		"own answers":  func(f *cells) { f.failing(f.answersOf(3, 1, 2)) },
		"a bad answer": func(f *cells) { f.failing(f.failWhole) },
	} {
		t.Run(what, func(t *testing.T) {
			f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 8)
			o := f.object("o", 2000)
			f.delete("o", o.at.Add(time.Millisecond), 0, 1, 2, 3)
			doubt(f)
			if c := f.pass(4, 5); c.Dropped > 0 || c.Failed == 0 {
				t.Errorf("%+v", c)
			}
			if n := f.distinct(o); n != 6 {
				t.Errorf("%d fragments are left", n)
			}
		})
	}
}

// answersOf has requests to some nodes be answered by another one.
func (f *cells) answersOf(by int, of ...int) func(*cell, *backend.Request) error {
	return func(to *cell, r *backend.Request) error {
		if slices.Contains(of, to.number) {
			return &elsewhere{f.nodes[by]}
		}
		return nil
	}
}

// elsewhere says who answers in the place of another.
type elsewhere struct{ by *cell }

func (*elsewhere) Error() string { return "elsewhere" }

var errBroken = errs.E(errs.Unavailable, "broken")

// failWhole fails questions about whole devices, other than those about sums.
func (f *cells) failWhole(_ *cell, r *backend.Request) error {
	if strings.Count(r.Path, "/") == 1 && r.Header.Get("X-Backend-Kind") == "fragment" {
		return errBroken
	}
	return nil
}

// Nothing is dropped at home's word by whom another ring makes the home of something else, nor when the home has another write.
func TestFragmentsNotDroppedAbroad(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 5)
	o := f.encode("o", f.source.Next(), bytes.Repeat([]byte("data"), 1000), true)
	f.putAll(o)
	f.put(o, 1, 4)
	f.commit(o)
	f.nodes[1].ring.Store(f.ringsOf(1, 0, 2)) // it takes itself for the home of 0
	if c := f.pass(4); c.Dropped > 0 || c.Failed == 0 {
		t.Errorf("%+v", c)
	}
	f.nodes[1].ring.Store(nil)
	other := f.encode("p", o.at, []byte("one"), true)
	same := f.encode("p", o.at, []byte("two"), true)
	f.put(same, 1, 1)
	f.put(other, 1, 4)
	f.putAll(other, 1)
	f.commit(other)
	f.pass(4)
	if got := f.where(other); got != "0:0 2:2 4:1" {
		t.Errorf("there is %s", got)
	}
}

// later moves all clocks ahead, with a pass now and then, so that nobody is taken for away, and on the last day with passes that know what is here for as long as
// that takes.
func (f *cells) later(by time.Duration) {
	for by > 26*time.Hour {
		step := min(by-26*time.Hour, 24*time.Hour)
		f.ahead.Add(int64(step))
		by -= step
		f.pass()
	}
	f.watched(by)
}

// watched moves all clocks ahead, with passes so often that all of the time counts as one in which they have looked.
func (f *cells) watched(by time.Duration, at ...int) {
	for by > 0 {
		step := min(by, 2*time.Hour)
		f.ahead.Add(int64(step))
		by -= step
		f.pass(at...)
	}
}

// What a PUT left that was given up stays until the reclaim age, since a commit may be on its way; then it goes.
func TestFragmentsUndecided(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	before := f.object("o", 2000)
	o := f.encode("o", f.source.Next(), []byte("which nobody has heard of"), true)
	f.putAll(o, 5)
	f.later(6 * 24 * time.Hour)
	if n := f.distinct(o); n != 5 {
		t.Errorf("after six days %d fragments are left", n)
	}
	f.nodes[2].down.Store(true)
	f.later(3 * 24 * time.Hour)
	if n := f.distinct(o); n != 5 {
		t.Errorf("after nine days, of which three without one replica, %d fragments are left", n)
	}
	f.nodes[2].down.Store(false)
	f.pass() // by which the one that was away notes that it is there
	f.later(24 * time.Hour)
	f.clean()
	f.gone("after ten days", o)
	f.inPlace("the one before", before)
}

// So it goes where nodes are started again every few hours: how long they have known of it they know still.
func TestFragmentsUndecidedRestarted(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
	o := f.encode("o", f.source.Next(), []byte("which nobody has heard of"), true)
	f.putAll(o)
	for range 6 {
		f.ahead.Add(int64(24 * time.Hour))
		f.pass()
	}
	for hours := 6 * 24; hours < 10*24; hours += 8 {
		for _, n := range f.nodes {
			n.disk = n.disk.(*vfs.Mem).AfterCrash(uint64(hours))
			f.open(n)
		}
		f.clean()
		f.watched(8 * time.Hour)
		f.clean()
		if n := f.distinct(o); hours+8 < 8*24 && n != 3 {
			t.Fatalf("after %d hours %d fragments are left", hours+8, n)
		}
	}
	f.gone("after ten days", o)
}

// A write that has its time from elsewhere, as from another cluster, is old when it begins: its commit may still be on its way.
func TestFragmentsOldWrite(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	old := f.source.Next().Add(-30 * 24 * time.Hour)
	o := f.encode("o", old, []byte("from another cluster"), true)
	late := f.encode("late", old, []byte("of which the commit comes late"), true)
	never := f.encode("never", old, []byte("of which none comes"), true)
	for _, one := range []*wholeObject{o, late, never} {
		f.putAll(one)
	}
	f.clean()
	f.inPlace("no commit yet", o, late, never)
	f.commit(o)
	f.watched(20 * time.Hour)
	f.clean()
	f.inPlace("no commit for almost a day", o, late, never)
	f.commit(late)
	f.watched(4 * time.Hour)
	f.clean()
	f.inPlace("decided", o, late)
	f.gone("never decided", never)
}

// A day for which a node was down, or by which its clock has jumped, is none in which it has looked.
func TestFragmentsUndecidedUnseen(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
	o := f.encode("o", f.source.Next().Add(-30*24*time.Hour), []byte("from another cluster"), true)
	f.putAll(o)
	f.clean()
	f.ahead.Add(int64(30 * time.Hour))
	f.clean()
	f.clean()
	f.inPlace("passes were made twice in more than a day", o)
	f.watched(20 * time.Hour)
	f.inPlace("almost a day was looked at", o)
	f.watched(2 * time.Hour)
	f.gone("a day was", o)
}

// What was in doubt until its commit turned up, and is so again, as its commit is gone from all replicas, is in doubt since then.
func TestFragmentsInDoubtAgain(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
	o := f.encode("o", f.source.Next().Add(-30*24*time.Hour), []byte("from another cluster"), true)
	f.putAll(o)
	f.clean()
	f.watched(20 * time.Hour)
	f.commit(o)
	f.clean()
	at := engine.Location{Policy: f.policy.Index, Hash: f.hasher.Hash(o.path)}
	for _, n := range f.nodes[:f.policy.Replicas()] {
		if gone, err := n.store.Drop(t.Context(), at, func(*engine.State) bool { return true }); err != nil || !gone {
			t.Fatal(gone, err)
		}
	}
	f.clean()
	f.watched(20 * time.Hour)
	f.inPlace("in doubt for less than a day", o)
	f.watched(4 * time.Hour)
	f.gone("in doubt for a day", o)
}

// Rings in which all that are to have the commits are new, and have nothing yet, are no sign that there were none.
func TestFragmentsCommitsElsewhere(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 10)
	o := f.object("o", 2000)
	given := f.encode("given", f.source.Next(), []byte("of which nobody has heard"), true)
	f.put(given, 4, 4)
	f.later(6 * 24 * time.Hour)
	f.rings.Store(f.ringsOf(6, 7, 8, 9, 4, 5))
	look := func() {
		f.ahead.Add(int64(22 * time.Hour))
		f.watched(26*time.Hour, 4, 5, 6, 7, 8, 9)
	}
	for _, i := range []int{0, 1, 2} { // of which one more would have to answer
		f.nodes[i].down.Store(true)
	}
	look()
	if f.held(o, 4, 4) == nil || f.held(o, 5, 5) == nil || f.held(given, 4, 4) == nil {
		t.Errorf("more are silent than may be lost, and there is %s of one and %s of the other", f.where(o), f.where(given))
	}
	f.nodes[0].down.Store(false)
	f.failing(f.answersOf(3, 0))
	look()
	if f.held(given, 4, 4) == nil {
		t.Error("one device has answered for two, and others are silent")
	}
	f.failing(nil)
	look()
	if f.held(o, 4, 4) == nil || f.held(o, 5, 5) == nil {
		t.Errorf("one that was a replica has the commit, and there is %s", f.where(o))
	}
	f.gone("nobody of those who answer", given)
	for _, i := range []int{1, 2} {
		f.nodes[i].down.Store(false)
	}
	for range 3 {
		f.pass()
	}
	f.clean()
	f.inPlace("at last", o)
}

// What is remembered of a partition is of the one whose commits were looked at.
func TestFragmentsSumAndListOfOne(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 6)
	o := f.encode("o", f.source.Next(), bytes.Repeat([]byte("data"), 100), true)
	f.putAll(o, 5)
	n := int(f.rings.Load().fragments.Partition(f.hasher.Hash(o.path)))
	asked, other := n%4, (n+1)%4
	for i := range 4 {
		if i != other {
			f.commit(o, i)
		}
	}
	f.failing(func(to *cell, r *backend.Request) error {
		if to.number == asked && r.Query != "" && r.Header.Get("X-Backend-Kind") == "fragment" {
			return errBroken
		}
		return nil
	})
	f.pass(5)
	if f.held(o, 5, 5) != nil {
		t.Fatal("it was not to be seen yet")
	}
	f.failing(nil)
	f.pass(0, 1, 2, 3) // which bring the commit to the other
	f.clean(5)
	f.inPlace("then", o)
}

// lose has a node lose a fragment to damage.
func (f *cells) lose(o *wholeObject, index, at int) {
	f.t.Helper()
	loc := engine.Location{Policy: f.policy.Index.Fragments(), Hash: f.hasher.Hash(o.path).Fragment(o.at, index)}
	s, err := f.nodes[at].store.Stat(f.t.Context(), loc)
	if err == nil {
		err = f.nodes[at].store.Quarantine(f.t.Context(), loc, s, errors.New("it was damaged"))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// That a fragment was lost which nobody needs any more is forgotten: once it is superseded, and not before.
func TestFragmentsLostOnes(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	kept, o := f.object("kept", 100), f.object("o", 3000)
	f.put(o, 1, 6)
	f.lose(o, 5, 5)
	f.lose(o, 1, 6)
	f.lose(kept, 5, 5)
	f.delete("o", o.at.Add(time.Millisecond), 1, 2)
	for _, i := range []int{0, 3} { // so that nothing is brought to them
		f.nodes[i].down.Store(true)
	}
	f.pass(6)
	if n := f.total(6); n != 1 {
		t.Errorf("two of four replicas know that it was deleted, and there are %d entries", n)
	}
	for _, i := range []int{0, 3} {
		f.nodes[i].down.Store(false)
	}
	f.delete("o", o.at.Add(time.Millisecond), 0, 3)
	f.pass()
	f.clean()
	if n, m := f.total(5), f.total(6); n != 1 || m != 0 {
		t.Errorf("nodes 5 and 6 have %d and %d entries, want 1 and none", n, m)
	}
	f.inPlace("the other", kept)
}

// The mark of a fragment that a handoff has lost goes once all fragments of its version are where they belong; that of a write that
// was never decided with age.
func TestFragmentsLostOnHandoff(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 8)
	o := f.object("o", 3000)
	f.put(o, 1, 6)
	f.lose(o, 1, 6)
	stays := func(what string, failed bool) {
		t.Helper()
		if c := f.pass(6); c.Dropped != 0 || c.Failed > 0 != failed || f.total(6) != 1 {
			t.Errorf("%s: %+v, and %d entries", what, c, f.total(6))
		}
	}
	f.nodes[2].down.Store(true)
	stays("a home does not answer", true)
	f.nodes[2].down.Store(false)
	f.nodes[1].ring.Store(f.ringsOf(1, 0, 2, 3, 4, 5))
	stays("a home is at home elsewhere", true)
	f.nodes[1].ring.Store(nil)
	f.lose(o, 3, 3)
	stays("a home has lost its own", false)
	f.forget(o, 3, 3)
	stays("a home has none", false)
	f.put(o, 3, 3)
	if c := f.pass(6); c.Dropped != 1 || c.Failed > 0 || f.total(6) != 0 {
		t.Errorf("all are at home: %+v, and %d entries", c, f.total(6))
	}
	f.inPlace("then", o)

	undecided := f.encode("o", f.source.Next(), []byte("which nobody has heard of"), true)
	f.put(undecided, 1, 6)
	f.lose(undecided, 1, 6)
	stays("a write that is not decided", false)
	f.later(9 * 24 * time.Hour)
	if n := f.total(6); n != 0 {
		t.Errorf("after nine days there are %d entries", n)
	}
}

// The mark of a fragment of which too few others are left stays however old it is: what is in quarantine may be wanted.
func TestFragmentsLostOfFew(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 8)
	o := f.object("o", 3000)
	f.put(o, 1, 6)
	f.lose(o, 1, 6)
	for i := range 4 {
		f.forget(o, i, i)
	}
	f.ahead.Add(int64(9 * 24 * time.Hour))
	if c := f.pass(6); c.Dropped != 0 || f.total(6) != 1 {
		t.Errorf("%+v, and %d entries", c, f.total(6))
	}
}

// A write may be of a time long ago, when another cluster or the data that a version is kept of had it: its commit is on
// its way all the same, and its fragments are not given up at once.
func TestFragmentsUndecidedOfATimeLongAgo(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	long := f.source.Next().Add(-60 * 24 * time.Hour)
	kept, lost := f.encode("kept", long, []byte("whose commit is late"), true), f.encode("lost", long, []byte("whose commit never comes"), true)
	f.putAll(kept)
	f.putAll(lost)
	f.pass()
	f.pass()
	if n, m := f.distinct(kept), f.distinct(lost); n != 6 || m != 6 {
		t.Errorf("before their commits %d and %d fragments are left", n, m)
	}
	f.commit(kept)
	f.later(3 * 24 * time.Hour)
	f.clean()
	f.inPlace("that was committed", kept)
	f.gone("after three days", lost)
}

// A fragment that is found damaged is made again at once, without a pass.
func TestFragmentsRepaired(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	o, other := f.object("o", 3000), f.object("other", 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.nodes[5].kind.Repair(ctx) }()
	at := engine.Location{Policy: f.policy.Index.Fragments(), Hash: f.hasher.Hash(o.path).Fragment(o.at, 5)}
	s, err := f.nodes[5].store.Stat(ctx, at)
	if err == nil {
		err = f.nodes[5].store.Quarantine(ctx, at, s, errors.New("it was damaged"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); f.where(o) != f.home(); {
		if time.Now().After(end) {
			t.Fatalf("after a minute there is %s", f.where(o))
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.inPlace("then", o, other)
}

// Where too few fragments are left that is said, unless the version was superseded meanwhile.
func TestFragmentsTooFew(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 4)
	const objects = 6 // more than are under way at one time
	for i := range objects {
		o := f.encode(fmt.Sprint("o", i), f.source.Next(), []byte("of which too little is left"), true)
		f.put(o, 0, 0)
		f.commit(o)
	}
	c := f.pass(2)
	if c.Failed != objects || !strings.Contains(c.Failures[0].Reason, "too few fragments: 1 of the others can be found, and it takes 2") || !strings.HasPrefix(c.Failures[0].Name, "/a/c/o") {
		t.Errorf("%+v", c)
	}
	for i := range objects {
		f.delete(fmt.Sprint("o", i), f.source.Next(), 0, 1) // of which the device itself does not know
	}
	if c := f.clean(2); c.Rebuilt > 0 {
		t.Errorf("%+v", c)
	}
}

// A peer that fails, whenever it does, costs nothing but another pass.
func TestFragmentsPeerFails(t *testing.T) {
	for n := 0; ; n++ {
		f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 5)
		o, old, moved := f.object("o", 3000), f.object("old", 100), f.object("moved", 3000)
		f.delete("old", old.at.Add(time.Millisecond), 0, 1, 2)
		f.put(o, 2, 4)
		f.wipe(1)
		f.rings.Store(f.ringsOf(2, 1, 3))
		var asked atomic.Int64
		f.failing(func(*cell, *backend.Request) error {
			if asked.Add(1) == int64(n)+1 {
				return errBroken
			}
			return nil
		})
		for i := range f.nodes {
			f.pass(i)
			f.readable(t, o, moved)
		}
		f.failing(nil)
		f.pass()
		f.pass()
		f.clean()
		f.inPlace(fmt.Sprintf("request %d failed", n), o, moved)
		f.gone(fmt.Sprintf("request %d failed", n), old)
		if asked.Load() <= int64(n) {
			break
		}
		n += n / 25 // a few are like others
	}
}

// A device that fails at any call while it gets what it lacks, or while it gives away what it has for others, loses
// nothing, nor does the machine that goes down then.
func TestFragmentsDiskFails(t *testing.T) {
	for _, at := range []int{1, 4} { // who lacks something, and who has something for another
		for n, begun := -1, false; ; n++ {
			f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 5)
			o := f.encode("o", f.source.Next(), bytes.Repeat([]byte("data"), 2000), true)
			f.putAll(o, 0, 1)
			f.put(o, 0, 4)
			f.commit(o)
			c := f.nodes[at]
			disk := c.disk.(*vfs.Mem)
			faulty := vfs.FailAt(disk, n)
			c.disk = faulty
			f.open(c)
			if !begun {
				n = faulty.Calls() - 1 // so many does it take to begin
			}
			if _, err := c.repl.Pass(t.Context(), replicator.Options{}); err != nil {
				t.Fatal(err) // what the device failed at is in the report
			}
			fired := faulty.Fired() || !begun
			begun = true
			c.disk = disk.AfterCrash(uint64(n))
			f.open(c)
			f.readable(t, o)
			f.pass()
			f.pass()
			f.clean()
			f.inPlace(fmt.Sprintf("call %d of node %d failed", n, at), o)
			if !fired {
				break
			}
			if n > 40 {
				n += n / 8
			}
		}
	}
}

func indexesTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// bent has a node keep a fragment that was damaged before it was stored: what the disk says of it is right.
func (f *cells) bent(o *wholeObject, index, at int) []byte {
	f.t.Helper()
	damaged := *o
	damaged.archives = slices.Clone(o.archives)
	damaged.archives[index] = bytes.Clone(o.archives[index])
	damaged.archives[index][len(o.archives[index])-1] ^= 1
	f.put(&damaged, index, at)
	return damaged.archives[index]
}

// stored is what a node has of a fragment, good or bad; nil for nothing.
func (f *cells) stored(o *wholeObject, index, at int) []byte {
	f.t.Helper()
	r, err := f.nodes[at].store.Open(f.t.Context(), engine.Location{Policy: f.policy.Index.Fragments(), Hash: f.hasher.Hash(o.path).Fragment(o.at, index)})
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Corrupt) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(&checked{r: r, left: r.State().Length})
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// A fragment that was damaged before it was stored is found when another is made of it: its device looks itself, and has it
// made again as any that was lost, but not before there are others that are enough without it.
func TestFragmentsDamagedAsStored(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 2}, 5)
	for i := range f.nodes[:4] {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.nodes[i].kind.Repair(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
	}
	n := 0 // of those whose fragment 2 is read to make fragment 3
	name := func() string {
		for n++; ; n++ {
			if s := fmt.Sprint("o", n); f.hasher.Hash(thing(s))[15]%3 == 1 {
				return s
			}
		}
	}
	write := func(without ...int) (*wholeObject, []byte) {
		o := f.encode(name(), f.source.Next(), bytes.Repeat([]byte("data"), 1000), true)
		f.putAll(o, append(without, 2, 3)...)
		bad := f.bent(o, 2, 2)
		f.commit(o)
		return o, bad
	}
	o, _ := write()
	if c := f.pass(3); c.Rebuilt != 1 || c.Failed != 1 || !strings.Contains(c.Failures[0].Reason, "fragment 2 is damaged where it is") {
		t.Errorf("another was made of it: %+v", c)
	}
	for end := time.Now().Add(time.Minute); !bytes.Equal(f.stored(o, 2, 2), o.archives[2]); {
		if time.Now().After(end) {
			t.Fatal("after a minute a fragment that was damaged as it was stored was not made again")
		}
	}
	f.inPlace("it was made again", o)

	few, bad := write(1)
	f.pass(3)
	f.pass(3)
	kept := func() bool { return bytes.Equal(f.stored(few, 2, 2), bad) }
	if !kept() {
		t.Error("a damaged fragment is taken away though there are too few others to make it of")
	}
	f.put(few, 1, 1)
	f.ahead.Add(int64(2 * time.Hour)) // it is looked at again
	f.pass(3)
	for end := time.Now().Add(time.Minute); !bytes.Equal(f.stored(few, 2, 2), few.archives[2]); {
		if time.Now().After(end) {
			t.Fatalf("after a minute a damaged fragment was not made again; it is there as it was: %v", kept())
		}
		f.pass(3)
	}
	f.pass()
	f.inPlace("others came back", few, o)
}

// Whoever says that a good fragment is damaged changes nothing.
func TestFragmentsAccusedOfNothing(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 4)
	o := f.object("o", 3000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.nodes[1].kind.Repair(ctx) }()
	for _, index := range []string{"1", "0", "2", "x", "", "-1", "99"} {
		r := &backend.Request{Method: "GET", Path: backend.Target{Device: "d", Partition: uint32(f.rings.Load().fragments.Partition(f.hasher.Hash(o.path))), Path: o.path}.Quoted(), Header: backend.Header{
			{Name: backend.PolicyIndex, Value: f.policy.Index.Fragments().String()}, {Name: replwire.ReplicationHeader, Value: "true"}, {Name: replwire.KindHeader, Value: "fragment"},
			{Name: replwire.PartPowerHeader, Value: fmt.Sprint(f.data.PartPower)}, {Name: backend.FragmentTime, Value: o.at.String()}, {Name: backend.FragmentIndex, Value: index},
			{Name: backend.FragmentSuspect, Value: "true"},
		}}
		resp, err := f.peers.Do(ctx, f.addr(f.nodes[1]), r)
		want := map[bool]int{true: 202, false: 400}[len(index) == 1 && index != "x"]
		if err != nil || resp.Status != want {
			t.Errorf("fragment %q: %+v, %v, want %d", index, resp, err, want)
		}
	}
	f.clean()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	f.inPlace("then", o)
}

// Where too few fragments are left all devices are asked for more, in the background not in each pass again; who asks for a pass has
// them asked.
func TestFragmentsSoughtSeldom(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 8)
	o := f.encode("o", timestamp.FromTime(time.Now().Add(-time.Hour)), []byte("of which too little is left"), true)
	f.put(o, 0, 0)
	f.commit(o)
	var far atomic.Int64 // how often those were asked that nobody takes for likely to have one
	last := f.nodes[7]
	for d := range f.rings.Load().fragments.Handoffs(0) {
		last = f.nodes[d.ID]
	}
	f.failing(func(to *cell, r *backend.Request) error {
		if to == last && r.Method == "REPLICATE" && r.Header.Get(backend.PolicyIndex) == f.policy.Index.Fragments().String() {
			far.Add(1)
		}
		return nil
	})
	background := func(after time.Duration) (asked int64, failed int64) {
		t.Helper()
		f.ahead.Add(int64(after))
		far.Store(0)
		r, err := f.nodes[2].repl.Pass(t.Context(), replicator.Options{Settled: true})
		if err != nil {
			t.Fatal(err)
		}
		return far.Load(), r.Devices[0].Kinds[1].Failed
	}
	for i, want := range []struct {
		after time.Duration
		asked bool
	}{
		{0, true}, {time.Minute, false}, {50 * time.Minute, false}, {10 * time.Minute, true}, {time.Hour, false}, {time.Hour, true}, {3 * time.Hour, false}, {time.Hour, true}, // 1, 2, 4 hours
	} {
		if asked, failed := background(want.after); asked > 0 != want.asked || failed == 0 {
			t.Errorf("pass %d: one far away was asked %d times, want %v; %d failed", i, asked, want.asked, failed)
		}
	}
	far.Store(0)
	if c := f.pass(2); far.Load() == 0 || c.Failed == 0 {
		t.Errorf("a pass that somebody asked for: one far away was asked %d times, %+v", far.Load(), c)
	}
	f.put(o, 1, 1) // it is back
	if asked, failed := background(time.Minute); asked > 0 || failed > 0 {
		t.Errorf("enough are back: %d questions, %d failed", asked, failed)
	}
	if got := f.where(o); got != "0:0 1:1 2:2" {
		t.Errorf("there is %s", got)
	}
}

// Where just the missing fragment turns up when all devices are asked, it is read from there: there may be too few others to make it of.
func TestFragmentsSoughtAndFetched(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 8)
	o := f.object("o", 3000)
	f.forget(o, 1, 1)
	f.forget(o, 2, 2)
	f.put(o, 2, 7)
	if c := f.clean(2); c.Rebuilt != 1 {
		t.Errorf("%+v", c)
	}
	f.clean()
	f.inPlace("then", o)
}

// Once a fragment was got, however, it is sought at once where it is missing anew.
func TestFragmentsSoughtAnew(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 8)
	var far atomic.Int64 // how often one was asked that nobody takes for likely to have any
	f.failing(func(to *cell, r *backend.Request) error {
		if to == f.nodes[7] && r.Header.Get(backend.PolicyIndex) == f.policy.Index.Fragments().String() {
			far.Add(1)
		}
		return nil
	})
	background := func() replicator.Counts {
		t.Helper()
		f.ahead.Add(int64(time.Minute))
		far.Store(0)
		r, err := f.nodes[2].repl.Pass(t.Context(), replicator.Options{Settled: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.Devices[0].Kinds[1]
	}
	for what, tt := range map[string]struct {
		objects, index, at int
	}{
		"made of others":             {1, 1, 1},
		"many, made of others":       {5, 1, 1},
		"read from who has it":       {1, 2, 1},
		"many, read from who has it": {5, 2, 1},
	} {
		var all []*wholeObject
		for i := range tt.objects {
			o := f.encode(fmt.Sprint(what, i), timestamp.FromTime(f.clock().Add(-time.Hour)), []byte("of which too little is left"), true)
			f.put(o, 0, 0)
			f.commit(o)
			all = append(all, o)
		}
		if c := background(); far.Load() == 0 || c.Failed == 0 {
			t.Errorf("%s: at first one far away was asked %d times, %+v", what, far.Load(), c)
		}
		for _, o := range all {
			f.put(o, tt.index, tt.at)
		}
		if c := background(); far.Load() > 0 || c.Failed > 0 || c.Rebuilt != int64(tt.objects) {
			t.Errorf("%s: when enough was back one far away was asked %d times, %+v", what, far.Load(), c)
		}
		for _, o := range all {
			f.forget(o, 2, 2)
			f.forget(o, tt.index, tt.at)
		}
		if c := background(); far.Load() == 0 || c.Failed == 0 {
			t.Errorf("%s: missing anew, one far away was asked %d times, %+v", what, far.Load(), c)
		}
		for _, o := range all {
			f.delete(o.path.Object, f.source.Next(), 0, 1, 2)
		}
		f.clean()
	}
}

// forget takes a fragment away.
func (f *cells) forget(o *wholeObject, index, at int) {
	f.t.Helper()
	where := engine.Location{Policy: f.policy.Index.Fragments(), Hash: f.hasher.Hash(o.path).Fragment(o.at, index)}
	if _, err := f.nodes[at].store.Drop(f.t.Context(), where, func(*engine.State) bool { return true }); err != nil {
		f.t.Fatal(err)
	}
}

// Fragments on a device that is no primary of their partition are on a handoff.
func TestFragmentsHeldByHandoffs(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 4)
	o := f.object("o", 3000)
	f.put(o, 1, 3)
	for i, want := range []int64{0, 0, 0, 1} {
		held, err := f.nodes[i].kind.Held(t.Context(), "d")
		if err != nil || len(held) != 1 || held[0] != (replicator.Held{Kind: "fragment", Policy: "1", Partitions: 1, Handoffs: want}) {
			t.Errorf("node %d holds %+v, %v, want %d partitions as a handoff", i, held, err, want)
		}
	}
	f.clean()
	if held, err := f.nodes[3].kind.Held(t.Context(), "d"); err != nil || len(held) != 1 || held[0].Handoffs != 0 {
		t.Errorf("after a pass the handoff holds %+v, %v", held, err)
	}
}
