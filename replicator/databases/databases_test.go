package databases_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"martlet/container"
	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// Both sides of two replicas come together, whoever passes first.
func TestTwoComeTogether(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		f := start(t, 2, 2)
		a, b := f.nodes[0], f.nodes[1]
		for _, n := range f.nodes {
			n.do("PUT /a", 1)
			n.do("PUT /a/c", 1)
			n.put("/a/c/both", 2, 1)
		}
		a.put("/a/c/only-a", 3, 10)
		a.do("DELETE /a/c/both", 4)
		b.put("/a/c/only-b", 3, 100)
		b.put("/a/c/both", 3, 1000)
		a.do("POST /a/c", 5, "X-Container-Meta-A: 1", "X-Container-Meta-Both: a")
		b.do("POST /a/c", 6, "X-Container-Meta-B: 2", "X-Container-Meta-Both: b")
		a.do("PUT /a/c", 7, "X-Put-Timestamp: 7", "X-Delete-Timestamp: 0", "X-Object-Count: 1", "X-Bytes-Used: 10")
		b.do("PUT /a/d", 7, "X-Put-Timestamp: 7", "X-Delete-Timestamp: 0", "X-Object-Count: 2", "X-Bytes-Used: 20")
		for _, i := range order {
			f.nodes[i].whole()
		}
		f.agree("/a", a, b)
		f.agree("/a/c", a, b)
		for _, n := range f.nodes {
			status, h, text := n.ask("GET /a/c", 9)
			if status != 200 || h.Get("X-Container-Object-Count") != "2" || h.Get("X-Container-Bytes-Used") != "110" ||
				!strings.Contains(text, "only-a") || !strings.Contains(text, "only-b") || strings.Contains(text, "both") {
				t.Errorf("%s lists %d %v %s", n.device, status, h, text)
			}
			if h.Get("X-Container-Meta-A") != "1" || h.Get("X-Container-Meta-B") != "2" || h.Get("X-Container-Meta-Both") != "b" {
				t.Errorf("%s has metadata %v", n.device, h)
			}
			if _, h, _ := n.ask("HEAD /a", 9); h.Get("X-Account-Container-Count") != "2" || h.Get("X-Account-Bytes-Used") != "30" {
				t.Errorf("%s has account %v", n.device, h)
			}
			if c := n.whole(); c.Pushed != 0 || c.Compared != 2 {
				t.Errorf("after they agree, %s pushes: %+v", n.device, c)
			}
		}
	}
}

