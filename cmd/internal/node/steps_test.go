package node

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
	"martlet/replicator/steps"
)

const week = 7 * 24 * time.Hour

// later puts the clocks of nodes forward, and has each forget what it may.
func (f *fleet) later(by time.Duration, nodes ...*small) {
	f.t.Helper()
	for _, n := range nodes {
		n.ahead.Add(int64(by))
		if err := n.store.Reclaim(f.t.Context(), steps.Terms{ReclaimAge: week}.Horizon(n.clock()), nil); err != nil {
			f.t.Fatal(err)
		}
	}
}

// away has a node not be reached by others until the function that it returns is called.
func (f *fleet) away(n *small) (back func()) {
	good := n.serving()
	n.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInsufficientStorage) }))
	return func() { n.serve(good) }
}

func fenced(c replicator.Counts) bool {
	return c.Failed > 0 && strings.Contains(fmt.Sprint(c.Failures), "fenced")
}

// What was deleted while a node was away for longer than tombstones are kept does not come back
// with it, whether it was a primary or a handoff; what it has that is new neither. The others
// go on, and bring it what they have.
func TestDeletedStaysDeleted(t *testing.T) {
	for _, which := range []int{2, 3} {
		t.Run(fmt.Sprintf("node %d", which), func(t *testing.T) {
			f := newFleet(t, 4, 3, inMemory)
			gone, primaries := f.nodes[which], f.nodes[:3]
			here := f.nodes[:2]
			begin := timestamp.FromTime(gone.clock())
			for _, n := range f.nodes {
				if n == gone || which == 2 && n != f.nodes[3] {
					f.write(n, "PUT", "o", begin, nil, "body", false)
				}
			}
			if which == 3 {
				for _, n := range primaries {
					f.write(n, "PUT", "o", begin, nil, "body", false)
				}
				here = primaries
			}
			if which == 2 {
				if c := f.pass(primaries...); c.Failed > 0 {
					t.Fatalf("at first: %+v", c)
				}
			}
			back := f.away(gone)
			var others []func()
			for _, n := range here {
				others = append(others, f.away(n))
			}
			f.pass(gone) // it knows when it holds what
			for _, back := range others {
				back()
			}
			for _, n := range here {
				f.write(n, "DELETE", "o", timestamp.FromTime(n.clock().Add(time.Second)), nil, "", false)
			}
			for range 12 {
				f.later(week/8, here...)
				if c := f.pass(here...); fenced(c) {
					t.Fatalf("those that see each other say %+v", c)
				}
			}
			for i, n := range here {
				if s := f.state(n, "o"); s.Kind != engine.Absent || !s.Newest().IsZero() {
					t.Fatalf("node %d has %+v of what was deleted a week and a half ago", i, s)
				}
			}
			f.later(week*12/8, gone)
			back()
			f.write(gone, "PUT", "new", timestamp.FromTime(gone.clock()), nil, "new", false)
			for range 3 {
				if c := f.pass(gone); !fenced(c) || c.Pushed > 0 || c.Dropped > 0 {
					t.Errorf("who was away says %+v", c)
				}
				f.pass(here...)
			}
			for i, n := range here {
				if s := f.state(n, "o"); s.Kind != engine.Absent {
					t.Errorf("node %d has what was deleted: %+v", i, s)
				}
			}
		})
	}
}

// Who sees others now and then is never fenced, whatever they write to meanwhile, also a handoff
// whose primaries are never all there at once.
func TestNeverFenced(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	handoff := f.nodes[3]
	f.write(handoff, "PUT", "kept", timestamp.FromTime(handoff.clock()), nil, "body", false)
	for round := range 16 {
		f.later(week/4, f.nodes...)
		for i, n := range f.nodes[:3] {
			f.write(n, "PUT", fmt.Sprint("o", round%3), timestamp.FromTime(n.clock().Add(time.Duration(i)*time.Second)), nil, fmt.Sprint(round, i), false)
		}
		back := f.away(f.nodes[round%3])
		for i, n := range f.nodes {
			if c := f.pass(n); fenced(c) {
				t.Fatalf("round %d: node %d says %+v", round, i, c)
			}
		}
		back()
		if s := f.state(handoff, "kept"); s.Kind != engine.Live {
			t.Fatalf("round %d: the handoff has %+v, though a primary was away each time", round, s)
		}
		f.pass(f.nodes[:3]...)
		f.write(handoff, "POST", "kept", timestamp.FromTime(handoff.clock().Add(time.Second)), nil, "", false)
	}
}

