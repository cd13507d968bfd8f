package forward

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// bench is a network of two hosts, of which b listens: it sends back what it is sent, whole, and
// closes.
type bench struct {
	t    *testing.T
	net  *Network
	addr string      // the forwarder before b
	seen chan string // the addresses that b was connected from
}

func newBench(t *testing.T) *bench {
	t.Helper()
	base := fmt.Sprintf("127.%d.%d", 20+rand.IntN(200), 1+rand.IntN(200))
	l, err := net.Listen("tcp", base+".12:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, net: New(), seen: make(chan string, 100)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.seen <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			all.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // a broken one is what is tested
			})
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	b.addr = net.JoinHostPort(base+".2", port)
	b.net.Host("a", netip.MustParseAddr(base+".11"), netip.MustParseAddr(base+".1"))
	b.net.Host("b", netip.MustParseAddr(base+".12"), netip.MustParseAddr(base+".2"))
	if err := b.net.Forward("b", b.addr, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.net.Close(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		all.Wait()
	})
	return b
}

// dial connects as host a, or as somebody unknown.
func (b *bench) dial(known bool) *net.TCPConn {
	b.t.Helper()
	d := net.Dialer{}
	if known {
		host, _, _ := net.SplitHostPort(b.addr)
		ip := net.ParseIP(host).To4()
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(ip[0], ip[1], ip[2], 11)}
	}
	c, err := d.DialContext(b.t.Context(), "tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func (b *bench) set(host string, c Condition) {
	b.t.Helper()
	if err := b.net.Set(host, c); err != nil {
		b.t.Fatal(err)
	}
}

// echo sends something and wants it back.
func echo(c net.Conn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q, want %q", got, text)
	}
	return nil
}

// One server of a host can be cut off alone, and is cut off with what the other side is set to.
func TestServerOfAHost(t *testing.T) {
	b := newBench(t)
	whole := b.addr
	host, port, _ := net.SplitHostPort(whole)
	b.net.Host("server", netip.Addr{}, netip.MustParseAddr(host))
	free, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.net.Forward("server", server, host[:len(host)-1]+"12:"+port); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cut                 string
		whole, server, from bool // reached: the host, its server, the server by host a
	}{
		{"server", true, false, false}, {"a", true, true, false}, {"b", false, true, true},
	} {
		b.set(tt.cut, Condition{Cut: Reset})
		for _, to := range []struct {
			addr        string
			known, want bool
		}{{whole, false, tt.whole}, {server, false, tt.server}, {server, true, tt.from}} {
			b.addr = to.addr
			if err := echo(b.dial(to.known), "hello"); (err == nil) != to.want {
				t.Errorf("%s is cut off, and %s, known %v: %v, want it reached: %v", tt.cut, to.addr, to.known, err, to.want)
			}
		}
		b.set(tt.cut, Condition{})
	}
}

// Whatever the network is like meanwhile, what gets through is what was sent, and the end behind it.
func TestEveryByte(t *testing.T) {
	b := newBench(t)
	body := make([]byte, 2<<20)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	done := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		states := []Condition{{}, {Cut: Silent}, {Rate: 64 << 20}, {Delay: 100 * time.Microsecond}, {}}
		for i := 0; ; i++ {
			select {
			case <-done:
				b.set([]string{"a", "b"}[i%2], Condition{})
				b.set([]string{"b", "a"}[i%2], Condition{})
				return
			case <-time.After(time.Millisecond):
				b.set([]string{"a", "b"}[i%2], states[rand.IntN(len(states))])
			}
		}
	})
	time.AfterFunc(300*time.Millisecond, func() { close(done) })
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			c := b.dial(i%2 == 0)
			var sending sync.WaitGroup
			sending.Go(func() {
				if _, err := c.Write(body); err != nil {
					t.Error(err)
				}
				_ = c.CloseWrite()
			})
			h := sha256.New()
			n, err := io.Copy(h, c)
			sending.Wait()
			if err != nil || n != int64(len(body)) || !bytes.Equal(h.Sum(nil), sum(body)) {
				t.Errorf("%d of %d bytes came back, %v, or others than were sent", n, len(body), err)
			}
		})
	}
	all.Wait()
	changing.Wait()
}

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

// Who is cut off hears nothing, whether it speaks or is spoken to, and others do; what was sent meanwhile comes
// when that is over.
func TestSilent(t *testing.T) {
	for cutOff, known := range map[string]bool{"a": true, "b": false} {
		t.Run(cutOff, func(t *testing.T) {
			b := newBench(t)
			old := b.dial(known)
			if err := echo(old, "before"); err != nil {
				t.Fatal(err)
			}
			b.set(cutOff, Condition{Cut: Silent})
			fresh := b.dial(known)
			for what, c := range map[string]net.Conn{"open": old, "new": fresh} {
				if _, err := io.WriteString(c, "during"); err != nil {
					t.Fatalf("%s: %v, want nobody to be told", what, err)
				}
				_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("an %s connection of who is cut off: %d bytes, %v", what, n, err)
				}
				_ = c.SetReadDeadline(time.Time{})
			}
			if cutOff == "a" {
				if err := echo(b.dial(false), "another"); err != nil {
					t.Errorf("who is not cut off: %v", err)
				}
			}
			b.set(cutOff, Condition{})
			for what, c := range map[string]net.Conn{"open": old, "new": fresh} {
				got := make([]byte, len("during"))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != "during" {
					t.Errorf("an %s connection afterwards: %q, %v", what, got, err)
				}
				if err := echo(c, "after"); err != nil {
					t.Errorf("an %s connection afterwards: %v", what, err)
				}
			}
		})
	}
}

// With a reset connections break off at once, also one that nobody reads from, and new ones do.
func TestReset(t *testing.T) {
	b := newBench(t)
	full := b.dial(true)
	_ = full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = full.Write(make([]byte, 16<<20)) // until it is stuck
	old := b.dial(true)
	if err := echo(old, "before"); err != nil {
		t.Fatal(err)
	}
	b.set("b", Condition{Cut: Reset})
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("an open connection was not broken off")
	}
	_ = full.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := full.Write(make([]byte, 16<<20)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one that was stuck: %v", err)
	}
	if c, err := net.Dial("tcp", b.addr); err == nil { // it may be broken off at once
		if err := echo(c, "new"); err == nil {
			t.Error("a new connection carries something")
		}
		_ = c.Close()
	}
	b.set("b", Condition{})
	if err := echo(b.dial(true), "after"); err != nil {
		t.Error(err)
	}
}

// Rate and delay are kept to.
func TestSlow(t *testing.T) {
	b := newBench(t)
	b.set("b", Condition{Rate: 1 << 20, Delay: 5 * time.Millisecond})
	c := b.dial(true)
	began := time.Now()
	if err := echo(c, string(make([]byte, 100<<10))); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("100 KiB there and back at 1 MiB/s took %v", took)
	}
}

// Servers see who connects as at its own address.
func TestAddresses(t *testing.T) {
	b := newBench(t)
	if err := echo(b.dial(true), "x"); err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(b.addr)
	ip := net.ParseIP(host).To4()
	if got, want := <-b.seen, fmt.Sprintf("%d.%d.%d.1", ip[0], ip[1], ip[2]); got != want {
		t.Errorf("a is seen as %s, want %s", got, want)
	}
}
