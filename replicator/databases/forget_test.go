package databases_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/account"
	"martlet/container"
	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// reclaim moves the horizon of a node, in seconds, and has it forget, once accounts were told of
// its containers.
func (n *node) reclaim(seconds int) {
	n.t.Helper()
	ctx := context.Background()
	n.horizon.Store(max(n.horizon.Load(), int64(seconds)))
	err := n.containers.Report(ctx, false, func(context.Context, name.Path, backend.Header) error { return nil })
	if err != nil {
		n.t.Fatal(err)
	}
	dev, err := n.set.Lookup(n.device)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, s := range []*metadb.Store{n.accounts.Store(), n.containers.Store()} {
		if err := s.Reclaim(ctx, dev, timestamp.FromTime(time.Unix(n.horizon.Load(), 0)), nil); err != nil {
			n.t.Fatal(err)
		}
	}
}

// has reports whether there is anything of a database on a node, seen by its peers or not.
func (f *fleet) has(n *node, path string) bool {
	err := n.store(path).View(context.Background(), f.at(n, path), func(*metadb.Tx) error { return nil })
	if err != nil && !errs.Is(err, errs.NotFound) {
		n.t.Fatal(err)
	}
	return err == nil
}

// dead returns the names of dead rows of a database on a node.
func (f *fleet) dead(n *node, path string) (names []string) {
	err := n.store(path).View(context.Background(), f.at(n, path), func(tx *metadb.Tx) error {
		list, err := tx.Changes(0, 1000)
		for _, c := range list {
			if strings.Count(path, "/") == 1 {
				r, err := account.DecodeRow(c.Row)
				if err != nil {
					return err
				}
				if r.Deleted() {
					names = append(names, c.Name)
				}
				continue
			}
			r, err := container.DecodeRow(c.Row)
			if err != nil {
				return err
			}
			if r.Deleted || !r.Data.After(tx.Info().Delete) {
				names = append(names, c.Name)
			}
		}
		return err
	})
	if err != nil && !errs.Is(err, errs.NotFound) {
		n.t.Fatal(err)
	}
	return names
}

// An account that was deleted says so until it is forgotten; then there is none, and it can be made anew.
// So it is with a container, and its row in the account.
func TestDeletedIsForgotten(t *testing.T) {
	f := start(t, 3, 3)
	for _, n := range f.nodes {
		n.do("PUT /gone", 1)
		n.do("PUT /gone/c", 1, "X-Put-Timestamp: 1", "X-Delete-Timestamp: 0", "X-Object-Count: 0", "X-Bytes-Used: 0")
		n.do("PUT /gone/c", 1)
		n.put("/gone/c/o", 2, 5)
		n.do("DELETE /gone/c/o", 3)
		n.do("DELETE /gone/c", 4)
		n.do("PUT /gone/c", 4, "X-Put-Timestamp: 1", "X-Delete-Timestamp: 4", "X-Object-Count: 0", "X-Bytes-Used: 0")
		n.do("DELETE /gone", 5)
		n.reclaim(5) // nothing of it is before that
	}
	for _, n := range f.nodes {
		if status, h, _ := n.ask("HEAD /gone", 6); status != 404 || h.Get("X-Account-Status") != "Deleted" {
			t.Errorf("%s: before it is forgotten: %d %v", n.device, status, h)
		}
		if status, _, _ := n.ask("PUT /gone", 6); status != 403 {
			t.Errorf("%s: before it is forgotten a PUT gives %d", n.device, status)
		}
		n.reclaim(6)
		if status, h, _ := n.ask("HEAD /gone", 6); status != 404 || h.Has("X-Account-Status") {
			t.Errorf("%s: when it is forgotten: %d %v", n.device, status, h)
		}
		if f.has(n, "/gone/c") || f.has(n, "/gone") {
			t.Errorf("%s: something is left", n.device)
		}
		f.round()
	}
	f.nodes[0].do("PUT /gone", 7)
	f.round()
	f.agree("/gone", f.nodes...)
}

// A node that has not forgotten yet, and one that holds it as a handoff, push what they have to those that
// have: it is not taken, is no failure, and nothing is dropped for it.
func TestForgottenElsewhere(t *testing.T) {
	f := start(t, 3, 2)
	handoff := f.nodes[2]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
		n.put("/a/c/o", 2, 5)
		n.do("DELETE /a/c/o", 3)
		n.do("DELETE /a/c", 4)
		n.do("PUT /a/d", 1)
		n.put("/a/d/o", 2, 5)
		n.do("DELETE /a/d/o", 3)
	}
	for _, n := range f.nodes[:2] {
		n.reclaim(9)
	}
	if c := handoff.whole(); c.Dropped != 1 || !f.has(handoff, "/a/c") {
		t.Errorf("a handoff whose horizon is behind: %+v", c)
	}
	handoff.horizon.Store(9)
	if c := handoff.whole(); c.Pushed != 0 {
		t.Errorf("a handoff pushes what it could forget: %+v", c)
	}
	handoff.reclaim(9)
	if f.has(handoff, "/a/c") {
		t.Error("the handoff has not forgotten it")
	}
	f.round()
	for _, n := range f.nodes {
		if f.has(n, "/a/c") {
			t.Errorf("%s has it again", n.device)
		}
	}
}

