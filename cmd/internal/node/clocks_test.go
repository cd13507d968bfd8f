package node

import (
	"fmt"
	"testing"
	"time"

	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// One of three nodes has a clock that is wrong, ahead or behind, by minutes, days, or more than tombstones are kept, or
// that jumps there and back. It may refuse what clients write, forget deletes too early, and be fenced; but nothing
// that was written is lost, and nothing that was deleted comes back, where the clocks are right. Once the clock is, and
// the node is readmitted if it was fenced, all have the same.
func TestClocksApart(t *testing.T) {
	const day = 24 * time.Hour
	for _, size := range []time.Duration{time.Minute / 2, 5 * time.Minute, 3 * day, 30 * day} {
		for _, off := range []time.Duration{size, -size} {
			for _, jumps := range []bool{false, true} {
				t.Run(fmt.Sprint(off, " jumps ", jumps), func(t *testing.T) { clocksApart(t, off, jumps) })
			}
		}
	}
}

func clocksApart(t *testing.T, off time.Duration, jumps bool) {
	f := newFleet(t, 4, 3, inMemory)
	good, wrong := f.nodes[:2], f.nodes[2]
	stamp := func(ahead time.Duration) timestamp.T { return timestamp.FromTime(good[0].clock().Add(ahead)) }
	if !jumps {
		wrong.ahead.Store(int64(off))
	}
	all := func(method, object string, at time.Duration, nodes []*small) {
		for _, n := range nodes {
			if stamp(at).Time().Sub(n.clock()) > time.Minute {
				n = f.nodes[3] // one that is behind refuses what clients write
			}
			f.write(n, method, object, stamp(at), nil, object, false)
		}
	}
	step := time.Second
	all("PUT", "kept", 0, f.nodes[:3])
	all("PUT", "gone", 0, f.nodes[:3])
	all("PUT", "over", 0, f.nodes[:3])
	f.pass(f.nodes...)
	if jumps {
		wrong.ahead.Store(int64(off))
	}
	// A quorum that does not have the wrong one in it, one that has, and a handoff in the place of a primary.
	all("DELETE", "gone", step, good)
	all("PUT", "over", step, []*small{good[0], wrong})
	all("PUT", "by two", step, []*small{good[1], f.nodes[3]})
	rounds := func(n int) {
		t.Helper()
		for range n {
			for _, m := range f.nodes {
				if err := m.store.Reclaim(t.Context(), f.terms().Horizon(m.clock()), nil); err != nil {
					t.Fatal(err)
				}
				f.pass(m)
			}
			if s := f.state(good[0], "gone"); s.Kind == engine.Live {
				t.Fatalf("what was deleted is back: %+v", s)
			}
		}
	}
	check := func(when string, nodes []*small) {
		t.Helper()
		for i, n := range nodes {
			for _, o := range []string{"kept", "over", "by two"} {
				want := stamp(0)
				if o != "kept" {
					want = stamp(step)
				}
				if s := f.state(n, o); s.Kind != engine.Live || s.Time != want {
					t.Errorf("%s: %s at node %d is %+v, want it of %s", when, o, i, s, want)
				}
			}
			if s := f.state(n, "gone"); s.Kind == engine.Live {
				t.Errorf("%s: node %d has what was deleted: %+v", when, i, s)
			}
		}
	}
	rounds(3)
	check("while the clock is wrong", good)
	wrong.ahead.Store(0)
	rounds(2)
	if c := f.pass(wrong); fenced(c) {
		if off < f.terms().Limit() && -off < f.terms().Limit() {
			t.Errorf("a clock that was %v off has fenced the node: %+v", off, c)
		}
		book, err := wrong.steps.Of("d")
		if err == nil {
			err = book.Readmit(wrong.clock())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rounds(2)
	check("once it is right again", f.nodes[:3])
	if c := f.pass(f.nodes...); c.Pushed > 0 || c.Failed > 0 {
		t.Errorf("then another pass of all does %+v", c)
	}
}
