package test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load is clients that PUT and GET new objects of 4 KiB until stop.
type load struct {
	stop   atomic.Bool
	failed atomic.Int64
	wg     sync.WaitGroup

	mu    sync.Mutex
	first string                     // failure; guarded by mu
	took  map[string][]time.Duration // by phase and method; guarded by mu
	phase string                     // guarded by mu
}

func startLoad(t *testing.T, url, token string, clients int) *load {
	t.Helper()
	l := &load{took: map[string][]time.Duration{}, phase: "before"}
	for i := range clients {
		l.wg.Go(func() { l.client(url, token, i) })
	}
	t.Cleanup(func() { l.stop.Store(true); l.wg.Wait() })
	return l
}

func (l *load) enter(phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phase
}

func (l *load) client(url, token string, i int) {
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 30 * time.Second}
	defer c.CloseIdleConnections()
	for n := 0; !l.stop.Load(); n++ {
		body := []byte(strings.Repeat(fmt.Sprintf("%04d-%06d ", i, n), 342))
		at := fmt.Sprintf("%s/o%d-%d", url, i, n) // a name of its own: a node that was away has no older version of it
		l.one(c, http.MethodPut, at, token, body, http.StatusCreated)
		l.one(c, http.MethodGet, at, token, body, http.StatusOK)
	}
}

// one sends a request and checks its answer, which of a GET is the body that was
// acknowledged last.
func (l *load) one(c *http.Client, method, url, token string, body []byte, want int) {
	var send io.Reader
	if method == http.MethodPut {
		send = bytes.NewReader(body)
	}
	r, err := http.NewRequest(method, url, send)
	if err != nil {
		l.fail(err.Error())
		return
	}
	r.Header.Set("X-Auth-Token", token)
	began := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		l.fail(err.Error())
		return
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	took := time.Since(began)
	switch {
	case err != nil:
		l.fail(err.Error())
	case resp.StatusCode != want:
		l.fail(fmt.Sprintf("%s %s: %s\n%s", method, url, resp.Status, got))
	case method == http.MethodGet && !bytes.Equal(got, body):
		l.fail(fmt.Sprintf("GET %s: another body than the one that was acknowledged", url))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[l.phase+" "+method] = append(l.took[l.phase+" "+method], took)
}

func (l *load) fail(why string) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = why
	}
}

// report ends the load and logs what it measured: figures for people, no test.
func (l *load) report(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	phases := make([]string, 0, len(l.took))
	for p := range l.took {
		phases = append(phases, p)
	}
	slices.Sort(phases)
	for _, p := range phases {
		d := l.took[p]
		slices.Sort(d)
		t.Logf("%-18s %6d requests, p50 %v, p99 %v, longest %v", p, len(d), d[len(d)/2], d[len(d)*99/100], d[len(d)-1])
	}
	if n := l.failed.Load(); n > 0 {
		t.Errorf("%d requests failed, the first: %s", n, l.first)
	}
}

// during lets the load run until each phase has seen some requests or a time has
// passed.
func (l *load) during(t *testing.T, phase string, requests int) {
	t.Helper()
	l.enter(phase)
	poll(t, 60*time.Second, "requests "+phase, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.took[phase+" PUT"]); n < requests {
			return fmt.Errorf("%d PUTs of %d", n, requests)
		}
		return nil
	})
}

// TestANodeIsKilledAndNobodyNotices kills a storage node under load, lets it come
// back, and stops another one in its tracks: no request fails, and every GET has
// the body that was acknowledged last.
func TestANodeIsKilledAndNobodyNotices(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	at := c.url() + "/v1/AUTH_test/load"
	as(t, tok, "PUT", at, nil, http.StatusCreated)
	l := startLoad(t, at, tok, 8)
	l.during(t, "before", 400)
	c.storage[1].signal(t, os.Kill)
	c.storage[1].wait(t, 10*time.Second)
	l.during(t, "killed", 1200)
	c.storage[1] = start(t, "storage", "--config", c.file("storage2.toml"))
	l.during(t, "returned", 400)
	c.storage[2].signal(t, syscall.SIGSTOP) // it takes connections, and says nothing
	l.during(t, "hung", 400)
	c.storage[2].signal(t, syscall.SIGCONT)
	l.during(t, "goes on", 400)
	l.report(t)
}
