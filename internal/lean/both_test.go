package lean

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
)

// What is true of every server that carries backend requests, whatever it is made of.

func TestCarriesRequestAndAnswer(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		var got backend.Request
		var body string
		b := serve(t, kind, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			all, err := readAll(r)
			got, body = *r, all+"|"+httpapi.TransID(ctx)
			resp := text(201, "yes")
			resp.Header.Add("x-backend-thing", "1")
			return resp, err
		}, options{})
		p := b.dial()
		p.say("PUT /d/1/a/c/x%2Fy//z?q=1 HTTP/1.1\r\nHost: h\r\nx-trans-id: tx1\r\nX-Object-Meta-A: one\r\nx-object-meta-a:\ttwo \r\n" +
			"User-Agent: somebody\r\nTrailer: X-Commit\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n1\r\nd\r\n0\r\nX-Commit: sum\r\nx-other: \r\n\r\n")
		resp, said := p.hear("PUT")
		if body != "abcd|tx1" || got.Path != "/d/1/a/c/x%2Fy//z" || got.Query != "q=1" || got.Length != -1 || got.Method != "PUT" {
			t.Errorf("the handler got %q and %+v", body, got)
		}
		if got.Trailer.Get("x-commit") != "sum" || !got.Trailer.Has("X-Other") {
			t.Errorf("the trailer is %v", got.Trailer)
		}
		var values []string
		for _, f := range got.Header {
			if f.Name == "X-Object-Meta-A" {
				values = append(values, f.Value)
			}
		}
		if strings.Join(values, ",") != "one,two" || got.Header.Has("Host") || got.Header.Has("Transfer-Encoding") || got.Header.Has("Trailer") {
			t.Errorf("the header is %v", got.Header)
		}
		if got.Remote != p.LocalAddr().String() {
			t.Errorf("the peer is %s, want %s", got.Remote, p.LocalAddr())
		}
		if resp.StatusCode != 201 || said != "yes" || resp.Header.Get("X-Backend-Thing") != "1" || resp.Header.Get("X-Trans-Id") != "tx1" || resp.Header.Get("Date") == "" {
			t.Errorf("the peer got %d %q %v", resp.StatusCode, said, resp.Header)
		}
		if _, guessed := resp.Header["Content-Type"]; guessed {
			t.Errorf("a content type was made up: %v", resp.Header)
		}
		waitFor(t, "the line in the log", func() bool {
			return strings.Contains(b.log.String(), "trans_id=tx1 ") && strings.Contains(b.log.String(), `path="/d/1/a/c/x%2Fy//z?q=1" status=201 in=4 out=3`) && strings.Contains(b.log.String(), "agent=somebody")
		})
		if n, err := testutil.GatherAndCount(b.reg, "martlet_requests_total"); err != nil || n != 1 {
			t.Errorf("%d counters, %v", n, err)
		}
	})
}

// A connection serves one request after the other, also such as came together.
func TestRequestsOfOneConnection(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			body, err := readAll(r)
			if r.Method == "DELETE" {
				return empty(204), err
			}
			return text(200, r.Method+r.Path+"("+body+")"), err
		}, options{})
		p := b.dial()
		requests := "PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + "HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n" +
			"POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" + "DELETE /4 HTTP/1.1\r\nHost: h\r\n\r\n" +
			"GET http://h:1/5 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
		for _, size := range []int{len(requests), 1, 7} {
			go func() {
				for rest := requests; rest != ""; rest = rest[min(size, len(rest)):] {
					_, _ = io.WriteString(p, rest[:min(size, len(rest))])
				}
			}()
			for _, want := range []string{"PUT 200 PUT/1(abc)", "HEAD 200 ", "POST 200 POST/3(de)", "DELETE 204 ", "GET 200 GEThttp://h:1/5()"} {
				method, _, _ := strings.Cut(want, " ")
				resp, body := p.hear(method)
				if got := fmt.Sprintf("%s %d %s", method, resp.StatusCode, body); got != want {
					t.Errorf("in pieces of %d: got %q, want %q", size, got, want)
				}
				if method == "HEAD" && resp.ContentLength != int64(len("HEAD/2()")) {
					t.Errorf("a HEAD says %d bytes", resp.ContentLength)
				}
			}
		}
	})
}

