package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
)

// chained is a proxy without a cluster: what its chain does not answer goes to
// last.
func chained(t testing.TB, last chain.Handler) (h http.Handler, token string) {
	t.Helper()
	a, err := auth.New(auth.Config{
		Users:            []auth.User{{Account: "test", Name: "tester", Key: "testing", Groups: []string{".admin"}}},
		ResellerPrefixes: []string{"AUTH"}, AuthPrefix: "/auth/", StorageURLScheme: auth.SchemeDefault, TokenLife: auth.Defaults().TokenLife,
	}, []string{"a secret of the cluster"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := httpapi.NewGate(prometheus.NewRegistry(), "proxy", Defaults().gate(nil))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{cfg: Defaults(), gate: gate, auth: a, who: auth.Chain{a.Tokens}, log: slog.New(slog.DiscardHandler)}
	s.infos = newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) { return facts{exists: true, at: time.Now()}, nil }) // that say nothing
	metrics, err := httpapi.NewMetrics(prometheus.NewRegistry(), "proxy")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err = a.Tokens.Issue("test:tester")
	if err != nil {
		t.Fatal(err)
	}
	path := name.Path{Account: "AUTH_test", Container: "c", Object: "o"}
	return s.observed(s.face(last, func(*http.Request) name.Path { return path }), metrics), token
}

// sink is a client that throws all away.
type sink struct{ h http.Header }

func (s *sink) Header() http.Header              { return s.h }
func (s *sink) WriteHeader(int)                  {}
func (s *sink) Write(p []byte) (int, error)      { return len(p), nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// plainRequest is a GET that uses no feature, and what answers it at the end of
// the chain without work of its own.
func plainRequest(token string) (*http.Request, chain.Handler) {
	r, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://h/v1/AUTH_test/c/o", nil)
	r.RequestURI, r.Body = "/v1/AUTH_test/c/o", http.NoBody
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("User-Agent", "test")
	resp := &chain.Response{Status: 200, Header: http.Header{"Content-Type": {"text/plain"}, "Etag": {"e"}}}
	return r, chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return resp })
}

// BenchmarkChain is what every request pays: all that stands around the core but
// the router, for one that uses nothing of it. The collector runs every few
// milliseconds where there is next to nothing else in memory, as here.
func BenchmarkChain(b *testing.B) {
	_, last := plainRequest("")
	h, token := chained(b, last)
	r, _ := plainRequest(token)
	w := &sink{h: http.Header{}}
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpu is the processor time of this process so far, in nanoseconds: what a machine
// with other work takes away is not in it.
func cpu(b *testing.B) int64 {
	b.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}

// Whoever is wrong about who they are gets no further, and is told what to bring.
func TestTheChainAuthenticates(t *testing.T) {
	for what, tt := range map[string]struct {
		token string
		want  int
		user  string
	}{
		"good":    {"", 200, "test:tester"},
		"none":    {"-", 200, ""},
		"forged":  {"AUTH_tkforged", 401, ""},
		"another": {"OTHER_tk", 200, ""}, // nobody here knows it: anonymous
	} {
		var seen *chain.Request
		h, token := chained(t, chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
			seen = r
			return chain.Empty(200)
		}))
		switch tt.token {
		case "":
		case "-":
			token = ""
		default:
			token = tt.token
		}
		r, _ := plainRequest(token)
		if token == "" {
			r.Header.Del("X-Auth-Token")
		}
		w := &statusSink{sink: sink{h: http.Header{}}}
		h.ServeHTTP(w, r)
		if w.status != tt.want || (seen == nil) != (tt.want != 200) {
			t.Errorf("%s: got %d, want %d", what, w.status, tt.want)
			continue
		}
		if user := ""; seen != nil {
			if seen.Identity != nil {
				user = seen.Identity.User
			}
			if user != tt.user {
				t.Errorf("%s: it is %q, want %q", what, user, tt.user)
			}
		}
		if tt.want == 401 && w.h.Get("Www-Authenticate") != `Swift realm="AUTH_test"` {
			t.Errorf("%s: it is asked for %q", what, w.h.Get("Www-Authenticate"))
		}
	}
}

// A service's token adds to what the sender is, and a bad one does not take away.
func TestServiceTokens(t *testing.T) {
	for what, tt := range map[string]struct {
		own, service bool
		forged       string
		groups       int // -1 is nobody
	}{
		"none": {true, false, "", 3}, "good": {true, true, "", 6}, "forged": {true, false, "AUTH_tkforged", 3}, "unknown": {true, false, "x", 3}, "without a user's": {false, true, "", -1},
	} {
		var seen *chain.Request
		h, token := chained(t, chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
			seen = r
			return chain.Empty(200)
		}))
		r, _ := plainRequest(token)
		if !tt.own {
			r.Header.Del("X-Auth-Token")
		}
		if tt.service {
			r.Header.Set("X-Service-Token", token)
		}
		if tt.forged != "" {
			r.Header.Set("X-Service-Token", tt.forged)
		}
		h.ServeHTTP(&statusSink{sink: sink{h: http.Header{}}}, r)
		got := -1
		if seen.Identity != nil {
			got = len(seen.Identity.Groups)
		}
		if got != tt.groups {
			t.Errorf("%s: %d groups, want %d", what, got, tt.groups)
		}
	}
}

type statusSink struct {
	sink
	status int
	n      int
}

func (s *statusSink) WriteHeader(code int) { s.status = code }
func (s *statusSink) Write(p []byte) (int, error) {
	s.n += len(p)
	return len(p), nil
}

// breaks is a body that ends before it should, or with an error.
type breaks struct{ err error }

func (b breaks) Read([]byte) (int, error) { return 0, b.err }
func (b breaks) Close() error             { return nil }

// What breaks off on its way never looks whole: the connection goes.
func TestABodyThatBreaksOffBreaksTheConnection(t *testing.T) {
	for what, body := range map[string]io.ReadCloser{"error": breaks{errs.E(errs.Unavailable)}, "too short": breaks{io.EOF}} {
		h, token := chained(t, chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
			return &chain.Response{Status: 200, Header: http.Header{}, Length: 9, Body: body}
		}))
		r, _ := plainRequest(token)
		var p any
		func() {
			defer func() { p = recover() }()
			h.ServeHTTP(&statusSink{sink: sink{h: http.Header{}}}, r)
		}()
		if p != http.ErrAbortHandler {
			t.Errorf("%s: the handler ended with %v", what, p)
		}
	}
}
