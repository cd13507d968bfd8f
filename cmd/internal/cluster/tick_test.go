package cluster

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/object/engine"
)

// ticking is a probe with proxies whose clocks stand still, and nodes that hold the PUTs of one object until they are let in.
type ticking struct {
	*probe
	now atomic.Int64 // of the proxies, in nanoseconds since 1970

	mu   sync.Mutex
	what []byte                  // in the request of a PUT that is held; guarded by mu
	came map[int]int             // PUTs of it that came to a node; guarded by mu
	let  map[entry]chan struct{} // closed when one is let in; guarded by mu
}

// entry is the n-th PUT that comes to a node, counted from 0.
type entry struct{ node, n int }

func startTicking(t *testing.T) *ticking {
	k := &ticking{probe: startProbe(t)}
	k.now.Store(time.Now().UnixNano())
	k.hold("")
	for n := range k.nodes {
		k.stop(n + 1)
		k.listen = func(server, address string) (net.Listener, error) {
			l, err := net.Listen("tcp", address)
			if err == nil && server == "object" {
				l = holding{l, k, n + 1}
			}
			return l, err
		}
		k.start(n + 1)
	}
	k.listen = nil
	return k
}

// hold has the PUTs of an object be held from now on, the first two that come to each node.
func (k *ticking) hold(object string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.what, k.came, k.let = []byte("/c/"+object+" HTTP"), map[int]int{}, map[entry]chan struct{}{}
	for n := 1; n <= 4; n++ {
		k.let[entry{n, 0}], k.let[entry{n, 1}] = make(chan struct{}), make(chan struct{})
	}
}

// arrive counts a PUT, and returns what is closed when it is let in; nil for one that is not held.
func (k *ticking) arrive(node int, request []byte) chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	line, _, _ := bytes.Cut(request, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("PUT ")) || !bytes.Contains(line, k.what) {
		return nil
	}
	e := entry{node, k.came[node]}
	k.came[node]++
	return k.let[e]
}

// enter lets the n-th PUT into the nodes of some places.
func (k *ticking) enter(n int, places ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, place := range places {
		close(k.let[entry{nodeAt(place), n}])
	}
}

// arrived waits until so many PUTs have come to each of some places.
func (k *ticking) arrived(n int, places []string) {
	k.t.Helper()
	k.until(fmt.Sprintf("%d requests have come to each replica", n), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, place := range places {
			if k.came[nodeAt(place)] < n {
				return false
			}
		}
		return true
	})
}

type holding struct {
	net.Listener
	k    *ticking
	node int
}

func (h holding) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &held{Conn: c, of: h, ended: make(chan struct{})}, nil
}

type held struct {
	net.Conn
	of    holding
	once  sync.Once
	ended chan struct{}
}

func (c *held) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if in := c.of.k.arrive(c.of.node, b[:n]); in != nil {
		select {
		case <-in:
		case <-c.ended:
		}
	}
	return n, err
}

func (c *held) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// another starts a proxy with a clock that stands still, and returns the URL of the account there.
func (k *ticking) another() string {
	k.t.Helper()
	c, err := config.LoadProxy(k.folder.ProxyFile())
	if err != nil {
		k.t.Fatal(err)
	}
	c.Admin.Listen = ""
	o := k.options()
	o.Now = func() time.Time { return time.Unix(0, k.now.Load()) }
	proxy, err := node.OpenProxy(c, o)
	if err != nil {
		k.t.Fatal(err)
	}
	k.background("a proxy whose clock stands still", proxy.Run)
	return "http://" + proxy.Address() + "/v1/AUTH_test"
}

// answer is what a client is told.
type clientAnswer struct {
	status int
	header http.Header
	err    error
}