// What happens while a replica is away reaches it.
func TestReplicaAway(t *testing.T) {
	for what, c := range map[string]struct {
		before, meanwhile func(*node)
		gone              string            // what must not be there
		live              string            // what must be
		header            map[string]string // of live
	}{
		"account and container made": {
			meanwhile: func(n *node) { n.do("PUT /a", 1); n.do("PUT /a/c", 1); n.put("/a/c/o", 2, 5) },
			live:      "/a/c", header: map[string]string{"X-Container-Object-Count": "1"},
		},
		"container deleted": {
			before:    func(n *node) { n.do("PUT /a/c", 1, "X-Container-Meta-M: 1"); n.put("/a/c/o", 2, 5) },
			meanwhile: func(n *node) { n.do("DELETE /a/c/o", 3); n.do("DELETE /a/c", 4) },
			gone:      "/a/c",
		},
		"account deleted": {
			before:    func(n *node) { n.do("PUT /a", 1) },
			meanwhile: func(n *node) { n.do("DELETE /a", 4) },
			gone:      "/a",
		},
		"container made and deleted": {
			meanwhile: func(n *node) { n.do("PUT /a/c", 1); n.do("DELETE /a/c", 4) },
			gone:      "/a/c",
		},
		"container deleted and made anew": {
			before: func(n *node) { n.do("PUT /a/c", 1, "X-Container-Meta-M: 1"); n.put("/a/c/o", 2, 5) },
			meanwhile: func(n *node) {
				n.do("DELETE /a/c/o", 3)
				n.do("DELETE /a/c", 4)
				n.do("PUT /a/c", 5, "X-Backend-Storage-Policy-Index: 3", "X-Container-Meta-N: 2")
				n.do("PUT /a/c/p", 6, "X-Size: 7", "X-Content-Type: x", "X-Etag: y", "X-Backend-Storage-Policy-Index: 3")
			},
			live: "/a/c", header: map[string]string{
				"X-Container-Object-Count": "1", "X-Container-Bytes-Used": "7", "X-Backend-Storage-Policy-Index": "3",
				"X-Container-Meta-M": "", "X-Container-Meta-N": "2",
			},
		},
		"metadata removed": {
			before:    func(n *node) { n.do("PUT /a/c", 1, "X-Container-Meta-M: 1") },
			meanwhile: func(n *node) { n.do("POST /a/c", 2, "X-Container-Meta-M: ") },
			live:      "/a/c", header: map[string]string{"X-Container-Meta-M": ""},
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := start(t, 3, 3)
			if c.before != nil {
				for _, n := range f.nodes {
					c.before(n)
				}
			}
			f.nodes[2].down.Store(true)
			for _, n := range f.nodes[:2] {
				c.meanwhile(n)
			}
			for _, n := range f.nodes[:2] {
				if got := n.pass(); got.Failed == 0 {
					t.Errorf("a node is down, and the pass says %+v", got)
				}
			}
			f.nodes[2].down.Store(false)
			f.nodes[2].whole() // what it pushes is old
			f.nodes[0].whole()
			path := c.live + c.gone
			f.agree(path, f.nodes...)
			for _, n := range f.nodes {
				status, h, _ := n.ask("HEAD "+path, 9)
				if (status == 404) != (c.gone != "") {
					t.Errorf("%s answers %d", n.device, status)
				}
				for k, v := range c.header {
					if h.Get(k) != v {
						t.Errorf("%s has %s: %q, want %q", n.device, k, h.Get(k), v)
					}
				}
			}
		})
	}
}

// Rows that one replica had when another was found empty and deleted are hidden
// where they are, in whatever order the two meet.
func TestDeleteHidesRowsElsewhere(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
	}
	for i := range 20 {
		a.put(fmt.Sprintf("/a/c/%d", i), 2, 5)
	}
	b.do("DELETE /a/c", 3)
	b.do("PUT /a/c", 4)
	f.round()
	f.agree("/a/c", a, b)
	for _, n := range f.nodes {
		if _, h, _ := n.ask("HEAD /a/c", 9); h.Get("X-Container-Object-Count") != "0" || h.Get("X-Container-Bytes-Used") != "0" {
			t.Errorf("%s still counts %v", n.device, h)
		}
	}
}

// A row that is newer than the delete of its container brings that back, without
// what it said of itself before; one that is not stays hidden. The order in which
// the replicas meet does not matter, nor does which of them got what.
func TestOnlyNewerRowsBringBack(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		for stamp, back := range map[int]bool{2: false, 3: false, 4: true} {
			f := start(t, 2, 2)
			a, b := f.nodes[0], f.nodes[1]
			for _, n := range f.nodes {
				n.do("PUT /a/c", 1, "X-Container-Meta-M: 1")
			}
			b.do("DELETE /a/c", 3)
			a.put("/a/c/o", stamp, 5)
			for _, i := range order {
				f.nodes[i].whole()
			}
			f.agree("/a/c", a, b)
			for _, n := range f.nodes {
				status, h, text := n.ask("GET /a/c", 9)
				if back && (status != 200 || !strings.Contains(text, `"o"`) || h.Get("X-Container-Object-Count") != "1" || h.Get("X-Container-Meta-M") != "") {
					t.Errorf("row at %d: %s answers %d %v %s, want the container with the row", stamp, n.device, status, h, text)
				}
				if !back && status != 404 {
					t.Errorf("row at %d: %s answers %d %v %s, want 404", stamp, n.device, status, h, text)
				}
				if n.do("PUT /a/c", 5); back {
					continue
				}
				if status, h, text := n.ask("GET /a/c", 9); status != 200 || h.Get("X-Container-Object-Count") != "0" {
					t.Errorf("row at %d, made anew: %s answers %d %v %s, want it empty", stamp, n.device, status, h, text)
				}
			}
		}
	}
}

