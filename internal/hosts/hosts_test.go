package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// table is a Lookup that a test changes.
type table struct {
	mu    sync.Mutex
	addrs map[string]string
	asked int
}

func (t *table) set(name, addrs string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addrs[name] = addrs
}

func (t *table) lookup(_ context.Context, name string) (all []netip.Addr, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked++
	text, ok := t.addrs[name]
	if !ok {
		return nil, errors.New("no such host")
	}
	for _, a := range strings.Fields(text) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &table{addrs: map[string]string{"a.example": "10.0.0.1 ::ffff:10.0.0.9", "b.example": "10.0.0.2", "empty.example": ""}}
		n := NewNames(dns.lookup)
		learn := func(want string, names ...string) {
			t.Helper()
			if err := n.Learn(t.Context(), slices.Values(names)); (err == nil) != (want == "") || err != nil && err.Error() != want {
				t.Errorf("learning %q: %v, want %q", names, err, want)
			}
		}
		is := func(host, want string) {
			t.Helper()
			if got := fmt.Sprint(n.Addrs(host)); got != want {
				t.Errorf("%s is %s, want %s", host, got, want)
			}
		}
		is("a.example", "[]")
		is("10.0.0.7", "[10.0.0.7]")
		is("[FE80:0::1]", "[fe80::1]")
		learn("", "a.example", "10.0.0.7", "b.example", "a.example", "[::1]")
		is("a.example", "[10.0.0.1 10.0.0.9]")
		is("b.example", "[10.0.0.2]")
		if dns.asked != 2 {
			t.Errorf("asked %d times for two names", dns.asked)
		}
		turn := n.Turn()

		// What is known lately is not looked up again, and what has changed later is.
		dns.set("a.example", "10.0.0.3")
		learn("", "a.example", "b.example")
		is("a.example", "[10.0.0.1 10.0.0.9]")
		if n.Turn() != turn {
			t.Error("nothing has changed, and another turn")
		}
		time.Sleep(fresh) // in the bubble
		learn("", "a.example", "b.example")
		is("a.example", "[10.0.0.3]")
		if n.Turn() == turn {
			t.Error("an address has changed, and no other turn")
		}

		// While it can't be found it stays what it was, and is tried each time.
		time.Sleep(fresh) // in the bubble
		dns.mu.Lock()
		delete(dns.addrs, "a.example")
		dns.mu.Unlock()
		learn("host name a.example: no such host\nhost name empty.example: it has no address", "a.example", "empty.example")
		is("a.example", "[10.0.0.3]")
		is("b.example", "[]") // in no ring any more
		dns.set("a.example", "10.0.0.4")
		learn("", "a.example")
		is("a.example", "[10.0.0.4]")
	})
}

func TestSelf(t *testing.T) {
	dns := &table{addrs: map[string]string{"own.example": "10.0.0.9 10.0.0.1", "other.example": "10.0.0.2", "local": "127.0.1.1", "six.example": "fe80::1"}}
	n := NewNames(dns.lookup)
	if err := n.Learn(t.Context(), slices.Values([]string{"own.example", "other.example", "local", "six.example"})); err != nil {
		t.Fatal(err)
	}
	own, six, loop := netip.MustParseAddrPort("10.0.0.1:6203"), netip.MustParseAddrPort("[fe80::1]:6203"), netip.MustParseAddrPort("127.230.2.1:6203")
	for _, tt := range []struct {
		self  Self
		host  string
		port  int
		wants bool
	}{
		{At(own, n), "10.0.0.1", 6203, true},
		{At(own, n), "10.0.0.1", 6204, false},
		{At(own, n), "10.0.0.2", 6203, false},
		{At(own, n), "own.example", 6203, true},
		{At(own, n), "own.example", 6204, false},
		{At(own, n), "other.example", 6203, false},
		{At(own, n), "unknown.example", 6203, false},
		{At(own, n), "local", 6203, true},
		{At(loop, n), "local", 6203, false},
		{At(own, nil), "10.0.0.1", 6203, true},
		{At(own, nil), "::ffff:10.0.0.1", 6203, true},
		{At(own, nil), "own.example", 6203, false},
		{At(six, n), "[FE80:0::1]", 6203, true},
		{At(six, n), "six.example", 6203, true},
		{Self{}, "10.0.0.1", 6203, false},
	} {
		if got := tt.self.Is(tt.host, tt.port); got != tt.wants {
			t.Errorf("%s:%d is %v:%d: %v", tt.host, tt.port, tt.self.ip, tt.self.port, got)
		}
	}
	if !(Self{}).IsZero() || At(own, nil).IsZero() {
		t.Error("who is nobody's")
	}
}
