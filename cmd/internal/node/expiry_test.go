package node

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// reap has a node end what has come to its end by a second.
func (f *fleet) reap(n *small, second time.Time) {
	f.t.Helper()
	var all []engine.Entry
	for entry, err := range n.store.Expired(f.t.Context(), second, nil) {
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, entry)
	}
	for _, entry := range all {
		if _, err := n.store.Expire(f.t.Context(), entry); err != nil && !errs.Is(err, errs.Stale) {
			f.t.Fatal(err)
		}
	}
}

// Replicas hear of POSTs that give an object a longer or a shorter life, or not, and each ends
// what it holds by what it knows, whenever it comes to that, with passes in any order in between.
// All end alike, and a POST that most of them have taken is not undone by the others.
func TestExpiriesMeet(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	begin := f.nodes[0].clock().Add(-time.Hour).Truncate(time.Second)
	rapid.Check(t, func(rt *rapid.T) {
		defer f.forget(f.nodes, []string{"o"})
		second := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
		ends := func(n int) backend.Header {
			h := backend.Header{{Name: "X-Object-Meta-N", Value: strconv.Itoa(n)}}
			if n < 99 {
				h.Add(engine.DeleteAtField, strconv.FormatInt(second(n).Unix(), 10))
			}
			return h
		}
		drawEnd := func() int { return rapid.SampledFrom([]int{20, 22, 24, 99}).Draw(rt, "ends") }
		put := timestamp.FromTime(second(1))
		first := drawEnd()
		for _, n := range f.nodes[:3] {
			f.write(n, "PUT", "o", put, ends(first), "body", true)
		}
		if rapid.Bool().Draw(rt, "handoff") {
			f.write(f.nodes[3], "PUT", "o", put, ends(first), "body", true)
		}
		now, acknowledged, last := 2, put, first
		for range rapid.IntRange(1, 14).Draw(rt, "steps") {
			n := f.nodes[rapid.IntRange(0, 3).Draw(rt, "node")]
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				now++
				f.reap(n, second(now))
			case 1:
				if c := f.pass(n); c.Failed > 0 {
					rt.Fatalf("a pass says %+v", c)
				}
			case 2:
				now = max(now, rapid.IntRange(18, 26).Draw(rt, "time"))
			case 3:
				// A client's POST goes to some replicas, and is refused by those where the object has ended.
				now++
				stamp, end := timestamp.FromTime(second(now)), drawEnd()
				if end <= now {
					continue
				}
				took := 0
				for _, to := range f.nodes[:3] {
					s := f.state(to, "o")
					at, ok := s.DeleteAt()
					if s.Kind != engine.Live || ok && at <= second(now).Unix() || rapid.IntRange(0, 3).Draw(rt, "missed") == 0 {
						continue
					}
					f.write(to, "POST", "o", stamp, ends(end), "", true)
					took++
				}
				if took >= 2 {
					acknowledged, last = stamp, end
				} else if took > 0 {
					last = -1 // it may be so, or not
				}
			}
		}
		for range 3 {
			now++
			for _, n := range f.nodes {
				f.reap(n, second(now))
			}
			f.pass(f.nodes...)
		}
		if c := f.pass(f.nodes...); c.Pushed > 0 || c.Dropped > 0 || c.Failed > 0 {
			rt.Fatalf("it does not become quiet: %+v", c)
		}
		var all []replwire.Object
		for _, n := range f.nodes[:3] {
			all = append(all, wireObject(f.at("o").Hash, pointer(f.state(n, "o"))))
		}
		if len(slices.Compact(slices.Clone(all))) != 1 {
			rt.Fatalf("primaries end with %+v", all)
		}
		s := f.state(f.nodes[0], "o")
		switch {
		case last < 0:
		case last > now && (s.Kind != engine.Live || s.MetaTime != acknowledged):
			rt.Fatalf("it was to live until %d at %d, and there is %+v", last, now, s)
		case last <= now && s.Kind != engine.Deleted:
			rt.Fatalf("it was to end by %d at %d, and there is %+v", last, now, s)
		}
	})
}

