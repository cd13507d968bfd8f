package swift

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// account answers as Swift does, for one token at a time.
type account struct {
	mu      sync.Mutex
	token   int
	signed  int
	objects map[string]string
	seen    []string // method, and path
	refuse  bool     // no sign-in
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.URL.Path == "/auth/v1.0" {
		a.signed++
		if r.Header.Get("X-Auth-User") != "test:tester" || r.Header.Get("X-Auth-Key") != "testing" || a.refuse {
			w.WriteHeader(401)
			return
		}
		w.Header().Set("X-Auth-Token", fmt.Sprint("token", a.token))
		w.Header().Set("X-Storage-Url", "http://"+r.Host+"/v1/AUTH_test")
		return
	}
	a.seen = append(a.seen, r.Method+" "+r.URL.EscapedPath())
	if r.Header.Get("X-Auth-Token") != fmt.Sprint("token", a.token) {
		w.WriteHeader(401)
		return
	}
	switch r.Method {
	case "PUT":
		text, _ := io.ReadAll(r.Body)
		a.objects[r.URL.Path] = string(text)
		sum := md5.Sum(text)
		w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:])+`"`)
		w.WriteHeader(201)
	default:
		text, ok := a.objects[r.URL.Path]
		if !ok {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text)
	}
}

func serve(t *testing.T) (*account, string) {
	t.Helper()
	a := &account{objects: map[string]string{}}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return a, s.URL
}

func (a *account) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token++
}

