package databases_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"martlet/internal/replwire"
	"martlet/replicator"
)

const week = 7 * 24 * time.Hour

// refused reports whether a pass did nothing, since what is here may have been deleted
// elsewhere.
func refused(c replicator.Counts) bool {
	return c.Pushed == 0 && c.Dropped == 0 && c.Failed > 0 && strings.Contains(c.Failures[0].Reason, "fenced")
}

// A node that was away for longer than tombstones are kept pushes nothing, whether it is
// up again or was never down but could not be reached, and whatever others bring it. The
// others are not fenced for it.
func TestAwayForTooLong(t *testing.T) {
	f := start(t, 3, 3)
	away := f.nodes[2]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
	}
	away.put("/a/c/o", 2, 5) // nobody else has it
	f.round()
	away.put("/a/c/p", 3, 5)
	for n := range 9 {
		f.later.Store(int64(time.Duration(n) * week / 8))
		for i, n := range f.nodes[:2] {
			away.down.Store(true)
			c := n.pass()
			for _, failure := range c.Failures {
				if strings.Contains(failure.Reason, "fenced") {
					t.Errorf("node %d is fenced: %+v", i, failure)
				}
			}
			away.down.Store(false)
		}
	}
	if c := away.pass(); !refused(c) {
		t.Errorf("the node that was away says %+v", c)
	}
	f.nodes[0].whole()
	f.nodes[1].whole()
	if c := away.pass(); !refused(c) {
		t.Errorf("after others have brought what they have the node that was away says %+v", c)
	}
	if _, h, _ := f.nodes[0].ask("HEAD /a/c", 9); h.Get("X-Container-Object-Count") != "1" {
		t.Errorf("what may have been deleted came back: %v", h)
	}
}

// Accounts, containers and rows are deleted, and forgotten, while a node is away for longer than that takes: nothing
// comes back with it, while it is brought what was made meanwhile. By the operator's word it does come back.
func TestDeletedWhileAwayForTooLong(t *testing.T) {
	f := start(t, 3, 3)
	away, here := f.nodes[2], f.nodes[:2]
	for _, n := range f.nodes {
		n.do("PUT /gone", 1)
		n.do("PUT /a", 1)
		for _, c := range []string{"/a/gone", "/a/again", "/a/kept"} {
			n.do("PUT "+c, 1, "X-Container-Meta-M: old")
			n.put(c+"/gone", 2, 5)
			n.do("PUT "+c, 2, "X-Put-Timestamp: 1", "X-Delete-Timestamp: 0", "X-Object-Count: 1", "X-Bytes-Used: 5")
		}
	}
	f.round()
	for _, n := range here {
		for _, c := range []string{"/a/gone", "/a/again"} {
			n.do("DELETE "+c+"/gone", 3)
			n.do("DELETE "+c, 4)
			n.do("PUT "+c, 4, "X-Put-Timestamp: 1", "X-Delete-Timestamp: 4", "X-Object-Count: 0", "X-Bytes-Used: 0")
		}
		n.do("DELETE /a/kept/gone", 3)
		n.do("DELETE /gone", 4)
	}
	for eighths := range 10 {
		f.later.Store(int64(time.Duration(eighths) * week / 8))
		for _, n := range here {
			away.down.Store(true)
			n.pass()
			away.down.Store(false)
			if eighths == 8 {
				n.reclaim(9)
			}
		}
	}
	for _, n := range here {
		n.do("PUT /a/again", 20, "X-Container-Meta-M: new")
		n.put("/a/kept/new", 21, 7)
	}
	gone := func(when string) {
		t.Helper()
		for _, n := range here {
			if f.has(n, "/gone") || f.has(n, "/a/gone") {
				t.Errorf("%s: %s has again what was deleted", when, n.device)
			}
			if _, h, text := n.ask("GET /a/kept", 30); strings.Contains(text, "gone") || h.Get("X-Container-Object-Count") != "1" {
				t.Errorf("%s: %s lists %s", when, n.device, text)
			}
			if _, h, _ := n.ask("HEAD /a/again", 30); h.Get("X-Container-Object-Count") != "0" || h.Get("X-Container-Meta-M") != "new" {
				t.Errorf("%s: %s says of what was made anew %v", when, n.device, h)
			}
			if _, _, text := n.ask("GET /a", 30); strings.Contains(text, "gone") {
				t.Errorf("%s: the account at %s lists %s", when, n.device, text)
			}
		}
	}
	gone("before it is back")
	for range 3 {
		if c := away.pass(); !refused(c) {
			t.Errorf("the node that was away says %+v", c)
		}
		for _, n := range here {
			n.whole()
		}
	}
	gone("with it back")
	if _, h, text := away.ask("GET /a/kept", 30); !strings.Contains(text, "new") {
		t.Errorf("it was not brought what was made meanwhile: %v %s", h, text)
	}
	book, err := away.steps.Of(away.device)
	if err == nil {
		err = book.Readmit(f.now())
	}
	if err != nil {
		t.Fatal(err)
	}
	if c := away.whole(); c.Pushed == 0 || !f.has(here[0], "/a/gone") {
		t.Errorf("readmitted as it is, it says %+v, want it to bring what it has", c)
	}
}

