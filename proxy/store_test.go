package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/md5lanes"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
)

// server is a proxy in front of the nodes of a bench, to which every container
// exists.
func (b *bench) server() *Server {
	return &Server{
		cfg: Defaults(), cluster: b.cluster, log: slog.New(slog.DiscardHandler), stamps: timestamp.NewSource(nil), hashes: md5lanes.NewGroup(hashBehind),
		infos: newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) {
			return facts{exists: true, at: time.Now()}, nil
		}),
	}
}

func newTestRequest(t *testing.T, method string, header http.Header) *request {
	t.Helper()
	return newRequest(t.Context(), &chain.Request{Method: method, Header: header, Path: name.Path{Account: "a", Container: "c", Object: "o"}})
}

// A replica that lacks an object must not take a write that another refuses
// because it is there: the write would win in the end.
func TestOnlyIfAbsentWritesNothingWhereItIsThere(t *testing.T) {
	for _, have := range []string{"d0", "d1", "d2"} {
		b := newBench(t)
		for i := range nodetest.Nodes {
			d := fmt.Sprint("d", i)
			b.fleet.Script(d, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
				switch {
				case r.Method == http.MethodHead && d == have:
					return nodetest.Status(200, "1000000000.00001"), nil
				case r.Method == http.MethodHead:
					return nodetest.Status(404, ""), nil
				case d == have:
					return nodetest.Status(412, ""), nil
				}
				return b.store(ctx, r)
			})
		}
		header := http.Header{"If-None-Match": {"*"}, "Content-Type": {"a/b"}}
		rq := newTestRequest(t, http.MethodPut, header)
		_, err := b.server().store(rq, body{path: rq.Path, header: header, content: strings.NewReader("x")})
		if !errs.Is(err, errs.Precondition) {
			t.Errorf("%s has it: %v, want a failed precondition", have, err)
		}
		b.cluster.Wait()
		if n := b.keeps(); n != 0 {
			t.Errorf("%s has it: %d replicas took a refused write", have, n)
		}
	}
}

// A PUT that only asks reads nothing, and is answered as the PUT would be.
func TestOnlyAsk(t *testing.T) {
	for what, tt := range map[string]struct {
		may, exists bool
		want        int
	}{"all is well": {true, true, 204}, "not allowed": {false, true, 401}, "no container": {true, false, 404}} {
		b := newBench(t)
		s := b.server()
		s.infos = newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) { return facts{exists: tt.exists}, nil })
		rq := newTestRequest(t, http.MethodPut, http.Header{chain.OnlyAsk: {"true"}})
		rq.Grant, rq.Body = func(string, name.Path) bool { return tt.may }, iotest.ErrReader(errs.E(errs.Aborted))
		if resp := s.Serve(t.Context(), rq.Request); resp.Status != tt.want || b.keeps() != 0 {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.want)
		}
	}
}

// An answer that breaks off while it is read is the cluster's failure.
func TestARefusalThatBreaksOff(t *testing.T) {
	rq := newTestRequest(t, http.MethodGet, http.Header{})
	rq.fail(refusal(quorum.Answer{Err: errs.E(errs.Unavailable, io.ErrUnexpectedEOF)}))
	if rq.out.Status != http.StatusServiceUnavailable || rq.out.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, want 503", rq.out.Status, rq.out.Get("Retry-After"))
	}
}

func TestAnErrorForAClientThatLeft(t *testing.T) {
	rq := newTestRequest(t, http.MethodPut, http.Header{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rq.ctx = ctx
	rq.fail(errs.E(errs.Unavailable))
	if rq.out.Status != httpapi.StatusClientGone {
		t.Errorf("got %d, want 499", rq.out.Status)
	}
}

// What is copied is held to the rules of what is uploaded.
func TestCheckCopy(t *testing.T) {
	l := limits.Defaults()
	many := http.Header{"Content-Type": {"a/b"}}
	for i := range l.MaxMetaCount + 1 {
		many.Set(fmt.Sprint("X-Object-Meta-", i), "1")
	}
	for name, tt := range map[string]struct {
		header http.Header
		size   int64
		kind   errs.Kind
	}{
		"our own parameter": {http.Header{"Content-Type": {"a/b;swift_bytes=9"}}, 1, errs.Invalid},
		"too much metadata": {many, 1, errs.Invalid},
		"another condition": {http.Header{"Content-Type": {"a/b"}, "If-None-Match": {`"etag"`}}, 1, errs.Invalid},
		"too large":         {http.Header{"Content-Type": {"a/b"}}, int64(l.MaxFileSize) + 1, errs.TooLarge},
		"as it should be":   {http.Header{"Content-Type": {"a/b"}, "If-None-Match": {"*"}}, 1, errs.Other},
	} {
		s := &Server{cfg: Defaults()}
		if err := s.checkStored(tt.header, limits.Body{Length: tt.size}, "o"); errs.KindOf(err) != tt.kind || (err == nil) != (tt.kind == errs.Other) {
			t.Errorf("%s: %v, want kind %v", name, err, tt.kind)
		}
	}
}

// slow gives one byte a second.
type slow struct{ left int }

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	<-time.After(time.Second) // of the bubble's clock
	s.left--
	return copy(p, "x"), nil
}

// A replica sees what a slow client sends before it takes the proxy for silent.
func TestAChunkDoesNotWaitForASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, body := time.Now(), &slow{left: 100}
		c := newChunk()
		defer c.release()
		last, err := c.fill(body, 3*time.Second)
		if took := time.Since(began); last || err != nil || c.n == 0 || took > 5*time.Second {
			t.Errorf("%d bytes after %v, last %v, %v", c.n, took, last, err)
		}
		whole := newChunk()
		defer whole.release()
		if last, err := whole.fill(body, 0); !last || err != nil || c.n+whole.n != 100 {
			t.Errorf("without a limit: %d bytes, last %v, %v", whole.n, last, err)
		}
	})
}

