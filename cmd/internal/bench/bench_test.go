package bench

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/size"
	"martlet/cmd/internal/bench/swift"
	"martlet/cmd/internal/bench/work"
)

// store is a Swift account in memory, that may be told to misbehave.
type store struct {
	mu         sync.Mutex
	containers map[string]map[string][]byte
	counts     map[string]int // of each method on objects
	requests   int
	corrupt    func(method string, n int, body []byte) []byte // what is sent instead, of the n-th of its method
	resum      bool                                           // with the ETag of that
	etag       func(method string, n int) string              // an ETag instead, "" for its own
	fail       func(method string, n int) int                 // a status instead, 0 for none
}

func newStore(t *testing.T) (*store, Options) {
	t.Helper()
	s := &store{containers: map[string]map[string][]byte{}, counts: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	o := Defaults()
	o.Credentials = swift.Credentials{Token: "t", Storage: server.URL + "/v1/A"}
	o.Name, o.Concurrency, o.Objects, o.Containers, o.Warmup, o.Duration, o.Operations = "test", 4, 40, 2, 0, 0, 100
	o.Verify, o.Timeout = true, time.Minute
	return s, o
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/v1/A"), "/", 3)
	switch len(parts) {
	case 1:
		s.list(w, r, slices.Collect(keys(s.containers)))
	case 2:
		s.container(w, r, parts[1])
	default:
		s.object(w, r, parts[1], parts[2], body)
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (s *store) list(w http.ResponseWriter, r *http.Request, names []string) {
	slices.Sort(names)
	n := 0
	for _, name := range names {
		if name > r.FormValue("marker") && strings.HasPrefix(name, r.FormValue("prefix")) && n < 3 { // small pages
			_, _ = fmt.Fprintln(w, name)
			n++
		}
	}
}

func (s *store) container(w http.ResponseWriter, r *http.Request, name string) {
	c, there := s.containers[name]
	switch {
	case r.Method == "PUT" && there:
		w.WriteHeader(202)
	case r.Method == "PUT":
		s.containers[name] = map[string][]byte{}
		w.WriteHeader(201)
	case !there:
		w.WriteHeader(404)
	case r.Method == "DELETE" && len(c) > 0:
		w.WriteHeader(409)
	case r.Method == "DELETE":
		delete(s.containers, name)
		w.WriteHeader(204)
	case r.Method == "GET":
		s.list(w, r, slices.Collect(keys(c)))
	}
}

func (s *store) object(w http.ResponseWriter, r *http.Request, container, name string, body []byte) {
	s.counts[r.Method]++
	n := s.counts[r.Method]
	if s.fail != nil {
		if status := s.fail(r.Method, n); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	c := s.containers[container]
	text, there := c[name]
	if r.Method == "PUT" {
		c[name], text = body, body
	}
	sum := md5.Sum(text)
	w.Header().Set("Etag", hex.EncodeToString(sum[:]))
	if s.corrupt != nil {
		text = s.corrupt(r.Method, n, text)
	}
	if s.resum {
		sum = md5.Sum(text)
		w.Header().Set("Etag", hex.EncodeToString(sum[:]))
	}
	if s.etag != nil {
		if etag := s.etag(r.Method, n); etag != "" {
			w.Header().Set("Etag", etag)
		}
	}
	switch {
	case r.Method == "PUT":
		w.WriteHeader(201)
	case !there:
		w.WriteHeader(404)
	case r.Method == "DELETE":
		delete(c, name)
		w.WriteHeader(204)
	default:
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		if r.Method == "GET" {
			_, _ = w.Write(text)
		}
	}
}

func dist(t *testing.T, text string) size.Dist {
	t.Helper()
	d, err := size.ParseDist(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// find returns the operations of a kind, of all rounds together.
func find(r *result.Report, k work.Kind) (sum result.Operation) {
	for _, round := range r.Rounds {
		for _, o := range round.Operations {
			if o.Kind == k.String() {
				sum.OK += o.OK
				sum.Errors += o.Errors
				sum.Wrong += o.Wrong
				sum.Bytes += o.Bytes
				sum.Examples = append(sum.Examples, o.Examples...)
			}
		}
	}
	return sum
}

// Each kind does what it says, finds what it should, and leaves nothing.
func TestEachKind(t *testing.T) {
	for k := range work.Kind(work.Kinds) {
		t.Run(k.String(), func(t *testing.T) {
			s, o := newStore(t)
			o.Operation, o.Mix, o.Sizes, o.Rounds = k.String(), work.Only(k), dist(t, "0:1,1-100:8,20000:1"), 2
			o.Operations, o.Objects = 30, 20
			want := int64(60)
			switch k {
			case work.Put:
				o.Objects = 0
			case work.Delete:
				want = 40 // each round as many as there are
			default:
			}
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got := find(r, k)
			if got.OK != want || got.Errors != 0 || len(r.Rounds) != 2 || r.Interrupted {
				t.Errorf("%d done, %d errors, %q, want %d", got.OK, got.Errors, got.Examples, want)
			}
			if len(s.containers) != 0 {
				t.Errorf("%d containers are left", len(s.containers))
			}
			if wantPuts := map[work.Kind]int{work.Put: 60, work.Delete: 40}[k]; wantPuts > 0 && s.counts["PUT"] != wantPuts {
				t.Errorf("%d PUTs, want %d", s.counts["PUT"], wantPuts)
			}
		})
	}
}

func TestMixed(t *testing.T) {
	s, o := newStore(t)
	o.Mix, o.Operations, o.Warmup, o.Settle = work.Mix{1, 3, 1, 1, 1}, 150, 20*time.Millisecond, time.Millisecond
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	for k := range work.Kind(work.Kinds) {
		got := find(r, k)
		if got.Errors > 0 || got.OK == 0 {
			t.Errorf("%v: %d done, %d errors: %q", k, got.OK, got.Errors, got.Examples)
		}
		all += got.OK
	}
	if all != 150 || len(s.containers) != 0 {
		t.Errorf("%d done, %d containers left", all, len(s.containers))
	}
}

// A byte that is another, bytes that are missing, and an ETag that is not theirs are found, each time and on whatever kind.
func TestVerify(t *testing.T) {
	for name, tt := range map[string]struct {
		kind    work.Kind
		corrupt func(method string, n int, body []byte) []byte
		resum   bool
	}{
		"a byte": {work.Get, func(method string, n int, body []byte) []byte {
			if method != "GET" || n%10 != 0 {
				return body
			}
			other := slices.Clone(body)
			other[len(other)/2] ^= 1
			return other
		}, false},
		"a byte, with its ETag": {work.Get, func(method string, n int, body []byte) []byte {
			if method != "GET" || n%10 != 0 {
				return body
			}
			return slices.Concat(body[8:], body[:8])
		}, true},
		"short": {work.Get, func(method string, n int, body []byte) []byte {
			if method != "GET" || n%10 != 0 {
				return body
			}
			return body[:len(body)-1]
		}, false},
		"a HEAD": {work.Head, func(method string, n int, body []byte) []byte {
			if method != "HEAD" || n%10 != 0 {
				return body
			}
			return body[:1]
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, o := newStore(t)
			o.Mix, s.corrupt, s.resum = work.Only(tt.kind), tt.corrupt, tt.resum
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got := find(r, tt.kind)
			if got.Wrong != 10 || got.OK != 90 || len(got.Examples) == 0 {
				t.Errorf("%d are wrong, %d well: %q", got.Wrong, got.OK, got.Examples)
			}
			if errs, wrong := r.Failed(); errs != 10 || wrong != 10 {
				t.Errorf("the report says %d, %d", errs, wrong)
			}
		})
	}
}

// An ETag that does not belong to what was put is found, by the PUT that it answers.
func TestVerifyPut(t *testing.T) {
	_, o := newStore(t)
	wrongETag := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Etag", "d41d8cd98f00b204e9800998ecf8427e")
		w.WriteHeader(map[string]int{"PUT": 201, "DELETE": 204}[r.Method])
	}))
	defer wrongETag.Close()
	o.Credentials.Storage = wrongETag.URL + "/v1/A"
	o.Mix, o.Objects, o.Keep = work.Only(work.Put), 0, true
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := find(r, work.Put); got.Wrong != 100 {
		t.Errorf("%d are wrong", got.Wrong)
	}
}

// An ETag that is another's is found where the bytes are right.
func TestVerifyETag(t *testing.T) {
	for _, k := range []work.Kind{work.Get, work.Head} {
		s, o := newStore(t)
		o.Mix = work.Only(k)
		s.etag = func(method string, n int) string {
			if method == "PUT" || n%4 != 0 {
				return ""
			}
			return "d41d8cd98f00b204e9800998ecf8427e"
		}
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := find(r, k); got.Wrong != 25 || got.OK != 75 {
			t.Errorf("%v: %d are wrong, %d well", k, got.Wrong, got.OK)
		}
	}
}

// Without --verify bytes are not looked at; a length still is.
func TestWithoutVerify(t *testing.T) {
	s, o := newStore(t)
	o.Verify, o.Mix = false, work.Only(work.Get)
	s.corrupt = func(method string, n int, body []byte) []byte {
		if method == "GET" && n%4 == 0 {
			return body[:len(body)-1]
		}
		return slices.Concat(body[1:], body[:1])
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := find(r, work.Get); got.Wrong != 25 || got.OK != 75 {
		t.Errorf("%d are wrong, %d well", got.Wrong, got.OK)
	}
}

// What fails is counted by its status. An object that can't be put before is put again, and after some tries there is no benchmark.
func TestFailures(t *testing.T) {
	s, o := newStore(t)
	o.Mix = work.Only(work.Get)
	s.fail = func(method string, n int) int {
		if method == "GET" && n <= 7 || method == "PUT" && n <= 13 {
			return 503
		}
		return 0
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Rounds[0].Operations[0]; got.Errors != 7 || got.Statuses["503"] != 7 || got.Statuses["200"] != 93 {
		t.Errorf("%+v", got)
	}
	s.fail = func(method string, _ int) int { return map[string]int{"PUT": 507}[method] }
	if r, err := Run(t.Context(), o); r != nil || err == nil || !strings.Contains(err.Error(), "40 of 40 objects could not be put") || !strings.Contains(err.Error(), "507") {
		t.Errorf("where nothing can be put: %v, %v", r, err)
	}
	if len(s.containers) != 0 {
		t.Errorf("%d containers are left", len(s.containers))
	}
}

// Whoever interrupts it has the figures until then, and nothing is left.
func TestInterrupted(t *testing.T) {
	s, o := newStore(t)
	o.Mix, o.Operations, o.Duration, o.Rounds = work.Only(work.Get), 0, time.Hour, 3
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.fail = func(method string, n int) int {
		if method == "GET" && n == 200 {
			cancel()
		}
		return 0
	}
	said := ""
	o.Say = func(line string) { said += line }
	r, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if got := find(r, work.Get); !r.Interrupted || len(r.Rounds) != 1 || got.OK < 199 || got.Errors != 0 || len(r.Summary) == 0 {
		t.Errorf("%d done, %d errors, %d rounds, interrupted %v", got.OK, got.Errors, len(r.Rounds), r.Interrupted)
	}
	if len(s.containers) != 0 || !strings.Contains(said, "cleanup --name test") {
		t.Errorf("%d containers are left; it said %q", len(s.containers), said)
	}
	// While objects are put there is nothing to tell.
	s.counts = map[string]int{}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	s.fail = func(method string, n int) int {
		if method == "PUT" && n == 10 {
			cancel()
		}
		return 0
	}
	if r, err := Run(ctx, o); r != nil || err == nil || len(s.containers) != 0 {
		t.Errorf("%v, %v, %d containers are left", r, err, len(s.containers))
	}
}

// What is kept can be read by a later run, is in no other's way, and is taken away by its name. What is nobody's
// but the account's stays.
func TestKeptAndCleanedUp(t *testing.T) {
	s, o := newStore(t)
	for _, foreign := range []string{"photos", "martlet-bench", "martlet-bench-x", "martlet-bench-test-", "martlet-bench-test-1a", "martlet-bench--1"} {
		s.containers[foreign] = map[string][]byte{"o": nil}
	}
	o.Mix, o.Keep = work.Only(work.Get), true
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second run of one name: %v", err)
	}
	puts := s.counts["PUT"]
	o.Filled, o.Keep = true, false
	r, err := Run(t.Context(), o)
	if err != nil || find(r, work.Get).OK != 100 || s.counts["PUT"] != puts {
		t.Fatalf("of what was kept: %v, %d PUTs more", err, s.counts["PUT"]-puts)
	}
	o.Name = "test-2" // whose containers begin with those of the other
	o.Filled, o.Keep = false, true
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	options := swift.Options{Connections: 4, Timeout: time.Minute}
	done, err := Cleanup(t.Context(), o.Credentials, options, "test", nil)
	if err != nil || done != (Cleaned{40, 2}) || len(s.containers) != 8 {
		t.Errorf("of one name: %+v, %v, %d containers are left", done, err, len(s.containers))
	}
	done, err = Cleanup(t.Context(), o.Credentials, options, "", nil)
	if err != nil || done != (Cleaned{40, 2}) || len(s.containers) != 6 {
		t.Errorf("of all: %+v, %v, %d containers are left", done, err, len(s.containers))
	}
}

// Nothing is sent with options that make no sense.
func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no clients":                           func(o *Options) { o.Concurrency = 0 },
		"no containers":                        func(o *Options) { o.Containers = 0 },
		"no rounds":                            func(o *Options) { o.Rounds = 0 },
		"no end":                               func(o *Options) { o.Duration, o.Operations = 0, 0 },
		"a wait below zero":                    func(o *Options) { o.Settle = -1 },
		"negative":                             func(o *Options) { o.Duration = -1 },
		"no objects":                           func(o *Options) { o.Objects = 0 },
		"fewer objects to delete than clients": func(o *Options) { o.Mix, o.Objects = work.Only(work.Delete), 3 },
		"a warm-up of deletes":                 func(o *Options) { o.Mix, o.Warmup = work.Only(work.Delete), 1 },
		"filled, and puts":                     func(o *Options) { o.Mix, o.Filled = work.Only(work.Put), true },
		"filled, and deletes":                  func(o *Options) { o.Mix, o.Filled = work.Mix{0, 1, 0, 1}, true },
		"a page of nothing":                    func(o *Options) { o.Limit = 0 },
		"a rate below zero":                    func(o *Options) { o.Rate = -1 },
		"no name":                              func(o *Options) { o.Name = "" },
		"a name with a slash":                  func(o *Options) { o.Name = "a/b" },
		"a policy with a new line":             func(o *Options) { o.Policy = "a\nb" },
		"no patience":                          func(o *Options) { o.Timeout = 0 },
		"nobody signs in":                      func(o *Options) { o.Credentials = swift.Credentials{} },
		"an endpoint that is none":             func(o *Options) { o.Endpoints = []string{"h"} },
		"servers that are none":                func(o *Options) { o.Servers = func() ([]int, error) { return nil, io.EOF } },
	} {
		s, o := newStore(t)
		o.Mix = work.Only(work.Get)
		change(&o)
		if r, err := Run(t.Context(), o); err == nil || r != nil || s.requests != 0 {
			t.Errorf("%s: %v, %d requests", name, err, s.requests)
		}
	}
}
