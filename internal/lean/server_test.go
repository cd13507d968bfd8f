package lean

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
	"martlet/internal/memnet"
)

// syncBuffer is a log that servers and tests may use at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// bench is a server that runs, until the test ends or stop is called.
type bench struct {
	t   *testing.T
	l   net.Listener
	log *syncBuffer
	reg *prometheus.Registry

	memory *memnet.Network // nil where connections are not in memory

	end  context.CancelCauseFunc
	over chan error
}

// the kinds of server whose answers clients must not be able to tell apart.
const (
	leanly     = "lean"
	plain      = "net/http"
	overMemory = "lean in memory" // of which connections are those of package memnet
)

// both has a test run against this server, over either kind of connection, and against what carries backend requests over
// net/http.
func both(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range []string{leanly, overMemory, plain} {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// options are what tests choose; the rest is as a node has it.
type options struct {
	silence, drain time.Duration
	header         int
	gate           *httpapi.Gate
}

// serveOn starts a server of a kind.
func serveOn(t *testing.T, kind string, l net.Listener, h backend.HandlerFunc, o options) *bench {
	t.Helper()
	b := &bench{t: t, l: l, log: &syncBuffer{}, reg: prometheus.NewRegistry(), over: make(chan error, 1)}
	m, err := httpapi.NewMetrics(b.reg, "test")
	if err != nil {
		t.Fatal(err)
	}
	if o.silence == 0 {
		o.silence = time.Minute
	}
	log := slog.New(slog.NewTextHandler(b.log, nil))
	watch := httpapi.Observed{Server: "test", Silence: o.silence, Log: log, Metrics: m}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	b.end = cancel
	if kind != plain {
		s := &Server{Name: "test", Listener: l, Handler: h, Log: log, Watch: watch, Drain: o.drain, MaxHeader: o.header, Gate: o.gate}
		if kind == overMemory {
			s.Memory = b.beside()
		}
		go func() { b.over <- s.Run(ctx) }()
	} else {
		s := &httpapi.Server{
			Name: "test", Listener: l, Handler: httpapi.Observe(httpapi.Backend(h, log), watch), Log: log, Silence: o.silence, Drain: o.drain, MaxHeader: o.header,
		}
		go func() { b.over <- s.Run(ctx) }()
	}
	t.Cleanup(func() { b.stop(nil) })
	return b
}

// beside is a listener in memory, at which the peers of the test arrive from now on.
func (b *bench) beside() net.Listener {
	b.t.Helper()
	b.memory = memnet.New()
	l, err := b.memory.Listen(memoryAt)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

var memoryAt = netip.MustParseAddrPort("127.0.0.1:6200")

// serve starts one on a port of its own.
func serve(t *testing.T, kind string, h backend.HandlerFunc, o options) *bench {
	t.Helper()
	l, err := httpapi.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, kind, l, h, o)
}

// inBubble does what both does, with connections in memory, and time that passes at once.
func inBubble(t *testing.T, test func(t *testing.T, kind string)) {
	both(t, func(t *testing.T, kind string) {
		synctest.Test(t, func(t *testing.T) { test(t, kind) })
	})
}

// pipes is a listener in memory.
type pipes struct {
	c    chan net.Conn
	once *sync.Once
}

func newPipes() pipes { return pipes{make(chan net.Conn), new(sync.Once)} }

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.c; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { p.once.Do(func() { close(p.c) }); return nil }
func (p pipes) Addr() net.Addr { return new(net.UnixAddr) }

// stop ends the server, and waits for that.
func (b *bench) stop(why error) {
	if b.over == nil {
		return
	}
	b.end(why)
	if err := <-b.over; err != nil {
		b.t.Errorf("Run returned %v", err)
	}
	b.over = nil
}

// peer is a connection to a server.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

// addr is where it is dialed.
func (b *bench) addr() string {
	if b.memory != nil {
		return memoryAt.String()
	}
	return b.l.Addr().String()
}

func (b *bench) dial() *peer {
	b.t.Helper()
	var c net.Conn
	if p, ok := b.l.(pipes); ok && b.memory == nil {
		ours, theirs := net.Pipe()
		p.c <- theirs
		c = ours
	} else {
		var err error
		if c, err = b.memory.Dialer(nil)(b.t.Context(), "tcp", b.addr()); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs is to say where
	return &peer{c, b.t, bufio.NewReader(c)}
}

func (p *peer) say(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatal(err)
	}
}

// hear reads an answer to a request of a method, and its body.
func (p *peer) hear(method string) (*http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("half an answer: %q, %v", body, err)
	}
	return resp, string(body)
}

// closed reports whether the server has nothing more to say.
func (p *peer) closed() bool {
	_, err := p.r.ReadByte()
	return err != nil
}

// waitFor waits until something has come about.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal(what + " did not come about")
		}
		<-time.After(time.Millisecond)
	}
}

// text is an answer of a status with a text.
func text(status int, body string) *backend.Response {
	return &backend.Response{Status: status, Length: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// empty is an answer without a body.
func empty(status int) *backend.Response { return &backend.Response{Status: status} }

// readAll reads a body, be there one or not.
func readAll(r *backend.Request) (string, error) {
	if r.Body == nil {
		return "", nil
	}
	b, err := io.ReadAll(r.Body)
	return string(b), err
}
