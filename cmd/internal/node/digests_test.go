package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
	"martlet/ring"
)

// byDigests has a fleet go down to single objects by sums, however few there are.
func byDigests(f *fleet) { f.objects.Few = 0 }

// held returns all that a node has.
func (f *fleet) held(n *small) (list []replwire.Object) {
	f.t.Helper()
	first, last := replicator.Whole()
	for o, err := range (objectStore{n.store}).Walk(f.t.Context(), 0, first, last) {
		if err != nil {
			f.t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

func within(list []replwire.Object, r name.Range) (some []replwire.Object) {
	for _, o := range list {
		if r.Has(o.Hash) {
			some = append(some, o)
		}
	}
	return some
}

// isQuestion reports whether a request asks about digests, isPushes whether it brings many
// versions.
func isQuestion(r *http.Request) bool { return r.Method == "REPLICATE" && r.ContentLength != 0 }
func isPushes(r *http.Request) bool {
	return r.Method == "PUT" && strings.Count(r.URL.Path, "/") == 1
}

// Whatever two nodes hold, a question finds exactly the ranges in which it is not the same,
// at every depth, and a pass of each makes it the same.
func TestDigestsFindWhatDiffers(t *testing.T) {
	f := newFleet(t, 2, 2, inMemory, byDigests)
	a, b := f.nodes[0], f.nodes[1]
	base := timestamp.Now().Add(-time.Hour)
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprint("o", i))
	}
	rapid.Check(t, func(rt *rapid.T) {
		defer f.forget(f.nodes, names)
		for _, o := range names {
			for _, n := range [][]*small{{}, {a}, {b}, {a, b}}[rapid.IntRange(0, 3).Draw(rt, "who")] {
				ts := base.Add(time.Duration(rapid.IntRange(0, 1).Draw(rt, "time")) * time.Second)
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0, 1:
					f.write(n, "PUT", o, ts, nil, rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "body"), true)
				case 2:
					f.write(n, "DELETE", o, ts, nil, "", true)
				case 3:
					f.write(n, "POST", o, ts, backend.Header{{Name: "X-Object-Meta-K", Value: "v"}}, "", true)
				}
			}
		}
		mine, theirs := f.held(a), f.held(b)
		depth := rapid.SampledFrom([]uint8{0, 4, 11, 12, 13, 24, 40}).Draw(rt, "depth")
		var q replwire.Question
		for _, h := range slices.Concat(mine, theirs) {
			r := name.Range{Prefix: within64(h.Hash) >> (64 - depth) << (64 - depth), Depth: depth}
			q.Parts = append(q.Parts, replwire.Extent{Range: r})
		}
		slices.SortFunc(q.Parts, func(a, b replwire.Extent) int { return bytes.Compare(first(a), first(b)) })
		q.Parts = slices.Compact(q.Parts)
		var ranges []name.Range
		for _, p := range q.Parts {
			ranges = append(ranges, p.Range)
		}
		i := 0
		for e, err := range (objectStore{a.store}).Ranges(t.Context(), 0, ranges, timestamp.T{}) {
			if err != nil {
				rt.Fatal(err)
			}
			q.Parts[i] = e
			i++
		}
		differ := map[name.Range]int64{}
		if len(q.Parts) > 0 {
			c := replicator.Client{Sender: f.client, Kind: "object", NodeID: a.repl.NodeID, Device: "d"}
			n, err := c.Ask(t.Context(), f.ring, &replicator.Peer{Addr: b.address, Device: "d"}, backend.Header{{Name: backend.PolicyIndex, Value: "0"}}, q,
				func(d replwire.Difference) { differ[q.Parts[d.At].Range] = d.Objects },
				func(at int) { rt.Fatalf("part %d is strange to a primary", at) })
			if err != nil || n != len(q.Parts) {
				rt.Fatalf("%d of %d parts answered, %v", n, len(q.Parts), err)
			}
		}
		for _, r := range ranges {
			here, there := within(mine, r), within(theirs, r)
			objects, got := differ[r]
			if want := !slices.Equal(here, there); got != want {
				rt.Fatalf("%+v: found %t, want %t; here %+v, there %+v", r, got, want, here, there)
			}
			live := int64(len(slices.DeleteFunc(there, func(o replwire.Object) bool { return o.Kind != replwire.Data })))
			if got && objects != live {
				rt.Fatalf("%+v: %d objects are told of, there are %d", r, objects, live)
			}
		}
		if c := f.pass(a, b); c.Failed > 0 {
			rt.Fatalf("not confirmed: %+v", c.Failures)
		}
		if mine, theirs = f.held(a), f.held(b); !slices.Equal(mine, theirs) {
			rt.Fatalf("after a pass of each:\n%+v\n%+v", mine, theirs)
		}
		if c := f.pass(a, b); c.Pushed > 0 {
			rt.Fatalf("another pass did something: %+v", c)
		}
	})
}

