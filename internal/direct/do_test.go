package direct

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/splice"
)

// countingConn counts writes. It hides what makes vectored writes and peeking
// possible.
type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

func TestRequestIsSentAsItIs(t *testing.T) {
	heads, bodies := make(chan string, 1), make(chan string, 1)
	s := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, body := request(r)
			if head == "" {
				return
			}
			heads <- head
			bodies <- body
			_, _ = io.WriteString(c, ok(""))
		}
	})
	var writes atomic.Int64
	c := client(t, Config{UserAgent: "tester", Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		return countingConn{nc, &writes}, err
	}})
	for _, tt := range []struct {
		r    *backend.Request
		want string // without Host
		body string
	}{
		{&backend.Request{Method: "GET", Path: "/a%20b"}, "GET /a%20b HTTP/1.1\r\nUser-Agent: tester\r\n\r\n", ""},
		{&backend.Request{Method: "HEAD", Path: "/\xc3\xa9", Query: "a=b&c=?/#"}, "HEAD /\xc3\xa9?a=b&c=?/# HTTP/1.1\r\nUser-Agent: tester\r\n\r\n", ""},
		{&backend.Request{Method: "POST", Path: "/", Header: backend.Header{{Name: "x-Odd-\xc3\xa9", Value: "\xff \x01"}, {Name: "user-agent", Value: "me"}, {Name: "E"}}},
			"POST / HTTP/1.1\r\nx-Odd-\xc3\xa9: \xff \x01\r\nuser-agent: me\r\nE: \r\nContent-Length: 0\r\n\r\n", ""},
		{&backend.Request{Method: "PUT", Path: "/", Length: 3, Body: strings.NewReader("abcdef"), Header: backend.Header{
			{Name: "content-length", Value: "9"}, {Name: "Transfer-Encoding", Value: "chunked"}, {Name: "Host", Value: "evil"}, {Name: "Connection", Value: "close"},
			{Name: "TE", Value: "x"}, {Name: "Expect", Value: "100-continue"}, {Name: "Upgrade", Value: "x"}, {Name: "Trailer", Value: "x"}, {Name: "Keep-Alive", Value: "x"}, {Name: "A", Value: "b"}}},
			"PUT / HTTP/1.1\r\nUser-Agent: tester\r\nA: b\r\nContent-Length: 3\r\n\r\n", "abc"},
	} {
		before := writes.Load()
		mustFetch(t, c, s.addr, tt.r, 200, "")
		head := strings.Replace(<-heads, "Host: "+s.addr+"\r\n", "", 1)
		if body := <-bodies; head != tt.want || body != tt.body {
			t.Errorf("sent %q, %q, want %q, %q", head, body, tt.want, tt.body)
		}
		if n := writes.Load() - before; n != 1 {
			t.Errorf("%q took %d writes, want 1", head, n)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := script(t, answers(ok("")))
	c := client(t, Config{})
	with := func(name, value string) *backend.Request {
		return &backend.Request{Method: "GET", Path: "/", Header: backend.Header{{Name: name, Value: value}}}
	}
	for name, r := range map[string]*backend.Request{
		"value with CR LF":   with("A", "b\r\nEvil: 1"),
		"value with LF":      with("A", "b\n"),
		"value with CR":      with("A", "\rb"),
		"value with NUL":     with("A", "b\x00"),
		"name with CR LF":    with("A: b\r\nEvil", "1"),
		"name with colon":    with("A: b", "c"),
		"name with space":    with("A b", "c"),
		"name with NUL":      with("A\x00", "c"),
		"no name":            with("", "c"),
		"left out but bad":   with("Host", "a\r\nEvil: 1"),
		"path with LF":       {Method: "GET", Path: "/a\nb"},
		"path with CR LF":    {Method: "GET", Path: "/ HTTP/1.1\r\nEvil: 1\r\n\r\n"},
		"path with NUL":      {Method: "GET", Path: "/a\x00"},
		"path with space":    {Method: "GET", Path: "/a b"},
		"path with query":    {Method: "GET", Path: "/a?b"},
		"path with fragment": {Method: "GET", Path: "/a#b"},
		"relative path":      {Method: "GET", Path: "a"},
		"no path":            {Method: "GET"},
		"query with space":   {Method: "GET", Path: "/", Query: "a b"},
		"query with LF":      {Method: "GET", Path: "/", Query: "a\nb"},
		"no method":          {Path: "/"},
		"method with space":  {Method: "GET /x HTTP/1.1\r\n", Path: "/"},
		"unknown length":     {Method: "PUT", Path: "/", Length: -1, Body: strings.NewReader("a")},
		"length and no body": {Method: "PUT", Path: "/", Length: 1},
		"trailer":            {Method: "PUT", Path: "/", Trailer: backend.Header{{Name: "A", Value: "b"}}},
		"short body":         {Method: "PUT", Path: "/", Length: 2, Body: strings.NewReader("a")},
	} {
		if _, err := c.Do(context.Background(), s.addr, r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want an invalid request", name, err)
		}
		if r.Length != 0 || r.Trailer != nil {
			continue
		}
		if _, err := c.Open(context.Background(), s.addr, r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: Open gave %v, want an invalid request", name, err)
		}
	}
	if _, err := c.Do(context.Background(), "127.0.0.1:1\r\nEvil: 1", get()); !errs.Is(err, errs.Invalid) {
		t.Errorf("address with a line break: %v", err)
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections were made for them", n)
	}
}

func TestConnectionsAreUsedAgainOnlyWhereInOrder(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for name, tt := range map[string]struct {
		text  string
		use   func(*backend.Response)
		conns int64
	}{
		"read to its end":          {ok("hello"), nil, 1},
		"closed, the rest at hand": {ok("hello"), func(r *backend.Response) { _ = r.Body.Close() }, 1},
		"read but for the EOF":     {ok(big), func(r *backend.Response) { _, _ = io.ReadFull(r.Body, make([]byte, len(big))); _ = r.Body.Close() }, 1},
		"closed early":             {ok(big), func(r *backend.Response) { _ = r.Body.Close() }, 3},
		"closed twice":             {ok(big), func(r *backend.Response) { _ = r.Body.Close(); _ = r.Body.Close() }, 3},
		"pipelined junk":           {ok("hello") + ok("evil"), nil, 3},
		"a byte too many":          {ok("hello") + "x", nil, 3},
		"body behind 204":          {"HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\nx", nil, 3},
		"node wants to close":      {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx", nil, 3},
		"old version":              {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", nil, 3},
		"chunks closed early":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", func(r *backend.Response) { _ = r.Body.Close() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, answers(tt.text))
			c := client(t, Config{})
			for range 3 {
				resp, err := c.Do(context.Background(), s.addr, get())
				if err != nil {
					t.Fatal(err)
				}
				if tt.use != nil {
					tt.use(resp)
				} else if _, err := slurp(resp); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.conns.Load(); n != tt.conns {
				t.Errorf("%d connections for three requests, want %d", n, tt.conns)
			}
		})
	}
}

func TestStaleConnectionIsNotUsed(t *testing.T) {
	for name, last := range map[string]func(c net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"reset": func(c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok { // another one is closed at once anyway
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		},
		"junk": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 408 Timeout\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan func(net.Conn), 1)
			s := script(t, func(n int, c net.Conn, r *bufio.Reader) {
				request(r)
				_, _ = io.WriteString(c, ok(fmt.Sprint(n)))
				(<-over)(c)
				_, _ = r.ReadByte() // until it is closed
			})
			c := client(t, Config{})
			mustFetch(t, c, s.addr, get(), 200, "1")
			kept := c.pool.known(s.addr).idle[0]
			over <- last
			until(t, "the connection is seen to be stale", func() bool { return kept.peek() != quiet })
			mustFetch(t, c, s.addr, &backend.Request{Method: "PUT", Path: "/", Length: 1 << 20, Body: new(zeros)}, 200, "2")
			over <- last
		})
	}
}