// A node whose clock is far ahead ends what is not due yet. The others take no such end before it is
// due by their clocks: neither of what they hold, nor of what they have missed something of.
func TestEndsOfAWrongClock(t *testing.T) {
	f := newFleet(t, 3, 3, inMemory)
	wrong, good := f.nodes[0], f.nodes[1:]
	clock := wrong.clock()
	due := clock.Add(40 * time.Hour)
	put, later := timestamp.FromTime(clock.Add(-time.Hour)), timestamp.FromTime(clock.Add(-time.Minute))
	ends := func(at time.Time) backend.Header {
		return backend.Header{{Name: engine.DeleteAtField, Value: strconv.FormatInt(at.Unix(), 10)}}
	}
	for _, n := range f.nodes {
		f.write(n, "PUT", "soon", put, ends(clock.Add(2*time.Hour)), "soon", false)
		f.write(n, "PUT", "o", put, nil, "o", false)
		if n != good[0] {
			f.write(n, "POST", "o", later, ends(due), "", false)
		}
	}
	wrong.ahead.Store(int64(60 * time.Hour))
	f.reap(wrong, wrong.clock())
	if c := f.pass(f.nodes...); c.Failed == 0 {
		t.Errorf("nobody is told of a clock that is wrong: %+v", c)
	}
	for i, n := range good {
		for _, o := range []string{"soon", "o"} {
			if s := f.state(n, o); s.Kind != engine.Live {
				t.Errorf("node %d has ended %s before it is due: %+v", i, o, s)
			}
		}
	}
	for _, n := range f.nodes {
		n.ahead.Store(int64(41 * time.Hour))
	}
	if f.pass(f.nodes...); f.pass(f.nodes...).Pushed > 0 {
		t.Error("it does not become quiet")
	}
	for i, n := range f.nodes {
		for _, o := range []string{"soon", "o"} {
			if s := f.state(n, o); s.Kind != engine.Deleted {
				t.Errorf("node %d has not taken the end of %s: %+v", i, o, s)
			}
		}
	}
}

// All primaries have ended an object that is left on a handoff, and somebody knows that it was to live longer: it comes
// back to all of them as it was, before the handoff drops it.
func TestEndedButOnAHandoff(t *testing.T) {
	typed := backend.Header{{Name: backend.ContentType, Value: "text/later"}}
	for _, tt := range []struct {
		body  string
		knows int // a primary, or the handoff
	}{{"body", 1}, {"body", 3}, {strings.Repeat("large", 100_000), 3}} {
		knows := tt.knows
		f := newFleet(t, 4, 3, inMemory)
		begin := f.nodes[0].clock().Add(-time.Hour).Truncate(time.Second)
		second := func(n int) timestamp.T { return timestamp.FromTime(begin.Add(time.Duration(n) * time.Second)) }
		ends := backend.Field{Name: engine.DeleteAtField, Value: strconv.FormatInt(second(9).Seconds(), 10)}
		for _, n := range f.nodes {
			f.write(n, "PUT", "o", second(1), nil, tt.body, true)
			f.write(n, "POST", "o", second(2), append(typed, ends), "", true)
		}
		for _, n := range f.nodes[:3] {
			f.reap(n, second(20).Time())
		}
		f.write(f.nodes[knows], "POST", "o", second(8), nil, "", true)
		for range 3 {
			f.pass(f.nodes[3])
		}
		f.pass(f.nodes[:3]...)
		for i, n := range f.nodes {
			s := f.state(n, "o")
			if i == 3 && s.Kind == engine.Absent {
				continue // dropped
			}
			if s.Kind != engine.Live || s.MetaTime != second(8) || s.ContentType != "text/later" || s.ContentTypeTime != second(2) {
				t.Errorf("node %d knows of a longer life, and node %d has %+v", knows, i, s)
			}
		}
	}
}

