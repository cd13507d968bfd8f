package node

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
	"martlet/replicator/objects"
)

// Whatever was written to whom, in whatever order, one pass of each node leaves
// every primary with the join of all writes, and handoffs with nothing.
func TestObjectsMeet(t *testing.T) {
	fields := func(v string) backend.Header { return backend.Header{{Name: "X-Object-Meta-K", Value: v}} }
	base := timestamp.Now().Add(-time.Hour)
	f := newFleet(t, 5, 3, inMemory)
	all := f.open(vfs.NewMem(), "reference", "127.0.0.1:1")
	names := []string{"x", "y"}
	rapid.Check(t, func(rt *rapid.T) {
		defer f.forget(slices.Concat(f.nodes, []*small{all}), names) // one fleet serves all
		for range rapid.IntRange(1, 12).Draw(rt, "writes") {
			n := f.nodes[rapid.IntRange(0, 4).Draw(rt, "node")]
			o := names[rapid.IntRange(0, 1).Draw(rt, "object")]
			ts := base.Add(time.Duration(rapid.IntRange(1, 6).Draw(rt, "time")) * time.Second)
			v := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "value")
			switch rapid.IntRange(0, 4).Draw(rt, "write") {
			case 0, 1:
				h := append(fields(v), backend.Field{Name: "X-Object-Sysmeta-S", Value: v})
				f.write(n, "PUT", o, ts, h, v, true)
				f.write(all, "PUT", o, ts, h, v, true)
			case 2:
				f.write(n, "DELETE", o, ts, nil, "", true)
				f.write(all, "DELETE", o, ts, nil, "", true)
			case 3:
				f.write(n, "POST", o, ts, fields(v), "", true)
				f.write(all, "POST", o, ts, fields(v), "", true)
			case 4:
				h := append(fields(v), backend.Field{Name: backend.ContentType, Value: "text/" + v})
				f.write(n, "POST", o, ts, h, "", true)
				f.write(all, "POST", o, ts, h, "", true)
			}
		}
		order := rapid.Permutation(f.nodes).Draw(rt, "order")
		if c := f.pass(order...); c.Failed > 0 {
			for _, o := range names {
				for i, n := range f.nodes {
					rt.Logf("%s at %d: %+v", o, i, f.state(n, o))
				}
			}
			rt.Fatalf("not confirmed: %+v", c.Failures)
		}
		for _, o := range names {
			want := wireObject(f.at(o).Hash, pointer(f.state(all, o)))
			for i, n := range f.nodes {
				got := wireObject(f.at(o).Hash, pointer(f.state(n, o)))
				if i >= 3 {
					if got.Kind != 0 {
						rt.Fatalf("%s: handoff %d still has %+v", o, i, got)
					}
				} else if got != want {
					rt.Fatalf("%s: primary %d has\n%+v, want\n%+v", o, i, got, want)
				}
			}
		}
		if c := f.pass(f.nodes...); c.Pushed > 0 || c.Dropped > 0 {
			rt.Fatalf("another pass did something: %+v", c)
		}
	})
}

