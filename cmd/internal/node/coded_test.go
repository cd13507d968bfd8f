package node

import (
	"fmt"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/replicator/fragments"
	"martlet/replicator/objects"
)

// coded is a commit, in a header.
func coded(id byte) backend.Field {
	c := backend.Coded{Data: 4, Parity: 2, Segment: 1 << 20, Write: [16]byte{id}, Size: 70_000, ETag: "0123456789abcdef0123456789abcdef"}
	return backend.Field{Name: backend.CodedWrite, Value: c.String()}
}

// An object whose data is in fragments is replicated like any other, and is what it was: its
// fields, its metadata, and what takes its place.
func TestCommitsAreReplicated(t *testing.T) {
	f := newFleet(t, 4, 3, inMemory)
	ts := timestamp.Now().Add(-time.Hour)
	at := func(s int) timestamp.T { return ts.Add(time.Duration(s) * time.Second) }
	meta := backend.Field{Name: "X-Object-Meta-K", Value: "v"}
	f.write(f.nodes[0], "PUT", "o", at(1), backend.Header{coded(1), meta}, "", false)
	f.write(f.nodes[3], "PUT", "handed off", at(1), backend.Header{coded(2)}, "", false)
	f.write(f.nodes[0], "PUT", "changed", at(1), backend.Header{coded(3)}, "", false)
	f.write(f.nodes[0], "POST", "changed", at(2), backend.Header{meta}, "", false)
	f.write(f.nodes[0], "PUT", "whole again", at(1), backend.Header{coded(4)}, "", false)
	f.write(f.nodes[1], "PUT", "whole again", at(2), nil, "small", false)
	f.write(f.nodes[0], "PUT", "deleted", at(1), backend.Header{coded(5)}, "", false)
	f.write(f.nodes[2], "DELETE", "deleted", at(2), nil, "", false)
	f.write(f.nodes[0], "PUT", "two at a time", at(1), backend.Header{coded(6)}, "", false)
	f.write(f.nodes[1], "PUT", "two at a time", at(1), backend.Header{coded(7)}, "", false)
	origin := map[string]engine.State{}
	for o, n := range map[string]int{"o": 0, "handed off": 3, "changed": 0, "whole again": 1, "deleted": 2} {
		origin[o] = f.state(f.nodes[n], o)
	}
	if c := f.pass(f.nodes...); c.Failed > 0 {
		t.Fatalf("not confirmed: %+v", c.Failures)
	}
	origin["two at a time"] = f.state(f.nodes[2], "two at a time") // one of them, everywhere
	for o, want := range origin {
		for i, n := range f.nodes[:3] {
			if got := f.state(n, o); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("%s: primary %d has\n%+v, want\n%+v", o, i, got, want)
			}
		}
		if s := f.state(f.nodes[3], o); s.Kind != engine.Absent {
			t.Errorf("%s: the handoff has %+v", o, s)
		}
	}
	if s := f.state(f.nodes[1], "changed"); s.System.Get(backend.CodedWrite) != coded(3).Value || s.Meta.Get(meta.Name) != "v" || s.Length != 0 {
		t.Errorf("what was changed is %+v", s)
	}
	if c := f.pass(f.nodes...); c.Pushed > 0 || c.Dropped > 0 {
		t.Errorf("another pass did something: %+v", c)
	}
}

// Nobody is asked for a fragment that was lost as if it were a replica: it is made again.
func TestLostFragmentIsNoReplica(t *testing.T) {
	p := parts{lost: make(chan objects.Lost, 2), lostFragments: make(chan fragments.Lost, 2)}
	p.hasLost("d", engine.Location{Policy: policy.Index(1).Fragments()})
	p.hasLost("d", engine.Location{Policy: 1})
	if l := <-p.lost; l.Policy != 1 || len(p.lost) > 0 {
		t.Errorf("lost is %+v, and %d more", l, len(p.lost))
	}
	if l := <-p.lostFragments; l.Policy != policy.Index(1).Fragments() || l.Device != "d" || len(p.lostFragments) > 0 {
		t.Errorf("lost of fragments is %+v, and %d more", l, len(p.lostFragments))
	}
}
