package object

import (
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
)

// A replica that was sent a write a moment earlier may push it here before the write itself has come to its end here.
// It is taken all the same, and its listing hears of it: or nobody would tell it until replicas of listings are compared.
func TestWriteIsHereAlready(t *testing.T) {
	const at = 10
	ts, large := stamp(at), strings.Repeat("x", 400<<10)
	marker := func(r *rig, pairs ...string) answer {
		return r.call("DELETE", append([]string{"X-Timestamp", ts, backend.NewVersion, "true"}, pairs...)...)
	}
	for what, tt := range map[string]struct {
		before  func(r *rig)
		do      func(r *rig, pairs ...string) answer
		another func(r *rig, pairs ...string) answer // another write of the same time
		first   int                                  // what is answered at first; 0 for success
		again   int                                  // what is answered where it is here already; 0 for the same as at first
	}{
		"put": {
			do:      func(r *rig, pairs ...string) answer { return r.put(ts, "data", pairs...) },
			another: func(r *rig, pairs ...string) answer { return r.put(ts, "other", pairs...) },
		},
		"put with other metadata": {
			do: func(r *rig, pairs ...string) answer {
				return r.put(ts, "data", append(pairs, "X-Object-Meta-A", "1")...)
			},
			another: func(r *rig, pairs ...string) answer {
				return r.put(ts, "data", append(pairs, "X-Object-Meta-A", "2")...)
			},
		},
		"put of a file": {
			do: func(r *rig, pairs ...string) answer {
				req := putRequest(ts, large, pairs...)
				return r.do(req)
			},
			another: func(r *rig, pairs ...string) answer { return r.put(ts, large+"x", pairs...) },
		},
		"put of what must be new": {
			do: func(r *rig, pairs ...string) answer { return r.put(ts, "data", append(pairs, "If-None-Match", "*")...) },
			another: func(r *rig, pairs ...string) answer {
				return r.put(ts, "other", append(pairs, "If-None-Match", "*")...)
			},
			again: 412, // it may be another's, who was told that his was new
		},
		"commit": {
			do:      func(r *rig, pairs ...string) answer { return r.putCommit(ts, 1, 70_000, pairs...) },
			another: func(r *rig, pairs ...string) answer { return r.putCommit(ts, 2, 70_000, pairs...) },
		},
		"post": {
			before: func(r *rig) { r.want("put", r.put(stamp(1), "data"), 201) },
			do: func(r *rig, pairs ...string) answer {
				return r.call("POST", append([]string{"X-Timestamp", ts, "X-Object-Meta-A", "1"}, pairs...)...)
			},
			another: func(r *rig, pairs ...string) answer {
				return r.call("POST", append([]string{"X-Timestamp", ts, "X-Object-Meta-A", "2"}, pairs...)...)
			},
		},
		"post of a type": {
			before: func(r *rig) { r.want("put", r.put(stamp(1), "data"), 201) },
			do: func(r *rig, pairs ...string) answer {
				return r.call("POST", append([]string{"X-Timestamp", ts, "Content-Type", "a/b"}, pairs...)...)
			},
			another: func(r *rig, pairs ...string) answer {
				return r.call("POST", append([]string{"X-Timestamp", ts, "Content-Type", "a/c"}, pairs...)...)
			},
		},
		"delete": {
			before: func(r *rig) { r.want("put", r.put(stamp(1), "data"), 201) },
			do: func(r *rig, pairs ...string) answer {
				return r.call("DELETE", append([]string{"X-Timestamp", ts}, pairs...)...)
			},
			another: func(r *rig, pairs ...string) answer { return r.put(ts, "data", pairs...) },
		},
		"version": {
			do:    func(r *rig, pairs ...string) answer { return r.putNew(ts, "data", pairs...) },
			again: 409, // with no ID: it may be another's
		},
		"version whose link is not here yet": {
			before: func(r *rig) {
				id := mustStamp(r.t, ts)
				req := putRequest(ts, "data", "X-Backend-Replication", "true")
				req.Path = backend.Target{Device: "d1", Partition: 12, Path: visiblePath.Version(id)}.Quoted()
				r.want("version", r.do(req), 201)
			},
			do:    func(r *rig, pairs ...string) answer { return r.putNew(ts, "data", pairs...) },
			first: 409,
			again: 409,
		},
		"version that says deleted": {
			before: func(r *rig) { r.want("put", r.putNew(stamp(1), "data"), 201) },
			do:     marker,
			again:  409,
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.status["1.1.1.1:1"] = 201
			if tt.before != nil {
				tt.before(r)
			}
			a := tt.do(r, tells...)
			if a.err != nil || tt.first == 0 && a.status/100 != 2 || tt.first != 0 && a.status != tt.first {
				t.Fatalf("%d, %v", a.status, a.err)
			}
			want := r.told()
			if tt.again == 0 {
				tt.again = a.status
			}
			again := tt.do(r, tells...)
			r.want("what is here already", again, tt.again)
			if again.status == 409 && (again.header.Has(backend.VersionID) || again.header.Get(backend.BackendStamp) != ts) {
				t.Errorf("of a version that is here already it says %v", again.header)
			}
			if got := r.told(); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("the listings were told\n%q, want\n%q", got, want)
			}
			if tt.another != nil {
				r.want("another of the same time", tt.another(r, tells...), max(409, tt.again))
				if got := r.told(); len(got) > 0 {
					t.Errorf("of what was refused listings were told %q", got)
				}
			}
			r.noLeftovers()
		})
	}
}
