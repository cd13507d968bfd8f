package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

var errSocket = errors.New("a socket was asked for")

// sockets is a Dial that has none.
func sockets(context.Context, string, string) (net.Conn, error) { return nil, errSocket }

func TestNetwork(t *testing.T) {
	n := New()
	dial := n.Dialer(sockets)
	listen := func(at string) *Listener {
		t.Helper()
		l, err := n.Listen(netip.MustParseAddrPort(at))
		must(t, err)
		return l
	}
	refused := func(addr string) {
		t.Helper()
		if c, err := dial(t.Context(), "tcp", addr); !errors.Is(err, errSocket) {
			t.Errorf("dialing %s: %v, %v", addr, c, err)
		}
	}
	meet := func(l *Listener, addr string) (here, there net.Conn) {
		t.Helper()
		here, err := dial(t.Context(), "tcp", addr)
		must(t, err)
		there, err = l.Accept()
		must(t, err)
		if here.RemoteAddr().String() != addr || there.LocalAddr().String() != addr || here.LocalAddr() != there.RemoteAddr() || there.RemoteAddr().Network() != "memory" {
			t.Errorf("%v, %v met %v, %v", here.LocalAddr(), here.RemoteAddr(), there.LocalAddr(), there.RemoteAddr())
		}
		if host, port, err := net.SplitHostPort(there.RemoteAddr().String()); err != nil || host != "in-process" || port == "" {
			t.Errorf("whoever has dialed is %v", there.RemoteAddr())
		}
		_, err = here.Write([]byte("hello"))
		must(t, err)
		got := make([]byte, 5)
		if _, err := io.ReadFull(there, got); err != nil || string(got) != "hello" {
			t.Errorf("%q, %v came", got, err)
		}
		return here, there
	}

	refused("127.0.0.1:6200")
	first, second := listen("127.0.0.1:6200"), listen("[::1]:6200")
	refused("127.0.0.1:6201")
	refused("localhost:6200") // names are for sockets
	a, _ := meet(first, "127.0.0.1:6200")
	b, _ := meet(second, "[::1]:6200")
	if a.LocalAddr() == b.LocalAddr() {
		t.Errorf("two connections are both from %v", a.LocalAddr())
	}
	meet(second, "[0:0::1]:6200")
	meet(first, "[::ffff:127.0.0.1]:6200")
	if _, err := n.Listen(netip.MustParseAddrPort("[::ffff:127.0.0.1]:6200")); !errors.Is(err, ErrInUse) {
		t.Errorf("a second listener at an address: %v", err)
	}

	waits, err := dial(t.Context(), "tcp", "127.0.0.1:6200") // and is not accepted
	must(t, err)
	must(t, first.Close())
	must(t, first.Close())
	if _, err := waits.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that nobody has accepted: %v", err)
	}
	if _, err := first.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting at the end: %v", err)
	}
	refused("127.0.0.1:6200")
	if _, err := a.Write([]byte("x")); err != nil {
		t.Errorf("the end of a listener has broken a connection: %v", err)
	}
	again := listen("127.0.0.1:6200")
	must(t, first.Close()) // it is not its any more
	meet(again, "127.0.0.1:6200")
}

// TestBacklog: what waits to be accepted is bounded, and more goes over sockets.
func TestBacklog(t *testing.T) {
	n := New()
	l, err := n.Listen(netip.MustParseAddrPort("127.0.0.1:6200"))
	must(t, err)
	dial := n.Dialer(sockets)
	for range backlog {
		_, err := dial(t.Context(), "tcp", "127.0.0.1:6200")
		must(t, err)
	}
	if _, err := dial(t.Context(), "tcp", "127.0.0.1:6200"); !errors.Is(err, errSocket) {
		t.Errorf("one more: %v", err)
	}
	for i := range backlog {
		c, err := l.Accept()
		must(t, err)
		if want := Addr("in-process:" + strconv.Itoa(i+1)); c.RemoteAddr() != want {
			t.Fatalf("%v was accepted before %v", c.RemoteAddr(), want)
		}
	}
	if _, err := dial(t.Context(), "tcp", "127.0.0.1:6200"); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// TestAcceptWaits: who accepts waits for a connection, or for the end.
func TestAcceptWaits(t *testing.T) {
	n := New()
	l, err := n.Listen(netip.MustParseAddrPort("127.0.0.1:6200"))
	must(t, err)
	came := make(chan error)
	go func() {
		for {
			_, err := l.Accept()
			came <- err
			if err != nil {
				return
			}
		}
	}()
	_, err = n.Dialer(sockets)(t.Context(), "tcp", "127.0.0.1:6200")
	must(t, err)
	must(t, <-came)
	must(t, l.Close())
	if err := <-came; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "127.0.0.1:6200") {
		t.Errorf("at the end: %v", err)
	}
}

// TestNoNetwork: where there is none, all is sockets.
func TestNoNetwork(t *testing.T) {
	var none *Network
	if _, err := none.Dialer(sockets)(t.Context(), "tcp", "127.0.0.1:6200"); !errors.Is(err, errSocket) {
		t.Errorf("%v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	c, err := none.Dialer(nil)(t.Context(), "tcp", l.Addr().String())
	must(t, err)
	must(t, c.Close())
}
