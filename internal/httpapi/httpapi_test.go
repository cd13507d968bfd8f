package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// syncBuffer is a buffer that handlers and tests may use at once.
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

func TestEveryKindHasAStatus(t *testing.T) {
	for k := errs.Other; ; k++ {
		if strings.HasPrefix(k.String(), "error kind") {
			break
		}
		if _, ok := status[k]; !ok {
			t.Errorf("kind %d (%s) has no status", k, k)
		}
	}
	if got := Status(errors.New("x")); got != 500 {
		t.Errorf("an error without a kind is %d, want 500", got)
	}
}

func TestTransID(t *testing.T) {
	form := regexp.MustCompile(`^tx[0-9a-f]{21}-[0-9a-f]{10}$`)
	id := NewTransID(time.Unix(0x5f000000, 0), "")
	if !form.MatchString(id) || !strings.HasSuffix(id, "-005f000000") {
		t.Errorf("id %q", id)
	}
	if id == NewTransID(time.Unix(0x5f000000, 0), "") {
		t.Error("two ids are the same")
	}
	long := NewTransID(time.Now(), strings.Repeat("x", 100))
	if !strings.HasSuffix(long, "-"+strings.Repeat("x", 32)) || strings.Contains(long, strings.Repeat("x", 33)) {
		t.Errorf("the extra is not cut at 32: %q", long)
	}
	if got := NewTransID(time.Now(), "a\r\nb"); strings.ContainsAny(got, "\r\n") {
		t.Errorf("a line break in %q", got)
	}
}

// observed starts a server around h and returns its URL and its log.
func observed(t *testing.T, h http.Handler, o Observed) (string, *syncBuffer, *prometheus.Registry) {
	t.Helper()
	log, reg := &syncBuffer{}, prometheus.NewRegistry()
	m, err := NewMetrics(reg, "test")
	if err != nil {
		t.Fatal(err)
	}
	o.Server, o.Log, o.Metrics = "test", slog.New(slog.NewTextHandler(log, nil)), m
	srv := httptest.NewUnstartedServer(Observe(h, o))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL, log, reg
}

func serveBackend(t *testing.T, h backend.HandlerFunc) (string, *syncBuffer, *prometheus.Registry) {
	t.Helper()
	return observed(t, Backend(h, slog.New(slog.DiscardHandler)), Observed{Silence: time.Minute})
}

func do(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		text = fmt.Appendf(text, "<%v>", err)
	}
	return resp, string(text)
}

func TestBackendCarriesRequestAndResponse(t *testing.T) {
	var got *backend.Request
	var body string
	url, log, reg := serveBackend(t, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		got, body = r, string(b)+"|"+TransID(ctx)
		resp := &backend.Response{Status: 201, Length: 3, Body: io.NopCloser(strings.NewReader("yes"))}
		resp.Header.Add("x-backend-thing", "1")
		return resp, nil
	})
	pr, pw := io.Pipe()
	r, _ := http.NewRequestWithContext(t.Context(), "PUT", url+"/d/1/a/c/x%2Fy//z?q=1", pr)
	r.Header.Set("X-Trans-Id", "tx1")
	r.Trailer = http.Header{"X-Commit": nil}
	go func() {
		_, _ = pw.Write([]byte("abc"))
		r.Trailer.Set("X-Commit", "sum")
		_ = pw.Close()
	}()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if body != "abc|tx1" || got.Path != "/d/1/a/c/x%2Fy//z" || got.Query != "q=1" || got.Length != -1 || got.Trailer.Get("x-commit") != "sum" {
		t.Errorf("the handler got %q and %+v", body, got)
	}
	if resp.StatusCode != 201 || string(text) != "yes" || resp.Header.Get("X-Backend-Thing") != "1" || resp.Header.Get("X-Trans-Id") != "tx1" {
		t.Errorf("the client got %d %q %v", resp.StatusCode, text, resp.Header)
	}
	if _, guessed := resp.Header["Content-Type"]; guessed {
		t.Errorf("a content type was made up: %v", resp.Header)
	}
	waitFor(t, func() bool {
		return strings.Contains(log.String(), "trans_id=tx1") && strings.Contains(log.String(), "in=3 out=3")
	})
	if n, err := testutil.GatherAndCount(reg, "martlet_requests_total"); err != nil || n != 1 {
		t.Errorf("%d counters, %v", n, err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("it did not come about in 10 s")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
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
		url, _, _ := serveBackend(t, func(context.Context, *backend.Request) (*backend.Response, error) { return nil, tt.err })
		resp, text := do(t, "GET", url, nil)
		if resp.StatusCode != tt.code || text != tt.text {
			t.Errorf("%s: got %d %q, want %d %q", name, resp.StatusCode, text, tt.code, tt.text)
		}
	}
}

