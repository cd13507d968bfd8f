package memnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func pair() (here, there *Conn) { return newPair("in-process:1", "127.0.0.1:6200") }

func TestConformance(t *testing.T) {
	nettest.TestConn(t, func() (here, there net.Conn, stop func(), err error) {
		here, there = pair()
		return here, there, func() { _, _ = here.Close(), there.Close() }, nil
	})
}

// must does what has to succeed.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEnds: what reads and writes say once an end is closed, or has passed its deadline.
func TestEnds(t *testing.T) {
	past := time.Unix(1, 0)
	say := func(t *testing.T, c *Conn, what string) {
		t.Helper()
		if n, err := c.Write([]byte(what)); n != len(what) || err != nil {
			t.Fatalf("writing %q: %d, %v", what, n, err)
		}
	}
	for name, tt := range map[string]struct {
		do          func(t *testing.T, here, there *Conn)
		text        string // what here reads
		end         error  // and then
		write       error  // what it gets for a write
		peek, await error
	}{
		"the other one was closed":                  {func(t *testing.T, _, there *Conn) { must(t, there.Close()) }, "", io.EOF, syscall.EPIPE, io.EOF, nil},
		"the other one was closed after it wrote":   {func(t *testing.T, _, there *Conn) { say(t, there, "last"); must(t, there.Close()) }, "last", io.EOF, syscall.EPIPE, io.EOF, nil},
		"the other one was closed and had not read": {func(t *testing.T, here, there *Conn) { say(t, here, "x"); must(t, there.Close()) }, "", syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNRESET, nil},
		"the other one wrote, had not read, and was closed": {func(t *testing.T, here, there *Conn) {
			say(t, there, "last")
			say(t, here, "x")
			must(t, there.Close())
		}, "last", syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNRESET, nil},
		"the other one was closed twice": {func(t *testing.T, here, there *Conn) {
			must(t, there.Close())
			_, _ = here.Write([]byte("x"))
			must(t, there.Close())
		}, "", io.EOF, syscall.EPIPE, io.EOF, nil},
		"the other one writes no more": {func(t *testing.T, _, there *Conn) { say(t, there, "last"); must(t, there.CloseWrite()) }, "last", io.EOF, nil, io.EOF, nil},
		"this one writes no more": {func(t *testing.T, here, there *Conn) {
			must(t, here.CloseWrite())
			say(t, there, "last")
			must(t, there.CloseWrite())
		}, "last", io.EOF, syscall.EPIPE, io.EOF, nil},
		"this one was closed": {func(t *testing.T, here, there *Conn) { say(t, there, "x"); must(t, here.Close()) }, "", net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed},
		"both were closed":    {func(t *testing.T, here, there *Conn) { must(t, there.Close()); must(t, here.Close()) }, "", net.ErrClosed, net.ErrClosed, net.ErrClosed, net.ErrClosed},
		"a deadline has passed": {func(t *testing.T, here, there *Conn) {
			say(t, there, "x")
			must(t, here.SetDeadline(past))
			must(t, there.Close())
		}, "", os.ErrDeadlineExceeded, os.ErrDeadlineExceeded, nil, os.ErrDeadlineExceeded},
		"a deadline has passed for reads": {func(t *testing.T, here, _ *Conn) { must(t, here.SetReadDeadline(past)) }, "", os.ErrDeadlineExceeded, nil, nil, os.ErrDeadlineExceeded},
		"a deadline has passed for writes": {func(t *testing.T, here, there *Conn) {
			must(t, here.SetWriteDeadline(past))
			must(t, there.CloseWrite())
		}, "", io.EOF, os.ErrDeadlineExceeded, io.EOF, nil},
		"a deadline has passed and is gone": {func(t *testing.T, here, there *Conn) {
			must(t, here.SetDeadline(past))
			must(t, here.SetDeadline(time.Time{}))
			must(t, there.CloseWrite())
		}, "", io.EOF, nil, io.EOF, nil},
		"a deadline has passed and is moved": {func(t *testing.T, here, there *Conn) {
			must(t, here.SetDeadline(past))
			must(t, here.SetDeadline(time.Now().Add(time.Hour)))
			must(t, there.CloseWrite())
		}, "", io.EOF, nil, io.EOF, nil},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := pair()
			tt.do(t, here, there)
			var got []byte
			for range len(tt.text) {
				one := make([]byte, 1)
				n, err := here.Read(one)
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got = append(got, one[:n]...)
			}
			if string(got) != tt.text {
				t.Errorf("read %q, want %q", got, tt.text)
			}
			is := func(what string, err, want error) {
				t.Helper()
				if !errors.Is(err, want) || want == io.EOF && err != io.EOF {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
				var timed net.Error
				if late := errors.As(err, &timed) && timed.Timeout(); late != (want == os.ErrDeadlineExceeded) {
					t.Errorf("%s: %v is a timeout: %v", what, err, late)
				}
			}
			_, err := here.Peek()
			is("peek", err, tt.peek)
			is("await", here.Await(), tt.await)
			_, err = here.Read(make([]byte, 8))
			is("read", err, tt.end)
			_, err = here.Write([]byte("y"))
			is("write", err, tt.write)
			pieces := net.Buffers{[]byte("y"), []byte("z")}
			_, err = here.WriteBuffers(&pieces)
			is("write of pieces", err, tt.write)
			must(t, there.Close())
			must(t, here.Close())
			is("deadline of what is closed", here.SetDeadline(time.Time{}), net.ErrClosed)
		})
	}
}