func open(t *testing.T, url string, endpoints ...string) *Client {
	t.Helper()
	c, err := Open(t.Context(), Credentials{URL: url + "/auth/v1.0", User: "test:tester", Key: "testing"}, Options{Endpoints: endpoints, Connections: 4, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func put(text string) Request {
	return Request{Method: "PUT", Container: Quote("a b"), Object: "o", Length: int64(len(text)), Body: strings.NewReader(text)}
}

func TestObjects(t *testing.T) {
	a, url := serve(t)
	s := open(t, url).Sender(0)
	for _, size := range []int{0, 1, 5000, 300_000} {
		text := strings.Repeat("x", size)
		got, err := s.Do(t.Context(), put(text), nil)
		if sum := md5.Sum([]byte(text)); err != nil || got.Status != 201 || got.ETag != hex.EncodeToString(sum[:]) {
			t.Fatalf("PUT of %d bytes: %+v, %v", size, got, err)
		}
		var back strings.Builder
		got, err = s.Do(t.Context(), Request{Method: "GET", Container: Quote("a b"), Object: "o"}, func(p []byte) { back.Write(p) })
		if err != nil || got.Status != 200 || got.Bytes != int64(size) || back.String() != text {
			t.Fatalf("GET of %d bytes: %+v, %v", size, got, err)
		}
		got, err = s.Do(t.Context(), Request{Method: "HEAD", Container: Quote("a b"), Object: "o"}, nil)
		if err != nil || got.Status != 200 || got.Length != int64(size) || got.Bytes != 0 {
			t.Fatalf("HEAD of %d bytes: %+v, %v", size, got, err)
		}
	}
	if a.seen[0] != "PUT /v1/AUTH_test/a%20b/o" {
		t.Errorf("the first request was %s", a.seen[0])
	}
	if got, err := s.Do(t.Context(), Request{Method: "GET", Container: "c"}, nil); err != nil || got.Status != 404 {
		t.Errorf("GET of what is not there: %+v, %v", got, err)
	}
}

// A token that ends is renewed once for all, and what was refused is sent again, whole.
func TestTokenEnds(t *testing.T) {
	a, url := serve(t)
	c := open(t, url)
	senders := []*Sender{c.Sender(0), c.Sender(1)}
	a.expire()
	for i, s := range senders {
		if got, err := s.Do(t.Context(), put("hello"), nil); err != nil || got.Status != 201 {
			t.Fatalf("sender %d: %+v, %v", i, got, err)
		}
		if a.objects["/v1/AUTH_test/a b/o"] != "hello" {
			t.Fatalf("sender %d stored %q", i, a.objects)
		}
	}
	if a.signed != 2 {
		t.Errorf("signed in %d times, want once, and once again", a.signed)
	}
	a.expire()
	a.refuse = true
	if got, err := senders[0].Do(t.Context(), put("x"), nil); err != nil || got.Status != 401 {
		t.Errorf("where nobody may sign in again: %+v, %v", got, err)
	}
}

// Requests go round the endpoints, each sender from another on.
func TestEndpoints(t *testing.T) {
	a, urlA := serve(t)
	b, urlB := serve(t)
	c := open(t, urlA, urlA, urlB)
	for i := range 4 {
		s := c.Sender(i)
		for range 3 {
			if got, err := s.Do(t.Context(), put("x"), nil); err != nil || got.Status != 201 {
				t.Fatalf("%+v, %v", got, err)
			}
		}
	}
	if len(a.seen) != 6 || len(b.seen) != 6 || len(c.Addresses()) != 2 {
		t.Errorf("%d and %d requests at %v", len(a.seen), len(b.seen), c.Addresses())
	}
}

func TestKeystone(t *testing.T) {
	_, storage := serve(t)
	keystone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Auth struct {
				Identity struct {
					Methods  []string
					Password struct {
						User struct {
							Name, Password string
							Domain         struct{ Name string }
						}
					}
				}
				Scope struct {
					Project struct {
						Name   string
						Domain struct{ Name string }
					}
				}
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		user, project := q.Auth.Identity.Password.User, q.Auth.Scope.Project
		if r.URL.Path != "/v3/auth/tokens" || user.Name != "me" || user.Password != "secret" || user.Domain.Name != "Default" || project.Name != "p" || project.Domain.Name != "Default" {
			w.WriteHeader(401)
			return
		}
		w.Header().Set("X-Subject-Token", "token0")
		w.WriteHeader(201)
		_, _ = fmt.Fprintf(w, `{"token": {"catalog": [{"type": "image", "endpoints": [{"interface": "public", "url": "http://x"}]},
			{"type": "object-store", "endpoints": [{"interface": "internal", "region": "a", "url": "http://x"}, {"interface": "public", "region": "a", "url": "%s/v1/AUTH_a"},
			{"interface": "public", "region_id": "b", "url": "%s/v1/AUTH_b"}]}]}}`, storage, storage)
	}))
	t.Cleanup(keystone.Close)
	creds := Credentials{URL: keystone.URL + "/v3/", User: "me", Key: "secret", Keystone: &Keystone{Project: "p", Domain: "Default"}}
	for region, want := range map[string]string{"": "/v1/AUTH_a", "a": "/v1/AUTH_a", "b": "/v1/AUTH_b"} {
		creds.Keystone.Region = region
		c, err := Open(t.Context(), creds, Options{})
		if err != nil || c.path != want {
			t.Fatalf("region %q: %v", region, err)
		}
		if got, err := c.Sender(0).Do(t.Context(), put("x"), nil); err != nil || got.Status != 201 {
			t.Errorf("region %q: %+v, %v", region, got, err)
		}
		c.Close()
	}
	creds.Keystone.Region = "c"
	if _, err := Open(t.Context(), creds, Options{}); err == nil || !strings.Contains(err.Error(), `region "c"`) {
		t.Errorf("of a region that there is not: %v", err)
	}
	creds.Key = "wrong"
	if _, err := Open(t.Context(), creds, Options{}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]Credentials{
		"nothing":                  {},
		"a token alone":            {Token: "t"},
		"a storage URL alone":      {Storage: "http://h/v1/A"},
		"a token and a user":       {Token: "t", Storage: "http://h/v1/A", User: "u"},
		"no user":                  {URL: "http://h/auth/v1.0", Key: "k"},
		"no key":                   {URL: "http://h/auth/v1.0", User: "u"},
		"no scheme":                {URL: "h:8080/auth", User: "u", Key: "k"},
		"another scheme":           {URL: "ftp://h/auth", User: "u", Key: "k"},
		"Keystone, and no project": {URL: "http://h/v3", User: "u", Key: "k", Keystone: &Keystone{}},
	} {
		if err := c.Check(); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	for _, c := range []Credentials{{Token: "t", Storage: "https://h/v1/A"}, {URL: "http://h/auth/v1.0", User: "u", Key: "k"}} {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := (Options{Endpoints: []string{"http://h:1", "http://h:1/v1"}}).Check(); err == nil {
		t.Error("an endpoint with a path: want an error")
	}
}

// Why there was no answer is told apart.
func TestWhy(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/A/silent":
			<-r.Context().Done()
		case "/v1/A/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "ten bytes.")
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(slow.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx       context.Context
		url, path string
		want      string
	}{
		"silent":   {t.Context(), slow.URL, "silent", "timeout"},
		"short":    {t.Context(), slow.URL, "short", "connection broken"},
		"nobody":   {t.Context(), closed.URL, "x", "connection refused"},
		"too late": {ended, slow.URL, "x", "cut off at the end"},
	} {
		c, err := Open(t.Context(), Credentials{Token: "t", Storage: tt.url + "/v1/A"}, Options{Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Sender(0).Do(tt.ctx, Request{Method: "GET", Container: tt.path}, nil); err == nil || Why(err) != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
		c.Close()
	}
}
