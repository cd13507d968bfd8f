//go:build !race

package node

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/ec"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
)

// Whatever subset of the fragments is left, at least as many as it takes, and wherever those are: passes of all devices end with fragment i
// on the i-th primary and nothing else, and the object can be read at any time between.
func TestFragmentsProperty(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		shape := rapid.SampledFrom([]ec.Shape{{Data: 1, Parity: 1}, {Data: 2, Parity: 1}, {Data: 2, Parity: 2}, {Data: 4, Parity: 2}}).Draw(r, "shape")
		f := newCells(t, shape, shape.Fragments()+2)
		nodes := len(f.nodes)
		var live, dead []*wholeObject
		for i := range rapid.IntRange(1, 3).Draw(r, "objects") {
			object := fmt.Sprint("o", i)
			writes := rapid.IntRange(1, 3).Draw(r, "writes")
			deleted := rapid.Bool().Draw(r, "deleted")
			for w := range writes {
				o := f.encode(object, f.source.Next(), bytes.Repeat([]byte{byte(w)}, rapid.IntRange(0, 3000).Draw(r, "size")), rapid.Bool().Draw(r, "sized"))
				last := w == writes-1 && !deleted
				least := 0
				if last {
					least = shape.Data
				}
				there := rapid.Permutation(indexesTo(shape.Fragments())).Draw(r, "fragments")[:rapid.IntRange(least, shape.Fragments()).Draw(r, "how many")]
				for _, index := range there {
					for _, at := range rapid.SliceOfNDistinct(rapid.IntRange(0, nodes-1), 1, 2, rapid.ID[int]).Draw(r, "where") {
						f.put(o, index, at)
					}
				}
				commits := rapid.Permutation(indexesTo(f.policy.Replicas())).Draw(r, "replicas")[:rapid.IntRange(1, f.policy.Replicas()).Draw(r, "commits")]
				if w == writes-1 {
					commits = commits[:max(1, len(commits))]
				}
				f.commit(o, commits...)
				if last {
					live = append(live, o)
				} else {
					dead = append(dead, o)
				}
			}
			if deleted {
				f.delete(object, f.source.Next(), rapid.SliceOfNDistinct(rapid.IntRange(0, f.policy.Replicas()-1), 1, -1, rapid.ID[int]).Draw(r, "tombstones")...)
			}
		}
		if rapid.Bool().Draw(r, "another ring") {
			f.rings.Store(f.ringsOf(rapid.Permutation(indexesTo(nodes)).Draw(r, "ring")[:shape.Fragments()]...))
		}
		for range 4 {
			for _, i := range rapid.Permutation(indexesTo(nodes)).Draw(r, "order") {
				f.pass(i)
				f.readable(r, live...)
			}
		}
		if c := f.pass(); c.Failed+c.Rebuilt+c.Pushed+c.Dropped > 0 {
			r.Fatalf("there was still something to do: %+v", c)
		}
		for _, o := range live {
			if got, want := f.where(o), f.home(); got != want {
				r.Fatalf("of %s there is %q, want %q", o.path.Object, got, want)
			}
		}
		for _, o := range dead {
			if got := f.where(o); got != "" {
				r.Fatalf("of a write of %s that is no more there is %q", o.path.Object, got)
			}
		}
	})
}

// Replicas forget at different moments, and make passes in any order in between: nothing that
// was deleted returns, nothing is pushed for ever, and no tombstone is immortal.
func TestNoTombstoneIsImmortal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := newFleet(t, 4, 3, func() vfs.FS { return vfs.NewMem() })
		begin := f.nodes[0].clock()
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
			if n.clock().After(now) {
				now = n.clock()
			}
		}
		for _, n := range f.nodes {
			f.later(now.Add(week*5/4).Sub(n.clock()), n)
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