func TestHeadHasTheLengthOfGet(t *testing.T) {
	url, _, _ := serveBackend(t, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		return &backend.Response{Status: 200, Length: 1234}, nil
	})
	resp, text := do(t, "HEAD", url, nil)
	if resp.ContentLength != 1234 || text != "" {
		t.Errorf("length %d, body %q", resp.ContentLength, text)
	}
}

type brokenBody struct{ n int }

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, errs.E(errs.Corrupt)
	}
	return copy(p, "part"), nil
}
func (*brokenBody) Close() error { return nil }

// A failure that has an end in it is no end.
func TestCopyBodyEndsOnlyAtTheEnd(t *testing.T) {
	for want, src := range map[bool]io.Reader{
		true:  strings.NewReader("part"),
		false: io.MultiReader(strings.NewReader("part"), iotest.ErrReader(errs.E(errs.Unavailable, io.EOF))),
	} {
		var to strings.Builder
		if err := CopyBody(t.Context(), &to, src, -1); (err == nil) != want || to.String() != "part" {
			t.Errorf("copied %q, %v, want the whole %v", to.String(), err, want)
		}
	}
}

func TestABrokenBodyNeverLooksWhole(t *testing.T) {
	for name, body := range map[string]io.ReadCloser{
		"fails":  &brokenBody{2},
		"short":  io.NopCloser(strings.NewReader("part")),
		"absent": nil,
	} {
		url, _, _ := serveBackend(t, func(context.Context, *backend.Request) (*backend.Response, error) {
			return &backend.Response{Status: 200, Length: 100, Body: body}, nil
		})
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the client took it for the whole", name)
		}
	}
}

func TestPanicIs500AndTheServerGoesOn(t *testing.T) {
	url, log, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("boom")
		}
		_, _ = w.Write([]byte("fine"))
	}), Observed{})
	if resp, _ := do(t, "GET", url+"/panic", nil); resp.StatusCode != 500 {
		t.Errorf("got %d, want 500", resp.StatusCode)
	}
	if !strings.Contains(log.String(), "boom") {
		t.Errorf("the log lacks the panic: %s", log)
	}
	if _, text := do(t, "GET", url, nil); text != "fine" {
		t.Errorf("after it: %q", text)
	}
}

func TestBodyErrorsHaveKinds(t *testing.T) {
	kinds := make(chan errs.Kind, 1)
	url, _, _ := observed(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		kinds <- errs.KindOf(err)
	}), Observed{Silence: 50 * time.Millisecond})
	for name, tt := range map[string]struct {
		leave bool
		want  errs.Kind
	}{
		"client leaves":    {true, errs.Aborted},
		"client is silent": {false, errs.Timeout},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
		if tt.leave {
			_ = c.Close()
		}
		if got := <-kinds; got != tt.want {
			t.Errorf("%s: kind %v, want %v", name, got, tt.want)
		}
		_ = c.Close()
	}
}

// A client that does not send the body that it announced still gets the answer.
// A client that asks for the connection to be kept reads that it is, and never
// so of one that is closed.
func TestConnectionIsAnswered(t *testing.T) {
	url, _, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		Observed{Silence: time.Minute})
	for what, tt := range map[string]struct{ request, want string }{
		"nothing asked":       {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", ""},
		"keep-alive":          {"GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", "keep-alive"},
		"close":               {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "close"},
		"an older client":     {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"},
		"a body nobody reads": {"PUT / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 9999999\r\n\r\n", "close"},
	} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, tt.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_ = resp.Body.Close()
		_ = c.Close()
		got := strings.Join(resp.Header["Connection"], ",")
		if resp.Close && got == "" {
			got = "close"
		}
		if got != tt.want {
			t.Errorf("%s: Connection is %q, want %q", what, got, tt.want)
		}
	}
}

// An answer that is sent while the body comes in: the client reads the first of
// it before it sends the last of its own, and the connection ends with it.
func TestDuplex(t *testing.T) {
	for _, announced := range []string{"", "Expect: 100-continue\r\n"} {
		url, _, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			first := make([]byte, 1)
			_, _ = io.ReadFull(r.Body, first) // a client may wait to be asked
			Duplex(w)
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte("beat "))
			_ = http.NewResponseController(w).Flush()
			rest, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s%s %v", first, rest, err)
		}), Observed{Silence: time.Minute})
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		say := func(text string) {
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
		say("PUT / HTTP/1.1\r\nHost: h\r\n" + announced + "Content-Length: 6\r\n\r\n")
		in := bufio.NewReader(c)
		if announced != "" {
			if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
				t.Fatalf("got %q, %v, want to be asked for the body", line, err)
			}
			_, _ = in.ReadString('\n')
		}
		say("abc")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		beat := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, beat); err != nil || string(beat) != "beat " {
			t.Fatalf("%q: got %q, %v", announced, beat, err)
		}
		say("def")
		rest, err := io.ReadAll(resp.Body)
		if err != nil || string(rest) != "abcdef <nil>" || !resp.Close {
			t.Errorf("%q: got %q, %v, closed is %v", announced, rest, err, resp.Close)
		}
		if n, err := in.Read(beat); err == nil {
			t.Errorf("%q: %q came after the answer", announced, beat[:n])
		}
		_ = resp.Body.Close()
		_ = c.Close()
	}
}