func TestHandoffGoesHome(t *testing.T) {
	f := start(t, 4, 3)
	away := f.nodes[3]
	for _, n := range f.nodes[:3] {
		n.do("PUT /a/c", 1)
	}
	away.do("PUT /a/c", 1)
	away.put("/a/c/o", 2, 5)
	away.do("PUT /a", 1)
	away.do("PUT /a/gone", 1)
	away.do("DELETE /a/gone", 2)

	f.nodes[1].down.Store(true)
	if c := away.pass(); c.Dropped != 0 || c.Failed == 0 || c.Pushed == 0 || c.Handoffs == 0 {
		t.Errorf("with a primary down the handoff says %+v", c)
	}
	if f.state(away, "/a/c").Change == 0 {
		t.Error("the handoff dropped what a primary does not have")
	}
	f.nodes[1].down.Store(false)
	if c := away.whole(); c.Dropped != 3 {
		t.Errorf("the handoff says %+v", c)
	}
	for _, path := range []string{"/a/c", "/a", "/a/gone"} {
		f.agree(path, f.nodes[:3]...)
		if f.state(away, path) != (replwire.Database{}) {
			t.Errorf("the handoff still has %s", path)
		}
		if _, err := os.Stat(f.file(away, path)); !os.IsNotExist(err) {
			t.Errorf("its file: %v", err)
		}
	}
	if c := away.whole(); c.Compared != 0 || c.Dropped != 0 {
		t.Errorf("the handoff has nothing and says %+v", c)
	}
	away.do("PUT /a/c", 1)
	away.put("/a/c/again", 3, 5)
	away.whole()
	if _, h, _ := f.nodes[2].ask("HEAD /a/c", 9); h.Get("X-Container-Object-Count") != "2" {
		t.Errorf("what came to the handoff later did not go home: %v", h)
	}
}

// A primary that answers, and takes nothing, has not confirmed anything.
func TestPrimaryTakesNothing(t *testing.T) {
	f := start(t, 3, 2)
	away := f.nodes[2]
	away.do("PUT /a/c", 1)
	away.before = func(addr string, r *backend.Request) error {
		if r.Method == "PUT" && addr == f.nodes[1].addr {
			return errs.E(errs.NoSpace, "full")
		}
		return nil
	}
	if c := away.pass(); c.Dropped != 0 || c.Failed != 1 || c.Failures[0].Peer != f.nodes[1].addr+"/"+f.nodes[1].device {
		t.Errorf("the pass says %+v", c)
	}
	if f.state(away, "/a/c") == (replwire.Database{}) {
		t.Error("it was dropped")
	}
}

// Two nodes whose rings differ can each take the other for the only primary, and
// both have heard that the other has the container before either drops it. One
// must stay.
func TestRingsDiffer(t *testing.T) {
	f := start(t, 2, 1)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
		n.put("/a/c/o", 2, 5)
		n.ring.Store(f.ringOf(t, 0, 1))
	}
	b.whole() // from now on the two have the same
	a.ring.Store(f.ringOf(t, 1))
	b.ring.Store(f.ringOf(t, 0))
	var asked, both sync.WaitGroup
	asked.Add(len(f.nodes))
	counts := make([]replicator.Counts, len(f.nodes))
	for i, n := range f.nodes {
		var once sync.Once
		n.after = func(r *backend.Request) {
			once.Do(func() { asked.Done(); asked.Wait() })
		}
		both.Go(func() { counts[i] = n.pass() })
	}
	both.Wait()
	for i, n := range f.nodes {
		if f.state(n, "/a/c") == (replwire.Database{}) {
			t.Errorf("%s has dropped it", n.device)
		}
		if c := counts[i]; c.Dropped != 0 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Failures), "no primary") {
			t.Errorf("%s says %+v, want a failure that says why nothing was dropped", n.device, c)
		}
	}
	b.ring.Store(f.ringOf(t, 1))
	if c := a.whole(); c.Dropped != 1 {
		t.Errorf("when the rings agree: %+v, want it dropped", c)
	}
	if b.whole(); f.state(b, "/a/c") == (replwire.Database{}) {
		t.Error("it is gone")
	}
}

