package replicator

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
)

// answers is a Sender that answers with what it is told to.
type answers func(addr string, r *backend.Request) (*backend.Response, error)

func (a answers) Do(_ context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	return a(addr, r)
}

func answer(status int, node, body string) (*backend.Response, error) {
	resp := &backend.Response{Status: status, Body: io.NopCloser(strings.NewReader(body))}
	if node != "" {
		resp.Header.Add(NodeHeader, node)
	}
	return resp, nil
}

// What is no answer of the peer's is an error, and none of a node's own is taken.
func TestClientBelieves(t *testing.T) {
	at := About{testRing(t, 1, []uint32{0, 1}), 1}
	for what, tt := range map[string]struct {
		status int
		node   string
		before string // who answered before
		err    string
	}{
		"a peer":                      {200, "b", "", ""},
		"the same again":              {200, "b", "b", ""},
		"a refusal of somebody":       {409, "", "", ""},
		"nobody":                      {200, "", "", errNameless.Error()},
		"the device itself":           {200, "a", "", errSelf.Error()},
		"another than before":         {200, "c", "b", errAnother.Error()},
		"a device that can't be used": {507, "b", "", "507"},
	} {
		to := &Peer{Addr: "x:1", Device: "d", node: tt.before}
		c := Client{NodeID: "a", Device: "d", Kind: "object", Sender: answers(func(addr string, r *backend.Request) (*backend.Response, error) {
			if addr != "x:1" || r.Header.Get("X-Backend-Kind") != "object" || r.Header.Get("X-Backend-Part-Power") != "1" {
				t.Errorf("%s: asked is %s for %+v", what, addr, r)
			}
			return answer(tt.status, tt.node, "text")
		})}
		_, err := c.Do(t.Context(), at, to, &backend.Request{Method: "REPLICATE"})
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", what, err, tt.err)
		}
	}
}

// A peer that can't be reached a few times in a row is left alone, one that fails
// now and then or at single requests is not.
func TestClientLeavesAlone(t *testing.T) {
	at := About{testRing(t, 1, []uint32{0, 1}), 1}
	unreachable := func() (*backend.Response, error) { return nil, errs.E(errs.Unavailable, "refused") }
	full := func() (*backend.Response, error) { return answer(507, "", "") }
	broken := func() (*backend.Response, error) { return answer(503, "", "") }
	good := func() (*backend.Response, error) { return answer(200, "b", "") }
	type replies []func() (*backend.Response, error)
	for what, tt := range map[string]struct {
		replies
		down bool
	}{
		"once":             {replies{unreachable}, false},
		"twice":            {replies{unreachable, unreachable}, true},
		"a device":         {replies{full, full}, true},
		"in between":       {replies{unreachable, good, unreachable}, false},
		"single requests":  {replies{broken, broken, broken}, false},
		"it is back again": {replies{unreachable, unreachable, good}, false},
	} {
		next := 0
		c := Client{NodeID: "a", Device: "d", Sender: answers(func(string, *backend.Request) (*backend.Response, error) {
			next++
			return tt.replies[next-1]()
		})}
		for range tt.replies {
			_, _ = c.Do(t.Context(), at, &Peer{Addr: "x:1", Device: "d"}, &backend.Request{})
		}
		if why, down := c.Down(&Peer{Addr: "x:1", Device: "d"}); down != tt.down || down != (why != "") {
			t.Errorf("%s: down is %v because of %q, want %v", what, down, why, tt.down)
		}
		if _, down := c.Down(&Peer{Addr: "x:1", Device: "other"}); down {
			t.Errorf("%s: so is another device", what)
		}
	}
}

// A list is asked for in as many parts as the peer makes of it.
func TestClientList(t *testing.T) {
	var asked []string
	c := Client{NodeID: "a", Device: "d", Sender: answers(func(_ string, r *backend.Request) (*backend.Response, error) {
		asked = append(asked, r.Path+"?"+r.Query)
		return answer(200, "b", "list")
	})}
	at, to := About{testRing(t, 1, []uint32{0, 1}), 1}, &Peer{Addr: "x:1", Device: "d 1"}
	first, last := name.Hash{0: 0x80}, name.Hash{0: 0x90}
	err := c.List(t.Context(), at, to, first, last, nil, func(b []byte, from, to name.Hash) (name.Hash, bool, error) {
		if string(b) != "list" || to != last {
			t.Errorf("%q up to %s", b, to)
		}
		return name.Hash{0: from[0], 15: 0xff}, len(asked) < 3, nil
	})
	zeros := strings.Repeat("0", 28)
	want := []string{
		"/d%201/1?from=80" + zeros + "00&to=90" + zeros + "00",
		"/d%201/1?from=80" + zeros[2:] + "0100&to=90" + zeros + "00",
		"/d%201/1?from=80" + zeros[2:] + "0100&to=90" + zeros + "00",
	}
	if err != nil || !slices.Equal(asked, want) {
		t.Errorf("%v, asked was\n%q, want\n%q", err, asked, want)
	}
	broken := errors.New("broken")
	err = c.List(t.Context(), at, to, first, last, nil, func([]byte, name.Hash, name.Hash) (name.Hash, bool, error) {
		return name.Hash{}, true, broken
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), to.String()) {
		t.Errorf("a list that can't be read: %v", err)
	}
}

// That another device brings something is believed only of a peer who was asked whether one does: else nothing would be
// brought, and nobody told why.
func TestWhatIsLeftToAnother(t *testing.T) {
	at, to := About{testRing(t, 1, []uint32{0, 1}), 1}, &Peer{Addr: "x:1", Device: "d"}
	for what, tt := range map[string]struct {
		node  string
		bring string
		want  bool
	}{
		"a peer":              {"b", "late", true},
		"somebody else":       {"", "late", false},
		"who was not asked":   {"b", "", false},
		"neither, nor a peer": {"", "", false},
	} {
		c := Client{NodeID: "a", Device: "d", Kind: "object", Sender: answers(func(string, *backend.Request) (*backend.Response, error) {
			return answer(409, tt.node, "what is wrong")
		})}
		r := &backend.Request{Method: "REPLICATE"}
		if tt.bring != "" {
			r.Header.Add("X-Backend-Bring", tt.bring)
		}
		resp, err := c.Do(t.Context(), at, to, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Take(to, r, resp); errs.Is(err, errs.Conflict) != tt.want || !tt.want && !strings.Contains(err.Error(), "what is wrong") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