// dying answers the first request of a connection, and closes instead of
// answering the second.
func dying(n int, c net.Conn, r *bufio.Reader) {
	_, body := request(r)
	_, _ = io.WriteString(c, ok(fmt.Sprint(n, " ", len(body))))
	request(r)
}

func TestRepeatsOnceOnNewConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		r    func() *backend.Request
		want string // of the second request; "" where it fails
	}{
		"no body":    {get, "2 0"},
		"small body": {func() *backend.Request { return put("hello") }, "2 5"},
		"small stream": {func() *backend.Request {
			return &backend.Request{Method: "PUT", Path: "/", Length: 9, Body: new(zeros)}
		}, "2 9"},
		"large body": {func() *backend.Request { return put(strings.Repeat("x", 1<<18)) }, "2 262144"},
		"body unseekable": {func() *backend.Request {
			return &backend.Request{Method: "PUT", Path: "/", Length: 1 << 18, Body: new(zeros)}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, dying)
			c := client(t, Config{})
			mustFetch(t, c, s.addr, get(), 200, "1 0")
			_, body, err := fetch(c, s.addr, tt.r())
			if body != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("gave %q, %v, want %q", body, err, tt.want)
			}
		})
	}
	t.Run("only once", func(t *testing.T) {
		s := script(t, func(n int, c net.Conn, r *bufio.Reader) {
			request(r)
			if n == 1 {
				_, _ = io.WriteString(c, ok(""))
				request(r)
			}
		})
		c := client(t, Config{})
		mustFetch(t, c, s.addr, get(), 200, "")
		if _, _, err := fetch(c, s.addr, get()); !errors.Is(err, io.ErrUnexpectedEOF) || s.conns.Load() != 2 {
			t.Errorf("%v after %d connections, want an unexpected EOF after 2", err, s.conns.Load())
		}
	})
	t.Run("not after a byte of the answer", func(t *testing.T) {
		s := script(t, func(n int, c net.Conn, r *bufio.Reader) {
			request(r)
			_, _ = io.WriteString(c, ok(""))
			request(r)
			_, _ = io.WriteString(c, "H")
		})
		c := client(t, Config{})
		mustFetch(t, c, s.addr, get(), 200, "")
		if _, _, err := fetch(c, s.addr, get()); !errors.Is(err, io.ErrUnexpectedEOF) || s.conns.Load() != 1 {
			t.Errorf("%v after %d connections, want an unexpected EOF after 1", err, s.conns.Load())
		}
	})
}

func TestAddressDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c := client(t, Config{})
	_, err = c.Do(context.Background(), addr, get())
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), addr) || errors.Is(err, ErrTimeout) {
		t.Errorf("Do gave %v, want unavailable, naming %s", err, addr)
	}
	if _, err = c.Open(context.Background(), addr, get()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("Open gave %v, want unavailable", err)
	}
	if c.pool.known(addr) != nil {
		t.Error("an address that was never reached is remembered")
	}
}

func TestEarlyRefusalOfBody(t *testing.T) {
	const refusal = "HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull"
	for name, rest := range map[string]func(*bufio.Reader){
		"reads no more": nil,
		"reads on":      func(r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) },
		"closes":        func(*bufio.Reader) {},
	} {
		t.Run(name, func(t *testing.T) {
			stop := make(chan struct{})
			s := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
				_, _ = r.ReadString('\n')
				_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"+refusal)
				if rest == nil {
					<-stop
					return
				}
				rest(r)
			})
			t.Cleanup(func() { close(stop) })
			c := client(t, Config{})
			body := new(zeros)
			mustFetch(t, c, s.addr, &backend.Request{Method: "PUT", Path: "/", Length: 1 << 40, Body: body}, 507, "full")
			if n := body.n.Load(); n > 1<<30 {
				t.Errorf("%d bytes were read of the body", n)
			}
		})
	}
	t.Run("success is not believed", func(t *testing.T) {
		s := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			_, _ = r.ReadString('\n')
			_, _ = io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, r)
		})
		c := client(t, Config{})
		status, _, err := fetch(c, s.addr, &backend.Request{Method: "PUT", Path: "/", Length: 1 << 40, Body: new(zeros)})
		if !errs.Is(err, errs.Unavailable) || !errors.Is(err, ErrProtocol) {
			t.Errorf("gave %d, %v, want unavailable", status, err)
		}
	})
}