func first(e replwire.Extent) []byte { h := e.Range.First(); return h[:] }

func within64(h name.Hash) (n uint64) {
	for _, b := range h[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}

// faults has requests of a fleet's nodes fail, once they are as many as it says, before they
// are served or after it.
type faults struct {
	left  atomic.Int64 // requests until it fails
	after bool         // served, and not answered
	most  int64        // how many fail from then on; all, where that is 0
	die   func()       // what else happens then
}

// serve serves a request, or does not; none of them fails where there are no faults.
func (x *faults) serve(good http.Handler, w http.ResponseWriter, r *http.Request) {
	if x == nil {
		good.ServeHTTP(w, r)
		return
	}
	n := x.left.Add(-1)
	if n >= 0 || x.most > 0 && n < -x.most {
		good.ServeHTTP(w, r)
		return
	}
	if n == -1 && x.die != nil {
		x.die()
	}
	if x.after {
		good.ServeHTTP(httptest.NewRecorder(), r)
	}
	panic(http.ErrAbortHandler)
}

// Whatever was written to whom, whoever has lost what, whichever ring came in between, and
// whenever nodes died in a pass: as long as one has it nothing is lost, and passes until it
// is quiet leave the join of all writes on all primaries, and nothing on handoffs.
func TestObjectsMeetWhateverFails(t *testing.T) {
	base := timestamp.Now().Add(-time.Hour)
	f := newFleet(t, 5, 3, inMemory, byDigests)
	all := f.open(vfs.NewMem(), "reference", "127.0.0.1:1")
	history := 0
	var now atomic.Pointer[faults]
	for _, n := range f.nodes {
		good := n.serving()
		n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().serve(good, w, r) }))
	}
	trios := [][]uint32{{0, 1, 2}, {4, 3, 2}, {1, 3, 0}}
	rapid.Check(t, func(rt *rapid.T) {
		history++
		var names []string // of their own: a request whose sender was killed may be served late
		for i := range 6 {
			names = append(names, fmt.Sprint(history, "-", i))
		}
		defer f.forget(slices.Concat(f.nodes, []*small{all}), names)
		ringOf := func(n *small) { n.ring.Store(f.ringOf(rapid.SampledFrom(trios).Draw(rt, "ring")...)) }
		for _, n := range f.nodes {
			n.ring.Store(f.ringOf(0, 1, 2))
		}
		for range rapid.IntRange(1, 3).Draw(rt, "rounds") {
			for range rapid.IntRange(1, 8).Draw(rt, "writes") {
				n := f.nodes[rapid.IntRange(0, 4).Draw(rt, "node")]
				o := rapid.SampledFrom(names).Draw(rt, "object")
				ts := base.Add(time.Duration(rapid.IntRange(1, 9).Draw(rt, "time")) * time.Second)
				v := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "value")
				h := backend.Header{{Name: "X-Object-Meta-K", Value: v}}
				method, body := rapid.SampledFrom([]string{"PUT", "PUT", "DELETE", "POST"}).Draw(rt, "method"), ""
				switch {
				case method == "DELETE":
					h = nil
				case method == "PUT":
					body = v
				case rapid.Bool().Draw(rt, "type"):
					h = append(h, backend.Field{Name: backend.ContentType, Value: "text/" + v})
				}
				for _, n := range []*small{n, all} {
					f.write(n, method, o, ts, slices.Clone(h), body, true)
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "lose") == 0 {
				f.lose(f.nodes[rapid.IntRange(0, 4).Draw(rt, "loser")], rapid.SampledFrom(names).Draw(rt, "lost"))
			}
			if rapid.Bool().Draw(rt, "new ring") {
				for _, n := range f.nodes { // not all of them have it
					ringOf(n)
				}
			}
			for range rapid.IntRange(0, 3).Draw(rt, "passes") {
				n := f.nodes[rapid.IntRange(0, 4).Draw(rt, "passes of")]
				ctx, cancel := context.WithCancel(t.Context())
				x := &faults{after: rapid.Bool().Draw(rt, "after"), most: int64(rapid.IntRange(0, 3).Draw(rt, "most"))}
				if rapid.Bool().Draw(rt, "killed") {
					x.die = cancel // the one that makes the pass dies as well
				}
				x.left.Store(int64(rapid.IntRange(0, 25).Draw(rt, "requests")))
				now.Store(x)
				_, err := n.repl.Pass(ctx, replicator.Options{})
				if err != nil && ctx.Err() == nil {
					rt.Fatal(err)
				}
				cancel()
				now.Store(nil)
			}
		}
		for _, n := range f.nodes {
			n.ring.Store(f.ringOf(0, 1, 2))
		}
		var c replicator.Counts
		for range 6 {
			if c = f.pass(f.nodes...); c.Pushed == 0 && c.Dropped == 0 && c.Failed == 0 {
				break
			}
		}
		if c.Pushed > 0 || c.Dropped > 0 || c.Failed > 0 {
			rt.Fatalf("it does not become quiet: %+v", c)
		}
		for _, o := range names {
			want := wireObject(f.at(o).Hash, pointer(f.state(all, o)))
			for i, n := range f.nodes {
				got := wireObject(f.at(o).Hash, pointer(f.state(n, o)))
				// What a handoff has lost it can't give: the mark stays.
				if i >= 3 && got.Kind != 0 && got.Kind != replwire.Lost || i < 3 && got != want {
					rt.Fatalf("%s: node %d has\n%+v, want\n%+v on primaries only", o, i, got, want)
				}
			}
		}
	})
}

