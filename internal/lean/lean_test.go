package lean

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
)

// counted counts the writes to its connections, and keeps the last.
type counted struct {
	net.Listener
	mu     sync.Mutex
	writes int
	last   []byte
}

type countedConn struct {
	net.Conn
	of *counted
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l}, err
}

func (c countedConn) Write(p []byte) (int, error) {
	c.of.mu.Lock()
	c.of.writes++
	c.of.last = bytes.Clone(p)
	c.of.mu.Unlock()
	return c.Conn.Write(p)
}

// counting serves what resp points at, and counts the writes for it.
func counting(t *testing.T, resp **backend.Response) (*counted, *bench) {
	t.Helper()
	l, err := httpapi.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{Listener: l}
	return c, serveOn(t, leanly, c, func(context.Context, *backend.Request) (*backend.Response, error) { return *resp, nil }, options{})
}

// An answer of up to 64 KiB leaves in one write, whatever its header is, and a larger one
// in as few as there are blocks.
func TestWrites(t *testing.T) {
	var resp *backend.Response
	c, b := counting(t, &resp)
	p := b.dial()
	for _, tt := range []struct {
		body, header, want int
		memory             bool // is sent from where it is
	}{
		{0, 100, 1, false}, {4 << 10, 1 << 10, 1, false}, {6 << 10, 1 << 10, 1, false}, {7 << 10, 1 << 10, 1, false}, {64 << 10, 1 << 10, 1, false},
		{256 << 10, 100, 4, false}, {4 << 10, 100 << 10, 1, false}, {4 << 10, 1 << 10, 1, true}, {64 << 10, 1 << 10, 1, true}, {256 << 10, 100, 2, true}, {800 << 10, 100, 4, true},
	} {
		resp = text(200, strings.Repeat("x", tt.body))
		if tt.memory {
			resp.Body = struct {
				*bytes.Buffer
				io.Closer
			}{inAPiece(tt.body), resp.Body}
		}
		resp.Header.Add("X-Long", strings.Repeat("l", tt.header))
		c.writes = 0
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, body := p.hear("GET"); body != strings.Repeat("x", tt.body) {
			t.Errorf("%d of %d bytes", len(body), tt.body)
		}
		c.mu.Lock()
		if c.writes != tt.want {
			t.Errorf("a body of %d and a header of %d bytes took %d writes, want %d", tt.body, tt.header, c.writes, tt.want)
		}
		c.mu.Unlock()
	}
}

// memory is a body that is in memory, and notes how much of it was copied out.
type memory struct {
	bytes.Buffer
	copied atomic.Int64
}

func (m *memory) Read(p []byte) (int, error) {
	n, err := m.Buffer.Read(p)
	m.copied.Add(int64(n))
	return n, err
}
func (*memory) Close() error { return nil }

// What is in memory is sent from where it is, but for what leaves with the head, and in larger pieces; it breaks off where it is not as long as
// was said.
func TestMemoryIsNotCopied(t *testing.T) {
	var resp *backend.Response
	c, b := counting(t, &resp)
	whole := make([]byte, 1<<20)
	for i := range whole {
		whole[i] = byte(i * i >> 7)
	}
	for _, tt := range []struct {
		there, said, writes int
	}{{1000, 1000, 1}, {copyBlock, copyBlock, 1}, {copyBlock + headRoom, copyBlock + headRoom, 2}, {1 << 20, 1 << 20, 5}, {1 << 20, 1<<20 - 1, 0}, {1<<20 - 1, 1 << 20, 0}} {
		body := &memory{}
		body.Write(whole[:tt.there])
		resp = &backend.Response{Status: 200, Length: int64(tt.said), Body: body}
		c.writes = 0
		p := b.dial()
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		got, err := http.ReadResponse(p.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(got.Body)
		if same := tt.there == tt.said; same != (err == nil) || same && !bytes.Equal(text, whole[:tt.there]) || len(text) >= tt.said != same {
			t.Errorf("%d bytes, said to be %d: %d came, %v", tt.there, tt.said, len(text), err)
		}
		c.mu.Lock()
		if tt.writes > 0 && c.writes != tt.writes || body.copied.Load() > copyBlock+headRoom {
			t.Errorf("%d bytes: %d writes, want %d, and %d bytes were copied", tt.there, c.writes, tt.writes, body.copied.Load())
		}
		c.mu.Unlock()
	}
}

// The last of a body is sent when its source has said that it was the last: one that fails
// only then, as a sum does that is wrong, has the answer break off like any other.
func TestTheEndIsConfirmed(t *testing.T) {
	for _, length := range []int{1, 4 << 10, 100 << 10} {
		for name, end := range map[string]io.Reader{"fails": iotest.ErrReader(errs.E(errs.Corrupt)), "goes on": strings.NewReader("x")} {
			b := serve(t, leanly, func(context.Context, *backend.Request) (*backend.Response, error) {
				return &backend.Response{Status: 200, Length: int64(length), Body: io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat("x", length)), end))}, nil
			}, options{})
			p := b.dial()
			p.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			all, _ := io.ReadAll(p.r)
			if _, body, _ := strings.Cut(string(all), "\r\n\r\n"); len(body) >= length {
				t.Errorf("a body of %d bytes whose source %s at the end came whole", length, name)
			}
		}
	}
}