// Data that came to its end before the reclaim age, of which a primary has lost later metadata, is not brought any more to primaries that have forgotten the end:
// they would end it again, in each pass. It stays where it is, and is brought where something shows that it may not have come to its end, or that
// has to be replaced, or where it is in a handoff's way.
func TestEndedBesideLostIsLeft(t *testing.T) {
	const long = 8 * 24 * time.Hour
	for what, tt := range map[string]struct {
		ends    time.Duration // after it was written; 0 is never
		keeper  int           // who has it: 3 is a handoff
		before  func(f *fleet, begin timestamp.T)
		brought bool
	}{
		"it ended long ago":            {time.Minute, 0, nil, false},
		"it never ends":                {0, 0, nil, true},
		"it ended lately":              {long - time.Hour, 0, nil, true},
		"it ended long ago, a handoff": {time.Minute, 3, nil, true},
		"what was lost is young": {time.Minute, 0, func(f *fleet, begin timestamp.T) {
			f.write(f.nodes[0], "POST", "o", begin.Add(long-time.Hour), nil, "", true)
			f.damageMeta(f.nodes[0], "o")
		}, true},
		"a longer life turns up": {time.Minute, 0, func(f *fleet, begin timestamp.T) {
			f.write(f.nodes[1], "POST", "o", begin.Next(), nil, "", true)
		}, true},
		"there is older data": {time.Minute, 0, func(f *fleet, begin timestamp.T) {
			f.write(f.nodes[1], "PUT", "o", begin.Add(-time.Second), nil, "old", true)
		}, true},
	} {
		f := newFleet(t, 4, 3, onDisk)
		begin := timestamp.FromTime(f.nodes[0].clock().Add(-time.Hour).Truncate(time.Second))
		var ends backend.Header
		if tt.ends > 0 {
			ends.Add(engine.DeleteAtField, strconv.FormatInt(begin.Add(tt.ends).Seconds(), 10))
		}
		keeper := f.nodes[tt.keeper]
		others := slices.DeleteFunc(slices.Clone(f.nodes[:3]), func(n *small) bool { return n == keeper })
		for _, n := range append(others[:len(others):len(others)], keeper) {
			f.write(n, "PUT", "o", begin, ends, "body", true)
		}
		f.write(keeper, "POST", "o", begin.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: "lost"}}, "", true)
		f.damageMeta(keeper, "o")
		for range 4 { // a pass now and then, so that nobody is taken for away
			for _, n := range others {
				f.reap(n, n.now)
			}
			f.pass(f.nodes[:3]...)
			for _, n := range f.nodes {
				n.now = n.now.Add(long / 4)
			}
		}
		f.forget(others, []string{"o"})
		if tt.before != nil {
			tt.before(f, begin)
		}
		c, s := f.pass(keeper), f.state(f.nodes[1], "o")
		if got := c.Pushed > 0; got != tt.brought || got != (s.Kind == engine.Live && s.Time == begin) {
			t.Errorf("%s: %+v, and another primary has %+v", what, c, s)
		}
		if s := f.state(keeper, "o"); (s.Kind == engine.Absent) != (tt.keeper == 3) {
			t.Errorf("%s: who had it has %+v", what, s)
		}
	}
}

// A peer has an object when it is asked, and ends it before it hears of its longer life: it has not confirmed the data,
// which the handoff keeps until it has.
func TestEndedMeanwhile(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	begin := f.nodes[0].clock().Add(-time.Hour).Truncate(time.Second)
	second := func(n int) timestamp.T { return timestamp.FromTime(begin.Add(time.Duration(n) * time.Second)) }
	ends := backend.Header{{Name: engine.DeleteAtField, Value: strconv.FormatInt(second(9).Seconds(), 10)}}
	for i, n := range f.nodes {
		f.write(n, "PUT", "o", second(1), ends, "body", true)
		if i == 3 {
			f.write(n, "POST", "o", second(8), nil, "", true)
			break
		}
		next := n.serving()
		n.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "REPLICATE" && f.state(n, "o").MetaTime == second(1) {
				f.reap(n, second(20).Time())
			}
			next.ServeHTTP(w, r)
		}))
	}
	f.pass(f.nodes[3])
	for i, n := range f.nodes[:3] {
		if s := f.state(n, "o"); s.Kind != engine.Deleted || s.MetaTime != second(8) {
			t.Fatalf("the test is wrong: node %d has %+v", i, s)
		}
	}
	if s := f.state(f.nodes[3], "o"); s.Kind != engine.Live {
		t.Fatalf("the handoff has dropped what nobody else has: %+v", s)
	}
	f.pass(f.nodes[3])
	for i, n := range f.nodes[:3] {
		if s := f.state(n, "o"); s.Kind != engine.Live || s.MetaTime != second(8) {
			t.Errorf("node %d has %+v in the end", i, s)
		}
	}
	if s := f.state(f.nodes[3], "o"); s.Kind != engine.Absent {
		t.Errorf("the handoff keeps %+v", s)
	}
}

// What a device holds for others is theirs to end: it is not in the backlog of its expirer.
func TestExpirerCountsItsOwn(t *testing.T) {
	f := newFleet(t, 2, 1, inMemory)
	n, ends := f.nodes[0], time.Now().Add(-time.Minute)
	for i := range 5 {
		f.write(n, "PUT", strconv.Itoa(i), timestamp.FromTime(ends.Add(-time.Hour)), backend.Header{{Name: engine.DeleteAtField, Value: strconv.FormatInt(ends.Unix(), 10)}}, "body", true)
	}
	foreign := 0
	store := expiringStore{n.store, func(engine.Location) bool { foreign++; return foreign > 2 }}
	if due, err := store.Due(t.Context(), time.Now()); err != nil || due != 3 {
		t.Errorf("%d are due, %v, want the 3 of 5 that are its own", due, err)
	}
}