// lose has a node lose its copy to damage, if another one has the same.
func (f *fleet) lose(n *small, object string) {
	f.t.Helper()
	mine := f.state(n, object)
	if mine.Kind != engine.Live {
		return
	}
	for _, other := range f.nodes {
		if s := f.state(other, object); other != n && wireObject(f.at(object).Hash, &s) == wireObject(f.at(object).Hash, &mine) {
			if err := n.store.Quarantine(f.t.Context(), f.at(object), mine, errors.New("a test says so")); err != nil {
				f.t.Fatal(err)
			}
			return
		}
	}
}

// An answer to a question that is not believed in whole is a failure that says why, and has
// nothing pushed.
func TestBadAnswers(t *testing.T) {
	f := newFleet(t, 2, 2, onDisk)
	asker, peer := f.nodes[0], f.nodes[1]
	f.write(asker, "PUT", "o", timestamp.Now(), nil, "body", false)
	good := peer.serving()
	answer := func(status int, id string, body func(asked []byte) []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !isQuestion(r) {
				t.Errorf("after a bad answer it is asked %s %s", r.Method, r.URL)
			}
			asked, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set(replicator.NodeHeader, id)
			w.WriteHeader(status)
			_, _ = w.Write(body(asked))
		}
	}
	fixed := func(b string) func([]byte) []byte { return func([]byte) []byte { return []byte(b) } }
	other := replwire.Question{Parts: []replwire.Extent{{Range: name.Range{Depth: 3}}}}
	for what, tt := range map[string]struct {
		serve http.HandlerFunc
		says  string
	}{
		"is garbage":         {answer(200, "x", fixed("garbage")), "bad replication list"},
		"is empty":           {answer(200, "x", fixed("")), "bad replication list"},
		"is a list":          {answer(200, "x", func([]byte) []byte { return replwire.End(replwire.Begin(nil, replwire.Objects), 0, false) }), "kind"},
		"is of another":      {answer(200, "x", func([]byte) []byte { return (&replwire.Answer{Answered: 1}).Append(nil, other.Append(nil), 1) }), "another question"},
		"is the asker's":     {answer(200, asker.repl.NodeID, fixed("")), "the device itself"},
		"is nobody's":        {answer(200, "", fixed("")), "does not say whose"},
		"is an earlier node": {answer(400, "x", fixed("REPLICATE has no body")), "earlier version"},
		"is a failure":       {answer(503, "x", fixed("busy")), "busy"},
		"is cut short": {answer(200, "x", func(asked []byte) []byte {
			b := (&replwire.Answer{Answered: 1}).Append(nil, asked, 1)
			return b[:len(b)-3]
		}), "bad replication list"},
	} {
		peer.serve(tt.serve)
		c := f.pass(asker)
		if c.Failed != 1 || c.Pushed != 0 || len(c.Failures) != 1 || !strings.Contains(c.Failures[0].Reason, tt.says) || c.Failures[0].Peer == "" {
			t.Errorf("an answer that %s: %+v, want a failure that says %q", what, c, tt.says)
		}
	}
	peer.serve(good)
	if c := f.pass(asker); c.Failed != 0 || c.Pushed != 1 {
		t.Errorf("a good answer: %+v, want one push", c)
	}
}

