//go:build !race

package databases_test

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/replwire"
)

// Nodes of any history forget at different moments, with passes in between, a handoff among them: nothing
// that was deleted is back, all that is live is there, and at the end nobody has anything dead, and all are equal.
func TestForgettingHistories(t *testing.T) {
	f := start(t, 5, 3)
	primaries, sum := f.nodes[:3], f.nodes[4] // which hears of everything, and forgets nothing
	paths := []string{"/a/c", "/a"}
	base := 10
	rapid.Check(t, func(r *rapid.T) {
		now, met := base, base
		for epoch := range rapid.IntRange(1, 3).Draw(r, "epochs") {
			for range rapid.IntRange(1, 8).Draw(r, "steps") {
				now++
				o := drawOp(r, now)
				heard := rapid.IntRange(1, 15).Draw(r, "heard by")
				for i, n := range f.nodes[:4] {
					if heard&(1<<i) != 0 {
						n.ask(o.line, o.seconds, o.headers...) // which it may refuse
						for _, path := range paths {
							f.copyTo(n, sum, path)
						}
					}
				}
				n := f.nodes[rapid.IntRange(0, 3).Draw(r, "node")]
				switch rapid.IntRange(0, 4).Draw(r, "beside") {
				case 0:
					n.whole()
				case 1:
					n.reclaim(rapid.IntRange(base, met).Draw(r, "horizon"))
				}
			}
			for range 2 {
				for _, n := range rapid.Permutation(f.nodes[:4]).Draw(r, "order") {
					n.whole()
				}
			}
			now++
			met = now
			f.shows(r, fmt.Sprint("epoch ", epoch), sum, primaries)
		}
		for _, n := range rapid.Permutation(f.nodes[:4]).Draw(r, "reclaim") {
			n.reclaim(met)
			if rapid.Bool().Draw(r, "pass") {
				n.whole()
			}
		}
		f.shows(r, "at the end", sum, primaries)
		for _, n := range f.nodes[:4] {
			if c := n.whole(); c.Pushed > 0 {
				r.Fatalf("all have forgotten, and %s pushes %+v", n.device, c)
			}
			for _, path := range paths {
				if got := f.dead(n, path); len(got) > 0 {
					r.Fatalf("%s of %s has dead %q", path, n.device, got)
				}
				if a, b := f.state(n, path), f.state(primaries[0], path); n != f.nodes[3] && a.Digest != b.Digest {
					r.Fatalf("%s of %s is %x, want %x", path, n.device, a, b)
				}
			}
		}
		for _, n := range f.nodes {
			for _, path := range paths {
				if d := f.state(n, path); d != (replwire.Database{}) {
					if _, err := n.store(path).Replicas().Drop(context.Background(), n.device, d); err != nil {
						r.Fatal(err)
					}
				}
				if f.has(n, path) {
					r.Fatalf("%s of %s may be forgotten, and is there", path, n.device)
				}
			}
		}
		base = now + 1
		if t.Failed() {
			r.FailNow()
		}
	})
}