// forget has nodes drop all that they have of some names.
func (f *fleet) forget(nodes []*small, names []string) {
	f.t.Helper()
	for _, n := range nodes {
		for _, o := range names {
			s := f.state(n, o)
			if s.Newest().IsZero() {
				continue
			}
			if _, err := n.store.Drop(f.t.Context(), f.at(o), func(*engine.State) bool { return true }); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

func pointer[T any](v T) *T { return &v }

// A handoff drops nothing for an answer that does not say, in whole, that the
// primary has it.
func TestNothingDropped(t *testing.T) {
	t.Run("small", func(t *testing.T) { nothingDropped(t, "body") })
	t.Run("large", func(t *testing.T) { nothingDropped(t, strings.Repeat("x", 300_000)) }) // it goes alone
}

func nothingDropped(t *testing.T, body string) {
	list := func(list ...replwire.Object) []byte {
		b := replwire.Begin(nil, replwire.Objects)
		for i := range list {
			b = replwire.AppendObject(b, &list[i])
		}
		return replwire.End(b, len(list), false)
	}
	const node = "another"
	answer := func(status int, id string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if id != "" {
				w.Header().Set(replicator.NodeHeader, id)
			}
			w.Header().Set(replwire.PrimaryHeader, "true")
			w.WriteHeader(status)
			if r.Method == "REPLICATE" {
				_, _ = w.Write(body)
			}
		}
	}
	f := newFleet(t, 4, 3, onDisk)
	handoff, primary := f.nodes[3], f.nodes[1]
	ts := timestamp.Now()
	for _, n := range f.nodes {
		f.write(n, "PUT", "o", ts, nil, body, false)
	}
	before := f.state(handoff, "o")
	mine := wireObject(f.at("o").Hash, &before)
	older := mine
	older.Times = timestamp.Packed{Data: timestamp.FromTicks(1), ContentType: timestamp.FromTicks(1), Meta: timestamp.FromTicks(1)}
	lost := replwire.Object{Hash: mine.Hash, Kind: replwire.Lost, Times: timestamp.Packed{Data: ts.Next(), ContentType: ts.Next(), Meta: ts.Next()}}
	elsewhere := mine
	elsewhere.Hash[15] ^= 1
	twice := f.nodes[0].repl.NodeID
	good := primary.serving()
	for what, tt := range map[string]http.HandlerFunc{
		"says nothing":             answer(200, node, nil),
		"does not say who it is":   answer(200, "", list(mine)),
		"says it is no primary":    claiming("false", answer(200, node, list(mine))),
		"does not say what it is":  claiming("", answer(200, node, list(mine))),
		"says it in other words":   claiming("TRUE", answer(200, node, list(mine))),
		"is this node":             answer(200, handoff.repl.NodeID, list(mine)),
		"is another primary":       answer(200, twice, list(mine)),
		"is cut short":             answer(200, node, list(mine)[:40]),
		"is garbled":               answer(200, node, bytes.Replace(list(mine), mine.MD5[:4], []byte("abcd"), 1)),
		"is of another kind":       answer(200, node, replwire.End(replwire.Begin(nil, replwire.Accounts), 0, false)),
		"is about other names":     answer(200, node, list(elsewhere)),
		"has no success":           answer(404, node, list(mine)),
		"is refused":               answer(403, node, list(mine)),
		"fails":                    answer(507, node, list(mine)),
		"lost what was newer":      answer(200, node, list(lost)),
		"refuses what it lacks":    refusing(409, answer(200, node, list())),
		"refuses what is newer":    refusing(409, answer(200, node, list(older))),
		"has forgotten what lives": refusing(410, answer(200, node, list())),
		"takes nothing":            refusing(507, answer(200, node, list())),
		"breaks off": func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		},
		"becomes another": func(w http.ResponseWriter, r *http.Request) {
			answer(200, replicator.NewNodeID(), list())(w, r)
		},
	} {
		primary.serve(tt)
		c := f.pass(handoff)
		if c.Failed == 0 || c.Dropped != 0 {
			t.Errorf("a primary that %s: %+v, want a failure and nothing dropped", what, c)
		}
		if got := f.state(handoff, "o"); got.Kind != engine.Live || got.Packed() != before.Packed() {
			t.Errorf("a primary that %s: the handoff has %+v", what, got)
		}
	}
	primary.serve(good)
	if c := f.pass(handoff); c.Failed != 0 || c.Dropped != 1 || c.Pushed != 0 {
		t.Errorf("when all primaries answer: %+v, want it dropped", c)
	}
}

// isList reports whether a request asks for the list of a range of a partition.
func isList(r *http.Request) bool { return r.Method == "REPLICATE" && r.ContentLength == 0 }

// refusing answers each thing that is pushed with a status.
func refusing(status int, list http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "REPLICATE" {
			list(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		pushes, err := replwire.ParsePushes(body)
		if err != nil { // one alone
			w.WriteHeader(status)
			return
		}
		results := slices.Repeat([]replwire.Result{{Status: status, Primary: true, Text: "a test says so"}}, len(pushes))
		w.Header().Set(replicator.NodeHeader, "another")
		_, _ = w.Write(replwire.AppendResults(nil, results))
	}
}

// claiming has an answer say something else of whether the device is a primary.
func claiming(value string, answer http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(&claimer{w, value}, r)
	}
}

type claimer struct {
	http.ResponseWriter
	value string
}

func (c *claimer) WriteHeader(status int) {
	if c.Header().Del(replwire.PrimaryHeader); c.value != "" {
		c.Header().Set(replwire.PrimaryHeader, c.value)
	}
	c.ResponseWriter.WriteHeader(status)
}

// Two nodes whose rings differ can each take the other for the only primary, and
// both have heard that the other has the object before either drops it. One copy
// must stay, and goes home once the rings agree.
func TestRingsDiffer(t *testing.T) {
	f := newFleet(t, 2, 1, onDisk)
	f.nodes[0].ring.Store(f.ringOf(1))
	f.nodes[1].ring.Store(f.ringOf(0))
	ts := timestamp.Now()
	var listed sync.WaitGroup
	listed.Add(len(f.nodes))
	for _, n := range f.nodes {
		f.write(n, "PUT", "o", ts, nil, "body", false)
		good := n.serving()
		var once sync.Once
		n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			whole := httptest.NewRecorder()
			good.ServeHTTP(whole, r)
			if isList(r) { // what sums say is no reason to drop anything
				once.Do(func() { // nobody hears of the other's copy before both have told of theirs
					listed.Done()
					listed.Wait()
				})
			}
			maps.Copy(w.Header(), whole.Header())
			w.WriteHeader(whole.Code)
			_, _ = w.Write(whole.Body.Bytes())
		}))
	}
	var both sync.WaitGroup
	counts := make([]replicator.Counts, len(f.nodes))
	for i, n := range f.nodes {
		both.Go(func() { counts[i] = f.pass(n) })
	}
	both.Wait()
	for i, n := range f.nodes {
		if s := f.state(n, "o"); s.Kind != engine.Live {
			t.Errorf("node %d has %+v, want the object", i, s)
		}
		if c := counts[i]; c.Dropped != 0 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Failures), "no primary") {
			t.Errorf("node %d counts %+v, want a failure that says why nothing was dropped", i, c)
		}
	}
	f.nodes[0].ring.Store(f.nodes[1].ring.Load())
	if c := f.pass(f.nodes...); c.Dropped != 1 || c.Failed != 0 {
		t.Errorf("when the rings agree: %+v, want one copy dropped", c)
	}
	if a, b := f.state(f.nodes[0], "o"), f.state(f.nodes[1], "o"); a.Kind != engine.Live || b.Kind != engine.Absent {
		t.Errorf("when the rings agree: %+v and %+v, want the first only", a, b)
	}
}

// A ring that comes into use while a handoff asks its peers makes what they say
// worthless: it may be a primary by now, and have said so to others.
func TestRingChangesBeforeDrop(t *testing.T) {
	for what, next := range map[string][]uint32{
		"it becomes a primary":       {0},
		"another one becomes one":    {2},
		"the same devices once more": {1},
	} {
		f := newFleet(t, 3, 1, onDisk)
		handoff, primary := f.nodes[0], f.nodes[1]
		handoff.ring.Store(f.ringOf(1))
		primary.ring.Store(f.ringOf(1))
		for _, n := range []*small{handoff, primary} {
			f.write(n, "PUT", "o", timestamp.FromTicks(1e14), nil, "body", false)
		}
		good := primary.serving()
		primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isList(r) {
				handoff.ring.Store(f.ringOf(next...))
			}
			good.ServeHTTP(w, r)
		}))
		c := f.pass(handoff)
		if c.Dropped != 0 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Failures), "ring") {
			t.Errorf("%s: %+v, want a failure that says why nothing was dropped", what, c)
		}
		if s := f.state(handoff, "o"); s.Kind != engine.Live {
			t.Errorf("%s: the handoff has %+v, want the object", what, s)
		}
	}
}