func TestErrorsBecomeStatuses(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for name, tt := range map[string]struct {
			err  error
			code int
			text string
		}{
			"kind":        {errs.E(errs.NotFound), 404, "Not Found"},
			"public text": {errs.Refuse(errs.TooLarge, "limit is %d", 3), 413, "limit is 3"},
			"secret text": {errs.E(errs.Unavailable, "10.0.0.1 is down"), 503, "Service Unavailable"},
			"no kind":     {errors.New("oops"), 500, "Internal Server Error"},
			"client gone": {errs.E(errs.Aborted), 499, "Client Disconnect"},
		} {
			b := serve(t, kind, func(context.Context, *backend.Request) (*backend.Response, error) { return nil, tt.err }, options{})
			p := b.dial()
			p.say("GET / HTTP/1.1\r\nHost: h\r\nX-Trans-Id: txe\r\n\r\n")
			resp, body := p.hear("GET")
			if resp.StatusCode != tt.code || body != tt.text || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%s: got %d %q %v, want %d %q", name, resp.StatusCode, body, resp.Header, tt.code, tt.text)
			}
			if logged := strings.Contains(b.log.String(), `msg="request failed" trans_id=txe`); logged != (tt.code >= 500) {
				t.Errorf("%s: logged is %v:\n%s", name, logged, b.log)
			}
		}
	})
}

// brokenBody fails behind so many reads.
type brokenBody struct {
	n      int
	closed *bool
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, errs.E(errs.Corrupt, io.EOF) // which is no end
	}
	return copy(p, "part"), nil
}
func (b *brokenBody) Close() error { *b.closed = true; return nil }

func TestABrokenBodyNeverLooksWhole(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		for name, tt := range map[string]struct {
			length int64
			body   io.Reader
		}{
			"fails":             {100, &brokenBody{2, new(bool)}},
			"short":             {100, strings.NewReader("part")},
			"absent":            {100, nil},
			"long, and fails":   {200 << 10, io.MultiReader(strings.NewReader(strings.Repeat("x", 100<<10)), iotest.ErrReader(errs.E(errs.Corrupt)))},
			"long, and shorter": {200 << 10, strings.NewReader(strings.Repeat("x", 200<<10-1))},
			"in memory, short":  {200 << 10, inAPiece(100 << 10)},
			"in memory, long":   {200 << 10, inAPiece(201 << 10)},
			"in memory, empty":  {100, inAPiece(0)},
			"in memory, longer": {300, inAPiece(400)},
			"in pieces, fails":  {200 << 10, &pieced{*inAPiece(100 << 10), errs.E(errs.Corrupt, io.EOF)}},
			"in pieces, longer": {200 << 10, &pieced{*inAPiece(250 << 10), io.EOF}},
			"panics":            {100, nil},
			"panics when long":  {200 << 10, nil},
		} {
			var closed bool
			b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
				if r.Path == "/fine" {
					return text(200, "fine"), nil
				}
				resp := &backend.Response{Status: 200, Length: tt.length}
				switch {
				case strings.HasPrefix(name, "panics"):
					resp.Body = &panicking{int(tt.length) / 2, &closed}
				case strings.HasPrefix(name, "in memory"):
					resp.Body = struct {
						*bytes.Buffer
						io.Closer
					}{tt.body.(*bytes.Buffer), &brokenBody{0, &closed}}
				case strings.HasPrefix(name, "in pieces"):
					resp.Body = struct {
						*pieced
						io.Closer
					}{tt.body.(*pieced), &brokenBody{0, &closed}}
				case tt.body != nil:
					resp.Body = struct {
						io.Reader
						io.Closer
					}{tt.body, &brokenBody{0, &closed}}
				}
				return resp, nil
			}, options{})
			p := b.dial()
			p.say("GET /broken HTTP/1.1\r\nHost: h\r\n\r\nGET /fine HTTP/1.1\r\nHost: h\r\n\r\n")
			all, _ := io.ReadAll(p.r)
			if _, body, _ := strings.Cut(string(all), "\r\n\r\n"); int64(len(body)) >= tt.length {
				t.Errorf("%s: %d bytes of body came, of %d", name, len(body), tt.length)
			}
			waitFor(t, name+": the line in the log", func() bool { return strings.Contains(b.log.String(), "broken=true") })
			if !closed && (tt.body != nil || strings.HasPrefix(name, "panics")) {
				t.Errorf("%s: the body was not closed", name)
			}
		}
	})
}