// What one node has forgotten and another has not costs a push or two, and is not taken; once all have
// forgotten they are equal.
func TestForgettingAtDifferentTimes(t *testing.T) {
	f := start(t, 2, 2)
	early, late := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1, "X-Container-Meta-M: 1")
		n.do("POST /a/c", 2, "X-Container-Meta-M: ")
		for i := range 5 {
			n.put(fmt.Sprint("/a/c/", i), 2, 5)
			n.do(fmt.Sprint("DELETE /a/c/", i), 3)
		}
		n.put("/a/c/live", 2, 5)
	}
	f.round()
	early.reclaim(9)
	f.round()
	f.round()
	if got := f.dead(early, "/a/c"); len(got) > 0 {
		t.Errorf("dead are again %q", got)
	}
	for _, n := range f.nodes {
		if c := n.whole(); c.Pushed != 0 {
			t.Errorf("%s goes on pushing: %+v", n.device, c)
		}
	}
	late.reclaim(9)
	f.agree("/a/c", f.nodes...)
	if got := f.dead(late, "/a/c"); len(got) > 0 {
		t.Errorf("dead are %q", got)
	}
}

// A device that holds nothing but what it could forget is not fenced for it.
func TestForgettableIsInStep(t *testing.T) {
	f := start(t, 2, 2)
	a := f.nodes[0]
	a.do("PUT /a/c", 1)
	a.do("DELETE /a/c", 2)
	for _, n := range f.nodes {
		n.horizon.Store(9) // nobody was told, so that it stays
	}
	for n := range 9 {
		f.later.Store(int64(time.Duration(n) * week / 8))
		if c := a.whole(); c.Pushed > 0 {
			t.Errorf("pass %d: %+v", n, c)
		}
	}
	a.do("PUT /a/c", 20)
	a.whole()
	f.agree("/a/c", f.nodes...)
}

// drawOp is something that a client does at a time.
func drawOp(r *rapid.T, seconds int) op {
	o := op{seconds: seconds}
	object := rapid.SampledFrom([]string{"/a/c/x", "/a/c/y"}).Draw(r, "object")
	value := rapid.SampledFrom([]string{"", "1"}).Draw(r, "value")
	switch rapid.IntRange(0, 8).Draw(r, "what") {
	case 0:
		o.line, o.headers = "PUT /a/c", []string{"X-Container-Meta-A: " + value}
	case 1:
		o.line = "DELETE /a/c"
	case 2:
		o.line, o.headers = "POST /a/c", []string{"X-Container-Meta-A: " + value}
	case 3, 4:
		o.line, o.headers = "PUT "+object, []string{"X-Size: 4", "X-Content-Type: t", "X-Etag: e" + value}
	case 5:
		o.line = "DELETE " + object
	case 6:
		o.line = "PUT /a"
	case 7:
		o.line = "DELETE /a"
	case 8:
		put, gone := seconds, 0
		if value == "1" {
			put, gone = 1, seconds
		}
		o.line, o.headers = "PUT /a/c", []string{
			fmt.Sprint("X-Put-Timestamp: ", put), fmt.Sprint("X-Delete-Timestamp: ", gone), "X-Object-Count: 0", "X-Bytes-Used: 0",
		}
	}
	return o
}

// shows compares what nodes show to what one does.
func (f *fleet) shows(r *rapid.T, when string, want *node, nodes []*node) {
	for _, path := range []string{"/a/c", "/a"} {
		status, h, text := want.ask("GET "+path, 1)
		for _, n := range nodes {
			s, g, got := n.ask("GET "+path, 1)
			if s != status || got != text {
				r.Fatalf("%s: %s of %s is %d %s, want %d %s", when, path, n.device, s, got, status, text)
			}
			for _, k := range []string{"X-Container-Object-Count", "X-Container-Bytes-Used", "X-Container-Meta-A", "X-Account-Container-Count"} {
				if status == 200 && g.Get(k) != h.Get(k) {
					r.Fatalf("%s: %s of %s has %s %q, want %q", when, path, n.device, k, g.Get(k), h.Get(k))
				}
			}
			if !f.has(n, path) {
				continue
			}
			if err := n.store(path).Check(context.Background(), f.at(n, path)); err != nil {
				r.Fatal(err)
			}
		}
	}
}
