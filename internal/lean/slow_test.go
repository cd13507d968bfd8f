package lean

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
)

// A peer that sends its head a byte at a time, each in time, has no longer for all of it
// than silence may last; one that has sent it may take as long as it likes over the body,
// as long as something moves.
func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := serveOn(t, leanly, newPipes(), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			body, err := readAll(r)
			return text(200, body), err
		}, options{silence: 10 * time.Second})
		p := b.dial()
		_ = p.SetDeadline(time.Time{})
		began := time.Now()
		for range 100 {
			if _, err := io.WriteString(p, "G"); err != nil {
				break
			}
			time.Sleep(time.Second) // in a bubble
		}
		if took := time.Since(began); took < 9*time.Second || took > 13*time.Second {
			t.Errorf("a head that trickles was cut off after %v, want about 10 s", took)
		}
		if got, err := io.ReadAll(p); err == nil && len(got) != 0 {
			t.Errorf("it was answered with %q", got)
		}

		p = b.dial()
		_ = p.SetDeadline(time.Time{})
		began = time.Now()
		if !p.closed() || time.Since(began) > 12*time.Second {
			t.Errorf("a peer that says nothing was cut off after %v, want about 10 s", time.Since(began))
		}

		p = b.dial()
		_ = p.SetDeadline(time.Time{})
		for range 2 { // the connection waits no longer for the second than for the first
			p.say("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n")
			for range 20 {
				time.Sleep(9 * time.Second) // in a bubble
				p.say("x")
			}
			if resp, body := p.hear("PUT"); resp.StatusCode != 200 || len(body) != 20 {
				t.Errorf("a body that takes three minutes: %d %q", resp.StatusCode, body)
			}
		}
		began = time.Now()
		if !p.closed() || time.Since(began) < 9*time.Second || time.Since(began) > 12*time.Second {
			t.Errorf("a connection on which nobody asks was closed after %v, want about 10 s", time.Since(began))
		}
	})
}

// A peer that reads nothing is cut off; one that reads slowly is not.
func TestPeersThatDoNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T, kind string) {
		const length = 320 << 10
		b := serveOn(t, kind, newPipes(), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			return text(200, strings.Repeat("x", length)), nil
		}, options{silence: 10 * time.Second})
		p := b.dial()
		_ = p.SetDeadline(time.Time{})
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		time.Sleep(15 * time.Second) // in a bubble
		if all, _ := io.ReadAll(p); len(all) > length/2 {
			t.Errorf("a peer that reads nothing for 15 s gets %d bytes", len(all))
		}
		synctest.Wait()
		if !strings.Contains(b.log.String(), "broken=true") {
			t.Errorf("the log says nothing of it: %s", b.log)
		}

		p = b.dial()
		_ = p.SetDeadline(time.Time{})
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		got := 0
		for piece := make([]byte, 16<<10); got < length; {
			n, err := io.ReadFull(p, piece)
			if got += n; err != nil {
				break
			}
			time.Sleep(time.Second) // in a bubble
		}
		if got < length {
			t.Errorf("a peer that reads 16 KiB a second gets %d bytes, want %d", got, length)
		}
	})
}

// A peer in memory has no buffers of the kernel's: while it takes a piece it is not silent, be that in longer than silence may last.
func TestASlowPeerInMemoryIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const length = 512 << 10
		b := serveOn(t, overMemory, newPipes(), func(_ context.Context, _ *backend.Request) (*backend.Response, error) {
			resp := text(200, "")
			resp.Length, resp.Body = length, struct {
				*bytes.Buffer
				io.Closer
			}{inAPiece(length), resp.Body}
			return resp, nil
		}, options{silence: 10 * time.Second})
		p := b.dial()
		_ = p.SetDeadline(time.Time{})
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		began, got := time.Now(), 0
		for piece := make([]byte, 8<<10); got < length; {
			n, err := io.ReadFull(p, piece)
			if got += n; err != nil {
				break
			}
			time.Sleep(2 * time.Second) // in a bubble
		}
		if got < length {
			t.Errorf("a peer that reads 4 KiB a second gets %d bytes in %v, want %d", got, time.Since(began), length)
		}
	})
}

// A server that ends takes no more connections in memory, while what is under way goes on.
func TestNobodyIsTakenInMemoryAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		b := serveOn(t, overMemory, newPipes(), func(context.Context, *backend.Request) (*backend.Response, error) {
			<-goOn
			return empty(204), nil
		}, options{drain: time.Minute})
		nobody := errors.New("nobody listens")
		dial := b.memory.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, nobody })
		p := b.dial()
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		synctest.Wait()
		b.end(nil)
		synctest.Wait()
		if c, err := dial(t.Context(), "tcp", b.addr()); !errors.Is(err, nobody) {
			t.Errorf("dialed while the server ends: %v, %v", c, err)
		}
		close(goOn)
		if resp, _ := p.hear("GET"); resp.StatusCode != 204 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

// While an answer is worked out nothing is expected of the peer.
func TestAnAnswerMayTakeLong(t *testing.T) {
	inBubble(t, func(t *testing.T, kind string) {
		b := serveOn(t, kind, newPipes(), func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if _, err := readAll(r); err != nil {
				return nil, err
			}
			time.Sleep(time.Hour) // in a bubble
			return empty(204), ctx.Err()
		}, options{silence: 10 * time.Second})
		p := b.dial()
		_ = p.SetDeadline(time.Time{})
		for range 2 {
			p.say("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
			if resp, _ := p.hear("PUT"); resp.StatusCode != 204 {
				t.Errorf("got %d", resp.StatusCode)
			}
		}
	})
}

// At the end requests have as long as Drain says; then their contexts end, and their
// connections.
func TestDrainIsBounded(t *testing.T) {
	for _, kind := range []string{leanly, overMemory} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { drainIsBounded(t, kind) })
		})
	}
}

func drainIsBounded(t *testing.T, kind string) {
	b := serveOn(t, kind, newPipes(), func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}, options{drain: 20 * time.Second})
	p, fresh := b.dial(), b.dial()
	_ = p.SetDeadline(time.Time{})
	p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	synctest.Wait()
	began := time.Now()
	b.end(nil)
	if !fresh.closed() || time.Since(began) < 4*time.Second || time.Since(began) > 6*time.Second {
		t.Errorf("a connection on which nothing has come was closed after %v, want 5 s", time.Since(began))
	}
	b.stop(nil)
	if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
		t.Errorf("it took %v, want 20 s", took)
	}
	if all, _ := io.ReadAll(p); len(all) != 0 {
		t.Errorf("it was answered with %q", all)
	}
	if !strings.Contains(b.log.String(), "requests broken off at shutdown") {
		t.Errorf("the log says nothing of it: %s", b.log)
	}
}
