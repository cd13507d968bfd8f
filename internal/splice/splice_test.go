package splice

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// pair is the two ends of a connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), d.Close() })
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

func raw(t *testing.T, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func take(t *testing.T) *Pipe {
	t.Helper()
	p, err := Take()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 5)
	}
	return b
}

// What one side sends is what the other gets, up to the byte that was asked for, and then the end.
func TestBytesPass(t *testing.T) {
	from, in := pair(t)
	out, to := pair(t)
	want := text(5<<20 + 17)
	go func() {
		_, _ = from.Write(want)
		_ = from.Close()
	}()
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(to)
		got <- b
	}()
	p := take(t)
	defer p.Give()
	const asked = 3<<20 + 5
	left := int64(asked)
	for left > 0 {
		n, err := p.Fill(raw(t, in), left)
		if err != nil || n == 0 || n != p.Len() {
			t.Fatalf("filled with %d bytes, of which %d are there: %v", n, p.Len(), err)
		}
		left -= int64(n)
		for p.Len() > 0 {
			if n, err := p.Drain(raw(t, out)); err != nil || n == 0 {
				t.Fatalf("drained of %d bytes: %v", n, err)
			}
		}
	}
	rest, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(rest, want[asked:]) {
		t.Errorf("behind what was asked for are %d bytes, %v", len(rest), err)
	}
	if n, err := p.Fill(raw(t, in), 10); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	_ = out.Close()
	if got := <-got; !bytes.Equal(got, want[:asked]) {
		t.Errorf("%d bytes came, want %d", len(got), asked)
	}
}

// A socket that says nothing, and one that takes nothing, are waited for until their deadlines.
func TestDeadlines(t *testing.T) {
	_, in := pair(t)
	from, in2 := pair(t)
	out, _ := pair(t)
	p := take(t)
	past := time.Now().Add(-time.Second)
	_ = in.SetReadDeadline(past)
	if n, err := p.Fill(raw(t, in), 10); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("filled with %d, %v", n, err)
	}
	go func() {
		for b := text(64 << 10); ; {
			if _, err := from.Write(b); err != nil {
				return
			}
		}
	}()
	_ = out.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		if _, err := p.Fill(raw(t, in2), 1<<30); err != nil {
			t.Fatal(err)
		}
		for p.Len() > 0 {
			n, err := p.Drain(raw(t, out))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if n != 0 {
					t.Errorf("%d bytes and a deadline", n)
				}
				p.Give()
				return
			}
			if n == 0 || err != nil {
				t.Fatalf("drained of %d, %v", n, err)
			}
		}
	}
}

// Who went away is an error, and what is in a pipe that was given back is nobody else's.
func TestNothingIsLeftBehind(t *testing.T) {
	from, in := pair(t)
	out, to := pair(t)
	if _, err := from.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	p := take(t)
	if n, err := p.Fill(raw(t, in), 100); n != 3 || err != nil {
		t.Fatalf("filled with %d, %v", n, err)
	}
	_ = to.SetLinger(0)
	_ = to.Close()
	if _, err := io.ReadAll(out); err == nil {
		t.Fatal("the connection ended in good order")
	}
	if _, err := p.Drain(raw(t, out)); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("drained into nothing: %v", err)
	}
	p.Give()
	var all []*Pipe
	for range most {
		p := take(t)
		if p.Len() != 0 {
			t.Fatalf("a pipe that was taken has %d bytes", p.Len())
		}
		all = append(all, p)
	}
	if _, err := Take(); err == nil {
		t.Errorf("there are more than %d pipes", most)
	}
	for _, p := range all {
		p.Give()
	}
	closed := raw(t, in)
	_ = in.Close()
	q := take(t)
	defer q.Give()
	if _, err := q.Fill(closed, 1); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed socket was read: %v", err)
	}
}

// What is in a pipe can be had in memory, too.
func TestRead(t *testing.T) {
	from, in := pair(t)
	want := text(10_000)
	if _, err := from.Write(want); err != nil {
		t.Fatal(err)
	}
	p := take(t)
	defer p.Give()
	var got []byte
	for len(got) < len(want) {
		if _, err := p.Fill(raw(t, in), int64(len(want)-len(got))); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil || p.Len() != 0 {
			t.Fatalf("%d bytes are left, %v", p.Len(), err)
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes came")
	}
}

// A step allocates nothing.
func TestAllocations(t *testing.T) {
	from, in := pair(t)
	out, to := pair(t)
	p := take(t)
	defer p.Give()
	a, b := raw(t, in), raw(t, out)
	msg, back := text(1000), make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = from.Write(msg)
		for left := int64(len(msg)); left > 0; {
			n, err := p.Fill(a, left)
			if err != nil {
				t.Fatal(err)
			}
			left -= int64(n)
			for p.Len() > 0 {
				if _, err := p.Drain(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, _ = io.ReadFull(to, back)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
