package gatekeeper

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"martlet/proxy/chain"
)

var internal = []string{
	"X-Backend-Anything", "X-Object-Sysmeta-A", "X-Container-Sysmeta-A", "X-Account-Sysmeta-A", "X-Object-Transient-Sysmeta-A", "X-Container-Transient-Sysmeta-A",
	"X-Container-Host", "X-Container-Device", "X-Container-Partition", "X-Account-Host", "X-Account-Device", "X-Account-Partition", "X-Delete-At-Host",
	"X-Delete-At-Device", "X-Delete-At-Partition", "X-Delete-At-Container", "X-Container-Root-Db-State", "X-Size", "X-Etag", "X-Put-Timestamp",
}

var public = []string{
	"X-Object-Meta-A", "X-Container-Read", "X-Delete-At", "X-Delete-After", "X-Auth-Token", "Etag", "X-Container-Meta-Host", "X-Newest", "Content-Type",
	"X-Object-Meta-X-Backend-A", "X-Container-Hosts", "Xx-Backend-A",
}

func TestGate(t *testing.T) {
	in, out := http.Header{}, http.Header{}
	for _, n := range slices.Concat(internal, public) {
		in.Set(n, "x")
		out.Set(n, "x")
	}
	in["x-backend-in-lower-case"] = []string{"x"}
	in.Set("X-Timestamp", "12")
	out.Set("X-Timestamp", "12") // the cluster's own: of an object
	var got http.Header
	resp := Link(chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
		got = r.Header
		return &chain.Response{Status: 200, Header: out}
	})).Serve(t.Context(), &chain.Request{Header: in})
	check := func(way string, h http.Header, but string) {
		t.Helper()
		want := append(slices.Clone(public), but)
		for n := range h {
			if !slices.Contains(want, n) {
				t.Errorf("%s: %s passed", way, n)
			}
		}
		if len(h) != len(want) {
			t.Errorf("%s: got %v, want %v", way, h, want)
		}
	}
	check("in", got, InboundTimestamp)
	check("out", resp.Header, "X-Timestamp")
	if got.Get(InboundTimestamp) != "12" {
		t.Errorf("the client's X-Timestamp is %q inside, want it moved aside", got.Get(InboundTimestamp))
	}
}

// However a name is written, it is the cluster's own or not.
func FuzzInternal(f *testing.F) {
	for _, n := range slices.Concat(internal, public) {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if Internal(name) != Internal(strings.ToLower(name)) && isASCII(name) {
			t.Errorf("%q: in lower case it is another", name)
		}
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "X-Backend-") && !Internal(name) {
			t.Errorf("%q passes", name)
		}
	})
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 127 }) }
