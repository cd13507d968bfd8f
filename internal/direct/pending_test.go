package direct

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// late is a client of a node that takes wait over each answer, on connections that
// are counted.
func late(t *testing.T, wait *atomic.Int64) (*Client, *atomic.Int64) {
	conns := new(atomic.Int64)
	c := piped(t, Config{}, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			if head, _ := request(r); head == "" {
				return
			}
			if d := wait.Load(); d > 0 {
				time.Sleep(time.Duration(d)) // the bubble's time
			}
			if _, err := io.WriteString(c, ok("hello")); err != nil {
				return
			}
		}
	})
	return c, conns
}

func TestBegin(t *testing.T) {
	for name, tt := range map[string]struct {
		after   time.Duration
		cancel  bool
		pending bool
		want    error
		conns   int64 // after another request
	}{
		"in time":                 {time.Millisecond, false, false, nil, 1},
		"too late":                {30 * time.Millisecond, false, true, nil, 1},
		"too late, and cancelled": {30 * time.Millisecond, true, true, context.Canceled, 2},
		"never":                   {time.Hour, false, true, ErrTimeout, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wait atomic.Int64
				c, conns := late(t, &wait)
				if _, _, err := c.Begin(t.Context(), "node", get(), time.Second); !errors.Is(err, ErrCold) {
					t.Fatalf("without a connection: %v, want ErrCold", err)
				}
				mustFetch(t, c, "node", get(), 200, "hello")
				wait.Store(int64(tt.after))
				resp, p, err := c.Begin(t.Context(), "node", get(), 10*time.Millisecond)
				if err != nil || (p != nil) != tt.pending {
					t.Fatalf("got %v, %v, %v", resp, p, err)
				}
				if p != nil {
					if tt.cancel {
						p.Cancel()
					}
					resp, err = p.Wait()
					p.Cancel() // too late for anything
				}
				if !errors.Is(err, tt.want) || tt.cancel && !errs.Is(err, errs.Aborted) {
					t.Fatalf("gave %v, want %v", err, tt.want)
				}
				if err == nil {
					if body, err := slurp(resp); body != "hello" || err != nil {
						t.Errorf("got %q, %v", body, err)
					}
				}
				wait.Store(0)
				mustFetch(t, c, "node", get(), 200, "hello")
				if n := conns.Load(); n != tt.conns {
					t.Errorf("%d connections were made, want %d", n, tt.conns)
				}
			})
		})
	}
}

// Whatever comes first of an answer and a cancellation, the connection serves
// others only where nothing of this request can still come over it.
func TestPendingIsCancelledAsItIsAnswered(t *testing.T) {
	c, _ := late(t, new(atomic.Int64))
	for range 300 {
		mustFetch(t, c, "node", get(), 200, "hello")
		_, p, err := c.Begin(t.Context(), "node", get(), time.Nanosecond)
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			t.Fatal("there was time for an answer")
		}
		gone := make(chan struct{})
		go func() { p.Cancel(); close(gone) }()
		if resp, err := p.Wait(); err == nil {
			if body, err := slurp(resp); body != "hello" || err != nil {
				t.Fatalf("got %q, %v", body, err)
			}
		}
		<-gone
	}
}

func TestBeginOnADeadConnection(t *testing.T) {
	s := script(t, dying)
	c := client(t, Config{})
	mustFetch(t, c, s.addr, get(), 200, "1 0")
	if _, _, err := c.Begin(t.Context(), s.addr, get(), time.Minute); !errors.Is(err, ErrCold) {
		t.Errorf("%v, want ErrCold", err)
	}
}

func TestBeginRefuses(t *testing.T) {
	c := client(t, Config{})
	if _, _, err := c.Begin(t.Context(), "node", put("x"), time.Second); !errs.Is(err, errs.Invalid) {
		t.Errorf("a body: %v, want it refused", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Begin(ctx, "node", get(), time.Second); !errs.Is(err, errs.Aborted) {
		t.Errorf("a context that has ended: %v", err)
	}
	if _, _, err := c.Begin(t.Context(), "node", &backend.Request{Method: "GET", Path: "x"}, time.Second); !errs.Is(err, errs.Invalid) {
		t.Errorf("a bad path: %v, want it refused", err)
	}
}