// Who is in step now and then is never fenced: by the same digests, by what peers have
// brought since the last pass, and where nobody else has anything.
func TestInStep(t *testing.T) {
	for what, do := range map[string]func(f *fleet, n int){
		"nothing happens": func(*fleet, int) {},
		"others change it all the time": func(f *fleet, n int) {
			f.nodes[1].put("/a/c/o", 10+n, n) // when the first asks, they differ
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := start(t, 2, 2)
			for _, n := range f.nodes {
				n.do("PUT /a/c", 1)
			}
			f.nodes[0].do("PUT /a/only", 1)
			f.round()
			for n := range 16 {
				f.later.Store(int64(time.Duration(n) * week / 4))
				do(f, n)
				for i, node := range f.nodes {
					if c := node.pass(); c.Failed > 0 {
						t.Fatalf("pass %d of node %d says %+v", n, i, c)
					}
				}
			}
		})
	}
}

// What a peer has that is newer, and does not bring, is what a device is out of step in.
func TestOutOfStep(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
	}
	f.round()
	b.put("/a/c/o", 2, 5)
	for n := range 7 { // the limit is seven eighths
		f.later.Store(int64(time.Duration(n) * week / 8))
		if c := a.pass(); c.Failed > 0 {
			t.Fatalf("pass %d says %+v", n, c)
		}
	}
	f.later.Store(int64(week))
	a.put("/a/c/p", 3, 5)
	if c := a.pass(); !refused(c) {
		t.Errorf("after a week with somebody who had more the pass says %+v", c)
	}
}

// What another node of the same host has brought says nothing of what this one has.
func TestBroughtByAnother(t *testing.T) {
	f := start(t, 3, 2)
	a, b, handoff := f.nodes[0], f.nodes[1], f.nodes[2]
	for _, n := range f.nodes[:2] {
		n.do("PUT /a/c", 1)
	}
	f.round()
	b.put("/a/c/o", 2, 5) // which it does not bring
	for n := range 9 {
		f.later.Store(int64(time.Duration(n) * (week/8 - time.Minute))) // a second may end in between
		handoff.do("PUT /a/c", 1)
		handoff.put(fmt.Sprint("/a/c/p", n), 3, n)
		handoff.pass() // it is fenced itself in the end
		if c := a.pass(); refused(c) != (n == 8) {
			t.Fatalf("pass %d says %+v", n, c)
		}
	}
}

// A handoff that has found no primary for too long keeps what it has, and pushes none of it.
func TestHandoffIsFenced(t *testing.T) {
	f := start(t, 3, 2)
	away := f.nodes[2]
	away.do("PUT /a/c", 1)
	for n := range 9 {
		f.later.Store(int64(time.Duration(n) * week / 8))
		for _, n := range f.nodes[:2] {
			n.down.Store(true)
		}
		away.pass()
	}
	for _, n := range f.nodes[:2] {
		n.down.Store(false)
	}
	if c := away.pass(); !refused(c) {
		t.Errorf("the handoff says %+v", c)
	}
	if f.state(away, "/a/c") == (replwire.Database{}) {
		t.Error("the handoff has dropped it")
	}
}

// Who has nobody to be out of step with is not fenced.
func TestOneReplicaIsNotFenced(t *testing.T) {
	f := start(t, 1, 1)
	f.nodes[0].do("PUT /a/c", 1)
	f.round()
	f.later.Store(int64(2 * week))
	if c := f.nodes[0].pass(); refused(c) {
		t.Errorf("the only replica there is says %+v", c)
	}
}
