package object

import (
	"reflect"
	"slices"
	"testing"

	"martlet/internal/backend"
	"martlet/object/engine"
	"martlet/object/pending"
)

// What a listing is told again of an object is what the request that made it so has queued for the listing.
func TestRetold(t *testing.T) {
	for what, do := range map[string]func(r *rig) answer{
		"put": func(r *rig) answer { return r.put(stamp(1), "data", tells...) },
		"put of what is listed as another": func(r *rig) answer {
			return r.put(stamp(1), "manifest", append([]string{overridePrefix + "Size", "1000", overridePrefix + "Etag", "whole"}, tells...)...)
		},
		"post": func(r *rig) answer {
			r.put(stamp(1), "data")
			return r.call("POST", append([]string{"X-Timestamp", stamp(2), "Content-Type", "a/b", "X-Object-Meta-A", "1"}, tells...)...)
		},
		"delete": func(r *rig) answer {
			r.put(stamp(1), "data")
			return r.call("DELETE", append([]string{"X-Timestamp", stamp(2)}, tells...)...)
		},
		"commit":              func(r *rig) answer { return r.putCommit(stamp(1), 1, 70_000, tells...) },
		"version":             func(r *rig) answer { return r.putNew(stamp(1), "data", tells...) },
		"version over an old": func(r *rig) answer { r.putNew(stamp(1), "old"); return r.putNew(stamp(2), "data", tells...) },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			if a := do(r); a.status/100 != 2 {
				t.Fatalf("%d, %v", a.status, a.err)
			}
			queued := r.queued()
			if len(queued) == 0 {
				t.Fatal("nothing is queued")
			}
			for _, want := range queued {
				at := engine.Location{Policy: want.Policy, Hash: want.Hash}
				state, err := r.server.Stores["d1"].Engine.Stat(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				got, ok := Retold(at, &state)
				if want.Confirmed = nil; !ok || !reflect.DeepEqual(sorted(got), sorted(want)) {
					t.Errorf("told again: %+v\nqueued: %+v", got, want)
				}
			}
		})
	}
	if u, ok := Retold(engine.Location{}, &engine.State{}); ok {
		t.Errorf("of nothing there is %+v", u)
	}
	left := engine.State{Kind: engine.Deleted, Time: mustStamp(t, stamp(1)).Left(1_700_000_000)}
	if u, ok := Retold(engine.Location{}, &left); ok {
		t.Errorf("where an object was moved from there is %+v", u)
	}
}

// sorted is an update whose fields are in one order.
func sorted(u pending.Update) pending.Update {
	slices.SortFunc(u.Header, func(a, b backend.Field) int { return slices.Compare([]byte(a.Name+a.Value), []byte(b.Name+b.Value)) })
	return u
}
