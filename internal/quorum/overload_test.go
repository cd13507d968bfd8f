package quorum

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/quorum/nodetest"
)

// refuses is a storage server whose gate is full.
func refuses(context.Context, *backend.Request) (*backend.Response, error) {
	r := nodetest.Status(http.StatusServiceUnavailable, "")
	r.Header.Add(backend.RetryAfter, "1")
	return r, nil
}

// A server that has no room is gone past, by reads and by writes, and its devices
// are not taken for broken however often that happens.
func TestOverloadedIsNotBroken(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 1})
	p := f.Container("a", "c")
	f.Script("d0", refuses)
	f.Script("d1", nodetest.Body(200, "", "x"))
	for range 3 {
		reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
		if err != nil || reply.Device.Name != "d1" {
			t.Fatalf("read: got %+v, %v, want the one that has room", reply, err)
		}
		_ = reply.Body.Close()
		answers := f.Write(t.Context(), p, request("PUT"))
		if best, err := three.Best(answers, nil); err != nil || len(answers) != 3 {
			t.Fatalf("write: %d answers, %d, %v, want a handoff in its place", len(answers), best.Status, err)
		}
	}
	if f.errors.limited(p.Primaries[0]) {
		t.Error("an overloaded device counts as one that fails")
	}
	// Nor does it count as one that works.
	f.errors.failed(p.Primaries[0], 1)
	f.Write(t.Context(), p, request("PUT"))
	f.Script("d0", nodetest.Always(201, ""))
	if !f.errors.limited(p.Primaries[0]) {
		t.Error("a refusal for want of room made errors good")
	}
	// Any other 503 is an error.
	f.Script("d2", nodetest.Always(503, ""))
	f.Write(t.Context(), p, request("PUT"))
	if !f.errors.limited(p.Primaries[2]) {
		t.Error("a 503 without Retry-After does not count")
	}
}

func TestAllAreOverloaded(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 1})
	for i := range nodetest.Nodes {
		f.Script("d"+strconv.Itoa(i), refuses)
	}
	p := f.Container("a", "c")
	if got, err := read(t, f); !errs.Is(err, errs.Unavailable) {
		t.Errorf("read %q, %v, want unavailable", got, err)
	}
	if _, err := p.Best(f.Write(t.Context(), p, request("PUT")), nil); !errs.Is(err, errs.Unavailable) {
		t.Errorf("write: %v, want unavailable", err)
	}
	for _, d := range p.Primaries {
		if f.errors.limited(d) {
			t.Errorf("%s counts as one that fails", d.Name)
		}
	}
}

// limits is a storage server to which more requests come than it may take: of a device, or of an account.
func limits(what string) backend.HandlerFunc {
	return func(context.Context, *backend.Request) (*backend.Response, error) {
		r := nodetest.Status(backend.StatusLimited, "")
		r.Header.Add(backend.Limited, what)
		return r, nil
	}
}

// A device that has too many requests is gone past like a server that has no room, and is not taken for broken.
func TestLimitedIsNotBroken(t *testing.T) {
	f := newFleet(t, Config{ErrorLimit: 1})
	p := f.Container("a", "c")
	f.Script("d0", limits("device"))
	f.Script("d1", nodetest.Body(200, "", "x"))
	for range 3 {
		reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
		if err != nil || reply.Device.Name != "d1" {
			t.Fatalf("read: got %+v, %v, want one that takes it", reply, err)
		}
		_ = reply.Body.Close()
		answers := f.Write(t.Context(), p, request("PUT"))
		if best, err := three.Best(answers, nil); err != nil || len(answers) != 3 || !slices.ContainsFunc(answers, func(a Answer) bool { return a.Device.Name > "d2" }) {
			t.Fatalf("write: %v, %d, %v, want a handoff in its place", answers, best.Status, err)
		}
	}
	if f.errors.limited(p.Primaries[0]) {
		t.Error("a device with too many requests counts as one that fails")
	}
	f.errors.failed(p.Primaries[0], 1)
	f.Write(t.Context(), p, request("PUT"))
	if !f.errors.limited(p.Primaries[0]) {
		t.Error("a refusal made errors good")
	}
}

// Where all refuse it is nobody's to answer. Those that are to hold an account back are not gone past to handoffs.
func TestAllAreLimited(t *testing.T) {
	for what, asked := range map[string]int{"device": nodetest.Nodes, "account": 3} {
		f := newFleet(t, Config{ErrorLimit: 1})
		p := f.Container("a", "c")
		for i := range nodetest.Nodes {
			f.Script("d"+strconv.Itoa(i), limits(what))
		}
		if _, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET")); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: a read ends with %v", what, err)
		}
		if n := len(f.Asked()); n != asked {
			t.Errorf("%s: a read asked %d devices, want %d", what, n, asked)
		}
		answers := f.Write(t.Context(), p, request("PUT"))
		if _, err := three.Best(answers, nil); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: a write ends with %v", what, err)
		}
		if n := len(f.Asked()) - asked; n != asked {
			t.Errorf("%s: a write asked %d devices, want %d", what, n, asked)
		}
		for _, d := range p.Primaries {
			if f.errors.limited(d) {
				t.Errorf("%s: %s counts as one that fails", what, d.Name)
			}
		}
	}
}