// Nobody waits for what a silent client does not send any more.
func TestDuplexDoesNotWaitForTheBody(t *testing.T) {
	url, _, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		Duplex(w)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("no"))
	}), Observed{Silence: time.Minute})
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	all, err := io.ReadAll(c)
	if took := time.Since(began); err != nil || !strings.HasSuffix(string(all), "\r\n\r\nno") || took > 20*time.Second {
		t.Errorf("got %q, %v after %v", all, err, took)
	}
}

func TestAnAnswerDoesNotWaitForTheBody(t *testing.T) {
	url, _, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(Status(err))
				return
			}
		}
		if r.URL.Path != "/nothing" {
			w.WriteHeader(http.StatusNotFound)
		}
	}), Observed{Silence: 50 * time.Millisecond})
	for name, tt := range map[string]struct {
		path, rest string
		want       int
		closed     bool
	}{
		"unread":          {"/unread", "Content-Length: 10\r\n\r\nabc", 404, true},
		"chunked":         {"/unread", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 404, true},
		"nothing is said": {"/nothing", "Content-Length: 10\r\n\r\nabc", 200, true},
		"silent":          {"/read", "Content-Length: 10\r\n\r\nabc", 408, true},
		"all is there":    {"/unread", "Content-Length: 3\r\n\r\nabc", 404, false},
		"no body":         {"/unread", "\r\n", 404, false},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(c, "PUT "+tt.path+" HTTP/1.1\r\nHost: x\r\n"+tt.rest)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: no answer: %v", name, err)
		} else {
			if resp.StatusCode != tt.want || resp.Close != tt.closed {
				t.Errorf("%s: got %d, close %v, want %d, %v", name, resp.StatusCode, resp.Close, tt.want, tt.closed)
			}
			_ = resp.Body.Close()
		}
		_ = c.Close()
	}
}

func TestSlowTransferOfAnyLengthIsFine(t *testing.T) {
	t.Parallel()
	url, _, _ := observed(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, "%d %v", n, err)
	}), Observed{Silence: time.Second})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20\r\n\r\n")
	tick := time.NewTicker(120 * time.Millisecond) // 2.4 s in all, more than twice the silence that is allowed
	defer tick.Stop()
	for range 20 {
		<-tick.C
		_, _ = c.Write([]byte("x"))
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(text) != "20 <nil>" {
		t.Errorf("got %q", text)
	}
}

func TestRunDrains(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	s := &Server{Name: "test", Listener: l, Log: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-leave
		_, _ = w.Write([]byte("whole"))
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	got := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got <- string(text)
	}()
	<-inside
	cancel()
	waitFor(t, func() bool { // it accepts no more
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(leave)
	if text := <-got; text != "whole" {
		t.Errorf("the request under way got %q", text)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestLogPathHidesSignatures(t *testing.T) {
	for uri, want := range map[string]string{
		"/v1/a/c/o?temp_url_sig=abc&x=1":      "/v1/a/c/o?temp_url_sig=...&x=1",
		"/v1/a/c/o?x=1&temp_url_sig=abc":      "/v1/a/c/o?x=1&temp_url_sig=...",
		"/v1/a/c/temp_url_sig=abc":            "/v1/a/c/temp_url_sig=abc",
		"/?" + strings.Repeat("x", 5000):      "/?" + strings.Repeat("x", 4094) + "...",
		"/o?X-Amz-Signature=s&temp_url_sig=t": "/o?X-Amz-Signature=...&temp_url_sig=...",
	} {
		if got := logPath(uri); got != want {
			t.Errorf("logPath(%.60q) = %.80q, want %.80q", uri, got, want)
		}
	}
}

func TestAdmin(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := NewMetrics(reg, "x"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(Admin(reg, false))
	defer srv.Close()
	if resp, text := do(t, "GET", srv.URL+"/healthcheck", nil); resp.StatusCode != 200 || text != "OK" {
		t.Errorf("healthcheck: %d %q", resp.StatusCode, text)
	}
	if resp, _ := do(t, "GET", srv.URL+"/debug/pprof/", nil); resp.StatusCode != 404 {
		t.Errorf("profiling is on: %d", resp.StatusCode)
	}
	if resp, _ := do(t, "GET", srv.URL+"/metrics", nil); resp.StatusCode != 200 {
		t.Errorf("metrics: %d", resp.StatusCode)
	}
}