// Nodes that share hashes compare them whatever rings they have: one with another part power
// asks about other partitions, and finds the same.
func TestPartPowersDiffer(t *testing.T) {
	f := newFleet(t, 2, 2, onDisk)
	ts := timestamp.Now()
	for i := range 30 {
		f.write(f.nodes[i%2], "PUT", fmt.Sprint("o", i), ts, nil, "body", false)
	}
	data := f.data
	data.PartPower = power + 3
	data.Rows = [][]uint32{make([]uint32, 1<<data.PartPower), slices.Repeat([]uint32{1}, 1<<data.PartPower)}
	finer, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	f.nodes[1].ring.Store(finer)
	if c := f.pass(f.nodes...); c.Failed != 0 || c.Pushed != 30 {
		t.Errorf("%+v, want 30 pushed", c)
	}
	if a, b := f.held(f.nodes[0]), f.held(f.nodes[1]); len(a) != 30 || !slices.Equal(a, b) {
		t.Errorf("one has %d, the other %d, or not the same", len(a), len(b))
	}
}

// What is in step costs a question, and nothing is listed; what is not is found at once in
// all partitions, and travels together.
func TestFewRequests(t *testing.T) {
	f := newFleet(t, 2, 2, inMemory)
	a, b := f.nodes[0], f.nodes[1]
	ts := timestamp.Now()
	const objects = 600
	for i := range objects {
		f.write(a, "PUT", fmt.Sprint("o", i), ts, nil, "body", false)
		if i%100 != 0 {
			f.write(b, "PUT", fmt.Sprint("o", i), ts, nil, "body", false)
		}
	}
	var questions, lists, pushes, others atomic.Int64
	good := b.serving()
	b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case isQuestion(r):
			questions.Add(1)
		case isList(r):
			lists.Add(1)
		case isPushes(r):
			pushes.Add(1)
		default:
			others.Add(1)
		}
		good.ServeHTTP(w, r)
	}))
	if c := f.pass(a); c.Pushed != 6 || c.Failed != 0 {
		t.Errorf("%+v, want 6 pushed", c)
	}
	if questions.Load() != 1 || lists.Load() > 6 || pushes.Load() != 1 || others.Load() != 0 {
		t.Errorf("%d questions, %d lists, %d and %d pushes; want 1, up to 6, 1 and 0", questions.Load(), lists.Load(), pushes.Load(), others.Load())
	}
	questions.Store(0)
	lists.Store(0)
	pushes.Store(0)
	if c := f.pass(a); c.Pushed != 0 || c.Failed != 0 || c.Compared != objects || questions.Load() != 1 || lists.Load()+pushes.Load() != 0 {
		t.Errorf("in step: %+v with %d questions, %d lists, %d pushes; want one question", c, questions.Load(), lists.Load(), pushes.Load())
	}
}

// A pass that is settled leaves out what was written in the last seconds, another one does
// not.
func TestSettledPass(t *testing.T) {
	f := newFleet(t, 2, 2, inMemory)
	f.write(f.nodes[0], "PUT", "old", timestamp.Now().Add(-time.Minute), nil, "body", false)
	f.write(f.nodes[0], "PUT", "new", timestamp.Now(), nil, "body", false)
	for _, tt := range []struct {
		o    replicator.Options
		want int64
	}{{replicator.Options{Settled: true}, 1}, {replicator.Options{Settled: true}, 0}, {replicator.Options{}, 1}} {
		r, err := f.nodes[0].repl.Pass(t.Context(), tt.o)
		if c := r.Devices[0].Kinds[0]; err != nil || c.Pushed != tt.want || c.Failed > 0 {
			t.Errorf("%+v: %+v, %v, want %d pushed", tt.o, c, err, tt.want)
		}
	}
}