// pieced is a body in pieces of up to 30 KiB, without its Close, and how it ends.
type pieced struct {
	of  bytes.Buffer
	end error
}

func (p *pieced) Read(b []byte) (int, error) {
	got, err := p.Piece(int64(len(b)))
	return copy(b, got), err
}

func (p *pieced) Piece(most int64) ([]byte, error) {
	if b := p.of.Next(int(min(most, 30<<10))); len(b) > 0 {
		return b, nil
	}
	return nil, p.end
}

// inAPiece is a body in memory, without its Close.
func inAPiece(n int) *bytes.Buffer { return bytes.NewBuffer(bytes.Repeat([]byte("x"), n)) }

// panicking panics after so many bytes.
type panicking struct {
	left   int
	closed *bool
}

func (b *panicking) Read(p []byte) (int, error) {
	if b.left == 0 {
		panic("a bug in a body")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}
func (b *panicking) Close() error { *b.closed = true; return nil }

func TestPanicIs500AndTheServerGoesOn(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Path == "/panic" {
				panic("boom")
			}
			return text(200, "fine"), nil
		}, options{})
		p := b.dial()
		p.say("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp, _ := p.hear("GET"); resp.StatusCode != 500 {
			t.Errorf("got %d, want 500", resp.StatusCode)
		}
		p.say("GET /fine HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, body := p.hear("GET"); body != "fine" {
			t.Errorf("after it: %q", body)
		}
		if !strings.Contains(b.log.String(), `panic=boom`) || !strings.Contains(b.log.String(), "stack=") {
			t.Errorf("the log lacks the panic: %s", b.log)
		}
	})
}

func TestBodyErrorsHaveKinds(t *testing.T) {
	inBubble(t, func(t *testing.T, kind string) {
		kinds := make(chan errs.Kind, 1)
		b := serveOn(t, kind, newPipes(), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			_, err := readAll(r)
			kinds <- errs.KindOf(err)
			return nil, err
		}, options{silence: 10 * time.Second})
		for name, tt := range map[string]struct {
			body  string
			leave bool
			want  errs.Kind
		}{
			"peer leaves":            {"Content-Length: 10\r\n\r\nabc", true, errs.Aborted},
			"peer leaves in a chunk": {"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", true, errs.Aborted},
			"peer leaves behind one": {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true, errs.Aborted},
			"peer leaves at the end": {"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", true, errs.Aborted},
			"peer leaves a trailer":  {"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Commit: a\r\n", true, errs.Aborted},
			"peer is silent":         {"Content-Length: 10\r\n\r\nabc", false, errs.Timeout},
		} {
			p := b.dial()
			p.say("PUT / HTTP/1.1\r\nHost: x\r\n" + tt.body)
			if tt.leave {
				_ = p.Close()
			}
			if got := <-kinds; got != tt.want {
				t.Errorf("%s: kind %v, want %v", name, got, tt.want)
			}
			if !tt.leave && kind != plain { // net/http takes a peer that is silent for one that is gone
				if resp, _ := p.hear("PUT"); resp.StatusCode != 408 || !resp.Close || !p.closed() {
					t.Errorf("%s: got %d, closed is %v", name, resp.StatusCode, resp.Close)
				}
			}
		}
	})
}