// Where sums always differ the lists say who is in step: who alone has something new is, and who
// lacks what the other has, and does not bring, is not.
func TestInStepByLists(t *testing.T) {
	for what, tt := range map[string]struct {
		news   int // which node has something new each time
		fenced bool
	}{
		"news here":      {0, false},
		"news elsewhere": {1, true},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, 2, 2, inMemory)
			for _, n := range f.nodes {
				f.write(n, "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
			}
			f.pass(f.nodes[0])
			for round := range 12 {
				f.later(week/8, f.nodes...)
				n := f.nodes[tt.news]
				method, body := "PUT", fmt.Sprint(round)
				if tt.fenced {
					method, body = "DELETE", "" // what is newer is not forgotten, but a delete is
				}
				f.write(n, method, "o", timestamp.FromTime(n.clock().Add(-time.Minute)), nil, body, false)
				c := f.pass(f.nodes[0])
				if got := fenced(c); got && !tt.fenced || !got && tt.fenced && round == 11 {
					t.Fatalf("round %d: %+v, want fenced in the end is %v", round, c, tt.fenced)
				}
			}
		})
	}
}

// A pass that takes days, since it is held back, fences nothing by that: it ends where what it goes
// by is too old, and the next one asks anew.
func TestLongPass(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	n := f.nodes[0]
	for i := range 50 {
		for _, m := range f.nodes[:3] {
			f.write(m, "PUT", fmt.Sprint("same", i), timestamp.FromTime(n.clock()), nil, "body", false)
		}
	}
	if c := f.pass(f.nodes[:3]...); c.Failed > 0 {
		t.Fatalf("at first: %+v", c)
	}
	f.later(time.Hour, f.nodes...)
	f.write(n, "PUT", "new", timestamp.FromTime(n.clock()), nil, "new", false)
	slow := f.nodes[1]
	good := slow.serving()
	slow.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			f.later(week/14, f.nodes...) // each takes half a day
		}
		good.ServeHTTP(w, r)
	}))
	for pass := range 30 {
		f.write(n, "PUT", fmt.Sprint("more", pass), timestamp.FromTime(n.clock()), nil, "new", false)
		if c := f.pass(n); fenced(c) {
			t.Fatalf("pass %d, though all see each other all the time: %+v", pass, c)
		}
	}
	if s := f.state(f.nodes[2], "new"); s.Kind != engine.Live {
		t.Errorf("what was new has not been brought: %+v", s)
	}
}

// A node that was suspended in the middle of a pass, and wakes up after a week and a half, goes
// on with nothing of it.
func TestSuspended(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory)
	n, here := f.nodes[0], f.nodes[1:]
	for _, m := range f.nodes {
		f.write(m, "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
	}
	if c := f.pass(f.nodes...); c.Failed > 0 {
		t.Fatalf("at first: %+v", c)
	}
	same := ""
	for i := 0; same == ""; i++ {
		if s := fmt.Sprint("x", i); f.ring.Partition(f.at(s).Hash) == f.ring.Partition(f.at("o").Hash) {
			same = s
		}
	}
	f.write(n, "PUT", same, timestamp.FromTime(n.clock().Add(time.Second)), nil, "new", false)
	var once sync.Once
	for _, m := range here {
		good := m.serving()
		m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isList(r) {
				once.Do(func() { f.asleep(n, here) })
			}
			good.ServeHTTP(w, r)
		}))
	}
	f.pass(n)
	f.pass(n)
	for i, m := range here {
		if s := f.state(m, "o"); s.Kind == engine.Live {
			t.Errorf("node %d has what was deleted: %+v", i+1, s)
		}
	}
}

// asleep has others delete an object, and forget that, while a node sleeps.
func (f *fleet) asleep(n *small, here []*small) {
	back := f.away(n)
	for _, m := range here {
		f.write(m, "DELETE", "o", timestamp.FromTime(m.clock().Add(time.Second)), nil, "", false)
	}
	f.later(week*3/2, here...)
	for _, m := range here {
		if s := f.state(m, "o"); !s.Newest().IsZero() {
			f.t.Errorf("%+v is left of what was deleted a week and a half ago", s)
		}
	}
	n.ahead.Add(int64(week * 3 / 2))
	back()
}

// A node that has kept an old ring pushes to who is no primary any more, and is in step with
// nobody: what was deleted does not come back through it.
func TestStaleRing(t *testing.T) {
	f := newFleet(t, 4, 2, inMemory)
	n := f.nodes[0]
	n.ring.Store(f.ring)
	f.ring = f.ringOf(2, 3)
	for _, i := range []int{0, 2, 3} {
		f.write(f.nodes[i], "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
	}
	f.pass(f.nodes...)
	f.pass(f.nodes...)
	for _, m := range f.nodes[2:] {
		f.write(m, "DELETE", "o", timestamp.FromTime(m.clock().Add(time.Second)), nil, "", false)
	}
	for range 14 {
		f.later(week/8, f.nodes...)
		f.pass(f.nodes[1])
		f.pass(f.nodes[2:]...)
		f.pass(n)
	}
	f.pass(f.nodes[1])
	for i, m := range f.nodes[2:] {
		if s := f.state(m, "o"); s.Kind == engine.Live {
			t.Errorf("node %d has what was deleted two weeks ago: %+v", i+2, s)
		}
	}
}

// An object that clients overwrite all the time, also while states are compared, fences nobody.
func TestHotObject(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory)
	var mu sync.Mutex
	count := 0
	hot := func() {
		mu.Lock()
		defer mu.Unlock()
		count++
		at := timestamp.FromTime(f.nodes[0].clock().Add(time.Duration(count) * time.Millisecond))
		for _, n := range f.nodes {
			f.write(n, "PUT", "hot", at, nil, fmt.Sprint(count), false)
		}
	}
	hot()
	for _, n := range f.nodes {
		good := n.serving()
		n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "REPLICATE" {
				hot()
			}
			good.ServeHTTP(w, r)
		}))
	}
	for round := range 30 {
		f.later(6*time.Hour, f.nodes...)
		hot()
		for i, n := range f.nodes {
			if c := f.pass(n); fenced(c) {
				t.Fatalf("round %d: node %d says %+v", round, i, c)
			}
		}
	}
}