// TestInterrupted: whoever waits is woken up by what ends the waiting, and by nothing else, and knows how much went out.
func TestInterrupted(t *testing.T) {
	const large = room + 1000
	ends := map[string]struct {
		do   func(t *testing.T, here, there *Conn)
		want error // of a read; nil for one that goes on
		out  error // of a write
	}{
		"closing":            {func(t *testing.T, here, _ *Conn) { must(t, here.Close()) }, net.ErrClosed, net.ErrClosed},
		"closing the other":  {func(t *testing.T, _, there *Conn) { must(t, there.Close()) }, io.EOF, syscall.EPIPE},
		"a deadline":         {func(t *testing.T, here, _ *Conn) { must(t, here.SetDeadline(time.Now())) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		"a deadline to come": {func(t *testing.T, here, _ *Conn) { must(t, here.SetDeadline(time.Now().Add(time.Second))) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		"a deadline nearer": {func(t *testing.T, here, _ *Conn) {
			must(t, here.SetDeadline(time.Now().Add(time.Hour)))
			must(t, here.SetDeadline(time.Now().Add(time.Second)))
		}, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		"a deadline farther": {func(t *testing.T, here, _ *Conn) {
			must(t, here.SetDeadline(time.Now().Add(time.Second)))
			must(t, here.SetDeadline(time.Now().Add(time.Hour)))
		}, nil, nil},
		"a deadline lifted": {func(t *testing.T, here, _ *Conn) {
			must(t, here.SetDeadline(time.Now().Add(time.Second)))
			must(t, here.SetDeadline(time.Time{}))
		}, nil, nil},
		"the other's reading": {func(t *testing.T, _, there *Conn) { must(t, there.SetDeadline(time.Now())) }, nil, nil},
	}
	for name, tt := range ends {
		for what, wait := range map[string]func(c *Conn) (int, error){
			"read":  func(c *Conn) (int, error) { return c.Read(make([]byte, 10)) },
			"await": func(c *Conn) (int, error) { return 0, c.Await() },
			"write": func(c *Conn) (int, error) { return c.Write(make([]byte, large)) },
			"write of pieces": func(c *Conn) (int, error) {
				v := net.Buffers{make([]byte, 50), make([]byte, large-50)}
				n, err := c.WriteBuffers(&v)
				left := 0
				for _, p := range v {
					left += len(p)
				}
				if int(n)+left != large {
					t.Errorf("%d were written, and %d are left, of %d", n, left, large)
				}
				return int(n), err
			},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					here, there := pair()
					type outcome struct {
						n   int
						err error
					}
					over := make(chan outcome, 1)
					go func() { n, err := wait(here); over <- outcome{n, err} }()
					synctest.Wait()
					writes := strings.HasPrefix(what, "write")
					want, taken := tt.want, 0
					if writes {
						want, taken = tt.out, 100
						if _, err := io.ReadFull(there, make([]byte, taken)); err != nil {
							t.Fatal(err)
						}
					} else if what == "await" && want == io.EOF {
						want = nil
					}
					tt.do(t, here, there)
					time.Sleep(time.Minute) // in the bubble
					synctest.Wait()
					if tt.want == nil {
						select {
						case o := <-over:
							t.Errorf("it ended with %v", o)
						default:
						}
						must(t, here.Close())
						<-over
						return
					}
					if len(over) == 0 {
						t.Errorf("a minute later it has not ended")
						must(t, here.Close())
					}
					o := <-over
					if !errors.Is(o.err, want) || o.n != taken {
						t.Errorf("%d, %v; want %d, %v", o.n, o.err, taken, want)
					}
				})
			})
		}
	}
}

// TestBuffer: a direction has a buffer while there is something in it, and a large write needs none.
func TestBuffer(t *testing.T) {
	here, there := pair()
	held := func() (n int) {
		for _, s := range []*stream{here.in, here.out} {
			s.mu.Lock()
			if s.buf != nil {
				n++
			}
			s.mu.Unlock()
		}
		return n
	}
	is := func(when string, want int) {
		t.Helper()
		if got := held(); got != want {
			t.Errorf("%s there are %d buffers, want %d", when, got, want)
		}
	}
	is("at first", 0)
	if _, err := here.Write(make([]byte, room)); err != nil { // all that it takes without anybody who reads
		t.Fatal(err)
	}
	is("when something was written", 1)
	if _, err := io.ReadFull(there, make([]byte, room-1)); err != nil {
		t.Fatal(err)
	}
	is("while something is left", 1)
	if _, err := here.Write(make([]byte, room-1)); err != nil { // what was read made room
		t.Fatal(err)
	}
	if _, err := io.ReadFull(there, make([]byte, room)); err != nil {
		t.Fatal(err)
	}
	is("when all was read", 0)

	text := bytes.Repeat([]byte("0123456789"), room) // larger than any buffer
	sent := make(chan error, 1)
	go func() { _, err := here.Write(text); sent <- err }()
	got := make([]byte, len(text))
	for n := 0; n < len(got); {
		m, err := there.Read(got[n:min(n+12345, len(got))])
		must(t, err)
		n += m
		is("while a large write is under way", 0)
	}
	must(t, <-sent)
	if !bytes.Equal(got, text) {
		t.Error("a large write came out as another")
	}
	if _, err := here.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	must(t, there.Close())
	is("when its reader was closed", 0)
}