func TestBodyThatFails(t *testing.T) {
	broken := errors.New("client went away")
	saw := make(chan error, 1)
	addr := webServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		saw <- err
	})
	c := client(t, Config{})
	body := io.MultiReader(io.LimitReader(new(zeros), 1<<20), failing{broken})
	_, err := c.Do(context.Background(), addr, &backend.Request{Method: "PUT", Path: "/", Length: 2 << 20, Body: body})
	if !errors.Is(err, broken) || errs.Is(err, errs.Unavailable) {
		t.Errorf("gave %v, want %v, which is not the node's fault", err, broken)
	}
	if err := <-saw; err == nil {
		t.Error("the node took the body for whole")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestLargeBodies moves much both ways and looks at what it allocated.
func TestLargeBodies(t *testing.T) {
	const size = 48 << 20
	addr := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			n, err := io.Copy(io.Discard, r.Body)
			if n != size || err != nil {
				t.Errorf("server got %d bytes, %v", n, err)
			}
			return
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		_, _ = io.CopyN(w, new(zeros), size)
	})
	c := client(t, Config{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	mustFetch(t, c, addr, &backend.Request{Method: "PUT", Path: "/", Length: size, Body: new(zeros)}, 200, "")
	s, err := c.Open(t.Context(), addr, &backend.Request{Method: "PUT", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range size / len(block) {
		if _, err := s.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if resp, err := s.Commit(nil); err != nil || resp.Status != 200 {
		t.Fatalf("Commit gave %v, %v", resp, err)
	}
	for _, path := range []string{"/length", "/chunks"} {
		resp, err := c.Do(t.Context(), addr, &backend.Request{Method: "GET", Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%s gave %d bytes, %v", path, n, err)
		}
		_ = resp.Body.Close()
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("%d bytes were allocated to move %d", got, 4*size)
	}
}

// A body of known length can be moved into a pipe, but for what was read with its head; it ends as it does when it is read, and a
// part never passes for all of it.
func TestSplice(t *testing.T) {
	const size = 3 << 20
	whole := make([]byte, size)
	for i := range whole {
		whole[i] = byte(i * i >> 6)
	}
	addr := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/chunks" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		if r.URL.Path == "/short" {
			_, _ = w.Write(whole[:size-1])
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(whole)
	})
	c := client(t, Config{})
	for path, want := range map[string]struct {
		err   error
		moved int
	}{"/length": {io.EOF, size - inSize}, "/short": {io.ErrUnexpectedEOF, size - 1 - inSize}, "/chunks": {io.EOF, 0}} {
		resp, err := c.Do(t.Context(), addr, &backend.Request{Method: "GET", Path: path})
		if err != nil {
			t.Fatal(err)
		}
		got, moved, err := throughPipe(t, resp.Body)
		if !errors.Is(err, want.err) || errs.Is(err, errs.Unavailable) != (want.err != io.EOF) {
			t.Errorf("%s ended with %v, want %v", path, err, want.err)
		}
		if !bytes.HasPrefix(whole, got) || len(got) < size-1 || want.err == io.EOF && len(got) != size {
			t.Errorf("%s: %d bytes came of %d", path, len(got), size)
		}
		if moved < want.moved || want.moved == 0 && moved > 0 {
			t.Errorf("%s: %d bytes came through the pipe, want %d", path, moved, want.moved)
		}
		_ = resp.Body.Close()
	}
}

// throughPipe reads a body by way of a pipe, as far as it lets it, and returns how it ended.
func throughPipe(t *testing.T, body io.Reader) (all []byte, moved int, err error) {
	t.Helper()
	p, err := splice.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Give()
	block := make([]byte, 16<<10)
	for err == nil {
		var n int
		if n, err = body.(splice.Source).Splice(p); errors.Is(err, splice.ErrUnable) {
			n, err = body.Read(block)
			all = append(all, block[:n]...)
			continue
		}
		part, perr := io.ReadAll(p)
		if perr != nil || len(part) != n {
			t.Fatalf("%d bytes in the pipe, want %d, %v", len(part), n, perr)
		}
		all, moved = append(all, part...), moved+n
	}
	return all, moved, err
}

func TestManyAtOnce(t *testing.T) {
	addr := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = fmt.Fprintf(w, "%s %s %s", r.URL.Path, body, r.Trailer.Get("T"))
		}
	})
	c := client(t, Config{MaxIdlePerAddr: 4})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				path, text := fmt.Sprintf("/%d/%d", w, i), strings.Repeat(fmt.Sprint(i), i*100)
				ctx, cancel := context.WithCancel(context.Background())
				if i%8 == 7 {
					go cancel()
				}
				got, err := echo(ctx, c, addr, path, text, i%2 == 0)
				if want := path + " " + text + " "; err == nil && strings.TrimSuffix(got, "t") != want {
					t.Errorf("got %.100q, want %.100q", got, want)
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", path, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n := len(c.pool.known(addr).idle); n > 4 {
		t.Errorf("%d connections are kept, want 4 at most", n)
	}
}

func echo(ctx context.Context, c *Client, addr, path, text string, stream bool) (string, error) {
	r := &backend.Request{Method: "PUT", Path: path, Length: int64(len(text)), Body: strings.NewReader(text)}
	if !stream {
		resp, err := c.Do(ctx, addr, r)
		if err != nil {
			return "", err
		}
		return slurp(resp)
	}
	s, err := c.Open(ctx, addr, r)
	if err != nil {
		return "", err
	}
	defer s.Abort()
	for part := range slices.Chunk([]byte(text), 1000) {
		if _, err := s.Write(part); err != nil {
			return "", err
		}
	}
	resp, err := s.Commit(backend.Header{{Name: "T", Value: "t"}})
	if err != nil {
		return "", err
	}
	return slurp(resp)
}

// echoConn answers each write with the same bytes.
type echoConn struct {
	canned
	text []byte
	r    *bytes.Reader
}

func (e echoConn) Read(p []byte) (int, error) { return e.r.Read(p) }
func (e echoConn) Write(p []byte) (int, error) {
	e.r.Reset(e.text)
	return len(p), nil
}

func TestAllocations(t *testing.T) {
	c := client(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		return echoConn{text: bareAnswer, r: new(bytes.Reader)}, nil
	}})
	r, buf := get(), make([]byte, 4096)
	once := func(ctx context.Context) {
		resp, err := c.Do(ctx, "x", r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	live, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		most float64
	}{
		"no end to the context": {context.Background(), 4},
		"context that may end":  {live, 7},
	} {
		if n := testing.AllocsPerRun(200, func() { once(tt.ctx) }); n > tt.most {
			t.Errorf("%s: %v allocations a request, want %v at most", name, n, tt.most)
		}
	}
}