// A ring that comes into use while a handoff asks its peers makes what they say
// worthless.
func TestRingChangesBeforeDrop(t *testing.T) {
	f := start(t, 2, 1)
	away := f.nodes[1]
	away.do("PUT /a/c", 1)
	away.after = func(*backend.Request) { away.ring.Store(f.ringOf(t, 1)) }
	if c := away.pass(); c.Dropped != 0 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Failures), "ring") {
		t.Errorf("%+v, want a failure that says why nothing was dropped", c)
	}
	if f.state(away, "/a/c") == (replwire.Database{}) {
		t.Error("it was dropped")
	}
}

// What is written to a handoff while it goes home is not lost.
func TestHandoffChangesOnTheWay(t *testing.T) {
	f := start(t, 3, 2)
	away := f.nodes[2]
	away.do("PUT /a/c", 1)
	away.put("/a/c/o", 2, 5)
	late := 0
	away.before = func(addr string, r *backend.Request) error {
		if r.Method == "PUT" && addr == f.nodes[1].addr && late == 0 {
			late++
			away.put("/a/c/late", 3, 5) // the first primary has been confirmed already
		}
		return nil
	}
	if c := away.pass(); c.Dropped != 0 || late != 1 {
		t.Errorf("what had changed was dropped: %+v", c)
	}
	if c := away.whole(); c.Dropped != 1 {
		t.Errorf("the next pass: %+v", c)
	}
	f.agree("/a/c", f.nodes[:2]...)
	if _, h, _ := f.nodes[0].ask("HEAD /a/c", 9); h.Get("X-Container-Object-Count") != "2" {
		t.Errorf("a primary has %v", h)
	}
}

func TestLostDatabaseComesBack(t *testing.T) {
	f := start(t, 3, 3)
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1, "X-Container-Meta-M: 1")
		n.put("/a/c/o", 2, 5)
	}
	was := f.state(f.nodes[1], "/a/c")
	if gone, err := f.nodes[1].containers.Store().Replicas().Drop(context.Background(), f.nodes[1].device, was); !gone || err != nil {
		t.Fatal(gone, err)
	}
	f.nodes[2].whole()
	f.agree("/a/c", f.nodes...)
	if now := f.state(f.nodes[1], "/a/c"); now.Incarnation == was.Incarnation {
		t.Error("the new file has the incarnation of the lost one")
	}
}

// A database that can't be read is not pushed, is a failure on both sides, and
// holds nothing else up.
func TestCorruptDatabase(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
		f.fill(n, "/a/c", 0, 500) // enough for a file of its own
	}
	a.do("PUT /a/d", 1)
	b.put("/a/c/o", 2, 5)
	if err := os.Truncate(f.file(a, "/a/c"), 100); err != nil {
		t.Fatal(err)
	}
	if c := a.pass(); c.Failed != 1 || c.Failures[0].Peer != "" || c.Failures[0].Name != f.hash("/a/c").String() || c.Pushed != 1 {
		t.Errorf("who has the bad one says %+v", c)
	}
	if f.state(b, "/a/d") == (replwire.Database{}) {
		t.Error("the bad one held another up")
	}
	if c := b.pass(); c.Failed != 1 || c.Failures[0].Peer != a.addr+"/"+a.device || !strings.Contains(c.Failures[0].Reason, "503") {
		t.Errorf("the other says %+v", c)
	}
	if err := os.Remove(f.file(a, "/a/c")); err != nil {
		t.Fatal(err)
	}
	b.whole()
	f.agree("/a/c", a, b)
}