// A client that asks for the connection to be kept reads that it is, and never so of one
// that is closed.
func TestConnectionIsAnswered(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(context.Context, *backend.Request) (*backend.Response, error) { return empty(200), nil }, options{})
		for what, tt := range map[string]struct {
			request, want string
			closed        bool
		}{
			"nothing asked":       {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", false},
			"keep-alive":          {"GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", "keep-alive", false},
			"close":               {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "close", true},
			"close among others":  {"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", "close", true},
			"an older client":     {"GET / HTTP/1.0\r\n\r\n", "close", true},
			"one that keeps it":   {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive", false},
			"a body nobody reads": {"PUT / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 9999999\r\n\r\n", "close", true},
		} {
			p := b.dial()
			p.say(tt.request)
			resp, _ := p.hear("GET")
			got := strings.Join(resp.Header["Connection"], ",")
			if resp.Close && got == "" {
				got = "close"
			}
			if got != tt.want {
				t.Errorf("%s: Connection is %q, want %q", what, got, tt.want)
			}
			if tt.closed {
				if !p.closed() {
					t.Errorf("%s: the connection goes on", what)
				}
				continue
			}
			p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			p.hear("GET")
		}
	})
}

func TestAnAnswerDoesNotWaitForTheBody(t *testing.T) {
	inBubble(t, func(t *testing.T, kind string) {
		b := serveOn(t, kind, newPipes(), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Path == "/part" {
				if _, err := io.ReadFull(r.Body, make([]byte, 2)); err != nil {
					return nil, err
				}
			}
			return empty(404), nil
		}, options{silence: 10 * time.Second})
		for name, tt := range map[string]struct {
			path, rest string
			closed     bool
		}{
			"unread":             {"/unread", "Content-Length: 10\r\n\r\nabc", true},
			"chunked":            {"/unread", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true},
			"read in part":       {"/part", "Content-Length: 10\r\n\r\nabc", true},
			"too much":           {"/unread", "Content-Length: 1000000\r\n\r\nabc", true},
			"all is there":       {"/unread", "Content-Length: 3\r\n\r\nabc", false},
			"chunks are there":   {"/part", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n", false},
			"no body":            {"/unread", "\r\n", false},
			"nobody asks for it": {"/unread", "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", true},
		} {
			p := b.dial()
			p.say("PUT " + tt.path + " HTTP/1.1\r\nHost: x\r\n" + tt.rest)
			if resp, _ := p.hear("PUT"); resp.StatusCode != 404 || resp.Close != tt.closed {
				t.Errorf("%s: got %d, close %v, want 404, %v", name, resp.StatusCode, resp.Close, tt.closed)
			}
			if tt.closed {
				if !p.closed() {
					t.Errorf("%s: the connection goes on", name)
				}
				continue
			}
			p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			p.hear("GET")
		}
	})
}

// A peer that sends on, though it was answered, gets the answer: closing its connection at
// once would have its system throw that away.
func TestAnAnswerReachesWhoSendsOn(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(context.Context, *backend.Request) (*backend.Response, error) { return empty(404), nil }, options{})
		for range 5 {
			p := b.dial()
			p.say("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
			for range 4 {
				p.say(strings.Repeat("x", 64<<10))
			}
			if resp, _ := p.hear("PUT"); resp.StatusCode != 404 {
				t.Fatalf("got %d", resp.StatusCode)
			}
			_ = p.Close()
		}
	})
}

func TestExpect(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			body, err := readAll(r)
			return text(200, body), err
		}, options{})
		p := b.dial()
		for _, framing := range []string{"Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
			p.say("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n" + framing)
			line, err := p.r.ReadString('\n')
			rest, _ := p.r.ReadString('\n')
			if err != nil || line != "HTTP/1.1 100 Continue\r\n" || rest != "\r\n" {
				t.Fatalf("got %q %q, %v, want to be asked for the body", line, rest, err)
			}
			if strings.HasPrefix(framing, "Content") {
				p.say("abc")
			} else {
				p.say("3\r\nabc\r\n0\r\n\r\n")
			}
			if _, body := p.hear("PUT"); body != "abc" {
				t.Errorf("the body is %q", body)
			}
		}
		p.say("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n")
		if resp, _ := p.hear("PUT"); resp.StatusCode != 200 {
			t.Errorf("without a body: %d", resp.StatusCode)
		}
	})
}

