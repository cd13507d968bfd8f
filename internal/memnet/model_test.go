package memnet

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelEnd is what is known of an end: what waits for it, and what was done to it.
type modelEnd struct {
	waits              []byte // to be read
	closed, finished   bool
	reset              bool // the other end was closed and had not read everything
	lateRead, lateSend bool // its deadlines have passed
}

// TestModel: of each step on either end the outcome is what it would be on two queues of bytes.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ends [2]*Conn
		ends[0], ends[1] = pair()
		models := [2]*modelEnd{{}, {}}
		next := byte(0)
		is := func(what string, err, want error) {
			if want == nil && err != nil || !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", what, err, want)
			}
		}
		which := func(t *rapid.T) (c *Conn, m, other *modelEnd) {
			i := rapid.IntRange(0, 1).Draw(t, "end")
			return ends[i], models[i], models[1-i]
		}
		// readError is what a read that finds nothing fails with, nil where it would wait.
		readError := func(m, other *modelEnd) error {
			switch {
			case m.closed:
				return net.ErrClosed
			case m.lateRead:
				return os.ErrDeadlineExceeded
			case len(m.waits) > 0:
				return nil
			case m.reset:
				return syscall.ECONNRESET
			case other.closed, other.finished:
				return io.EOF
			}
			return nil
		}
		writeError := func(m, other *modelEnd) error {
			switch {
			case m.closed:
				return net.ErrClosed
			case m.lateSend:
				return os.ErrDeadlineExceeded
			case m.finished, other.closed:
				return syscall.EPIPE
			}
			return nil
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				c, m, other := which(t)
				want := writeError(m, other)
				var v net.Buffers
				var all []byte
				for range rapid.IntRange(1, 4).Draw(t, "pieces") {
					p := make([]byte, rapid.OneOf(rapid.IntRange(0, 10), rapid.IntRange(0, room/3)).Draw(t, "length"))
					for i := range p {
						p[i] = next
						next++
					}
					v, all = append(v, p), append(all, p...)
				}
				if want == nil && len(other.waits)+len(all) > room {
					return // it would wait
				}
				var n int64
				var err error
				if len(v) == 1 {
					var m int
					m, err = c.Write(v[0])
					n = int64(m)
				} else {
					n, err = c.WriteBuffers(&v)
				}
				is("write", err, want)
				if err != nil {
					all = nil
				}
				if int(n) != len(all) {
					t.Fatalf("%d were written of %d", n, len(all))
				}
				other.waits = append(other.waits, all...)
			},
			"read": func(t *rapid.T) {
				c, m, other := which(t)
				want := readError(m, other)
				if want == nil && len(m.waits) == 0 {
					return // it would wait
				}
				p := make([]byte, rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, 2*room)).Draw(t, "length"))
				n, err := c.Read(p)
				is("read", err, want)
				if want == nil && n != min(len(p), len(m.waits)) || want != nil && n != 0 {
					t.Fatalf("%d were read into %d of %d", n, len(p), len(m.waits))
				}
				if !bytes.Equal(p[:n], m.waits[:n]) {
					t.Fatal("what was read is not what was written")
				}
				m.waits = m.waits[n:]
			},
			"peek": func(t *rapid.T) {
				c, m, other := which(t)
				n, err := c.Peek()
				late := m.lateRead
				m.lateRead = false // it does not look at that
				is("peek", err, readError(m, other))
				m.lateRead = late
				if err == nil && n != len(m.waits) {
					t.Fatalf("%d can be read, want %d", n, len(m.waits))
				}
			},
			"await": func(t *rapid.T) {
				c, m, other := which(t)
				want := readError(m, other)
				if want == nil && len(m.waits) == 0 {
					return
				}
				if want == io.EOF || want == syscall.ECONNRESET { // for the read to say
					want = nil
				}
				is("await", c.Await(), want)
			},
			"close": func(t *rapid.T) {
				c, m, other := which(t)
				if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
					return
				}
				is("close", c.Close(), nil)
				if !m.closed {
					m.closed, other.reset, m.waits = true, len(m.waits) > 0, nil
				}
			},
			"finish": func(t *rapid.T) {
				c, m, _ := which(t)
				if rapid.IntRange(0, 5).Draw(t, "rarely") > 0 {
					return
				}
				is("close of one side", c.CloseWrite(), nil)
				m.finished = true
			},
			"deadline": func(t *rapid.T) {
				c, m, _ := which(t)
				late := rapid.Bool().Draw(t, "late")
				at := rapid.SampledFrom([]time.Time{{}, time.Now().Add(time.Hour)}).Draw(t, "later")
				if late {
					at = time.Unix(1, 0)
				}
				var want error
				if m.closed {
					want = net.ErrClosed
				}
				if rapid.Bool().Draw(t, "of reads") {
					is("deadline", c.SetReadDeadline(at), want)
					m.lateRead = late
				} else {
					is("deadline", c.SetWriteDeadline(at), want)
					m.lateSend = late
				}
			},
			"": func(t *rapid.T) {
				for i, c := range ends {
					s, m := c.in, models[i]
					if (s.buf != nil) != (len(m.waits) > 0) {
						t.Fatalf("there is a buffer: %v, and there are %d bytes", s.buf != nil, len(m.waits))
					}
				}
			},
		})
	})
}