// What a handoff has lost is missed until all primaries have it, and not because one of them is away.
func TestHandoffHasLost(t *testing.T) {
	f := start(t, 3, 3)
	n := f.nodes[2]
	for i, m := range f.nodes {
		m.do("PUT /a/c", 1)
		if i > 0 {
			m.do("PUT /a/d", 1)
		}
	}
	f.fill(n, "/a/c", 0, 500) // enough for files of their own
	f.fill(n, "/a/d", 0, 500)
	store := n.containers.Store()
	for _, path := range []string{"/a/c", "/a/d"} {
		if err := os.Truncate(f.file(n, path), 100); err != nil {
			t.Fatal(err)
		}
	}
	if c := n.pass(); c.Failed != 2 {
		t.Fatalf("with two that are damaged: %+v", c)
	}
	if err := store.Isolate(t.Context(), f.at(n, "/a/c").Device, nil); err != nil {
		t.Fatal(err)
	}
	lost := func(when string, want ...string) {
		t.Helper()
		var hashes []name.Hash
		for _, path := range want {
			hashes = append(hashes, f.hash(path))
		}
		slices.SortFunc(hashes, func(a, b name.Hash) int { return bytes.Compare(a[:], b[:]) })
		if got, err := store.Replicas().Lost(t.Context(), n.device, name.Hash{}); !slices.Equal(got, hashes) || err != nil {
			t.Errorf("%s %v are missed, %v, want %v", when, got, err, hashes)
		}
	}
	n.whole()
	lost("as a primary", "/a/c", "/a/d")
	f.ring = f.ringOf(t, 0, 1)
	f.nodes[1].down.Store(true)
	n.pass()
	lost("with a primary away", "/a/c", "/a/d")
	f.nodes[1].down.Store(false)
	n.whole()
	lost("as a handoff", "/a/d")
	f.nodes[1].whole()
	n.whole()
	lost("once all primaries have both")
}