// A node that does not know its own address in the ring takes itself for a handoff,
// and must not drop what it then finds with itself.
func TestSelfIsNoPeer(t *testing.T) {
	f := newFleet(t, 3, 3, onDisk)
	old := f.nodes[0]
	confused := f.open(vfs.OS, old.address, "127.0.0.1:1")
	old.serve(confused.serving()) // the ring's address leads to it
	ts := timestamp.Now()
	for _, n := range []*small{confused, f.nodes[1], f.nodes[2]} {
		f.write(n, "PUT", "o", ts, nil, "body", false)
	}
	c := f.pass(confused)
	if c.Failed == 0 || c.Dropped != 0 || !strings.Contains(fmt.Sprint(c.Failures), "the device itself") {
		t.Errorf("%+v, want a failure that says so", c)
	}
	if s := f.state(confused, "o"); s.Kind != engine.Live {
		t.Errorf("it dropped its own copy: %+v", s)
	}
}

// Rings may have host names in the place of addresses: a node finds its own devices
// under them, and brings the others what they lack.
func TestHostNames(t *testing.T) {
	f := newFleet(t, 4, 3, onDisk)
	for _, d := range f.data.Devices {
		d.IP = "localhost"
	}
	f.ring = f.ringOf(0, 1, 2)
	f.names = hosts.NewNames(hosts.System)
	for i, old := range f.nodes {
		n := f.open(vfs.OS, old.address, old.address)
		old.serve(n.serving()) // the ring's address leads to it
		f.nodes[i] = n
	}
	primary, handoff := f.nodes[0], f.nodes[3]
	f.write(primary, "PUT", "o", timestamp.Now(), nil, "body", false)
	f.write(handoff, "PUT", "p", timestamp.Now(), nil, "body", false)

	// Before its name is known, none of them is what the ring says: nothing is lost.
	if c := f.pass(primary, handoff); c.Failed == 0 || c.Dropped != 0 {
		t.Errorf("names that are not known: %+v", c)
	}
	if err := f.names.Learn(t.Context(), slices.Values([]string{"localhost"})); err != nil {
		t.Fatal(err)
	}
	if c := f.pass(primary, handoff); c.Failed != 0 || c.Dropped != 1 {
		t.Errorf("%+v, want no failure and the handoff's copy dropped", c)
	}
	for i, n := range f.nodes {
		for _, object := range []string{"o", "p"} {
			if s := f.state(n, object); s.Kind == engine.Live != (i < 3) {
				t.Errorf("node %d has of %s %+v", i, object, s)
			}
		}
	}
}

// What changes on a handoff while it is being pushed stays there.
func TestDropOfWhatChanged(t *testing.T) {
	f := newFleet(t, 4, 3, onDisk)
	handoff, primary := f.nodes[3], f.nodes[2]
	ts := timestamp.Now()
	f.write(handoff, "PUT", "o", ts, nil, "body", false)
	good := primary.serving()
	var changed atomic.Bool
	primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" && !changed.Swap(true) {
			f.write(handoff, "PUT", "o", ts.Next(), nil, "newer", false)
		}
		good.ServeHTTP(w, r)
	}))
	if c := f.pass(handoff); c.Dropped != 0 || !changed.Load() {
		t.Errorf("%+v, want nothing dropped", c)
	}
	if s := f.state(handoff, "o"); s.Time != ts.Next() {
		t.Errorf("the handoff has %+v, want the newer version", s)
	}
	if c := f.pass(handoff); c.Dropped != 1 || c.Failed != 0 {
		t.Errorf("the next pass: %+v, want it dropped", c)
	}
	for i, n := range f.nodes[:3] {
		if s := f.state(n, "o"); s.Time != ts.Next() {
			t.Errorf("primary %d has %+v", i, s)
		}
	}
}

// What changes on a handoff without any of its times, lengths and checksums of data
// changing is another state as well.
func TestDropOfWhatHasEqualTimes(t *testing.T) {
	t1 := timestamp.FromTicks(1e14)
	t2 := t1.Next()
	meta := func(name, v string) backend.Header { return backend.Header{{Name: name, Value: v}} }
	for what, tt := range map[string]struct {
		write func(f *fleet, n *small, v string)
		has   func(s engine.State, v string) bool
	}{
		"later metadata": {
			func(f *fleet, n *small, v string) { f.write(n, "POST", "o", t2, meta("X-Object-Meta-K", v), "", true) },
			func(s engine.State, v string) bool { return s.Meta.Get("X-Object-Meta-K") == v },
		},
		"a content type": {
			func(f *fleet, n *small, v string) {
				f.write(n, "POST", "o", t2, meta(backend.ContentType, "text/"+v), "", true)
			},
			func(s engine.State, v string) bool { return s.ContentType == "text/"+v },
		},
		"what came with the data": {
			func(f *fleet, n *small, v string) {
				f.write(n, "PUT", "o", t2, meta("X-Object-Sysmeta-K", v), "body", true)
			},
			func(s engine.State, v string) bool { return s.System.Get("X-Object-Sysmeta-K") == v },
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, 2, 1, onDisk)
			primary, handoff := f.nodes[0], f.nodes[1]
			for _, n := range f.nodes {
				f.write(n, "PUT", "o", t1, nil, "body", false)
				tt.write(f, n, "a")
			}
			good := primary.serving()
			var changed atomic.Bool
			primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if isList(r) && !changed.Swap(true) {
					tt.write(f, handoff, "b")
				}
				good.ServeHTTP(w, r)
			}))
			if c := f.pass(handoff); c.Dropped != 0 {
				t.Errorf("%+v, want nothing dropped", c)
			}
			if s := f.state(handoff, "o"); !tt.has(s, "b") {
				t.Fatalf("the handoff has %+v, want what it was given last", s)
			}
			if c := f.pass(handoff); c.Dropped != 1 || c.Failed != 0 {
				t.Errorf("the next pass: %+v, want it dropped", c)
			}
			if s := f.state(primary, "o"); !tt.has(s, "b") {
				t.Errorf("the primary has %+v, want what the handoff was given last", s)
			}
		})
	}
}