// begin sends a PUT of an object in the container c, and returns where its answer will be.
func (k *ticking) begin(account, object string, header map[string]string, body string) <-chan clientAnswer {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPut, account+"/c/"+object, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", k.token)
	r.Header.Set("Content-Type", "text/plain")
	for n, v := range header {
		r.Header.Set(n, v)
	}
	done := make(chan clientAnswer, 1)
	go func() {
		resp, err := k.client.Do(r)
		if err != nil {
			done <- clientAnswer{err: err}
			return
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		done <- clientAnswer{resp.StatusCode, resp.Header, err}
	}()
	return done
}

// Of two PUTs of one tick that are to make something new one at most is told that it has, also where a replicator has brought the first of them to
// replicas before it came to its end there itself: it looks as if it were the second's own. That is so of two proxies that gave them the same time, and
// of one.
func TestMustBeNewInOneTick(t *testing.T) {
	k := startTicking(t)
	first, second := k.another(), k.another()
	for what, tt := range map[string]struct {
		one, two string
		body     string // of the second
	}{
		"two-proxies":          {first, second, "body"},
		"two-proxies-and-data": {first, second, "other"},
		"one-proxy":            {first, first, "body"},
	} {
		k.now.Add(int64(time.Second)) // later than all that is there
		k.hold(what)
		primaries, _ := k.places(what)
		newOnly := map[string]string{"If-None-Match": "*"}
		a := k.begin(tt.one, what, newOnly, "body")
		k.arrived(1, primaries)
		b := k.begin(tt.two, what, newOnly, tt.body)
		k.arrived(2, primaries)
		k.enter(0, primaries[0])
		k.until("the first replica has the first", func() bool { return holds("body")(k.copies(what)[primaries[0]]) })
		k.pass(false)
		k.exactly(what, primaries, holds("body"))
		k.enter(1, primaries...)
		gotB := <-b
		k.enter(0, primaries[1:]...)
		gotA := <-a
		if gotA.err != nil || gotB.err != nil || gotA.status == 201 && gotB.status == 201 || gotB.status == 201 {
			t.Errorf("%s: they got %d, %v and %d, %v, and the first is there", what, gotA.status, gotA.err, gotB.status, gotB.err)
		}
		if gotA.status/100 == 5 || gotB.status/100 == 5 {
			t.Errorf("%s: they got %d and %d", what, gotA.status, gotB.status)
		}
		k.exactly(what, primaries, holds("body"))
	}
}

// Who writes a version at the same time as somebody else, through another proxy, and so finds it there, does not take it for his own: he makes his anew,
// and the other's stays, as he was told that it is kept.
func TestVersionOfSomebodyElse(t *testing.T) {
	k := startTicking(t)
	k.enableVersions(true)
	first, second := k.another(), k.another()
	for what, body := range map[string]string{"alike": "body", "unlike": "other"} {
		k.now.Add(int64(time.Second)) // later than all that is there
		k.hold(what)
		primaries, _ := k.places(what)
		a := k.begin(first, what, nil, "body")
		k.arrived(1, primaries)
		b := k.begin(second, what, nil, body)
		k.arrived(2, primaries)
		k.enter(0, primaries[:2]...)
		k.until("two replicas have the first", func() bool {
			all := k.copies(what)
			return all[primaries[0]].Kind == engine.Live && all[primaries[1]].Kind == engine.Live
		})
		k.pass(false) // which brings it to the third
		k.enter(0, primaries[2])
		gotA := <-a
		k.enter(1, primaries...)
		gotB := <-b
		if gotA.err != nil || gotB.err != nil || gotA.status != 201 || gotB.status != 201 {
			t.Fatalf("%s: they got %d, %v and %d, %v", what, gotA.status, gotA.err, gotB.status, gotB.err)
		}
		ofA, ofB := gotA.header.Get("X-Object-Version-Id"), gotB.header.Get("X-Object-Version-Id")
		if ofA == ofB {
			t.Errorf("%s: both are told of the version %q", what, ofA)
		}
		for range 2 {
			k.pass(false)
		}
		if got := k.body(what, "?version-id="+ofA); got != "body" {
			t.Errorf("%s: the first version reads %q", what, got)
		}
		if got := k.body(what, "?version-id="+ofB); got != body {
			t.Errorf("%s: the second version reads %q", what, got)
		}
		k.wantVersions(what, body, "body")
	}
}
