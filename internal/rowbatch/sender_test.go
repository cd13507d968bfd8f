package rowbatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
)

// server answers as it is told, and remembers what it was sent: the paths of the
// updates in each request.
type server struct {
	gate chan struct{} // a request is answered when something can be taken from it; nil is at once

	mu      sync.Mutex
	swift   int   // status for batches; 0 takes them
	fails   error // what is returned instead of an answer
	status  map[string]int
	late    string // this device is late
	got     [][]string
	waits   []time.Duration
	trans   []string
	answers func([]Result) (status int, body string) // for a batch; nil is what is right
}

func (s *server) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	if addr != "n1" {
		return nil, errors.New("another address")
	}
	if r.Method != Method {
		s.note(r.Path)
		if err := s.pass(ctx); err != nil {
			return nil, err
		}
		return &backend.Response{Status: s.of(r.Path), Length: 2, Body: io.NopCloser(strings.NewReader("ok"))}, nil
	}
	if s.swift != 0 {
		s.note(Method)
		return &backend.Response{Status: s.swift}, nil
	}
	body, err := Read(r.Body, r.Length)
	if err != nil {
		return nil, err
	}
	b, err := Parse(body)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(b.Updates))
	results := make([]Result, len(b.Updates))
	for i, u := range b.Updates {
		paths[i] = u.Path
		results[i] = Result{Status: s.of(u.Path), Text: "row"}
		if s.late != "" && deviceOf(u.Path) == s.late {
			results[i] = Result{Status: 503, Late: true}
		}
		s.trans = append(s.trans, u.Header.Get(backend.TransID))
	}
	s.note(paths...)
	s.waits = append(s.waits, b.Wait)
	if err := s.pass(ctx); err != nil {
		return nil, err
	}
	text, err := AppendResults(nil, results)
	status, answer := 200, string(text)
	if s.answers != nil {
		status, answer = s.answers(results)
	}
	return &backend.Response{Status: status, Length: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer))}, err
}

func (s *server) note(paths ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, paths)
}

func (s *server) pass(ctx context.Context) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return errs.E(errs.Unavailable, ctx.Err())
		}
	}
	return s.fails
}

func (s *server) of(path string) int {
	if c, ok := s.status[path]; ok {
		return c
	}
	return 201
}

// outcome is what an update's sender was told.
type outcome struct {
	status int
	text   string
	err    error
}

// rig is a Sender, one server, and the updates that were sent to it.
type rig struct {
	*server
	t       *testing.T
	sender  *Sender
	updates sync.WaitGroup
	mu      sync.Mutex
	out     map[string]outcome
}

func newRig(t *testing.T, cfg Config, s *server) *rig {
	return &rig{server: s, t: t, sender: NewSender(cfg, s), out: map[string]outcome{}}
}

