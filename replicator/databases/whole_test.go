package databases_test

import (
	"context"
	"errors"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/replwire"
)

const manyRows = 30_000

// wholes returns how many of a node's pushes so far were parts of a whole, and has it call fn before each.
func wholes(n *node, fn func(part int) error) *int {
	count := new(int)
	n.before = func(_ string, r *backend.Request) error {
		if _, ok := r.Header.Lookup(replwire.WholeHeader); !ok {
			return nil
		}
		*count++
		return fn(*count)
	}
	return count
}

func nothing(int) error { return nil }

// A peer that has nothing of a large container answers for none of it until all of it has come, also while it changes.
func TestWholeContainer(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	a.do("PUT /a/c", 1, "X-Container-Meta-M: 1")
	f.fill(a, "/a/c", 0, manyRows)
	n := wholes(a, func(part int) error {
		if status, _, _ := b.ask("GET /a/c", 0); status != 404 {
			t.Errorf("before part %d the peer answers %d", part, status)
		}
		f.fill(a, "/a/c", 100*part, 100*part+10)          // again, which changes nothing
		f.fill(a, "/a/c", manyRows+part, manyRows+part+1) // behind all of them
		a.put("/a/c/in front", 3+part, part)              // before all of them, each time another
		return nil
	})
	a.whole()
	if *n < manyRows/4096 {
		t.Errorf("it went in %d parts of a whole", *n)
	}
	a.whole()
	f.agree("/a/c", a, b)
}

// A sending that is cut off leaves nothing, and the next pass begins again.
func TestWholeIsCutOff(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	a.do("PUT /a/c", 1)
	f.fill(a, "/a/c", 0, manyRows)
	wholes(a, func(part int) error {
		if part == 4 {
			return errors.New("cut")
		}
		return nil
	})
	if c := a.pass(); c.Failed == 0 {
		t.Errorf("a pass that was cut off: %+v", c)
	}
	if status, _, _ := b.ask("GET /a/c", 0); status != 404 {
		t.Errorf("then the peer answers %d", status)
	}
	a.before = nil
	a.whole()
	f.agree("/a/c", a, b)
}

// Where the container comes to be in another way meanwhile, what is sent is merged with it.
func TestWholeMeetsAnother(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	a.do("PUT /a/c", 1)
	f.fill(a, "/a/c", 0, manyRows)
	wholes(a, func(part int) error {
		if part == 3 {
			b.do("PUT /a/c", 2, "X-Container-Meta-M: 1")
			b.put("/a/c/theirs", 3, 1)
		}
		return nil
	})
	a.whole()
	b.whole()
	f.agree("/a/c", a, b)
}

// Of two that bring one container one is told to come again.
func TestWholeFromTwo(t *testing.T) {
	f := start(t, 3, 3)
	a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
	a.do("PUT /a/c", 1)
	f.fill(a, "/a/c", 0, manyRows)
	a.whole()
	gone, err := c.containers.Store().Replicas().Drop(context.Background(), c.device, f.state(c, "/a/c"))
	if !gone || err != nil {
		t.Fatal(gone, err)
	}
	wholes(a, func(part int) error {
		if part == 3 {
			if counts := b.pass(); counts.Failed == 0 {
				t.Errorf("the second one: %+v", counts)
			}
		}
		return nil
	})
	a.whole()
	b.whole()
	f.agree("/a/c", a, b, c)
}

// A peer that has little of a large container gets the rest in the order of the file, merged part by part.
func TestFarBehind(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
	}
	b.put("/a/c/theirs", 3, 1)
	f.fill(a, "/a/c", 0, manyRows)
	n := wholes(a, nothing)
	a.whole()
	if *n != 0 {
		t.Errorf("%d parts of a whole went to one that has a container", *n)
	}
	b.whole()
	f.agree("/a/c", a, b)
}

// A part that does not say which one it is is refused.
func TestBadWhole(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	a.do("PUT /a/c", 1)
	f.fill(a, "/a/c", 0, manyRows)
	a.before = func(_ string, r *backend.Request) error {
		for i := range r.Header {
			if r.Header[i].Name == replwire.WholeHeader {
				r.Header[i].Value += "x"
			}
		}
		return nil
	}
	if c := a.pass(); c.Failed != 1 {
		t.Errorf("%+v", c)
	}
	if status, _, _ := b.ask("GET /a/c", 0); status != 404 {
		t.Errorf("then the peer answers %d", status)
	}
}
