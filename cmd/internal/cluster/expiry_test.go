package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/replwire"
	"martlet/object/engine"
)

// ends is the metadata of another replica by which an object ends some time from now, or
// has ended before.
func ends(in time.Duration) backend.Header {
	return backend.Header{
		{Name: engine.DeleteAtField, Value: strconv.FormatInt(time.Now().Add(in).Unix(), 10)},
		{Name: replwire.ReplicationHeader, Value: "true"},
	}
}

// expire has nodes end what has come to its end.
func (p *probe) expire(nodes ...int) {
	p.t.Helper()
	for _, n := range nodes {
		if err := p.nodes[n-1].Expire(p.t.Context()); err != nil {
			p.t.Errorf("%s: %v", nodeName(n), err)
		}
	}
}

// listed reports whether an object is in the listing of its container, which every replica
// must agree on: one that was slow may have its row in a queue.
func (p *probe) listed(object string) (is bool) {
	p.t.Helper()
	p.until("replicas agree whether "+object+" is listed", func() bool {
		var all []bool
		for range 12 { // of three replicas in any order
			all = append(all, strings.Contains(p.listing(p.url+"/c?format=json"), strconv.Quote(object)))
		}
		is = all[0]
		return !slices.Contains(all, !is)
	})
	return is
}

func TestExpiry(t *testing.T) {
	whole := startProbe(t)

	t.Run("an object comes to its end", func(t *testing.T) {
		p := whole.in(t)
		const object = "ended"
		primaries, _ := p.places(object)
		p.object("PUT", object, map[string]string{"X-Delete-After": "3600"}, "body", 201)
		m := p.source.Next()
		for _, place := range primaries {
			p.at(place, "POST", object, m, ends(-time.Minute), "", 202)
		}
		p.object("GET", object, nil, "", 404)
		if !p.listed(object) {
			t.Error("it is not listed before it was ended")
		}
		p.expire(1, 2, 3, 4)
		if p.listed(object) {
			t.Error("it is still listed")
		}
		var stamps []string
		p.exactly(object, primaries, func(s engine.State) bool {
			stamps = append(stamps, s.Time.String())
			return s.Kind == engine.Deleted && s.Time.IsExpiry()
		})
		if len(slices.Compact(stamps)) != 1 {
			t.Errorf("replicas leave the tombstones %v", stamps)
		}
		p.still()
		p.object("PUT", object, nil, "again", 201)
		p.exactly(object, primaries, holds("again"))
		if !p.listed(object) {
			t.Error("what was put again is not listed")
		}
	})

	t.Run("a replica has missed the POST that gave it a longer life", func(t *testing.T) {
		p := whole.in(t)
		const object = "extended"
		primaries, _ := p.places(object)
		away := nodeAt(primaries[0])
		p.object("PUT", object, map[string]string{"X-Delete-After": "3600"}, "body", 201)
		m := p.source.Next()
		p.stop(away)
		p.object("POST", object, map[string]string{"X-Delete-After": "7200", "X-Object-Meta-Which": "second"}, "", 202)
		p.start(away)
		p.at(primaries[0], "POST", object, m, ends(-time.Minute), "", 202)
		p.expire(1, 2, 3, 4)
		if s := p.copies(object)[primaries[0]]; s.Kind != engine.Deleted {
			t.Fatalf("the replica that missed it has %+v", s)
		}
		t.Logf("%+v", p.copies(object))
		p.object("GET", object, nil, "", 200)
		p.pass(true)
		p.exactly(object, primaries, func(s engine.State) bool {
			return holds("body")(s) && s.Meta.Get("X-Object-Meta-Which") == "second"
		})
		if !p.listed(object) {
			t.Error("it is not listed any more")
		}
		p.still()
	})

	t.Run("the containers' servers are down", func(t *testing.T) {
		p := whole.in(t)
		const object = "queued"
		primaries, _ := p.places(object)
		p.object("PUT", object, nil, "body", 201)
		m := p.source.Next()
		for _, place := range primaries {
			p.at(place, "POST", object, m, ends(-time.Minute), "", 202)
		}
		n := nodeAt(primaries[0])
		var others []int
		for i := range p.nodes {
			if i+1 != n {
				others = append(others, i+1)
				p.stop(i + 1)
			}
		}
		p.expire(n)
		if s := p.copies(object)[primaries[0]]; s.Kind != engine.Deleted {
			t.Fatalf("the replica has %+v", s)
		}
		for _, i := range others {
			p.start(i)
		}
		p.pass(true)
		p.expire(others...) // what they hold was ended by that
		p.exactly(object, primaries, deleted)
	})

	t.Run("a handoff has the only copy that lives on", func(t *testing.T) {
		p := whole.in(t)
		const object = "handoff"
		primaries, handoffs := p.places(object)
		d, m1, m2 := p.source.Next(), p.source.Next(), p.source.Next()
		for _, place := range append(slices.Clone(primaries), handoffs[0]) {
			p.at(place, "PUT", object, d, nil, "body", 201)
			p.at(place, "POST", object, m1, ends(-time.Minute), "", 202)
		}
		p.at(handoffs[0], "POST", object, m2, ends(time.Hour), "", 202)
		p.expire(1, 2, 3, 4)
		for _, place := range primaries {
			if s := p.copies(object)[place]; s.Kind != engine.Deleted {
				t.Fatalf("%s has %+v", place, s)
			}
		}
		p.pass(true)
		p.exactly(object, primaries, func(s engine.State) bool { return holds("body")(s) && s.MetaTime == m2 })
		p.still()
	})

	t.Run("many", func(t *testing.T) {
		p := whole.in(t)
		for i := range 40 {
			object := fmt.Sprint("many", i)
			p.object("PUT", object, nil, "body", 201)
			primaries, _ := p.places(object)
			m := p.source.Next()
			for _, place := range primaries {
				p.at(place, "POST", object, m, ends(-time.Minute), "", 202)
			}
		}
		p.expire(1, 2, 3, 4)
		if left := p.listing(p.url + "/c?format=json&prefix=many"); left != "[]" {
			t.Errorf("there are still %q", left)
		}
	})
}