// The fewest good copies come first; of handoffs those whose primary has nothing at all.
func TestOrder(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory, func(f *fleet) { f.objects.Concurrency = 1 })
	// One name for each of four partitions.
	var names []string
	taken := map[ring.Partition]bool{}
	for i := 0; len(names) < 4; i++ {
		o := fmt.Sprint("o", i)
		if p := f.ring.Partition(f.at(o).Hash); !taken[p] {
			taken[p] = true
			names = append(names, o)
		}
	}
	ts := timestamp.Now()
	onlyHere, twice, bare, spare := names[0], names[1], names[2], names[3]
	n := f.nodes[3]
	partition := func(o string) uint32 { return uint32(f.ring.Partition(f.at(o).Hash)) }
	rows := [][]uint32{slices.Repeat([]uint32{0}, 1<<power), slices.Repeat([]uint32{1}, 1<<power), slices.Repeat([]uint32{2}, 1<<power)}
	for _, o := range []string{onlyHere, twice} {
		rows[2][partition(o)] = 3
	}
	data := f.data
	data.Rows = rows
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range f.nodes {
		n.ring.Store(r)
	}
	for _, o := range names {
		f.write(n, "PUT", o, ts, nil, o, false)
	}
	f.write(f.nodes[0], "PUT", twice, ts, nil, twice, false)
	f.write(f.nodes[0], "PUT", spare, ts, nil, spare, false)
	f.write(f.nodes[1], "PUT", spare, ts.Next(), nil, spare, false)
	f.write(f.nodes[2], "PUT", spare, ts.Next(), nil, spare, false)
	f.write(f.nodes[0], "PUT", bare, ts, nil, bare, false)
	f.write(f.nodes[1], "PUT", bare, ts, nil, bare, false)
	var mu sync.Mutex
	var order []string
	for _, to := range f.nodes[:3] {
		good := to.serving()
		to.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isPushes(r) {
				body, err := io.ReadAll(r.Body)
				list, parseErr := replwire.ParsePushes(body)
				if err != nil || parseErr != nil {
					t.Error(err, parseErr)
				}
				mu.Lock()
				for _, x := range list {
					if !slices.Contains(order, x.Path.Object) {
						order = append(order, x.Path.Object)
					}
				}
				mu.Unlock()
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			good.ServeHTTP(w, r)
		}))
	}
	if c := f.pass(n); c.Failed > 0 || c.Dropped != 2 {
		t.Errorf("%+v, want two handoffs dropped", c)
	}
	if want := []string{onlyHere, twice, bare}; !slices.Equal(order, want) {
		t.Errorf("pushed were %v, want %v", order, want)
	}
}

// Many pushes in one request are each taken or refused as if they had come alone, and one
// that is garbled takes nothing.
func TestManyPushes(t *testing.T) {
	f := newFleet(t, 2, 1, onDisk)
	n := f.nodes[0]
	ts := timestamp.Now()
	old := ts.Add(-30 * 24 * time.Hour)
	f.write(n, "PUT", "newer", ts.Next(), nil, "newer", false)
	part := func(o string) uint32 { return uint32(f.ring.Partition(f.at(o).Hash)) }
	stamp := func(ts timestamp.T, more ...backend.Field) backend.Header {
		return append(backend.Header{{Name: backend.Timestamp, Value: ts.String()}}, more...)
	}
	push := func(method, o string, h backend.Header, body string) replwire.Push {
		return replwire.Push{Method: method, Partition: part(o), Path: thing(o), Header: h, Body: []byte(body)}
	}
	elsewhere := push("PUT", "elsewhere", stamp(ts, commit("x")...), "x")
	elsewhere.Partition = (elsewhere.Partition + 1) % (1 << power)
	beyond := push("PUT", "beyond", stamp(ts, commit("x")...), "x")
	beyond.Partition = 1 << power
	container := push("PUT", "x", stamp(ts, commit("x")...), "x")
	container.Path.Object = ""
	type item struct {
		what string
		replwire.Push
		want int
	}
	items := []item{
		{"data", push("PUT", "data", stamp(ts, commit("body")...), "body"), 201},
		{"its later metadata", push("POST", "data", stamp(ts.Next(), backend.Field{Name: "X-Object-Meta-K", Value: "v"}), ""), 202},
		{"a tombstone", push("DELETE", "gone", stamp(ts), ""), 204},
		{"older data", push("PUT", "newer", stamp(ts, commit("body")...), "body"), 409},
		{"another partition", elsewhere, 400},
		{"no partition", beyond, 400},
		{"a container", container, 400},
		{"another body", push("PUT", "garbled", stamp(ts, commit("body")...), "b0dy"), 422},
		{"no commit", push("PUT", "none", stamp(ts, backend.Field{Name: backend.ContentType, Value: "a/b"}), "x"), 400},
		{"no time", push("DELETE", "timeless", nil, ""), 400},
		{"time to come", push("DELETE", "future", stamp(ts.Add(time.Hour)), ""), 400},
		{"what may be forgotten", push("DELETE", "forgotten", stamp(old), ""), 410},
		{"another policy", push("DELETE", "policy", stamp(ts, backend.Field{Name: backend.PolicyIndex, Value: "7"}), ""), 204}, // the request's counts
		{"old data", push("PUT", "old", stamp(old, commit("old")...), "old"), 201},
		{"its old metadata", push("POST", "old", stamp(old.Next(), backend.Field{Name: "X-Object-Meta-K", Value: "v"}), ""), 202},
	}
	var list replwire.Pushes
	for i := range items {
		list.Add(&items[i].Push)
	}
	c := replicator.Client{Sender: f.client, Kind: "object", NodeID: "a test", Device: "d"}
	h := backend.Header{{Name: backend.PolicyIndex, Value: "0"}}
	garbled := slices.Clone(list.Encoded())
	garbled[len(garbled)/2] ^= 1
	for what, body := range map[string][]byte{"garbled": garbled, "cut short": list.Encoded()[:len(garbled)/2], "no list": []byte("x")} {
		r := &backend.Request{
			Method: "PUT", Path: "/d", Length: int64(len(body)), Body: bytes.NewReader(body),
			Header: append(slices.Clone(h), backend.Field{Name: replwire.ReplicationHeader, Value: "true"}),
		}
		resp, err := c.Do(t.Context(), replicator.About{Ring: f.ring}, &replicator.Peer{Addr: n.address, Device: "d"}, r)
		if err != nil || resp.Status != 400 {
			t.Errorf("%s: %+v, %v, want 400", what, resp, err)
		} else if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if got := f.held(n); len(got) != 1 {
			t.Fatalf("%s: left %+v", what, got)
		}
	}
	results, err := c.Push(t.Context(), f.ring, &replicator.Peer{Addr: n.address, Device: "d"}, h, &list)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if it := items[i]; r.Status != it.want || r.Primary != (it.Partition < 1<<power) {
			t.Errorf("%s: %+v, want %d", it.what, r, it.want)
		}
	}
	for _, o := range []string{"data", "old"} {
		if s := f.state(n, o); s.Kind != engine.Live || s.Meta.Get("X-Object-Meta-K") != "v" {
			t.Errorf("%s: %+v, want it with its metadata", o, s)
		}
	}
	if s := f.state(n, "newer"); s.Time != ts.Next() {
		t.Errorf("the newer one is %+v", s)
	}
	if got := f.held(n); len(got) != 5 {
		t.Errorf("there are %d names, want 5: %+v", len(got), got)
	}
	if got := f.held(f.nodes[1]); len(got) != 0 {
		t.Errorf("another node has %+v", got)
	}
}

