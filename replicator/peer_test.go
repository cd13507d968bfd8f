package replicator

import (
	"fmt"
	"testing"

	"martlet/ring"
)

// testRing has devices d0, d1 ... at 127.0.0.1:1, :2 ..., and a row of them for
// each replica: the number of each partition's device.
func testRing(t testing.TB, power int, rows ...[]uint16) *ring.Ring {
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
	r := testRing(t, 1, []uint16{0, 1}, []uint16{1, 2})
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
		others, handoff := Others(r, tt.p, tt.device, tt.self)
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

func TestSameDevice(t *testing.T) {
	peer := func(node, device string) *Peer { return &Peer{node: node, Device: device} }
	for what, tt := range map[string]struct {
		peers []*Peer
		same  bool
	}{
		"nobody":                {nil, false},
		"two nodes":             {[]*Peer{peer("a", "d"), peer("b", "d")}, false},
		"two devices":           {[]*Peer{peer("a", "d"), peer("a", "e")}, false},
		"one device":            {[]*Peer{peer("a", "d"), peer("b", "d"), peer("a", "d")}, true},
		"nothing was ever said": {[]*Peer{peer("", "d"), peer("", "d")}, false},
	} {
		if a, b := SameDevice(tt.peers); (a != nil) != tt.same || (a == nil) != (b == nil) {
			t.Errorf("%s: %v and %v are the same, want %v", what, a, b, tt.same)
		}
	}
}