// The context of a request ends when its peer goes away, and not before.
func TestContextEndsWithThePeer(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		inside, gone, leave := make(chan struct{}), make(chan error, 1), make(chan struct{})
		b := serve(t, kind, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if _, err := readAll(r); err != nil {
				return nil, err
			}
			close(inside)
			if r.Path == "/stays" {
				<-leave
				return text(200, fmt.Sprint(ctx.Err())), nil
			}
			<-ctx.Done()
			gone <- ctx.Err()
			return empty(204), nil
		}, options{})
		p := b.dial()
		p.say("PUT /goes HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		<-inside
		_ = p.Close()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the context ended with %v", err)
		}
		inside = make(chan struct{})
		p = b.dial()
		p.say("PUT /stays HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		<-inside
		<-time.After(4 * lookEvery)
		close(leave)
		if _, body := p.hear("PUT"); body != "<nil>" {
			t.Errorf("the context of a peer that is there ended with %s", body)
		}
	})
}

func TestRunDrains(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		inside, leave := make(chan struct{}), make(chan struct{})
		b := serve(t, kind, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Path == "/hold" {
				close(inside)
				<-leave
			}
			return text(200, fmt.Sprint("whole ", ctx.Err())), nil
		}, options{})
		idle, p := b.dial(), b.dial()
		idle.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		idle.hear("GET")
		p.say("GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
		<-inside
		b.end(nil)
		if !idle.closed() {
			t.Error("a connection that waits is not closed")
		}
		close(leave)
		if resp, body := p.hear("GET"); body != "whole <nil>" || !resp.Close {
			t.Errorf("the request under way got %q, and its connection ends is %v", body, resp.Close)
		}
		if !p.closed() {
			t.Error("its connection is not closed")
		}
		b.stop(nil)
	})
}

// Where another process serves every peer is told that its connection ends, those that ask
// to keep it, too.
func TestFarewell(t *testing.T) {
	inBubble(t, func(t *testing.T, kind string) {
		b := serveOn(t, kind, newPipes(), func(context.Context, *backend.Request) (*backend.Response, error) { return empty(200), nil }, options{})
		said := func(p *peer) string {
			t.Helper()
			p.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
			resp, _ := p.hear("GET")
			if resp.Close {
				return "close"
			}
			return resp.Header.Get("Connection")
		}
		p, silent := b.dial(), b.dial()
		if got := said(p) + said(silent); got != "keep-alivekeep-alive" {
			t.Errorf("before it is %q", got)
		}
		b.end(httpapi.ErrHandedOver)
		synctest.Wait()
		if got := said(p); got != "close" {
			t.Errorf("after another process has taken over it is %q, want close", got)
		}
		began := time.Now()
		if !silent.closed() || time.Since(began) < 4*time.Second {
			t.Errorf("a connection on which nobody asks is closed after %v, want about 5 s", time.Since(began))
		}
		b.stop(nil)
	})
}

// Requests inside of one are told apart in the log.
func TestPart(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		inner := backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			return text(200, httpapi.TransID(ctx)), nil
		})
		b := serve(t, kind, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			one := &backend.Request{Method: "PUT", Path: "/one"}
			one.Header.Add(backend.TransID, "tx1")
			return httpapi.Part(ctx, inner, one, nil), nil
		}, options{})
		p := b.dial()
		p.say("BATCH /rows HTTP/1.1\r\nHost: h\r\nUser-Agent: somebody\r\nX-Trans-Id: outer\r\n\r\n")
		if resp, body := p.hear("BATCH"); body != "tx1" || resp.Header.Get("X-Trans-Id") != "outer" {
			t.Errorf("got %q, %v", body, resp.Header)
		}
		waitFor(t, "the lines in the log", func() bool {
			return strings.Contains(b.log.String(), "trans_id=tx1 remote="+p.LocalAddr().String()+" method=PUT path=/one status=200") &&
				strings.Contains(b.log.String(), "trans_id=outer ") && strings.Count(b.log.String(), "agent=somebody") == 2
		})
	})
}

// A contexts of a handler that it makes another of end together, and with the request.
func TestContextEndsWithTheRequest(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		ended := make(chan struct{})
		b := serve(t, kind, func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
			of, cancel := context.WithCancel(ctx)
			context.AfterFunc(of, func() { cancel(); close(ended) })
			return text(200, fmt.Sprint(ctx.Err())), nil
		}, options{})
		p := b.dial()
		p.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, body := p.hear("GET"); body != "<nil>" {
			t.Errorf("it has ended before: %s", body)
		}
		<-ended
	})
}
