package direct

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// piped is a client whose connections lead to serve, in memory, so that time may
// be the bubble's.
func piped(t *testing.T, cfg Config, serve func(c net.Conn, r *bufio.Reader)) *Client {
	var wg sync.WaitGroup
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		wg.Go(func() {
			defer func() { _ = theirs.Close() }()
			serve(theirs, bufio.NewReader(theirs))
		})
		return ours, nil
	}
	c := New(cfg)
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c
}

// TestSilence looks at what is silence and what is only slow. The answer comes a
// byte at a time, far longer in all than silence may last.
func TestSilence(t *testing.T) {
	answer := ok(strings.Repeat("x", 50))
	for name, tt := range map[string]struct {
		gap    time.Duration
		quiet  int // after how many bytes it falls silent
		client func(*Client) *Client
		want   time.Duration // when it is given up; 0 for never
	}{
		"slow but steady":      {9 * time.Second, len(answer), nil, 0},
		"silent at once":       {time.Second, 0, nil, 10 * time.Second},
		"silent in the head":   {time.Second, 20, nil, 30 * time.Second},
		"silent in the body":   {time.Second, len(answer) - 1, nil, 10*time.Second + time.Duration(len(answer)-1)*time.Second},
		"too slow for another": {9500 * time.Millisecond, len(answer), func(c *Client) *Client { return c.WithTimeout(8 * time.Second) }, 8 * time.Second},
		"asked for no change":  {9 * time.Second, len(answer), func(c *Client) *Client { return c.WithTimeout(0) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := piped(t, Config{}, func(c net.Conn, r *bufio.Reader) {
					request(r)
					for i := range tt.quiet {
						time.Sleep(tt.gap) // the bubble's time
						if _, err := io.WriteString(c, answer[i:i+1]); err != nil {
							return
						}
					}
					_, _ = r.ReadByte()
				})
				if tt.client != nil {
					c = tt.client(c)
				}
				began := time.Now()
				_, _, err := fetch(c, "node", get())
				took := time.Since(began)
				if tt.want == 0 && err != nil {
					t.Errorf("after %v: %v", took, err)
				}
				if tt.want != 0 && (!errors.Is(err, ErrTimeout) || !errs.Is(err, errs.Unavailable) || took < tt.want || took > tt.want*5/4) {
					t.Errorf("gave %v after %v, want ErrTimeout after %v", err, took, tt.want)
				}
			})
		})
	}
}

func TestSilenceWhileSending(t *testing.T) {
	stop := make(chan struct{})
	srv := script(t, func(int, net.Conn, *bufio.Reader) { <-stop })
	t.Cleanup(func() { close(stop) })
	c := client(t, Config{NodeTimeout: 250 * time.Millisecond})
	_, err := c.Do(t.Context(), srv.addr, &backend.Request{Method: "PUT", Path: "/", Length: 1 << 40, Body: new(zeros)})
	if !errors.Is(err, ErrTimeout) || !errs.Is(err, errs.Unavailable) {
		t.Errorf("Do gave %v, want ErrTimeout", err)
	}
	s, err := c.Open(t.Context(), srv.addr, get())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	if err := writeUntil(s, 1<<20); !errors.Is(err, ErrTimeout) {
		t.Errorf("Write gave %v, want ErrTimeout", err)
	}
}

func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		defer c.Close()
		began := time.Now()
		_, err := c.Do(t.Context(), "node", get())
		if took := time.Since(began); !errors.Is(err, ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || took != 500*time.Millisecond {
			t.Errorf("gave %v after %v, want ErrTimeout after 500 ms", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = c.Do(ctx, "node", get())
		if !errors.Is(err, context.DeadlineExceeded) || !errs.Is(err, errs.Unavailable) || errors.Is(err, ErrTimeout) {
			t.Errorf("gave %v, want the context's own end", err)
		}
	})
}

func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		c := piped(t, Config{IdleTimeout: 20 * time.Second}, func(nc net.Conn, r *bufio.Reader) {
			answers(ok(""))(0, nc, r)
			ended.Add(1)
		})
		for _, step := range []struct {
			wait  time.Duration
			fetch bool
			ended int64
		}{
			{0, true, 0},
			{15 * time.Second, true, 0}, // is used again, and so unused anew
			{15 * time.Second, false, 0},
			{6 * time.Second, false, 1},
			{0, true, 1},
			{21 * time.Second, false, 2},
		} {
			time.Sleep(step.wait) // the bubble's time
			if step.fetch {
				mustFetch(t, c, "node", get(), 200, "")
			}
			if synctest.Wait(); ended.Load() != step.ended {
				t.Fatalf("%+v: %d connections have ended", step, ended.Load())
			}
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		c := piped(t, Config{}, func(nc net.Conn, r *bufio.Reader) {
			answers(ok("hello"))(0, nc, r)
			ended.Add(1)
		})
		mustFetch(t, c, "node", get(), 200, "hello")
		resp, err := c.Do(t.Context(), "node", get())
		if err != nil {
			t.Fatal(err)
		}
		mustFetch(t, c, "node", get(), 200, "hello")
		c.Close()
		c.Close()
		if synctest.Wait(); ended.Load() != 1 {
			t.Errorf("%d connections have ended at Close, want the one unused", ended.Load())
		}
		if body, err := slurp(resp); body != "hello" || err != nil {
			t.Errorf("what was under way gave %q, %v", body, err)
		}
		if synctest.Wait(); ended.Load() != 2 {
			t.Errorf("%d connections have ended once it was done, want 2", ended.Load())
		}
		mustFetch(t, c, "other", get(), 200, "hello")
		if synctest.Wait(); ended.Load() != 3 {
			t.Errorf("%d connections have ended after another request, want 3", ended.Load())
		}
	})
}
