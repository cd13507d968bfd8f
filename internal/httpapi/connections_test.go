package httpapi

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// pipes is a listener in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return new(net.UnixAddr) }

// visitor is a client with one connection.
type visitor struct {
	net.Conn
	r *bufio.Reader
}

func (p pipes) visit() *visitor {
	ours, theirs := net.Pipe()
	p <- theirs
	return &visitor{ours, bufio.NewReader(ours)}
}

// get asks for a path and returns the status, "" where the connection is closed.
func (v *visitor) get(path string) string {
	if _, err := io.WriteString(v, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return ""
	}
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return ""
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Status
}

// bounded runs a server with room for three connections in a bubble. "/hold" is
// answered when leave is closed.
func bounded(t *testing.T, test func(t *testing.T, l pipes, c *Connections, leave chan struct{}, log *syncBuffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		c, err := NewConnections(prometheus.NewRegistry(), "test", 3, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		leave := make(chan struct{})
		l := make(pipes)
		s := &Server{Name: "test", Listener: l, Log: slog.New(slog.DiscardHandler), Connections: c, Drain: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hold" {
				<-leave
			}
		})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		test(t, l, c, leave, &log)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait() // for the last to say that they are closed
		if n := testutil.ToFloat64(c.open); n != 0 || c.waiting.after != &c.waiting || len(c.known) != 0 {
			t.Errorf("in the end %v are open, some wait: %v, %d are known", n, c.waiting.after != &c.waiting, len(c.known))
		}
	})
}

// Who waits for a next request makes room, the longest first, and nobody else does.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	bounded(t, func(t *testing.T, l pipes, c *Connections, leave chan struct{}, log *syncBuffer) {
		first, second, third := l.visit(), l.visit(), l.visit()
		for _, v := range []*visitor{second, first, third} {
			if got := v.get("/"); got != "200 OK" {
				t.Fatalf("got %q", got)
			}
			time.Sleep(time.Millisecond) // the bubble's time
		}
		fourth := l.visit() // second has waited longest
		if got := fourth.get("/"); got != "200 OK" {
			t.Errorf("a new one got %q", got)
		}
		for i, v := range []*visitor{first, third} {
			if got := v.get("/"); got != "200 OK" {
				t.Errorf("%d: one that was to stay got %q", i, got)
			}
		}
		if got := second.get("/"); got != "" {
			t.Errorf("the one that was to go got %q", got)
		}
		if n := testutil.ToFloat64(c.open); n != 3 {
			t.Errorf("%v are open, want 3", n)
		}
		held := make(chan string, 3)
		for _, v := range []*visitor{first, third, fourth} {
			go func() { held <- v.get("/hold") }()
		}
		synctest.Wait()
		for range 5 { // all are busy
			if got := l.visit().get("/"); got != "" {
				t.Errorf("with all busy a new one got %q", got)
			}
		}
		if idle, fresh := testutil.ToFloat64(c.closed[forIdle]), testutil.ToFloat64(c.closed[forNew]); idle != 1 || fresh != 5 {
			t.Errorf("%v idle ones and %v new ones were closed, want 1 and 5", idle, fresh)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "most=3") {
			t.Errorf("the log has %d lines:\n%s", n, log)
		}
		close(leave)
		for range 3 {
			if got := <-held; got != "200 OK" {
				t.Errorf("one that was served got %q", got)
			}
		}
		synctest.Wait()
		if got := l.visit().get("/"); got != "200 OK" {
			t.Errorf("afterwards a new one got %q", got)
		}
	})
}

// Who connects and says nothing makes room as well, after a while.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	bounded(t, func(t *testing.T, l pipes, c *Connections, leave chan struct{}, _ *syncBuffer) {
		close(leave)
		for range 3 {
			l.visit()
		}
		synctest.Wait()
		if got := l.visit().get("/"); got != "" {
			t.Errorf("a fourth at once got %q", got)
		}
		time.Sleep(freshTime) // the bubble's
		if got := l.visit().get("/"); got != "200 OK" {
			t.Errorf("a fourth after a second got %q", got)
		}
		if n := testutil.ToFloat64(c.closed[forIdle]); n != 1 {
			t.Errorf("%v were closed for it, want 1", n)
		}
	})
}