// A disk that takes another's place while peers are asked about the other loses
// nothing for what they say.
func TestDropAfterDiskChanged(t *testing.T) {
	f := newFleet(t, 2, 1, inMemory)
	primary, handoff := f.nodes[0], f.nodes[1]
	ts := timestamp.FromTicks(1e14)
	next := vfs.NewMem()
	if err := errors.Join(next.Mkdir("/mem"), next.Mkdir("/mem/d")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*small{primary, handoff} {
		f.write(n, "PUT", "o", ts, nil, "body", false)
	}
	good := primary.serving()
	primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "REPLICATE" {
			handoff.store.Follow(device.Change{FS: vfs.Absent})
			handoff.store.Follow(device.Change{FS: next, Fresh: true})
			f.write(handoff, "PUT", "o", ts, nil, "body", false)
		}
		good.ServeHTTP(w, r)
	}))
	f.pass(handoff)
	if s := f.state(handoff, "o"); s.Kind != engine.Live {
		t.Errorf("the new disk has %+v, want the object", s)
	}
}

// What is old enough to be forgotten leaves a handoff when every primary has said
// that it has it, or that it has nothing.
func TestForgottenByAll(t *testing.T) {
	ts := timestamp.FromTicks(1e14)
	write := func(f *fleet, i int) { f.write(f.nodes[i], "DELETE", "o", ts, nil, "", true) }
	for what, tt := range map[string]struct {
		before  func(f *fleet)
		dropped int64
		pushed  int64
	}{
		"nobody has anything": {func(*fleet) {}, 1, 0},
		"all have it":         {func(f *fleet) { write(f, 0); write(f, 1); write(f, 2) }, 1, 0},
		"one has it":          {func(f *fleet) { write(f, 1) }, 1, 0},
		"one has what is newer": {func(f *fleet) {
			f.write(f.nodes[1], "PUT", "o", ts.Next(), nil, "body", true)
		}, 1, 0},
		"one has what is older": {func(f *fleet) {
			f.write(f.nodes[1], "PUT", "o", timestamp.FromTicks(1e13), nil, "body", true)
		}, 1, 1},
		"one has lost it": {func(f *fleet) {
			f.write(f.nodes[1], "PUT", "o", ts.Next(), nil, "body", true)
			s := f.state(f.nodes[1], "o")
			if err := f.nodes[1].store.Quarantine(t.Context(), f.at("o"), s, errors.New("a test says so")); err != nil {
				t.Fatal(err)
			}
		}, 0, 0},
		"one does not answer": {func(f *fleet) {
			f.nodes[1].serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		}, 0, 0},
		"one is no primary": {func(f *fleet) { f.nodes[1].ring.Store(f.ringOf(0, 2)) }, 0, 0},
	} {
		f := newFleet(t, 4, 3, onDisk)
		write(f, 3)
		tt.before(f)
		c := f.pass(f.nodes[3])
		if c.Dropped != tt.dropped || c.Pushed != tt.pushed || (c.Failed == 0) != (tt.dropped == 1) {
			t.Errorf("%s: %+v, want %d dropped and %d pushed", what, c, tt.dropped, tt.pushed)
		}
		if s := f.state(f.nodes[3], "o"); (s.Kind == engine.Absent) != (tt.dropped == 1) {
			t.Errorf("%s: the handoff has %+v", what, s)
		}
	}
}