// fill merges rows into a container of a node, without the server.
func (f *fleet) fill(n *node, path string, from, to int) {
	n.t.Helper()
	rows := make([][]byte, 0, to-from)
	err := n.containers.Store().Update(context.Background(), f.at(n, path), func(tx *metadb.Tx) error {
		for i := from; i < to; i++ {
			row := row(int64(i%100+2), i%7 == 0)
			rows = append(rows, row)
			if _, err := tx.MergeRow(0, fmt.Sprintf("object-%06d", i), row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// A large one goes in parts, and later only what is new of it.
func TestLargeContainer(t *testing.T) {
	const rows = 50_000
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	same := func() {
		t.Helper()
		if f.state(a, "/a/c").Digest != f.state(b, "/a/c").Digest {
			t.Error("they differ")
		}
	}
	a.do("PUT /a/c", 1)
	f.fill(a, "/a/c", 0, rows)
	first := a.whole()
	if n := a.pushes.Swap(0); first.Pushed != rows || n < 12 || n > 20 {
		t.Errorf("%d rows went in %d parts, %+v", first.Pushed, n, first)
	}
	same()

	// Both change, and what each had is not sent again.
	f.fill(a, "/a/c", rows, rows+10)
	b.put("/a/c/other", 3, 1)
	if c := a.whole(); c.Pushed != 10 || a.pushes.Swap(0) != 1 {
		t.Errorf("after ten more rows: %+v", c)
	}
	if c := b.whole(); c.Pushed > rows+11 {
		t.Errorf("back went %+v", c)
	}
	same()
	b.put("/a/c/another", 3, 1)
	if c := b.whole(); c.Pushed > 100 {
		t.Errorf("again back went %+v", c)
	}
	same()

	// The peer's file is lost: what it was known to have went with it, also where
	// that happens between its list and the push.
	f.fill(a, "/a/c", rows+10, rows+20)
	lost := false
	a.before = func(_ string, r *backend.Request) error {
		if r.Method == "PUT" && !lost {
			lost = true
			if gone, err := b.containers.Store().Replicas().Drop(context.Background(), b.device, f.state(b, "/a/c")); !gone || err != nil {
				t.Error(gone, err)
			}
		}
		return nil
	}
	if c := a.whole(); c.Pushed < rows {
		t.Errorf("after the peer lost its file: %+v", c)
	}
	f.agree("/a/c", a, b)
}

// What a peer is wrongly believed to have gets there with the second pass.
func TestBeliefIsChecked(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	for _, n := range f.nodes {
		n.do("PUT /a/c", 1)
	}
	f.fill(a, "/a/c", 0, 2000)
	mine, theirs := f.state(a, "/a/c"), f.state(b, "/a/c")
	store := a.containers.Store().Replicas()
	if err := store.SetKnown(context.Background(), a.device, mine.Hash, theirs.Incarnation, mine.Change, theirs.Change); err != nil {
		t.Fatal(err)
	}
	if c := a.whole(); c.Pushed != 1 {
		t.Errorf("with nothing new: %+v", c)
	}
	if c := a.whole(); c.Pushed != 2000 {
		t.Errorf("they still differ: %+v", c)
	}
	f.agree("/a/c", a, b)

	b.put("/a/c/more", 3, 1) // which a can't know
	for i, want := range []int64{1, 2000, 0, 0} {
		if c := a.whole(); c.Pushed != want && i > 0 {
			t.Errorf("pass %d: %+v, want %d rows", i, c, want)
		}
	}
}

// op is a write as a client's request has it.
type op struct {
	line    string
	seconds int
	headers []string
}

// Whatever part of a history each replica has heard of: after passes until nothing
// moves all have what all of them knew together.
func TestHistories(t *testing.T) {
	f := start(t, 4, 3)
	primaries, sum := f.nodes[:3], f.nodes[3]
	paths := []string{"/a/c", "/a"}
	ops := rapid.Custom(func(r *rapid.T) op {
		o := op{seconds: rapid.IntRange(1, 9).Draw(r, "seconds")}
		object := rapid.SampledFrom([]string{"/a/c/x", "/a/c/y", "/a/c/z"}).Draw(r, "object")
		index := rapid.SampledFrom([]string{"0", "3"}).Draw(r, "policy")
		value := rapid.SampledFrom([]string{"", "1", "2"}).Draw(r, "value")
		number := rapid.SampledFrom([]string{"0", "4", "5"}).Draw(r, "number")
		switch rapid.IntRange(0, 7).Draw(r, "what") {
		case 0:
			o.line, o.headers = "PUT /a/c", []string{"X-Backend-Storage-Policy-Default: " + index, "X-Container-Meta-A: " + value}
		case 1:
			o.line = "DELETE /a/c"
		case 2:
			o.line, o.headers = "POST /a/c", []string{"X-Container-Meta-A: " + value}
		case 3, 4:
			o.line, o.headers = "PUT "+object, []string{
				"X-Size: " + number, "X-Content-Type: t/" + number, "X-Etag: " + value, "X-Backend-Storage-Policy-Index: " + index,
			}
		case 5:
			o.line, o.headers = "DELETE "+object, []string{"X-Backend-Storage-Policy-Index: " + index}
		case 6:
			o.line, o.headers = "PUT /a", []string{"X-Account-Meta-A: " + value}
			if number == "5" {
				o.line = "DELETE /a"
			}
		case 7:
			o.line, o.headers = "PUT /a/c", []string{
				"X-Put-Timestamp: " + number, "X-Delete-Timestamp: " + index, "X-Object-Count: " + number, "X-Bytes-Used: " + number,
			}
		}
		return o
	})
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(1, 3).Draw(r, "rounds") {
			for _, o := range rapid.SliceOfN(ops, 1, 8).Draw(r, "history") {
				heard := rapid.IntRange(1, 7).Draw(r, "heard by")
				for i, n := range primaries {
					if heard&(1<<i) != 0 {
						n.ask(o.line, o.seconds, o.headers...) // which it may refuse
					}
				}
			}
			if rapid.Bool().Draw(r, "pass between") {
				primaries[rapid.IntRange(0, 2).Draw(r, "of")].whole()
			}
		}
		for _, n := range primaries {
			for _, path := range paths {
				f.copyTo(n, sum, path)
			}
		}
		order := rapid.Permutation(primaries).Draw(r, "order")
		for rounds := 0; ; rounds++ {
			moved := int64(0)
			for _, n := range order {
				moved += n.whole().Pushed
			}
			if moved == 0 {
				break
			}
			if rounds > 3 {
				r.Fatal("the passes don't come to rest")
			}
		}
		for _, path := range paths {
			want := f.state(sum, path)
			for _, n := range f.nodes {
				got := f.state(n, path)
				if got.Digest != want.Digest {
					r.Fatalf("%s of %s is %x, want %x", path, n.device, got.Digest, want.Digest)
				}
				if got == (replwire.Database{}) {
					continue
				}
				if err := n.store(path).Check(context.Background(), f.at(n, path)); err != nil {
					r.Fatal(err)
				}
				if gone, err := n.store(path).Replicas().Drop(context.Background(), n.device, got); !gone || err != nil {
					r.Fatal(gone, err)
				}
			}
		}
		if t.Failed() {
			r.FailNow()
		}
	})
}

// copyTo merges what a node has of a database into another's.
func (f *fleet) copyTo(from, to *node, path string) {
	hash := f.hash(path)
	if f.state(from, path) == (replwire.Database{}) {
		return
	}
	p, err := from.store(path).Replicas().Part(context.Background(), from.device, hash, replwire.Cursor{})
	if err != nil || p.More {
		from.t.Fatal(p.More, err)
	}
	if _, err := to.store(path).Replicas().Merge(context.Background(), to.device, p.Path, hash, p.Body); err != nil {
		from.t.Fatal(err)
	}
}

// Whatever a peer sends that is not a part of the database of the path is refused
// with a 4xx, and nothing is changed.
func TestBadPushes(t *testing.T) {
	f := start(t, 2, 2)
	a, b := f.nodes[0], f.nodes[1]
	a.do("PUT /a/c", 1)
	a.put("/a/c/o", 2, 5)
	part, err := a.containers.Store().Replicas().Part(context.Background(), a.device, f.hash("/a/c"), replwire.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, kind string, partition uint32, body []byte) int {
		target := fmt.Sprintf("/%s/%d%s", b.device, partition, path)
		resp, err := b.repl.Serve(context.Background(), &backend.Request{
			Method: method, Path: target, Length: int64(len(body)), Body: bytes.NewReader(body), Remote: "127.0.0.1:9",
			Header: backend.Header{
				{Name: replwire.KindHeader, Value: kind}, {Name: replwire.PartPowerHeader, Value: "3"}, {Name: replwire.ReplicationHeader, Value: "true"},
			},
		})
		if err != nil {
			return httpapi.Status(err)
		}
		return resp.Status
	}
	a.do("PUT /a/e", 1)
	bare, err := a.containers.Store().Replicas().Part(context.Background(), a.device, f.hash("/a/e"), replwire.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) uint32 { return uint32(f.ring.Partition(f.hash(path))) }
	garbled := slices.Clone(part.Body)
	garbled[len(garbled)/2] ^= 4
	for what, c := range map[string]struct {
		method, path, kind string
		partition          uint32
		body               []byte
		status             int
	}{
		"nothing":           {"PUT", "/a/c", "container", at("/a/c"), nil, 400},
		"cut":               {"PUT", "/a/c", "container", at("/a/c"), part.Body[:len(part.Body)/2], 400},
		"garbled":           {"PUT", "/a/c", "container", at("/a/c"), garbled, 400},
		"another container": {"PUT", "/a/d", "container", at("/a/d"), part.Body, 400},
		"beside":            {"PUT", "/a/c", "container", at("/a/c") ^ 1, part.Body, 400},
		"an account":        {"PUT", "/a", "account", at("/a"), part.Body, 400},
		"account's kind":    {"PUT", "/a/c", "account", at("/a/c"), part.Body, 400},
		"without rows":      {"PUT", "/a/e", "account", at("/a/e"), bare.Body, 400},
		"container's kind":  {"PUT", "/a", "container", at("/a"), part.Body, 400},
		"an object":         {"PUT", "/a/c/o", "container", at("/a/c/o"), part.Body, 400},
		"DELETE":            {"DELETE", "/a/c", "container", at("/a/c"), nil, 405},
		"too large":         {"PUT", "/a/c", "container", at("/a/c"), make([]byte, replwire.MaxList+1), 413},
	} {
		if got := send(c.method, c.path, c.kind, c.partition, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", what, got, c.status)
		}
	}
	for _, path := range []string{"/a", "/a/c", "/a/d"} {
		if d := f.state(b, path); d != (replwire.Database{}) {
			t.Errorf("%s is there: %x", path, d)
		}
	}
	if got := send("PUT", "/a/c", "container", at("/a/c"), part.Body); got != 200 {
		t.Errorf("what has no fault: %d", got)
	}
	f.agree("/a/c", a, b)
}

// A handoff believes nobody but each primary itself.
func TestStrangeAnswers(t *testing.T) {
	f := start(t, 3, 2)
	away := f.nodes[2]
	away.do("PUT /a/c", 1)
	away.put("/a/c/o", 2, 5)
	// Both primaries are in truth one device: that is one copy, not two.
	one := ring.Device{IP: "127.0.0.1", Port: 1, Name: f.nodes[0].device, Weight: 1}
	_, port, err := net.SplitHostPort(f.nodes[0].addr)
	if err != nil {
		t.Fatal(err)
	}
	if one.ReplicationPort, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	other := one
	other.ID, other.IP, other.ReplicationIP = 1, "127.0.0.2", "127.0.0.1"
	rows := [][]uint32{make([]uint32, 1<<partPower), slices.Repeat([]uint32{1}, 1<<partPower)}
	if f.ring, err = ring.New(ring.Data{PartPower: partPower, Devices: []*ring.Device{&one, &other}, Rows: rows}); err != nil {
		t.Fatal(err)
	}
	if c := away.pass(); c.Dropped != 0 {
		t.Errorf("dropped with one copy in the cluster: %+v", c)
	}
	if f.state(away, "/a/c") == (replwire.Database{}) {
		t.Error("it is gone")
	}
}

// row is that of an object, written or deleted so many seconds after 1970.
func row(seconds int64, deleted bool) []byte {
	t := timestamp.FromTicks(seconds * 100_000)
	r := container.NewRow(timestamp.Packed{Data: t}, 5, "d41d8cd98f00b204e9800998ecf8427e", "text/plain")
	if deleted {
		r = container.NewTombstone(t)
	}
	return r.Append(nil)
}

// The account goes by the latest word on a container, whosesoever it is: that of a handoff which lacks what others have does not stay
// when the handoff has gone.
func TestLastWordOfHandoff(t *testing.T) {
	for _, told := range []bool{true, false} {
		f := start(t, 4, 3)
		away := f.nodes[3]
		said := map[string]string{} // by device, since it was looked at last
		report := func(n *node) {
			t.Helper()
			err := n.containers.Report(t.Context(), false, func(_ context.Context, path name.Path, h backend.Header) error {
				said[n.device] = path.String() + ": " + h.Get(backend.ObjectCount)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range f.nodes {
			n.do("PUT /a/c", 1)
			n.put("/a/c/1", 2, 5)
		}
		for _, n := range f.nodes[:3] {
			n.put("/a/c/2", 3, 5)
			report(n)
		}
		if told {
			report(away) // after the others
		}
		clear(said)
		f.nodes[0].down.Store(true) // nothing is dropped, and nobody is to say anything
		away.pass()
		for _, n := range f.nodes[:3] {
			report(n)
		}
		if len(said) > 0 {
			t.Errorf("%v is told although the handoff is still there", said)
		}
		f.nodes[0].down.Store(false)
		if told {
			away.before = func(_ string, r *backend.Request) error {
				if r.Header.Has(replwire.RetellHeader) {
					return errs.E(errs.Unavailable, "cut off")
				}
				return nil
			}
			if c := away.pass(); c.Dropped != 0 || c.Failed == 0 {
				t.Errorf("where nobody could be asked the handoff says %+v", c)
			}
			away.before = nil
		}
		if c := away.whole(); c.Dropped != 1 {
			t.Fatalf("the handoff says %+v", c)
		}
		for _, n := range f.nodes[:3] {
			report(n)
		}
		if n := len(said); told && n != 1 || !told && n != 0 {
			t.Errorf("a handoff that has told its account (%v) has gone, and primaries say %v", told, said)
		}
		for _, what := range said {
			if what != "/a/c: 2" {
				t.Errorf("the account hears %q", what)
			}
		}
	}
}