// sample is bytes of which no two stretches that are near each other are alike.
var sample = func() []byte {
	b := make([]byte, 4*room)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}()

// TestUnderWay: whatever deadlines and sizes two goroutines choose, what one has written is what the other one reads, in order; all of it, where nothing
// was broken off.
func TestUnderWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, there := pair()
		total := rapid.IntRange(0, len(sample)).Draw(t, "total")
		sizes := func(what string) []int {
			return rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, room), rapid.IntRange(room, 3*room)), 1, 6).Draw(t, what)
		}
		writes, reads := sizes("writes"), sizes("reads")
		hurry := rapid.SliceOfN(rapid.IntRange(-1, 50), 1, 6).Draw(t, "µs until deadlines") // none where it is -1
		hurry = append(hurry, -1)                                                           // that something gets done
		closeAt := rapid.OneOf(rapid.Just(-1), rapid.IntRange(0, total)).Draw(t, "the reader closes at")
		text := sample[:total]
		sent := 0
		var failed error
		var all sync.WaitGroup
		all.Go(func() {
			defer func() { _ = here.Close() }()
			for i := 0; sent < total; i++ {
				if d := hurry[i%len(hurry)]; d < 0 {
					_ = here.SetWriteDeadline(time.Time{})
				} else {
					_ = here.SetWriteDeadline(time.Now().Add(time.Duration(d) * time.Microsecond))
				}
				p := text[sent:min(sent+writes[i%len(writes)], total)]
				var n int64
				var err error
				if i%2 == 0 {
					v := net.Buffers{p[:len(p)/3], nil, p[len(p)/3:]}
					n, err = here.WriteBuffers(&v)
					if left := slices.Concat(v...); !bytes.Equal(left, p[n:]) {
						failed = errors.New("what is left is not what was not written")
						return
					}
				} else {
					var m int
					m, err = here.Write(p)
					n = int64(m)
				}
				sent += int(n)
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					failed = err
					return
				}
			}
		})
		got := make([]byte, 0, total)
		buf := make([]byte, slices.Max(reads))
		var end error
		for i := 0; end == nil && (closeAt < 0 || len(got) < closeAt); i++ {
			_ = there.SetReadDeadline(time.Time{})
			if d := hurry[i%len(hurry)]; d >= 0 {
				_ = there.SetReadDeadline(time.Now().Add(time.Duration(d) * time.Microsecond))
			}
			p := buf[:reads[i%len(reads)]]
			n, err := there.Read(p)
			got = append(got, p[:n]...)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				end = err
			}
		}
		_ = there.Close()
		all.Wait()
		if !bytes.HasPrefix(text[:sent], got) {
			t.Fatalf("the %d bytes that were read are not the first of the %d that were written", len(got), sent)
		}
		switch {
		case closeAt < 0 && (end != io.EOF || failed != nil || len(got) != total):
			t.Fatalf("%d of %d were read, then %v; writing: %v", len(got), total, end, failed)
		case closeAt >= 0 && failed != nil && !errors.Is(failed, syscall.EPIPE):
			t.Fatalf("writing to what is closed: %v", failed)
		}
	})
}