// Who answers that he is no primary when he takes something has not confirmed it, nor has
// another process that answers in the place of the one that was asked.
func TestNotDroppedForPushes(t *testing.T) {
	for what, tt := range map[string]struct {
		meanwhile func(f *fleet, w http.ResponseWriter)
		says      string
	}{
		"is no primary any more": {func(f *fleet, _ http.ResponseWriter) { f.nodes[0].ring.Store(f.ringOf(2)) }, "no primary"},
		"is another process": {func(_ *fleet, w http.ResponseWriter) {
			w.Header().Set(replicator.NodeHeader, "another")
		}, "another process"},
	} {
		f := newFleet(t, 3, 1, onDisk)
		primary, handoff := f.nodes[0], f.nodes[1]
		f.write(handoff, "PUT", "o", timestamp.Now(), nil, "body", false)
		good := primary.serving()
		primary.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !isPushes(r) {
				good.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			if tt.says == "no primary" {
				tt.meanwhile(f, answer)
			}
			good.ServeHTTP(answer, r)
			for k, v := range answer.Header() {
				w.Header()[k] = v
			}
			tt.meanwhile(f, w)
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		}))
		c := f.pass(handoff)
		if c.Dropped != 0 || c.Failed != 1 || !strings.Contains(fmt.Sprint(c.Failures), tt.says) {
			t.Errorf("a peer that %s: %+v, want a failure that says so", what, c)
		}
		if s := f.state(handoff, "o"); s.Kind != engine.Live {
			t.Errorf("a peer that %s: the handoff has %+v", what, s)
		}
	}
}

// A handoff whose data a primary has seen deleted takes the tombstone, as long as it has to
// wait for another one; it brings that one the tombstone, and not the data.
func TestHandoffTakesTombstone(t *testing.T) {
	f := newFleet(t, 3, 2, onDisk)
	handoff := f.nodes[2]
	ts := timestamp.Now().Add(-time.Minute)
	f.write(handoff, "PUT", "o", ts, nil, "body", false)
	f.write(handoff, "PUT", "newer", ts.Add(2*time.Second), nil, "body", false)
	for _, o := range []string{"o", "newer"} {
		f.write(f.nodes[0], "DELETE", o, ts.Add(time.Second), nil, "", true)
	}
	good := f.nodes[1].serving()
	f.nodes[1].serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if c := f.pass(handoff); c.Dropped != 0 || c.Failed == 0 {
		t.Errorf("while a primary is away: %+v, want nothing dropped", c)
	}
	if s := f.state(handoff, "o"); s.Kind != engine.Deleted || s.Time != ts.Add(time.Second) {
		t.Errorf("the handoff has %+v, want the tombstone", s)
	}
	if s := f.state(handoff, "newer"); s.Kind != engine.Live {
		t.Errorf("the handoff has %+v, want what is newer than the tombstone", s)
	}
	f.nodes[1].serve(good)
	if c := f.pass(handoff); c.Dropped != 2 || c.Failed != 0 {
		t.Errorf("when it is back: %+v, want both dropped", c)
	}
	for i, n := range f.nodes {
		want := map[bool]engine.Kind{true: engine.Deleted, false: engine.Absent}[i < 2]
		if s := f.state(n, "o"); s.Kind != want {
			t.Errorf("node %d has %+v, want kind %d", i, s, want)
		}
	}
	// In one pass as well, where all answer: the data comes to nobody.
	f.write(handoff, "PUT", "p", ts, nil, "body", false)
	f.write(f.nodes[0], "DELETE", "p", ts.Add(time.Second), nil, "", true)
	if c := f.pass(handoff); c.Dropped != 1 || c.Pushed != 1 || c.Bytes != 0 || c.Failed != 0 {
		t.Errorf("%+v, want a tombstone pushed and dropped", c)
	}
}

