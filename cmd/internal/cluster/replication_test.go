package cluster

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/object/engine"
	"martlet/replicator"
)

func crc(body string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))
}

// Something is broken while clients write; it comes back, every node makes one
// pass, and every copy is where the ring says and nowhere else.
func TestObjectsReturn(t *testing.T) {
	whole := startProbe(t)

	t.Run("a primary is down", func(t *testing.T) {
		p := whole.in(t)
		const object = "one"
		kept, posted, gone := object+"-kept", object+"-posted", object+"-gone"
		primaries, _ := p.places(object)
		down := nodeAt(primaries[2])
		for _, o := range []string{kept, posted, gone} {
			p.object("PUT", o, map[string]string{"X-Object-Meta-A": "1"}, "first", 201)
		}
		p.stop(down)
		p.object("PUT", object, nil, "new", 201)
		p.object("PUT", kept, nil, "overwritten", 201)
		p.object("POST", posted, map[string]string{"X-Object-Meta-B": "2", "Content-Type": "text/x"}, "", 202)
		p.object("DELETE", gone, nil, "", 204)
		if got := p.copies(object); len(got) != 3 || got[primaries[2]].Kind != engine.Absent {
			t.Fatalf("while a primary is down there are %d copies: %+v", len(got), got)
		}
		p.start(down)
		p.pass(true)
		changed := func(s engine.State) bool {
			return holds("first")(s) && s.Meta.Get("X-Object-Meta-B") == "2" && !s.Meta.Has("X-Object-Meta-A") && s.ContentType == "text/x"
		}
		for o, right := range map[string]func(engine.State) bool{object: holds("new"), kept: holds("overwritten"), posted: changed, gone: deleted} {
			primaries, _ := p.places(o)
			p.exactly(o, primaries, right)
		}
		p.object("GET", gone, nil, "", 404)
		p.still()
	})

	t.Run("two primaries are down", func(t *testing.T) {
		p := whole.in(t)
		const object = "two"
		primaries, _ := p.places(object)
		for _, place := range primaries[1:] {
			p.stop(nodeAt(place))
		}
		p.object("PUT", object, nil, "body", 201)
		for _, place := range primaries[1:] {
			p.start(nodeAt(place))
		}
		p.pass(true)
		p.exactly(object, primaries, holds("body"))
		p.still()
	})

	t.Run("handoffs wait for all primaries", func(t *testing.T) {
		p := whole.in(t)
		const object = "wait"
		primaries, handoffs := p.places(object)
		ts := p.source.Next()
		for _, place := range append(slices.Clone(primaries[:2]), handoffs[0]) {
			p.at(place, "PUT", object, ts, nil, "body", 201)
		}
		down := nodeAt(primaries[2])
		p.stop(down)
		handoff := slices.Concat(primaries[:2], handoffs[:1])
		if nodeAt(handoffs[0]) == down {
			t.Fatalf("the first handoff of %v is on the node of a primary: %s", primaries, handoffs[0])
		}
		reports := p.pass(false)
		p.exactly(object, handoff, holds("body"))
		if !slices.ContainsFunc(reports, func(r replicator.Report) bool {
			return !r.Whole() && strings.Contains(fmt.Sprint(r), "connection refused")
		}) {
			t.Errorf("no report tells of the primary that is down: %+v", reports)
		}
		p.start(down)
		p.pass(true)
		p.exactly(object, primaries, holds("body"))
	})

	t.Run("a handoff has what all primaries have", func(t *testing.T) {
		p := whole.in(t)
		const object = "spare"
		primaries, handoffs := p.places(object)
		ts := p.source.Next()
		for _, place := range slices.Concat(primaries, handoffs[:2]) {
			p.at(place, "PUT", object, ts, nil, "body", 201)
		}
		p.pass(true)
		p.exactly(object, primaries, holds("body"))
	})

	t.Run("a handoff has the only copy", func(t *testing.T) {
		p := whole.in(t)
		const object = "only"
		primaries, handoffs := p.places(object)
		body := strings.Repeat("0123456789abcdef", 1<<15)
		p.at(handoffs[1], "PUT", object, p.source.Next(), backend.Header{{Name: "X-Object-Meta-K", Value: "v"}}, body, 201)
		p.pass(true)
		p.exactly(object, primaries, func(s engine.State) bool { return holds(body)(s) && s.Meta.Get("X-Object-Meta-K") == "v" })
	})

	t.Run("a handoff has what is older", func(t *testing.T) {
		p := whole.in(t)
		const object = "older"
		primaries, handoffs := p.places(object)
		p.at(handoffs[0], "PUT", object, p.source.Next(), nil, "old", 201)
		p.object("PUT", object, nil, "new", 201)
		p.pass(true)
		p.exactly(object, primaries, holds("new"))
	})

	t.Run("a device is emptied", func(t *testing.T) {
		p := whole.in(t)
		var objects []string
		for i := range 12 {
			objects = append(objects, fmt.Sprint("many", i))
			p.object("PUT", objects[i], nil, objects[i], 201)
		}
		p.object("DELETE", objects[0], nil, "", 204)
		primaries, _ := p.places(objects[1])
		p.empty(primaries[0])
		p.pass(true)
		for i, o := range objects {
			right := holds(o)
			if i == 0 {
				right = deleted
			}
			primaries, _ := p.places(o)
			p.exactly(o, primaries, right)
		}
		p.still()
	})
}