// send sends updates, one after the other as far as the sender is concerned, and
// returns when all of them wait for something.
func (r *rig) send(within time.Duration, paths ...string) {
	for _, path := range paths {
		r.updates.Go(func() {
			ctx := context.Background()
			if within > 0 {
				var cancel func()
				ctx, cancel = context.WithTimeout(ctx, within)
				defer cancel()
			}
			h := backend.Header{{Name: "X-Timestamp", Value: "1"}, {Name: backend.TransID, Value: "tx" + path}}
			resp, err := r.sender.Do(ctx, "n1", &backend.Request{Method: "PUT", Path: path, Header: h})
			o := outcome{err: err}
			if err == nil {
				o.status = resp.Status
				if resp.Body != nil {
					text, err := io.ReadAll(resp.Body)
					o.text, o.err = string(text), errors.Join(err, resp.Body.Close())
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.out[path] = o
		})
		synctest.Wait()
	}
}

// later lets time pass, which is that of the test's bubble.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// ends waits until everything that was sent is settled.
func (r *rig) ends() {
	r.updates.Wait()
	r.sender.Close()
	r.sender.mu.Lock()
	defer r.sender.mu.Unlock()
	for addr, l := range r.sender.lines {
		if l.flying != 0 || len(l.waiting) != 0 {
			r.t.Errorf("%s has %d requests under way and %d updates waiting after the end", addr, l.flying, len(l.waiting))
		}
	}
}

// want checks the requests that were sent, as paths between spaces, and clears
// the list of them.
func (r *rig) want(what string, requests ...string) {
	r.t.Helper()
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	var got []string
	for _, paths := range r.got {
		got = append(got, strings.Join(paths, " "))
	}
	if !slices.Equal(got, requests) {
		r.t.Errorf("%s: sent were %q, want %q", what, got, requests)
	}
	r.got = nil
}

func (r *rig) statuses(want map[string]int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, status := range want {
		o, ok := r.out[path]
		if !ok || o.status != status || (o.err != nil) != (status == 0) {
			r.t.Errorf("%s: %+v (there: %v), want %d", path, o, ok, status)
		}
	}
}

func TestAloneAndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{}), status: map[string]int{"/d/1": 404, "/d/3": 507, "/e/4": 204}}
		r := newRig(t, Config{Flights: 2}, s)
		r.send(time.Second, "/d/1", "/d/2")
		r.want("two at once", "/d/1", "/d/2")
		r.send(time.Second, "/d/3", "/e/4", "/e/5")
		r.want("while they are under way")
		s.gate <- struct{}{}
		synctest.Wait()
		r.want("one has ended", "/d/3 /e/4 /e/5")
		r.send(time.Second, "/d/6")
		s.gate <- struct{}{}
		synctest.Wait()
		r.want("one that waits alone", "/d/6")
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		r.ends()
		r.statuses(map[string]int{"/d/1": 404, "/d/2": 201, "/d/3": 507, "/e/4": 204, "/e/5": 201, "/d/6": 201})
		if o := r.out["/e/4"]; o.text != "" || r.out["/d/3"].text != "row" || r.out["/d/6"].text != "ok" {
			t.Errorf("texts are wrong: %+v", r.out)
		}
		if !slices.Equal(s.trans, []string{"tx/d/3", "tx/e/4", "tx/e/5"}) {
			t.Errorf("transaction ids of the batch are %q", s.trans)
		}
		if !slices.Equal(s.waits, []time.Duration{500 * time.Millisecond}) {
			t.Errorf("the batch says that it can wait %v, want half of what there is", s.waits)
		}
		if c := r.sender.Counts(); c != (Counts{6, 4, 1}) {
			t.Errorf("counted %+v", c)
		}
	})
}

// Who runs out of time leaves, alone.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1, Patience: time.Hour}, s)
		r.send(time.Minute, "/d/1")
		r.send(time.Minute, "/d/3")
		r.send(time.Second, "/d/2")
		r.send(3*time.Second, "/d/4")
		later(2 * time.Second)
		r.want("before", "/d/1")
		s.gate <- struct{}{}
		synctest.Wait()
		r.want("who has left is not sent", "/d/3 /d/4")
		later(2 * time.Second) // and one leaves what is under way
		r.statuses(map[string]int{"/d/2": 0, "/d/4": 0})
		s.gate <- struct{}{}
		r.ends()
		r.statuses(map[string]int{"/d/1": 201, "/d/3": 201})
		for _, path := range []string{"/d/2", "/d/4"} {
			if err := r.out[path].err; !errs.Is(err, errs.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}

// A request that nobody waits for any more is broken off.
func TestAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1, Patience: time.Hour}, s)
		r.send(time.Minute, "/d/1")
		ctx, cancel := context.WithCancel(t.Context())
		for n := range 2 {
			r.updates.Go(func() {
				_, err := r.sender.Do(ctx, "n1", &backend.Request{Method: "DELETE", Path: fmt.Sprint("/d/c", n)})
				if !errs.Is(err, errs.Aborted) {
					t.Errorf("cancelled: %v", err)
				}
			})
		}
		synctest.Wait()
		s.gate <- struct{}{}
		synctest.Wait()
		if len(s.got) != 2 || len(s.got[1]) != 2 {
			t.Fatalf("sent were %q", s.got)
		}
		cancel()
		r.ends() // with nobody at the gate
	})
}

// Servers that know no batches get their updates one by one, and nothing is lost.
func TestServerWithoutBatches(t *testing.T) {
	for _, status := range []int{400, 404, 405} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{gate: make(chan struct{}), swift: status}
				r := newRig(t, Config{Flights: 1, Updates: 2}, s)
				r.send(time.Second, "/d/1", "/d/2", "/d/3", "/d/4")
				s.gate <- struct{}{}
				synctest.Wait()
				if len(r.got) != 5 || r.got[1][0] != Method {
					t.Fatalf("sent were %q, want one batch and each alone", r.got)
				}
				r.got = nil
				r.send(time.Second, "/d/5", "/d/6")
				r.want("from then on", "/d/5", "/d/6")
				close(s.gate)
				r.ends()
				r.statuses(map[string]int{"/d/1": 201, "/d/2": 201, "/d/3": 201, "/d/4": 201, "/d/5": 201, "/d/6": 201})
				later(plainFor)
				s.swift, s.gate = 0, make(chan struct{}) // it was upgraded
				r.send(time.Second, "/d/7", "/d/8", "/d/9")
				close(s.gate)
				r.ends()
				r.want("after a while", "/d/7", "/d/8 /d/9")
			})
		})
	}
}