// Writes that come while a pass compares are left to the next one, or pushed by this one,
// and nothing is taken back by it.
func TestWritesDuringAPass(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory, byDigests)
	ts := timestamp.Now().Add(-time.Minute)
	for i := range 50 {
		f.write(f.nodes[0], "PUT", fmt.Sprint("o", i), ts, nil, "old", false)
	}
	var count atomic.Int64
	good := f.nodes[1].serving()
	f.nodes[1].serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := count.Add(1)
		o := fmt.Sprint("o", n%50)
		f.write(f.nodes[0], "PUT", o, ts.Add(time.Duration(n)*time.Second), nil, fmt.Sprint("new", n), true)
		f.write(f.nodes[2], "DELETE", fmt.Sprint("o", (n+7)%50), ts.Add(time.Duration(n)*time.Second), nil, "", true)
		good.ServeHTTP(w, r)
	}))
	f.pass(f.nodes...)
	if count.Load() < 2 {
		t.Fatalf("%d requests came", count.Load())
	}
	f.nodes[1].serve(good)
	if c := f.pass(f.nodes...); c.Failed != 0 {
		t.Errorf("%+v", c)
	}
	want := f.held(f.nodes[0])
	for i, n := range f.nodes {
		if got := f.held(n); len(got) != 50 || !slices.Equal(got, want) {
			t.Errorf("node %d has %d names, or others than the first", i, len(got))
		}
	}
	if s := f.state(f.nodes[2], "o1"); s.Time.Before(ts.Add(time.Second)) {
		t.Errorf("what was written meanwhile is gone: %+v", s)
	}
}

// Everything differs, in more ranges than are asked about at once: all of it is found.
func TestAllDiffers(t *testing.T) {
	f := newFleet(t, 2, 2, inMemory, byDigests, func(f *fleet) { f.engines.SegmentSize = 16 << 20 })
	ts := timestamp.Now()
	const objects = 3000
	for i := range objects {
		o := fmt.Sprint("o", i)
		f.write(f.nodes[0], "PUT", o, ts.Next(), nil, "new", false)
		f.write(f.nodes[1], "PUT", o, ts, nil, "old", false)
	}
	if c := f.pass(f.nodes[0]); c.Pushed != objects || c.Failed != 0 {
		t.Errorf("%+v, want %d pushed", c, objects)
	}
	if a, b := f.held(f.nodes[0]), f.held(f.nodes[1]); len(a) != objects || !slices.Equal(a, b) {
		t.Errorf("there are %d and %d, or not the same", len(a), len(b))
	}
}

// Two who hold the same large object find out at once that a third lacks it: one of them sends it,
// and the other says that it is under way. Where the one gives up the other brings it.
func TestLargeObjectsAreBroughtOnce(t *testing.T) {
	for what, gives := range map[string]bool{"it comes": false, "who begins gives up": true} {
		t.Run(what, func(t *testing.T) {
			f := newFleet(t, 3, 3, onDisk)
			body := strings.Repeat("a large object. ", 40_000)
			ts := timestamp.FromTime(f.nodes[0].clock().Add(-time.Minute))
			for _, n := range f.nodes[:2] {
				f.write(n, "PUT", "o", ts, nil, body, false)
			}
			lacks := f.nodes[2]
			good := lacks.serving()
			begun, goOn := make(chan struct{}), make(chan struct{})
			var puts atomic.Int64
			lacks.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PUT" {
					if puts.Add(1) == 1 {
						end := io.EOF // and then the rest
						if gives {
							end = io.ErrUnexpectedEOF
						}
						r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 1000), waits{begun, goOn, end}, r.Body))
					}
				}
				good.ServeHTTP(w, r)
			}))
			first := make(chan replicator.Counts, 1)
			go func() {
				r, err := f.nodes[0].repl.Pass(t.Context(), replicator.Options{})
				if err != nil {
					t.Error(err)
				}
				first <- r.Devices[0].Kinds[0]
			}()
			<-begun
			if c := f.pass(f.nodes[1]); c.Failed != 1 || c.Pushed != 0 || !strings.Contains(fmt.Sprint(c.Failures), "still bringing it") {
				t.Errorf("the other one says %+v", c)
			}
			close(goOn)
			if c := <-first; gives != (c.Failed > 0) || gives != (c.Pushed == 0) {
				t.Errorf("who began says %+v", c)
			}
			if c := f.pass(f.nodes[1]); c.Failed > 0 || gives != (c.Pushed == 1) {
				t.Errorf("the other one then says %+v", c)
			}
			if n := puts.Load(); gives != (n == 2) {
				t.Errorf("it was sent %d times", n)
			}
			if s := f.state(lacks, "o"); s.Kind != engine.Live {
				t.Errorf("there is %+v", s)
			}
		})
	}
}

