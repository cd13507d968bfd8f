package node

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

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
		n.now = n.now.Add(by)
		if err := n.store.Reclaim(f.t.Context(), steps.Terms{ReclaimAge: week}.Horizon(n.now), nil); err != nil {
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
			begin := timestamp.FromTime(gone.now)
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
				f.write(n, "DELETE", "o", timestamp.FromTime(n.now.Add(time.Second)), nil, "", false)
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
			f.write(gone, "PUT", "new", timestamp.FromTime(gone.now), nil, "new", false)
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
	f.write(handoff, "PUT", "kept", timestamp.FromTime(handoff.now), nil, "body", false)
	for round := range 16 {
		f.later(week/4, f.nodes...)
		for i, n := range f.nodes[:3] {
			f.write(n, "PUT", fmt.Sprint("o", round%3), timestamp.FromTime(n.now.Add(time.Duration(i)*time.Second)), nil, fmt.Sprint(round, i), false)
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
		f.write(handoff, "POST", "kept", timestamp.FromTime(handoff.now.Add(time.Second)), nil, "", false)
	}
}

// Replicas forget at different moments, and make passes in any order in between: nothing that
// was deleted returns, nothing is pushed for ever, and no tombstone is immortal.
func TestNoTombstoneIsImmortal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := newFleet(t, 4, 3, func() vfs.FS { return vfs.NewMem() })
		begin := f.nodes[0].now
		deleted := false
		for _, n := range f.nodes {
			switch rapid.IntRange(0, 2).Draw(r, "what") {
			case 1:
				f.write(n, "PUT", "o", timestamp.FromTime(begin), nil, "body", false)
			case 2:
				f.write(n, "DELETE", "o", timestamp.FromTime(begin.Add(time.Second)), nil, "", false)
				deleted = true
			}
		}
		if !deleted {
			return
		}
		if c := f.pass(f.nodes...); c.Failed > 0 {
			r.Fatalf("at first: %+v", c)
		}
		f.pass(f.nodes...)
		for range rapid.IntRange(0, 30).Draw(r, "steps") {
			n := f.nodes[rapid.IntRange(0, 3).Draw(r, "node")]
			if rapid.Bool().Draw(r, "time passes") {
				f.later(week/8, n)
			} else if c := f.pass(n); c.Failed > 0 && !fenced(c) {
				r.Fatalf("a pass says %+v", c)
			}
			for i, n := range f.nodes {
				if s := f.state(n, "o"); s.Kind == engine.Live {
					r.Fatalf("node %d has what was deleted: %+v", i, s)
				}
			}
		}
		now := begin
		for _, n := range f.nodes {
			if n.now.After(now) {
				now = n.now
			}
		}
		for _, n := range f.nodes {
			f.later(now.Add(week*5/4).Sub(n.now), n)
		}
		if c := f.pass(f.nodes...); c.Pushed > 0 || c.Failed > 0 {
			r.Fatalf("when all have forgotten: %+v", c)
		}
		for i, n := range f.nodes {
			if s := f.state(n, "o"); !s.Newest().IsZero() {
				r.Fatalf("node %d still has %+v", i, s)
			}
		}
	})
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
				f.write(n, "PUT", "o", timestamp.FromTime(n.now), nil, "body", false)
			}
			f.pass(f.nodes[0])
			for round := range 12 {
				f.later(week/8, f.nodes...)
				n := f.nodes[tt.news]
				f.write(n, "PUT", "o", timestamp.FromTime(n.now), nil, fmt.Sprint(round), false)
				c := f.pass(f.nodes[0])
				if got := fenced(c); got && !tt.fenced || !got && tt.fenced && round == 11 {
					t.Fatalf("round %d: %+v, want fenced in the end is %v", round, c, tt.fenced)
				}
			}
		})
	}
}