// What a handoff has lost to damage is in nobody's way once all primaries have what is as new: else a device that is
// drained would never be empty.
func TestLostOnHandoff(t *testing.T) {
	ts := timestamp.FromTime(time.Now().Add(-time.Hour))
	later := backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}
	put := func(at timestamp.T, which ...int) func(f *fleet) {
		return func(f *fleet) {
			for _, i := range which {
				f.write(f.nodes[i], "PUT", "o", at, nil, "body", true)
			}
		}
	}
	quarantine := func(t *testing.T, f *fleet, i int) {
		t.Helper()
		if err := f.nodes[i].store.Quarantine(t.Context(), f.at("o"), f.state(f.nodes[i], "o"), errors.New("a test says so")); err != nil {
			t.Fatal(err)
		}
	}
	for what, tt := range map[string]struct {
		before func(f *fleet)
		gone   bool
		pushed int64
	}{
		"all have it":                {put(ts, 0, 1, 2), true, 0},
		"all have what is newer":     {put(ts.Next(), 0, 1, 2), true, 0},
		"nobody has it":              {func(*fleet) {}, false, 0},
		"one lacks it":               {put(ts, 0, 1), false, 0},
		"one has only what is older": {func(f *fleet) { put(ts, 0, 1)(f); put(ts.Add(-time.Second), 2)(f) }, false, 0},
		"it was deleted": {func(f *fleet) {
			for _, n := range f.nodes[:3] {
				f.write(n, "DELETE", "o", ts.Next(), nil, "", true)
			}
		}, true, 0},
		"one has lost it as well":     {func(f *fleet) { put(ts, 0, 1, 2)(f); quarantine(t, f, 1) }, false, 0},
		"one has lost what was newer": {func(f *fleet) { put(ts, 0, 2)(f); put(ts.Next(), 1)(f); quarantine(t, f, 1) }, false, 0},
		"one has no more than metadata": {func(f *fleet) {
			put(ts, 0, 1)(f)
			f.write(f.nodes[2], "POST", "o", ts.Next(), later, "", true)
		}, false, 0},
		"later metadata is here alone": {func(f *fleet) {
			put(ts, 0, 1, 2)(f)
			f.write(f.nodes[3], "POST", "o", ts.Next(), later, "", true)
		}, true, 3},
		"later metadata is here alone, and one lacks the data": {func(f *fleet) {
			put(ts, 0, 1)(f)
			f.write(f.nodes[3], "POST", "o", ts.Next(), later, "", true)
		}, false, 3},
		"another POST of just its time is everywhere": {func(f *fleet) {
			put(ts, 0, 1, 2)(f)
			for i, n := range f.nodes {
				f.write(n, "POST", "o", ts.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: fmt.Sprint(i / 3)}}, "", true)
			}
		}, true, 3}, // the one here is the greater
		"another POST of just its time is everywhere, and is greater": {func(f *fleet) {
			put(ts, 0, 1, 2)(f)
			for i, n := range f.nodes {
				f.write(n, "POST", "o", ts.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: fmt.Sprint(1 - i/3)}}, "", true)
			}
		}, false, 0}, // that does not show
		"later metadata is everywhere": {func(f *fleet) {
			put(ts, 0, 1, 2)(f)
			for _, n := range f.nodes {
				f.write(n, "POST", "o", ts.Next(), later, "", true)
			}
		}, true, 0},
		"nobody has it, and it is past the reclaim age": {func(f *fleet) {
			for _, n := range f.nodes {
				n.now = n.now.Add(8 * 24 * time.Hour)
			}
		}, false, 0},
	} {
		f := newFleet(t, 4, 3, onDisk)
		put(ts, 3)(f)
		quarantine(t, f, 3)
		tt.before(f)
		for range 2 { // it stays like that
			c := f.pass(f.nodes[3])
			if s := f.state(f.nodes[3], "o"); (s.Kind == engine.Absent) != tt.gone || !tt.gone && s.Kind != engine.Lost {
				t.Errorf("%s: the handoff has %+v, want it gone: %t", what, s, tt.gone)
			}
			if (c.Failed == 0) != tt.gone || c.Pushed != tt.pushed {
				t.Errorf("%s: %+v", what, c)
			}
			tt.pushed = 0 // in the second pass there is nothing more
		}
	}
}