// waits is a body that says when it is read, and ends when it is told to.
type waits struct {
	begun, goOn chan struct{}
	end         error
}

// Read implements io.Reader.
func (w waits) Read([]byte) (int, error) {
	close(w.begun)
	<-w.goOn
	return 0, w.end
}

// claim has somebody be the first to bring a node the partition of an object.
func (f *fleet) claim(n *small, object string) {
	f.t.Helper()
	h := f.at(object).Hash
	status, text := f.push(n, "REPLICATE", object, backend.Header{
		{Name: "path", Value: fmt.Sprintf("/d/%d", f.ring.Partition(h))}, {Name: "query", Value: fmt.Sprintf("from=%s&to=%s", h, h)},
		{Name: replwire.BringHeader, Value: replwire.BringFirst}, {Name: replwire.SenderHeader, Value: "somebody/d"},
	}, "")
	if status != 200 {
		f.t.Fatalf("who is first is answered with %d %q", status, text)
	}
}

// In the background a partition that another one has begun to bring is left to him; a pass that
// somebody waits for leaves nothing.
func TestLeftToWhoBringsIt(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory)
	lacks := f.nodes[2]
	old := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour))
	for _, n := range f.nodes[:2] {
		f.write(n, "PUT", "o", old, nil, "body", false)
	}
	claim := func() { f.claim(lacks, "o") }
	background := func(n *small) int64 {
		r, err := n.repl.Pass(t.Context(), replicator.Options{Settled: true})
		c := r.Devices[0].Kinds[0]
		if err != nil || c.Failed > 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		return c.Pushed
	}
	claim()
	first, second := f.nodes[0], f.nodes[1]
	if background(first) == 0 { // it is the other one's to begin with
		first, second = second, first
		if background(first) != 1 {
			t.Fatal("nobody brings it")
		}
	}
	f.forget([]*small{lacks}, []string{"o"})
	claim()
	if n := background(second); n != 0 {
		t.Errorf("%d were pushed though another one is at it", n)
	}
	if c := f.pass(second); c.Pushed != 1 || c.Failed > 0 {
		t.Errorf("a pass that somebody waits for says %+v", c)
	}

	// Who has it claimed never brings it.
	f.forget([]*small{lacks}, []string{"o"})
	left := 0
	for ; left < 20; left++ {
		claim()
		if background(second) > 0 {
			break
		}
	}
	if left == 20 || left < 2 {
		t.Errorf("%d passes left it to one who does not bring it", left)
	}
}

// A handoff leaves to others what they are bringing, and drops at once what is there already.
func TestHandoffDropsWhatOthersHaveBrought(t *testing.T) {
	f := newFleet(t, 3, 2, inMemory)
	handoff, lacks := f.nodes[2], f.nodes[1]
	old := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour))
	for _, n := range []*small{f.nodes[0], handoff} {
		f.write(n, "PUT", "o", old, nil, "body", false)
	}
	claim := func() {
		for _, n := range f.nodes[:2] {
			f.claim(n, "o")
		}
	}
	background := func() replicator.Counts {
		r, err := handoff.repl.Pass(t.Context(), replicator.Options{Settled: true})
		c := r.Devices[0].Kinds[0]
		if err != nil || c.Failed > 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		return c
	}
	// One primary has nothing: so it is the handoff's turn, were it not for the other one.
	claim()
	if c := background(); c.Pushed != 0 || c.Dropped != 0 {
		t.Errorf("%+v, want it left to who is bringing it", c)
	}
	f.write(lacks, "PUT", "o", old, nil, "body", true)
	claim()
	if c := background(); c.Pushed != 0 || c.Dropped != 1 {
		t.Errorf("%+v, want what all primaries have dropped, whoever is at it", c)
	}
}