// Whatever goes wrong with a batch as a whole, none of its updates counts as
// made, and each sender is told.
func TestBrokenBatch(t *testing.T) {
	died := errs.E(errs.Unavailable, "connection reset")
	right := func(list []Result) string { b, _ := AppendResults(nil, list); return string(b) }
	for what, c := range map[string]struct {
		fails   error
		answers func([]Result) (int, string)
		status  int // 0 is an error
	}{
		"the server dies":   {fails: died},
		"overloaded":        {answers: func([]Result) (int, string) { return 503, "" }, status: 503},
		"no body":           {answers: func([]Result) (int, string) { return 200, "" }},
		"another status":    {answers: func(l []Result) (int, string) { return 202, right(l) }},
		"garbled":           {answers: func(l []Result) (int, string) { return 200, right(l) + "x" }},
		"one result less":   {answers: func(l []Result) (int, string) { return 200, right(l[1:]) }},
		"not what we speak": {answers: func([]Result) (int, string) { return 200, "<html>" }},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{gate: make(chan struct{}), answers: c.answers}
				r := newRig(t, Config{Flights: 1}, s)
				r.send(time.Second, "/d/1", "/d/2", "/d/3")
				s.gate <- struct{}{}
				synctest.Wait()
				s.fails = c.fails
				s.gate <- struct{}{}
				r.ends()
				r.want("requests", "/d/1", "/d/2 /d/3")
				r.statuses(map[string]int{"/d/1": 201, "/d/2": c.status, "/d/3": c.status})
				if err := r.out["/d/2"].err; err != nil && !errs.Is(err, errs.Unavailable) {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// A request that hangs holds up the others for no longer than their patience.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1, Updates: 2, Patience: 100 * time.Millisecond}, s)
		r.send(time.Minute, "/d/1", "/d/2", "/d/3", "/d/4")
		later(99 * time.Millisecond)
		r.want("patient", "/d/1")
		later(2 * time.Millisecond)
		slices.SortFunc(r.got, func(a, b []string) int { return strings.Compare(a[0], b[0]) }) // they run beside each other
		r.want("impatient", "/d/2 /d/3", "/d/4")
		for i := range 3 * maxFlights {
			r.send(time.Minute, fmt.Sprint("/e/", i))
			later(200 * time.Millisecond)
		}
		if len(r.got) != maxFlights-3 {
			t.Errorf("%d requests hang, want %d at most", len(r.got)+3, maxFlights)
		}
		s.gate <- struct{}{} // one ends, and more than should be are still under way
		later(200 * time.Millisecond)
		if len(r.got) != maxFlights-2 {
			t.Errorf("%d requests were sent, want one more", len(r.got)+3)
		}
		close(s.gate)
		r.ends()
	})
}

// Whom the first one leaves behind is not forgotten.
func TestFirstLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1, Patience: 100 * time.Millisecond}, s)
		r.send(time.Minute, "/d/1")
		r.send(50*time.Millisecond, "/d/2")
		r.send(time.Minute, "/d/3", "/d/4")
		later(60 * time.Millisecond)
		r.want("when it has left", "/d/1", "/d/3 /d/4")
		close(s.gate)
		r.ends()
		r.statuses(map[string]int{"/d/2": 0, "/d/3": 201, "/d/4": 201})
	})
}

// A device that was slow once gets its updates beside the batches of the others.
func TestSlowDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{}), late: "slow"}
		r := newRig(t, Config{Flights: 1, Patience: time.Hour}, s)
		r.send(time.Minute, "/d/1", "/slow/2", "/d/3")
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		r.ends()
		r.statuses(map[string]int{"/d/1": 201, "/slow/2": 503, "/d/3": 201})
		r.want("at first", "/d/1", "/slow/2 /d/3")
		r.send(time.Minute, "/slow/4", "/slow/5", "/d/6", "/d/7", "/slow/8")
		r.want("from then on", "/slow/4", "/slow/5", "/d/6", "/slow/8")
		for range 5 {
			s.gate <- struct{}{}
		}
		r.ends()
		later(apartFor)
		s.got, s.late = nil, ""
		r.send(time.Minute, "/slow/9", "/slow/10", "/d/11")
		close(s.gate)
		r.ends()
		r.want("after a while", "/slow/9", "/slow/10 /d/11")
	})
}