// What a handler says can't be made to look like another line, or another answer.
func TestFieldsOfAnswers(t *testing.T) {
	b := serve(t, leanly, func(context.Context, *backend.Request) (*backend.Response, error) {
		resp := text(200, "body")
		resp.Header = backend.Header{
			{Name: "X-A", Value: "1\r\nX-Split: 2\r\n\r\nHTTP/1.1 200 OK"}, {Name: "X B", Value: "3"}, {Name: "X-C\r\nX-Split", Value: "4"}, {Name: "", Value: "5"},
			{Name: "content-length", Value: "9"}, {Name: "Transfer-Encoding", Value: "chunked"}, {Name: "Connection", Value: "upgrade"}, {Name: "date", Value: "never"},
			{Name: "X-D", Value: ""}, {Name: "X-D", Value: "caf\xc3\xa9"}, {Name: "X-Trans-Id", Value: "other"},
		}
		return resp, nil
	}, options{})
	p := b.dial()
	p.say("GET / HTTP/1.1\r\nHost: h\r\nX-Trans-Id: tx1\r\n\r\n")
	resp, body := p.hear("GET")
	h := resp.Header
	if body != "body" || h.Get("X-A") != "1  X-Split: 2    HTTP/1.1 200 OK" || h["X-Split"] != nil || h["Connection"] != nil || len(h["Date"]) != 1 || h.Get("Date") == "never" {
		t.Errorf("got %q, %v", body, h)
	}
	if strings.Join(h["X-D"], ",") != ",caf\xc3\xa9" || strings.Join(h["X-Trans-Id"], ",") != "tx1" || len(h) != 5 {
		t.Errorf("got %v", h)
	}
	if _, err := http.ParseTime(h.Get("Date")); err != nil {
		t.Error(err)
	}
}

// A response that can't be sent is the server's fault, and not sent in part.
func TestResponsesThatAreNone(t *testing.T) {
	for name, resp := range map[string]*backend.Response{
		"none": nil, "no status": {}, "an interim status": {Status: 103}, "no length": {Status: 200, Length: -1, Body: io.NopCloser(strings.NewReader("x"))},
	} {
		b := serve(t, leanly, func(context.Context, *backend.Request) (*backend.Response, error) { return resp, nil }, options{})
		p := b.dial()
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if got, _ := p.hear("GET"); got.StatusCode != 500 || !strings.Contains(b.log.String(), "request failed") {
			t.Errorf("%s: got %d, and the log says %s", name, got.StatusCode, b.log)
		}
	}
}

// A request holds its place in the gate until its answer was sent, and one for which there
// is none is refused before its body is read.
func TestGate(t *testing.T) {
	g, err := httpapi.NewGate(prometheus.NewRegistry(), "test", httpapi.GateConfig{Requests: 1, Carried: func(r *backend.Request) string { return r.Path }})
	if err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	b := serve(t, leanly, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		if r.Path == "/fail" {
			panic("a bug")
		}
		return &backend.Response{Status: 200, Length: 1, Body: &held{r.Path == "/hold", inside, leave}}, nil
	}, options{gate: g})
	first, second := b.dial(), b.dial()
	first.say("GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
	<-inside // its handler has returned, its answer is being sent
	second.say("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	if resp, body := second.hear("PUT"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || body != "Service Unavailable" || resp.Close {
		t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
	}
	close(leave)
	first.hear("GET")
	for _, path := range []string{"/fail", "/x", "/fail", "/x"} {
		first.say("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp, _ := first.hear("GET"); (resp.StatusCode == 200) != (path == "/x") || resp.StatusCode == 503 {
			t.Errorf("%s: got %d", path, resp.StatusCode)
		}
	}
}