func TestRawPath(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/a/c/o":               "/a/c/o",
		"/v1/a/c/o%2Fp?x=y":       "/a/c/o%2Fp",
		"/v1/a/c%2F\xc3\xa9":      "/a/c%2F\xc3\xa9", // the container's name has a slash in it
		"/v1/a/c/a//../%3F":       "/a/c/a//../%3F",
		"http://h/v1/a/c/\xc3%41": "/a/c/\xc3%41",
	} {
		u, err := url.ParseRequestURI(target) // as net/http does
		if err != nil {
			t.Fatal(err)
		}
		if got := rawPath(u, "/v1"); got != want {
			t.Errorf("rawPath(%q) = %q, want %q", target, got, want)
		}
	}
}

func TestRequestsThatAreTooLong(t *testing.T) {
	l := limits.Defaults()
	line := func(n int) string { return "/" + strings.Repeat("x", n-len("GET / HTTP/1.1")) }
	headers := func(n int) http.Header { return http.Header{"X-Many": make([]string, n)} }
	for name, tt := range map[string]struct {
		uri    string
		header http.Header
		want   int
	}{
		"line at the limit":    {line(l.MaxRequestLine), nil, 0},
		"line over it":         {line(l.MaxRequestLine + 1), nil, http.StatusRequestURITooLong},
		"headers at the limit": {"/", headers(l.MaxHeaderCount()), 0},
		"headers over it":      {"/", headers(l.MaxHeaderCount() + 1), http.StatusBadRequest},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RequestURI, r.Header = tt.uri, tt.header
		if got := tooLong(r, l); got != tt.want {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
}

func TestOptions(t *testing.T) {
	s := newBench(t).server()
	for _, p := range []name.Path{{Account: "a"}, {Account: "a", Container: "c"}, {Account: "a", Container: "c", Object: "o"}} {
		rq := newTestRequest(t, http.MethodOptions, http.Header{})
		rq.Path = p
		if err := s.dispatch(rq); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		if out := rq.out; out.Status != http.StatusOK || !strings.Contains(out.Get("Allow"), "OPTIONS") || out.Length != 0 {
			t.Errorf("%v: got %d, Allow %q", p, out.Status, out.Get("Allow"))
		}
	}
}

// Where no storage server has room, or may take more requests, the client is asked to come again.
func TestAnOverloadedCluster(t *testing.T) {
	for _, refusal := range []struct {
		status        int
		header, value string
	}{{503, backend.RetryAfter, "1"}, {backend.StatusLimited, backend.Limited, "device"}, {backend.StatusLimited, backend.Limited, backend.LimitedAccount}} {
		b := newBench(t)
		for i := range nodetest.Nodes {
			b.fleet.Script(fmt.Sprint("d", i), func(context.Context, *backend.Request) (*backend.Response, error) {
				r := nodetest.Status(refusal.status, "")
				r.Header.Add(refusal.header, refusal.value)
				return r, nil
			})
		}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodPost} {
			rq := newTestRequest(t, method, http.Header{"Content-Type": {"a/b"}})
			rq.Grant = func(string, name.Path) bool { return true }
			rq.Body, rq.Length = io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20))), 1<<20
			if resp := b.server().Serve(t.Context(), rq.Request); resp.Status != 503 || resp.Get("Retry-After") == "" || resp.Get(backend.Limited) != "" {
				t.Errorf("%v: %s: got %d, Retry-After %q, want 503 with it", refusal, method, resp.Status, resp.Get("Retry-After"))
			}
		}
		b.cluster.Wait()
		over := slices.ContainsFunc(b.fleet.Asked(), func(d string) bool { return d > "d2" })
		if over == (refusal.value == backend.LimitedAccount) {
			t.Errorf("%v: handoffs were asked: %v", refusal, over)
		}
	}
}

// Features are told since when an object is gone.
func TestWhatIsGoneSaysSinceWhen(t *testing.T) {
	for _, stamp := range []string{"1500000000.00000", ""} {
		b := newBench(t)
		for i := range nodetest.Nodes {
			b.fleet.Script(fmt.Sprint("d", i), func(context.Context, *backend.Request) (*backend.Response, error) {
				return nodetest.Status(404, stamp), nil
			})
		}
		rq := newTestRequest(t, http.MethodHead, http.Header{"X-Newest": {"true"}})
		rq.Grant = func(string, name.Path) bool { return true }
		resp := b.server().Serve(t.Context(), rq.Request)
		resp.Close()
		b.cluster.Wait()
		if resp.Status != 404 || resp.Get(backend.BackendStamp) != stamp {
			t.Errorf("got %d, gone since %q, want %q", resp.Status, resp.Get(backend.BackendStamp), stamp)
		}
	}
}