// damageMeta damages the record of a node's metadata of an object, and has the node find that.
func (f *fleet) damageMeta(n *small, object string) {
	f.t.Helper()
	i, err := n.store.Inspect(f.t.Context(), f.at(object), engine.How{})
	if err != nil || i.Entry.Meta.IsZero() {
		f.t.Fatalf("%s has no metadata of its own: %+v, %v", object, i.Entry, err)
	}
	file, err := os.OpenFile(filepath.Join(n.root, "log", fmt.Sprintf("%016x.seg", i.Entry.Meta.Segment)), os.O_RDWR, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	var b [1]byte
	_, err = file.ReadAt(b[:], i.Entry.Meta.Offset+20)
	b[0] ^= 1
	_, errWrite := file.WriteAt(b[:], i.Entry.Meta.Offset+20)
	if err := errors.Join(err, errWrite, file.Close()); err != nil {
		f.t.Fatal(err)
	}
	if s := f.state(n, object); !s.MetaLost {
		f.t.Fatalf("%s is not damaged: %+v", object, s)
	}
}

// Metadata that a handoff has lost while it waited for its data is in nobody's way either, once all primaries have metadata that
// is as new, or what makes it void.
func TestWaitingLostOnHandoff(t *testing.T) {
	ts := timestamp.FromTime(time.Now().Add(-time.Hour))
	fields := backend.Header{{Name: "X-Object-Meta-K", Value: "v"}}
	write := func(method string, at timestamp.T, which ...int) func(f *fleet) {
		return func(f *fleet) {
			for _, i := range which {
				switch method {
				case "PUT":
					f.write(f.nodes[i], "PUT", "o", at, nil, "body", true)
				case "POST":
					f.write(f.nodes[i], "POST", "o", at, fields, "", true)
				case "DELETE":
					f.write(f.nodes[i], "DELETE", "o", at, nil, "", true)
				}
			}
		}
	}
	all := func(some ...func(*fleet)) func(f *fleet) {
		return func(f *fleet) {
			for _, do := range some {
				do(f)
			}
		}
	}
	young := newFleet(t, 4, 3, onDisk)
	aged := func(f *fleet) {
		for _, n := range f.nodes {
			n.now = n.now.Add(8 * 24 * time.Hour)
		}
	}
	for what, tt := range map[string]struct {
		before func(f *fleet)
		gone   bool
	}{
		"all have it":                   {write("POST", ts, 0, 1, 2), true},
		"all have later metadata":       {write("POST", ts.Next(), 0, 1, 2), true},
		"all have it, with data":        {all(write("PUT", ts.Add(-time.Second), 0, 1, 2), write("POST", ts, 0, 1, 2)), true},
		"all have newer data":           {write("PUT", ts.Next(), 0, 1, 2), true},
		"it was deleted since":          {write("DELETE", ts.Next(), 0, 1, 2), true},
		"each has something that is so": {all(write("POST", ts, 0), write("PUT", ts.Next(), 1), write("DELETE", ts.Next(), 2)), true},
		"one has a newer tombstone":     {write("DELETE", ts.Next(), 0), false}, // which it brings the others itself
		"one has an older tombstone":    {write("DELETE", ts.Add(-time.Second), 0), false},
		"nobody has it":                 {func(*fleet) {}, false},
		"one lacks it":                  {write("POST", ts, 0, 1), false},
		"one has only what is older":    {all(write("POST", ts, 0, 1), write("POST", ts.Add(-time.Second), 2)), false},
		"all have the data alone":       {write("PUT", ts.Add(-time.Second), 0, 1, 2), false},
		"one has lost it as well":       {all(write("POST", ts, 0, 1, 2), func(f *fleet) { f.damageMeta(f.nodes[1], "o") }), false},
		"past the reclaim age":          {aged, true},
		"past it one has older data":    {all(write("PUT", ts.Add(-time.Second), 0), aged), false},
		"past it one has lost it as well": {all(write("POST", ts, 0, 1, 2), func(f *fleet) { f.damageMeta(f.nodes[1], "o") }, aged, func(f *fleet) {
			for _, n := range f.nodes[:3] {
				if err := n.store.Reclaim(t.Context(), timestamp.FromTime(n.now.Add(-7*24*time.Hour)), nil); err != nil {
					t.Fatal(err)
				}
			}
		}), true},
	} {
		f := young
		if f.forget(f.nodes, []string{"o"}); strings.HasPrefix(what, "past") {
			f = newFleet(t, 4, 3, onDisk)
		}
		write("POST", ts, 3)(f)
		f.damageMeta(f.nodes[3], "o")
		tt.before(f)
		for range 2 { // it stays like that
			c := f.pass(f.nodes[3])
			s := f.state(f.nodes[3], "o")
			if gone := s.Newest().IsZero(); gone != tt.gone || !tt.gone && (!s.MetaLost || s.Kind != engine.Absent) {
				t.Errorf("%s: the handoff has %+v, want it gone: %t", what, s, tt.gone)
			}
			if (c.Failed == 0) != tt.gone || c.Pushed != 0 {
				t.Errorf("%s: %+v", what, c)
			}
		}
	}
}

// Good data whose metadata a handoff has lost is brought where a primary has other data of just that time, and goes: the greater of the two is there then.
func TestGoodDataOnHandoff(t *testing.T) {
	f := newFleet(t, 2, 1, onDisk)
	primary, handoff := f.nodes[0], f.nodes[1]
	ts := timestamp.FromTime(time.Now().Add(-time.Hour))
	later := backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}
	for _, tt := range []struct {
		here, there string
		pushed      int64
	}{
		{"one", "one", 0},
		{"one", "another", 1}, // it has the greater MD5
		{"another", "one", 0},
	} {
		f.forget(f.nodes, []string{"o"})
		f.write(handoff, "PUT", "o", ts, nil, tt.here, true)
		f.write(primary, "PUT", "o", ts, nil, tt.there, true)
		for _, n := range f.nodes {
			f.write(n, "POST", "o", ts.Next(), later, "", true)
		}
		f.damageMeta(handoff, "o")
		if c := f.pass(handoff); c.Dropped != 1 || c.Failed > 0 || c.Pushed != tt.pushed {
			t.Errorf("%q, and %q there: %+v, want it gone, and %d pushed", tt.here, tt.there, c, tt.pushed)
		}
		if s := f.state(primary, "o"); s.MD5 != md5.Sum([]byte("one")) || s.Meta.Get("X-Object-Meta-K") != "later" {
			t.Errorf("%q, and %q there: the primary has %+v", tt.here, tt.there, s)
		}
	}
}

// Large data that is good beside metadata that was lost is not sent again and again to a primary that may have lost but the same.
func TestGoodBesideLostOnBoth(t *testing.T) {
	f := newFleet(t, 2, 1, onDisk)
	primary, handoff := f.nodes[0], f.nodes[1]
	ts := timestamp.FromTime(primary.clock().Add(-time.Hour))
	for _, n := range f.nodes {
		f.write(n, "PUT", "o", ts, nil, strings.Repeat("x", 300_000), true)
		f.write(n, "POST", "o", ts.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}, "", true)
		f.damageMeta(n, "o")
	}
	var pushed atomic.Int64
	good := primary.serving()
	primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			pushed.Add(1)
		}
		good.ServeHTTP(w, r)
	}))
	if c := f.pass(handoff); c.Dropped > 0 || c.Failed == 0 || pushed.Load() > 0 {
		t.Errorf("%+v, and %d PUTs", c, pushed.Load())
	}
	if s := f.state(handoff, "o"); !s.MetaLost {
		t.Errorf("the handoff has %+v", s)
	}
}

// What is good beside metadata that was lost is brought to whoever lacks it, whole or not at all, by handoffs and by primaries. A handoff keeps it until all have
// metadata as new, or that which was lost is past the reclaim age.
func TestGoodBesideLostIsBrought(t *testing.T) {
	later := backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}
	for what, tt := range map[string]struct {
		method, body string
		from         int
		kind         engine.Kind
	}{
		"data":               {"PUT", "body", 3, engine.Live},
		"large data":         {"PUT", strings.Repeat("x", 300_000), 3, engine.Live},
		"a tombstone":        {"DELETE", "", 3, engine.Deleted},
		"data, by a primary": {"PUT", "body", 0, engine.Live},
	} {
		f := newFleet(t, 4, 3, onDisk)
		ts := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour))
		first := backend.Header{{Name: "X-Object-Meta-K", Value: "first"}}
		from := f.nodes[tt.from]
		if tt.method == "DELETE" {
			first = nil
		}
		f.write(from, tt.method, "o", ts, first, tt.body, true)
		f.write(from, "POST", "o", ts.Next(), later, "", true)
		f.damageMeta(from, "o")
		if _, err := from.store.Open(t.Context(), f.at("o")); err == nil {
			t.Errorf("%s: clients may read it, without its metadata", what)
		}
		for range 2 { // it stays like that
			c := f.pass(from)
			for i, n := range f.nodes[:3] {
				if s := f.state(n, "o"); n != from && (s.Kind != tt.kind || s.Time != ts || s.MetaTime != ts || s.Length != int64(len(tt.body)) || tt.kind == engine.Live && s.Meta.Get("X-Object-Meta-K") != "first") {
					t.Errorf("%s: primary %d has %+v", what, i, s)
				}
			}
			if s := f.state(from, "o"); !s.MetaLost || c.Dropped > 0 || (c.Failed == 0) != (tt.from < 3) {
				t.Errorf("%s: %+v, and it has %+v", what, c, s)
			}
		}
		if tt.from < 3 {
			continue
		}
		for days := 4; days <= 8; days += 4 { // a pass now and then, so that nobody is taken for away
			for _, n := range f.nodes {
				n.now = n.now.Add(4 * 24 * time.Hour)
			}
			f.pass(f.nodes[:3]...)
			if c := f.pass(from); (c.Dropped == 1) != (days > 7) || (c.Failed == 0) != (days > 7) {
				t.Errorf("%s, after %d days: %+v, want it gone when the reclaim age is over", what, days, c)
			}
		}
	}
}

