package replicator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/hosts"
	"martlet/internal/replwire"
	"martlet/ring"
)

// testRing has devices d0, d1 ... at 127.0.0.1:1, :2 ..., and a row of them for
// each replica: the number of each partition's device.
func testRing(t testing.TB, power int, rows ...[]uint32) *ring.Ring {
	t.Helper()
	data := ring.Data{PartPower: power, Rows: rows}
	for i := range 4 {
		data.Devices = append(data.Devices, &ring.Device{ID: i, Zone: i, IP: "127.0.0.1", Port: 1 + i, Name: fmt.Sprint("d", i), Weight: 1})
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOthers(t *testing.T) {
	r := testRing(t, 1, []uint32{0, 1}, []uint32{1, 2})
	for what, tt := range map[string]struct {
		p            ring.Partition
		device, self string
		handoff      bool
		others       string
	}{
		"a primary":                {0, "d0", "127.0.0.1:1", false, "[127.0.0.1:2/d1]"},
		"a primary of another":     {1, "d0", "127.0.0.1:1", true, "[127.0.0.1:2/d1 127.0.0.1:3/d2]"},
		"a handoff for all":        {0, "d3", "127.0.0.1:4", true, "[127.0.0.1:1/d0 127.0.0.1:2/d1]"},
		"its name at another node": {0, "d0", "127.0.0.1:9", true, "[127.0.0.1:1/d0 127.0.0.1:2/d1]"},
	} {
		others, handoff := Others(r, tt.p, tt.device, hosts.At(netip.MustParseAddrPort(tt.self), nil))
		if fmt.Sprint(others) != tt.others || handoff != tt.handoff {
			t.Errorf("%s: %v, handoff %v, want %s, %v", what, others, handoff, tt.others, tt.handoff)
		}
	}
	if s := (*Peer)(nil).String(); s != "" {
		t.Errorf("nobody is %q", s)
	}
}

func TestEverywhere(t *testing.T) {
	a, b := &Peer{Has: []bool{true, true}}, &Peer{Has: []bool{true, false}}
	for i, want := range []bool{true, false} {
		if got := Everywhere([]*Peer{a, b}, i); got != want {
			t.Errorf("place %d is everywhere: %v, want %v", i, got, want)
		}
	}
	if Everywhere(nil, 0) {
		t.Error("what nobody has is everywhere")
	}
}

// Peers that are one device, or say that they are no primaries, are no reason to
// drop anything.
func TestDoubt(t *testing.T) {
	peer := func(node, device string) *Peer { return &Peer{node: node, Device: device} }
	for what, tt := range map[string]struct {
		peers []*Peer
		want  string
	}{
		"nobody":                {nil, ""},
		"two nodes":             {[]*Peer{peer("a", "d"), peer("b", "d")}, ""},
		"two devices":           {[]*Peer{peer("a", "d"), peer("a", "e")}, ""},
		"one device":            {[]*Peer{peer("a", "d"), peer("b", "d"), peer("a", "d")}, "the same device"},
		"nothing was ever said": {[]*Peer{peer("", "d"), peer("", "d")}, ""},
		"no primary":            {[]*Peer{peer("a", "d"), {node: "b", denied: true}}, "no primary"},
	} {
		if at, why := Doubt(tt.peers); !strings.Contains(why, tt.want) || (why == "") != (tt.want == "") || (at == nil) != (why == "") {
			t.Errorf("%s: %v and %q, want %q", what, at, why, tt.want)
		}
	}
}

// One answer that does not say "true" is enough to doubt all of a peer's.
func TestPeerSaysWhatItIs(t *testing.T) {
	for what, tt := range map[string]struct {
		said   []string
		denied bool
	}{
		"a primary":        {[]string{"true", "true"}, false},
		"none":             {[]string{"false"}, true},
		"nothing":          {[]string{""}, true},
		"something else":   {[]string{"True"}, true},
		"none any more":    {[]string{"true", "false"}, true},
		"only in the end":  {[]string{"false", "true"}, true},
		"not asked at all": {nil, false},
	} {
		p := &Peer{Device: "d"}
		for _, value := range tt.said {
			resp := &backend.Response{Status: 200, Header: backend.Header{{Name: NodeHeader, Value: "b"}}}
			if value != "" {
				resp.Header.Add(replwire.PrimaryHeader, value)
			}
			if err := p.know(resp, "a", "d"); err != nil {
				t.Fatal(err)
			}
		}
		if p.denied != tt.denied {
			t.Errorf("%s: doubted is %v, want %v", what, p.denied, tt.denied)
		}
	}
	p := &Peer{Device: "d"}
	if err := p.know(&backend.Response{Status: 410}, "a", "d"); err != nil || p.denied {
		t.Errorf("an error, which confirms nothing: %v, doubted is %v", err, p.denied)
	}
}