// A handoff that has missed an overwrite, while one primary is dead for weeks, is not fenced for that.
func TestHandoffOfWhatIsOlder(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	handoff := f.nodes[3]
	for _, n := range []int{0, 1, 3} {
		for _, o := range []string{"o", "p"} {
			f.write(f.nodes[n], "PUT", o, timestamp.FromTime(handoff.clock()), nil, "body", false)
		}
	}
	f.away(f.nodes[2])
	for _, n := range []int{0, 1} {
		f.write(f.nodes[n], "PUT", "o", timestamp.FromTime(handoff.clock().Add(30*time.Second)), nil, "newer", false)
	}
	for round := range 12 {
		f.later(week/8, f.nodes...)
		for _, i := range []int{0, 1, 3} {
			if c := f.pass(f.nodes[i]); fenced(c) {
				t.Fatalf("round %d, node %d: %+v", round, i, c)
			}
		}
	}
}

// The only copy that is to be is moved to where it belongs, however long its device was away.
func TestOnlyReplica(t *testing.T) {
	f := newFleet(t, 2, 1, inMemory)
	n := f.nodes[0]
	f.write(n, "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
	f.pass(n)
	f.later(2*week, f.nodes...)
	f.pass(n)
	f.ring = f.ringOf(1)
	if c := f.pass(n); c.Failed > 0 || c.Dropped != 1 {
		t.Errorf("%+v, want it moved", c)
	}
	if s := f.state(f.nodes[1], "o"); s.Kind != engine.Live {
		t.Errorf("its new place has %+v", s)
	}
}

// A pass that leaves out what was written lately forgets no fence of it.
func TestFenceIsNotForgotten(t *testing.T) {
	f := newFleet(t, 2, 2, inMemory)
	n := f.nodes[0]
	n.ahead.Store(-int64(2 * week))
	f.write(n, "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
	f.pass(n)
	n.ahead.Store(0)
	if c := f.pass(n); !fenced(c) {
		t.Fatalf("after two weeks: %+v, want it fenced", c)
	}
	f.write(n, "POST", "o", timestamp.FromTime(n.clock()), nil, "", false)
	if _, err := n.repl.Pass(t.Context(), replicator.Options{Settled: true}); err != nil {
		t.Fatal(err)
	}
	if c := f.pass(n); !fenced(c) {
		t.Errorf("the fence is gone: %+v", c)
	}
}

// A node that is started again while it holds nothing, makes its passes for a week, and is then written to.
func TestEmptyThenUsed(t *testing.T) {
	var disks []vfs.FS
	f := newFleet(t, 3, 3, func() vfs.FS { m := vfs.NewMem(); disks = append(disks, m); return m })
	day := 24 * time.Hour
	for _, n := range f.nodes {
		f.write(n, "PUT", "o", timestamp.FromTime(n.clock()), nil, "body", false)
	}
	f.pass(f.nodes...)
	for _, n := range f.nodes {
		f.write(n, "DELETE", "o", timestamp.FromTime(n.clock().Add(time.Second)), nil, "", false)
	}
	for range 9 {
		f.later(day, f.nodes...)
		if c := f.pass(f.nodes...); c.Failed > 0 {
			t.Fatalf("%+v", c)
		}
	}
	for i, n := range f.nodes { // it is started again
		n.repl.Close()
		n.store.Close()
		ahead := n.ahead.Load()
		m := f.open(disks[i], n.address, n.address)
		n.serve(m.serving())
		m.now = n.now
		m.ahead.Store(ahead)
		f.nodes[i] = m
	}
	for range 8 {
		f.later(day, f.nodes...)
		if c := f.pass(f.nodes...); c.Failed > 0 {
			t.Fatalf("%+v", c)
		}
	}
	for _, n := range f.nodes[:2] {
		f.write(n, "PUT", "o", timestamp.FromTime(n.clock()), nil, "new", false)
	}
	if c := f.pass(f.nodes...); fenced(c) {
		t.Errorf("who was here all the time says %+v", c)
	}
}