// What was written to replicas apart from each other comes together.
func TestObjectsConverge(t *testing.T) {
	p := startProbe(t, withKey)
	s := p.source
	meta := func(v string) backend.Header { return backend.Header{{Name: "X-Object-Meta-K", Value: v}} }
	var checks []func()
	t1, t2, t3, t4 := s.Next(), s.Next(), s.Next(), s.Next()
	for object, tt := range map[string]struct {
		writes func(primaries []string, object string)
		right  func(engine.State) bool
	}{
		"post-then-delete": {func(at []string, o string) {
			p.at(at[0], "POST", o, t2, meta("x"), "", 202)
			p.at(at[1], "DELETE", o, t3, nil, "", 204)
		}, deleted},
		"delete-then-post": {func(at []string, o string) {
			p.at(at[0], "DELETE", o, t2, nil, "", 204)
			p.at(at[1], "POST", o, t3, meta("x"), "", 202)
		}, deleted},
		"delete-then-put": {func(at []string, o string) {
			p.at(at[0], "DELETE", o, t2, nil, "", 204)
			p.at(at[1], "PUT", o, t3, nil, "again", 201)
		}, holds("again")},
		"two-posts": {func(at []string, o string) {
			p.at(at[0], "POST", o, t2, append(meta("x"), backend.Field{Name: backend.ContentType, Value: "text/two"}), "", 202)
			p.at(at[1], "POST", o, t3, meta("y"), "", 202)
		}, func(s engine.State) bool {
			return s.Meta.Get("X-Object-Meta-K") == "y" && s.ContentType == "text/two" && s.MetaTime == t3 && s.ContentTypeTime == t2
		}},
		"post-and-put": {func(at []string, o string) {
			p.at(at[0], "POST", o, t3, meta("later"), "", 202)
			p.at(at[1], "PUT", o, t2, meta("with data"), "newer", 201)
		}, func(s engine.State) bool {
			return holds("newer")(s) && s.Meta.Get("X-Object-Meta-K") == "later" && s.Time == t2
		}},
		"one-time-two-bodies": {func(at []string, o string) {
			p.at(at[0], "PUT", o, t4, nil, "aaaa", 201)
			p.at(at[1], "PUT", o, t4, nil, "bbbb", 201)
		}, holds(greater("aaaa", "bbbb"))},
	} {
		primaries, _ := p.places(object)
		for _, place := range primaries {
			p.at(place, "PUT", object, t1, meta("first"), "body", 201)
		}
		tt.writes(primaries, object)
		checks = append(checks, func() {
			p.exactly(object, primaries, tt.right)
			copies := p.copies(object)
			for _, place := range primaries {
				if a, b := copies[place], copies[primaries[0]]; a.Packed() != b.Packed() || a.MD5 != b.MD5 {
					t.Errorf("%s: %s has %+v, %s has %+v", object, place, a, primaries[0], b)
				}
			}
		})
	}
	p.pass(true)
	for _, check := range checks {
		check()
	}
	p.still()
}

// The admin address of a node makes a pass when it is asked.
func TestReplicateOnDemand(t *testing.T) {
	p := startProbe(t)
	p.stop(1)
	p.configs[0].Admin.Listen = p.configs[0].Server.Address + ":6209"
	p.start(1)
	p.object("PUT", "o", nil, "body", 201)
	for query, want := range map[string]int{"": 200, "?device=d2": 200, "?device=d9": 404} {
		resp := p.want("POST", "http://"+p.configs[0].Admin.Listen+"/replicate"+query, nil, "", want)
		if is := resp.Header.Get("Content-Type"); want == 200 && is != "application/json" {
			t.Errorf("the report is %q", is)
		}
	}
	p.want("GET", "http://"+p.configs[0].Admin.Listen+"/replicate", nil, "", 404)
	p.want("GET", "http://"+p.configs[0].Admin.Listen+"/healthcheck", nil, "", 200)
}

