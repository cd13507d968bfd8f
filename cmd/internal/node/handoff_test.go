package node

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/engine/record"
	"martlet/replicator"
)

// damage has a node lose an object, whoever else has it.
func (f *fleet) damage(n *small, object string) {
	f.t.Helper()
	if err := n.store.Quarantine(f.t.Context(), f.at(object), f.state(n, object), errors.New("a test says so")); err != nil {
		f.t.Fatal(err)
	}
}

// background makes a pass on a node that nobody waits for.
func (f *fleet) background(n *small) replicator.Counts {
	f.t.Helper()
	r, err := n.repl.Pass(f.t.Context(), replicator.Options{Settled: true})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Devices[0].Kinds[0]
}

// listed notes how many names a node lists for others. An old one does not know that it is asked for some.
func (f *fleet) listed(n *small, old bool, count *int) {
	good := n.serving()
	n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old {
			r.Header.Del(replwire.NamesHeader)
		}
		answer := httptest.NewRecorder()
		good.ServeHTTP(answer, r)
		if isList(r) && answer.Code == 200 {
			list, _, err := replwire.ParseObjects(answer.Body.Bytes(), [16]byte{}, [16]byte(slices.Repeat([]byte{0xff}, 16)))
			if err != nil {
				f.t.Error(err)
			}
			*count += len(list)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
}

// in returns the names of some objects of one partition.
func (f *fleet) in(n int) (names []string) {
	at := f.ring.Partition(f.at("o").Hash)
	for i := 0; len(names) < n; i++ {
		if o := fmt.Sprint("o", i); f.ring.Partition(f.at(o).Hash) == at {
			names = append(names, o)
		}
	}
	return names
}

// A handoff that has a few names of a partition has a primary list those, and not all that it has of it; one that does not know of
// that lists all.
func TestHandoffAsksForItsNames(t *testing.T) {
	for _, old := range []bool{false, true} {
		f := newFleet(t, 2, 1, inMemory)
		primary, handoff := f.nodes[0], f.nodes[1]
		ts := timestamp.FromTicks(1e14)
		names := f.in(100)
		for _, o := range names {
			f.write(primary, "PUT", o, ts, nil, "body", false)
		}
		for _, o := range []string{names[10], names[50], "o"} { // the primary has two of them
			f.write(handoff, "PUT", o, ts, nil, "body", false)
		}
		count := 0
		f.listed(primary, old, &count)
		if c := f.pass(handoff); c.Dropped != 3 || c.Pushed != 1 || c.Failed > 0 {
			t.Errorf("%+v, want all three dropped", c)
		}
		if most := map[bool]int{false: 2, true: 100}[old]; count > most || old && count < 3 {
			t.Errorf("the primary listed %d names, want at most %d", count, most)
		}
		h := f.at("o").Hash
		status, text := f.push(primary, "REPLICATE", "o", backend.Header{
			{Name: "path", Value: fmt.Sprintf("/d/%d", f.ring.Partition(h))}, {Name: "query", Value: fmt.Sprintf("from=%s&to=%s", h, h)}, {Name: replwire.NamesHeader, Value: "none"},
		}, "")
		if want := map[bool]int{false: 400, true: 200}[old]; status != want {
			t.Errorf("names that are none: %d %q, want %d", status, text, want)
		}
	}
}

// What a handoff finds left to others after a look is left by it as anything is: not for ever.
func TestHandoffLooksAndLeaves(t *testing.T) {
	for _, lost := range []bool{false, true} {
		f := newFleet(t, 3, 2, inMemory)
		handoff := f.nodes[2]
		old := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour))
		for _, n := range []*small{f.nodes[0], handoff} {
			f.write(n, "PUT", "o", old, nil, "body", false)
		}
		// It has something of the partition: else the handoff would be the first to bring.
		if f.write(f.nodes[1], "PUT", f.in(1)[0], old, nil, "body", false); lost {
			f.damage(handoff, "o")
		}
		left := 0
		for ; left < 20; left++ {
			for _, n := range f.nodes[:2] {
				f.claim(n, "o")
			}
			c := f.background(handoff)
			if c.Pushed > 0 || c.Failed > 0 {
				if pushed := !lost; c.Pushed > 0 != pushed || c.Failed > 0 != lost || c.Dropped > 0 != pushed {
					t.Errorf("lost is %t: %+v", lost, c)
				}
				break
			}
		}
		if left != 8 {
			t.Errorf("lost is %t: %d passes left it to one who does not bring it", lost, left)
		}
	}
}

// Of up to 1,024 names a handoff looks at what is there while others are at it; of more it does not.
func TestHandoffLooksAtSoMany(t *testing.T) {
	f := newFleet(t, 2, 1, inMemory)
	primary, handoff := f.nodes[0], f.nodes[1]
	old := timestamp.FromTime(primary.clock().Add(-time.Hour))
	names := f.in(1025)
	for _, n := range f.nodes {
		for _, o := range names {
			f.write(n, "PUT", o, old, nil, "", false)
		}
	}
	f.claim(primary, names[0])
	if c := f.background(handoff); c.Dropped != 0 || c.Failed > 0 {
		t.Errorf("of 1,025: %+v, want all left", c)
	}
	f.forget(f.nodes, names[:1])
	f.claim(primary, names[0])
	if c := f.background(handoff); c.Dropped != 1024 || c.Failed > 0 {
		t.Errorf("of 1,024: %+v, want all dropped", c)
	}
}

// A tombstone takes the place of what a handoff has lost, so that it can bring it to others; where all have it there is nothing to be
// written for that, and the mark just goes.
func TestTombstoneForWhatWasLost(t *testing.T) {
	ts := timestamp.FromTime(time.Now().Add(-time.Hour))
	for _, have := range []int{1, 2, 3} {
		f := newFleet(t, 4, 3, inMemory)
		handoff := f.nodes[3]
		f.write(handoff, "PUT", "o", ts, nil, "body", false)
		f.damage(handoff, "o")
		for _, n := range f.nodes[:have] {
			f.write(n, "DELETE", "o", ts.Next(), nil, "", true)
		}
		if c := f.pass(handoff); c.Dropped != 1 || c.Pushed != int64(3-have) || c.Failed > 0 {
			t.Errorf("%d have it: %+v, want it brought to the others, and dropped", have, c)
		}
		for i, n := range f.nodes[:3] {
			if s := f.state(n, "o"); s.Kind != engine.Deleted {
				t.Errorf("%d have it: primary %d has %+v", have, i, s)
			}
		}
		i, err := handoff.store.Inspect(t.Context(), f.at("o"), engine.How{All: true})
		if err != nil {
			t.Fatal(err)
		}
		taken := slices.ContainsFunc(i.Records, func(r engine.Found) bool { return r.Kind == record.Tombstone })
		if taken != (have < 3) {
			t.Errorf("%d have it: the handoff has taken it: %t", have, taken)
		}
	}
}