// A server of which everything is slow has no device that could be spared.
func TestAllSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{}), late: "d"}
		r := newRig(t, Config{Flights: 1}, s)
		r.send(time.Minute, "/d/1", "/d/2", "/d/3")
		s.gate <- struct{}{}
		s.gate <- struct{}{}
		r.ends()
		if l := r.sender.lines["n1"]; len(l.apart) != 0 {
			t.Errorf("apart are %v", l.apart)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1, Updates: MaxUpdates, Patience: time.Hour}, s)
		r.send(time.Minute, "/d/0")
		long := strings.Repeat("x", 30<<10) // twice in an update: in its path and its id
		for i := range 20 {
			r.send(time.Minute, fmt.Sprintf("/d/%d%s", i+1, long))
		}
		close(s.gate)
		r.ends()
		if len(r.got) != 3 || len(r.got[1]) != 17 || len(r.got[2]) != 3 {
			t.Errorf("batches of 20 updates of 60 KiB: %d, the first %d", len(r.got)-1, len(r.got[1]))
		}
	})
}

// Requests that are no updates of rows go through as they are, at once.
func TestOtherRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{gate: make(chan struct{})}
		r := newRig(t, Config{Flights: 1}, s)
		r.send(time.Minute, "/d/1")
		for _, req := range []*backend.Request{
			{Method: "GET", Path: "/d/2"},
			{Method: "PUT", Path: "/d/3", Query: "q"},
			{Method: "PUT", Path: "/d/4", Length: 1, Body: strings.NewReader("x")},
			{Method: "PUT", Path: "/d/5", Header: backend.Header{{Name: "X", Value: "a\nb"}}},
			{Method: "PUT", Path: "/d/" + strings.Repeat("x", maxUpdate)},
		} {
			r.updates.Go(func() {
				if _, err := r.sender.Do(t.Context(), "n1", req); err != nil {
					t.Errorf("%s %.10s: %v", req.Method, req.Path, err)
				}
			})
		}
		synctest.Wait()
		if len(s.got) != 6 {
			t.Errorf("%d are under way", len(s.got))
		}
		close(s.gate)
		r.ends()
	})
}

// A server that dies in the middle of a batch has confirmed nothing of it.
func TestServerDies(t *testing.T) {
	first, died := make(chan struct{}), make(chan struct{}, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == Method {
			_, _ = io.Copy(io.Discard, r.Body)
			died <- struct{}{}
			panic(http.ErrAbortHandler)
		}
		<-first
		w.WriteHeader(201)
	}))
	defer srv.Close()
	client := direct.New(direct.Config{})
	defer client.Close()
	s := NewSender(Config{Flights: 1, Patience: time.Hour}, client)
	addr := srv.Listener.Addr().String()
	var all sync.WaitGroup
	put := func(path string, taken bool) {
		all.Go(func() {
			resp, err := s.Do(t.Context(), addr, &backend.Request{Method: "PUT", Path: path})
			if taken && (err != nil || resp.Status != 201) || !taken && !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s: %v, %v", path, resp, err)
			}
		})
	}
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.line(addr).waiting) + s.line(addr).flying
	}
	put("/d/1", true)
	for waiting() < 1 {
		runtime.Gosched()
	}
	for i := range 5 {
		put(fmt.Sprint("/d/x", i), false)
	}
	for waiting() < 6 {
		runtime.Gosched()
	}
	close(first)
	all.Wait()
	if len(died) == 0 {
		t.Error("there was no batch")
	}
}

// Addresses are not remembered for ever.
func TestManyAddresses(t *testing.T) {
	s := NewSender(Config{}, everything{})
	for i := range 3 * maxLines {
		if _, err := s.Do(t.Context(), fmt.Sprint("n", i), &backend.Request{Method: "PUT", Path: "/d/1/a/c/o"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.lines) > maxLines {
		t.Errorf("%d addresses are remembered", len(s.lines))
	}
}

// everything takes every request.
type everything struct{}

func (everything) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	return &backend.Response{Status: 201}, nil
}