// A node is paused, and resumed, by its admin address, also over a restart; limits are set
// there until it ends.
func TestPaceOnDemand(t *testing.T) {
	p := startProbe(t)
	p.stop(1)
	p.configs[0].Admin.Listen = p.configs[0].Server.Address + ":6209"
	p.configs[0].Replicator.OperationsPerSecond = 1000
	p.start(1)
	p.object("PUT", "o", nil, "body", 201)
	ask := func(method, path string, want int) (list []replicator.PaceReport) {
		t.Helper()
		text, err := p.answer(method, "http://"+p.configs[0].Admin.Listen+path, "", want)
		if err != nil {
			t.Fatal(err)
		}
		if want == 200 {
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatalf("%s %s: %v in %s", method, path, err, text)
			}
		}
		return list
	}
	check := func(what string, list []replicator.PaceReport, n int, paused bool, l replicator.Limits) {
		t.Helper()
		for _, r := range list {
			if (r.Paused != "") != paused || r.Limits != l {
				t.Errorf("%s: %+v, want paused %v, %+v", what, r, paused, l)
			}
		}
		if len(list) != n {
			t.Errorf("%s: %d devices, want %d", what, len(list), n)
		}
	}
	l := replicator.DefaultLimits()
	l.OperationsPerSecond = 1000
	check("as configured", ask("GET", "/replicate/pace", 200), 2, false, l)
	set := l
	set.BytesPerSecond, set.Concurrency = 50e6, 7
	check("set", ask("POST", "/replicate/pace?device=d1&bytes_per_second=50MB&concurrency=7", 200), 1, false, set)
	check("the other one", ask("GET", "/replicate/pace?device=d2", 200), 1, false, l)
	for _, wrong := range []string{
		"/replicate/pace?device=d9&concurrency=7", "/replicate/pace?concurrency=0", "/replicate/pace?speed=7", "/replicate/pace",
		"/replicate/pace?concurrency=7;x", "/replicate/pause?concurrency=7", "/replicate/resume?device=d9",
	} {
		ask("POST", wrong, map[bool]int{true: 404, false: 400}[strings.Contains(wrong, "d9")])
	}
	check("after what is wrong", ask("GET", "/replicate/pace?device=d1", 200), 1, false, set)
	check("paused", ask("POST", "/replicate/pause?device=d1", 200), 1, true, set)
	check("the other one is not", ask("GET", "/replicate/pace?device=d2", 200), 1, false, l)
	p.stop(1)
	p.start(1)
	check("after a restart", ask("GET", "/replicate/pace?device=d1", 200), 1, true, l)
	if r := p.pass(false)[0].Devices; !r[0].Paused || r[1].Paused || r[1].Error != "" {
		t.Errorf("a pass with a device that is paused: %+v", r)
	}
	check("resumed", ask("POST", "/replicate/resume", 200), 2, false, l)
	p.pass(true)
}

// Nobody but the cluster's nodes is served on the replication network.
func TestStrangers(t *testing.T) {
	p := startProbe(t)
	address := fmt.Sprintf("http://%s:%d", p.configs[0].Replication.Address, p.configs[0].Replication.Port)
	p.want("REPLICATE", address+"/d1/0", map[string]string{"X-Backend-Kind": "object", "X-Backend-Part-Power": "5"}, "", 403)
	p.want("GET", address+"/d1/0/a/c/o", nil, "", 403)
	p.want("HEAD", address+"/d1/0/a/c/o", nil, "", 405)
	p.stop(1)
	p.configs[0].Replication.Peers = []string{"127.0.0.1/32"}
	p.start(1)
	h := map[string]string{"X-Backend-Kind": "object", "X-Backend-Part-Power": "5", "X-Backend-Storage-Policy-Index": "0"}
	p.want("REPLICATE", address+"/d1/0", h, "", 200)
	p.want("GET", address+"/d1/0/a/c/o", h, "", 405) // of what is whole on each replica nobody asks for data
	h["X-Backend-Storage-Policy-Index"] = "3"
	p.want("REPLICATE", address+"/d1/0", h, "", 400)
}