// A peer that has lost what is newer than a handoff's data has not confirmed that
// data because it takes later metadata.
func TestMetadataAtLostData(t *testing.T) {
	f := newFleet(t, 3, 2, onDisk)
	healthy, hurt, handoff := f.nodes[0], f.nodes[1], f.nodes[2]
	t1 := timestamp.Now().Add(-time.Hour)
	t2, t3 := t1.Add(time.Second), t1.Add(2*time.Second)
	later := backend.Header{{Name: "X-Object-Meta-K", Value: "later"}}
	f.write(handoff, "PUT", "o", t1, nil, "old", false)
	f.write(handoff, "POST", "o", t3, later, "", false)
	f.write(handoff, "POST", "alone", t3, later, "", true)
	for _, o := range []string{"o", "alone"} {
		f.write(hurt, "PUT", o, t2, nil, "new", false)
		if err := hurt.store.Quarantine(t.Context(), f.at(o), f.state(hurt, o), errors.New("a test says so")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if c := f.pass(handoff); c.Dropped != 0 || c.Failed != 2 || !strings.Contains(fmt.Sprint(c.Failures), "lost") {
			t.Errorf("%+v, want failures that say why nothing was dropped", c)
		}
		for _, o := range []string{"o", "alone"} {
			if s := f.state(hurt, o); s.Kind != engine.Lost || s.MetaTime != t3 {
				t.Errorf("%s: the peer has %+v, want the later metadata beside what it lost", o, s)
			}
		}
	}
	for _, o := range []string{"o", "alone"} {
		f.write(healthy, "PUT", o, t2, nil, "new", true)
	}
	if c := f.pass(healthy, handoff); c.Dropped != 2 || c.Failed != 0 {
		t.Errorf("after the repair: %+v, want the handoff's dropped", c)
	}
	for i, n := range f.nodes[:2] {
		for _, o := range []string{"o", "alone"} {
			if s := f.state(n, o); s.Kind != engine.Live || s.Time != t2 || s.MetaTime != t3 || s.Meta.Get("X-Object-Meta-K") != "later" {
				t.Errorf("%s: primary %d has %+v, want the data with the later metadata", o, i, s)
			}
		}
	}
}

// Tombstones past the reclaim age are pushed where something older is, and nowhere
// else; those who have nothing refuse them.
func TestReclaimAge(t *testing.T) {
	f := newFleet(t, 4, 3, onDisk)
	ts := timestamp.Now()
	f.write(f.nodes[0], "PUT", "o", ts, nil, "body", false)
	f.write(f.nodes[1], "DELETE", "o", ts.Next(), nil, "", false)
	f.write(f.nodes[3], "DELETE", "gone", ts, nil, "", false)
	f.write(f.nodes[3], "POST", "waiting", ts, nil, "", true)
	for _, n := range f.nodes {
		n.now = n.now.Add(8 * 24 * time.Hour)
	}
	if c := f.pass(f.nodes...); c.Failed != 0 {
		t.Errorf("not confirmed: %+v", c.Failures)
	}
	if s := f.state(f.nodes[0], "o"); s.Kind != engine.Deleted {
		t.Errorf("what was deleted is %+v where it was not known", s)
	}
	for _, o := range []string{"gone", "waiting"} {
		for i, n := range f.nodes {
			if s := f.state(n, o); !s.Newest().IsZero() {
				t.Errorf("%s: node %d has %+v, want nothing", o, i, s)
			}
		}
	}
	for method, want := range map[string]int{"DELETE": 410, "POST": 410, "PUT": 201} {
		h := append(commit("x"), backend.Field{Name: backend.Timestamp, Value: ts.String()})
		if status, text := f.push(f.nodes[2], method, "old"+method, h, map[bool]string{true: "x"}[method == "PUT"]); status != want {
			t.Errorf("%s of what is that old: %d %s, want %d", method, status, text, want)
		}
	}
}

// A push that contradicts itself is refused with nothing of it applied.
func TestBadPushes(t *testing.T) {
	f := newFleet(t, 1, 1, onDisk)
	n := f.nodes[0]
	stamp := timestamp.Now().String()
	good := append(commit("body"), backend.Field{Name: backend.Timestamp, Value: stamp})
	with := func(name, value string) backend.Header {
		h := slices.Clone(good)
		h.Set(name, value)
		return h
	}
	beside := (uint32(f.ring.Partition(f.at("o").Hash)) + 1) % (1 << power)
	for what, tt := range map[string]struct {
		method string
		header backend.Header
		body   string
		want   int
	}{
		"other partition":     {"PUT", with("path", backend.Target{Device: "d", Partition: beside, Path: thing("o")}.Quoted()), "body", 400},
		"other part power":    {"PUT", with(replwire.PartPowerHeader, "20"), "body", 400},
		"other checksum":      {"PUT", with(backend.CommitCRC, "00000000"), "body", 422},
		"other bytes":         {"PUT", good, "b0dy", 422},
		"garbled checksum":    {"PUT", with(backend.CommitCRC, "x"), "body", 400},
		"garbled ETag":        {"PUT", with(backend.CommitETag, "x"), "body", 400},
		"no commit":           {"PUT", backend.Header{{Name: backend.Timestamp, Value: stamp}, {Name: backend.ContentType, Value: "a/b"}}, "body", 400},
		"no time":             {"PUT", commit("body"), "body", 400},
		"garbled time":        {"PUT", with(backend.Timestamp, "now"), "body", 400},
		"time to come":        {"PUT", with(backend.Timestamp, timestamp.Now().Add(time.Hour).String()), "body", 400},
		"no policy":           {"PUT", with(backend.PolicyIndex, ""), "body", 400},
		"unknown policy":      {"PUT", with(backend.PolicyIndex, "7"), "body", 400},
		"no content type":     {"PUT", with(backend.ContentType, ""), "body", 400},
		"a container":         {"PUT", with("path", "/d/0/a/c"), "body", 400},
		"tombstone with body": {"DELETE", good, "body", 400},
		"metadata with body":  {"POST", good, "body", 400},
		"tombstone to come":   {"DELETE", with(backend.Timestamp, timestamp.Now().Add(time.Hour).String()), "", 400},
	} {
		if status, text := f.push(n, tt.method, "o", tt.header, tt.body); status != tt.want {
			t.Errorf("%s: %d %s, want %d", what, status, text, tt.want)
		}
		if s := f.state(n, "o"); !s.Newest().IsZero() {
			t.Fatalf("%s: left %+v", what, s)
		}
	}
	f.truncated(n, stamp)
	if s := f.state(n, "o"); !s.Newest().IsZero() {
		t.Errorf("a body that broke off left %+v", s)
	}
	if status, text := f.push(n, "PUT", "o", good, "body"); status != 201 {
		t.Errorf("the good one: %d %s", status, text)
	}
}

// What is damaged is never pushed nor dropped, and is repaired from a replica that
// is whole.
func TestDamaged(t *testing.T) {
	f := newFleet(t, 4, 3, onDisk)
	body := strings.Repeat("x", 300_000)
	ts := timestamp.Now()
	damage := func(n *small, object string) {
		t.Helper()
		h := f.at(object).Hash.String()
		files, err := filepath.Glob(filepath.Join(n.root, "blobs", h[:2], h+"-0-*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("files of %s: %v, %v", object, files, err)
		}
		file := files[0]
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[4096+90_000] ^= 1
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.write(f.nodes[3], "PUT", "only", ts, nil, body, false)
	damage(f.nodes[3], "only")
	if c := f.pass(f.nodes[3]); c.Failed == 0 || c.Dropped != 0 || c.Pushed != 0 {
		t.Errorf("a damaged handoff: %+v, want a failure", c)
	}
	for i, n := range f.nodes[:3] {
		if s := f.state(n, "only"); s.Kind != engine.Absent {
			t.Errorf("primary %d got %+v of it", i, s)
		}
	}
	if s := f.state(f.nodes[3], "only"); s.Kind != engine.Lost {
		t.Errorf("the handoff has %+v, want it lost", s)
	}

	for _, n := range f.nodes[:3] {
		f.write(n, "PUT", "o", ts, nil, body, false)
	}
	bad := f.nodes[0]
	damage(bad, "o")
	if v, err := (objectStore{bad.store}).Open(t.Context(), 0, f.at("o").Hash); err != nil {
		t.Fatal(err)
	} else if _, err := io.Copy(io.Discard, v.Body); !errs.Is(err, errs.Corrupt) {
		t.Errorf("reading a damaged body: %v", err)
	} else {
		v.Body.Close()
	}
	if s := f.state(bad, "o"); s.Kind != engine.Lost {
		t.Fatalf("after it was read: %+v", s)
	}
	if c := f.pass(f.nodes[1]); c.Failed != 0 || c.Pushed != 1 || c.Bytes != int64(len(body)) {
		t.Errorf("the repair: %+v, want one push", c)
	}
	if s := f.state(bad, "o"); s.Kind != engine.Live || s.Time != ts {
		t.Errorf("after the repair: %+v", s)
	}
}

// A peer that is down is not asked again and again, and the others get theirs.
func TestPeerIsDown(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory)
	ts := timestamp.Now()
	const names = 40
	for i := range names {
		f.write(f.nodes[0], "PUT", fmt.Sprint("o", i), ts, nil, "body", false)
	}
	var asked atomic.Int64
	f.nodes[1].serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}))
	c := f.pass(f.nodes[0])
	if c.Failed != names || c.Pushed != names {
		t.Errorf("%d failed, %d pushed, want %d each: %+v", c.Failed, c.Pushed, names, c.Failures)
	}
	if limit := int64(2 * objects.Defaults().Concurrency); asked.Load() > limit {
		t.Errorf("the peer that is down was asked %d times, want at most %d", asked.Load(), limit)
	}
}

// The context ends a pass.
func TestPassIsCancelled(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	for i := range 20 {
		f.write(f.nodes[3], "PUT", fmt.Sprint("o", i), timestamp.Now(), nil, "body", false)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	good := f.nodes[0].serving()
	f.nodes[0].serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		good.ServeHTTP(w, r)
	}))
	if r, err := f.nodes[3].repl.Pass(ctx, replicator.Options{}); !errs.Is(err, errs.Aborted) || r.Whole() {
		t.Errorf("%+v, %v, want it aborted", r, err)
	}
}