// held is a body of one byte that may have to be waited for.
type held struct {
	wait          bool
	inside, leave chan struct{}
}

func (b *held) Read(p []byte) (int, error) {
	if b.wait {
		close(b.inside)
		<-b.leave
		b.wait = false
	}
	if b.leave == nil {
		return 0, io.EOF
	}
	b.leave = nil
	return copy(p, "x"), nil
}
func (*held) Close() error { return nil }

// A handler may return while something of it still reads the body: it reads nothing of
// what comes behind, and the connection ends.
func TestABodyThatIsStillRead(t *testing.T) {
	read := make(chan error)
	b := serve(t, leanly, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		begun := make(chan struct{})
		go func() {
			_, _ = io.ReadFull(r.Body, make([]byte, 3))
			close(begun)
			_, err := r.Body.Read(make([]byte, 3))
			read <- err
		}()
		<-begun
		waitFor(t, "the second read", func() bool { return r.Body.(*body).state.Load() == reading })
		return empty(202), nil
	}, options{})
	p := b.dial()
	p.say("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
	if resp, _ := p.hear("PUT"); resp.StatusCode != 202 || !resp.Close || !p.closed() {
		t.Errorf("got %d, closed is %v", resp.StatusCode, resp.Close)
	}
	if err := <-read; errs.KindOf(err) != errs.Aborted {
		t.Errorf("the read ended with %v", err)
	}
}

// The client of proxies and this server understand each other, also where neither has seen
// the other's end.
func TestWithTheClientOfNodes(t *testing.T) {
	for _, kind := range []string{leanly, overMemory} {
		t.Run(kind, func(t *testing.T) { withTheClientOfNodes(t, kind) })
	}
}

func withTheClientOfNodes(t *testing.T, kind string) {
	b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		if r.Path == "/refuse" {
			return nil, errs.Refuse(errs.NoSpace, "full")
		}
		body, err := readAll(r)
		resp := text(201, body)
		resp.Header.Add("X-Commit", r.Trailer.Get("X-Commit"))
		return resp, err
	}, options{})
	client := direct.New(direct.Config{Dial: b.memory.Dialer(nil)})
	t.Cleanup(client.Close)
	addr := b.addr()
	check := func(resp *backend.Response, err error, status int, want, commit string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.Status != status || string(got) != want || resp.Header.Get("X-Commit") != commit {
			t.Errorf("got %d, %d bytes, %v, commit %q; want %d, %d bytes, %q", resp.Status, len(got), err, resp.Header.Get("X-Commit"), status, len(want), commit)
		}
		_ = resp.Body.Close()
	}
	for _, n := range []int{1, 4 << 10, 100 << 10} {
		body := strings.Repeat("b", n)
		resp, err := client.Do(t.Context(), addr, &backend.Request{Method: "PUT", Path: "/x", Length: int64(n), Body: strings.NewReader(body)})
		check(resp, err, 201, body, "")
		s, err := client.Open(t.Context(), addr, &backend.Request{Method: "PUT", Path: "/x", Trailer: backend.Header{{Name: "X-Commit"}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := io.WriteString(s, body); err != nil {
				t.Fatal(err)
			}
		}
		resp, err = s.Commit(backend.Header{{Name: "X-Commit", Value: "sum"}})
		check(resp, err, 201, body+body+body, "sum")
	}
	s, err := client.Open(t.Context(), addr, &backend.Request{Method: "PUT", Path: "/refuse"})
	for piece := strings.Repeat("x", 64<<10); err == nil; {
		_, err = io.WriteString(s, piece)
	}
	if !errors.Is(err, direct.ErrAnswered) {
		t.Fatalf("writing ended with %v", err)
	}
	resp, err := s.Response()
	check(resp, err, 507, "full", "")
	s.Abort()
}

// A connection costs no more than it must: what is held for it is given back while it
// waits.
func TestRequestsAllocateLittle(t *testing.T) {
	resp := &backend.Response{Status: 204}
	b := serve(t, leanly, func(context.Context, *backend.Request) (*backend.Response, error) { return resp, nil }, options{})
	p := b.dial()
	_ = p.SetDeadline(time.Time{})
	in := make([]byte, 4<<10)
	got := testing.AllocsPerRun(200, func() {
		if _, err := io.WriteString(p.Conn, seeds[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Conn.Read(in); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%.0f allocations", got)
	if got > 30 { // most are the log's, which writes lines here
		t.Errorf("a request costs %.0f allocations", got)
	}
}
