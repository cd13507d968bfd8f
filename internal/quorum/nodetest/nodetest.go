// Package nodetest is storage nodes for tests: real servers, on loopback or in
// memory, whose answers a test scripts, and a ring that leads to them.
package nodetest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/ring"
)

// Nodes is how many nodes a Fleet has, each with one device: d0, d1, ...
const Nodes = 6

// Fleet is the nodes.
type Fleet struct {
	Ring   *ring.Source // d0, d1 and d2 hold the path that the fleet was made for; the others hold all else
	Hasher name.Hasher

	replicas int

	pipes  pipes // where it is in memory
	dialed atomic.Int64

	mu    sync.Mutex
	say   map[string]backend.HandlerFunc // by device; guarded by mu
	asked []string                       // devices in the order they were asked; guarded by mu
}

// New starts a fleet in which the replicas of p are on d0, d1 and d2. A device
// without a script answers 201.
func New(t testing.TB, p name.Path) *Fleet { return Of(t, p, Nodes, 3) }

// Of is New with another number of nodes, twice as many as replicas at least, where the replicas
// of p are on the first devices.
func Of(t testing.TB, p name.Path, nodes, replicas int) *Fleet {
	t.Helper()
	f := newFleet(t)
	f.replicas = replicas
	served := f.handler()
	addrs := make([]string, nodes)
	for i := range addrs {
		srv := httptest.NewServer(served)
		t.Cleanup(srv.Close)
		addrs[i] = strings.TrimPrefix(srv.URL, "http://")
	}
	f.place(t, p, addrs)
	return f
}

// InMemory is New without a network: Dial leads to the nodes, so that their time may
// be that of a synctest bubble.
func InMemory(t testing.TB, p name.Path) *Fleet { return InMemoryOf(t, p, Nodes, 3) }

// InMemoryOf is InMemory with other numbers, as in Of.
func InMemoryOf(t testing.TB, p name.Path, nodes, replicas int) *Fleet {
	t.Helper()
	f := newFleet(t)
	f.replicas = replicas
	f.pipes = make(pipes)
	srv := &http.Server{Handler: f.handler(), ReadHeaderTimeout: time.Minute}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = srv.Serve(f.pipes) // until it is closed
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-over
	})
	addrs := make([]string, nodes)
	for i := range addrs {
		addrs[i] = "127.0.0.1:" + strconv.Itoa(i+1)
	}
	f.place(t, p, addrs)
	return f
}

// Dial makes a connection to a node of a fleet that is in memory.
func (f *Fleet) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case f.pipes <- theirs:
		f.dialed.Add(1)
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dialed returns how many connections Dial made.
func (f *Fleet) Dialed() int { return int(f.dialed.Load()) }

// pipes is a listener.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return new(net.UnixAddr) }

func newFleet(t testing.TB) *Fleet {
	t.Helper()
	hasher, err := name.NewHasher("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	return &Fleet{say: map[string]backend.HandlerFunc{}, Hasher: hasher, replicas: 3}
}

func (f *Fleet) handler() http.Handler {
	log := slog.New(slog.DiscardHandler)
	return httpapi.Observe(httpapi.Backend(backend.HandlerFunc(f.serve), log), httpapi.Observed{Server: "test", Silence: time.Minute, Log: log})
}

// place makes the ring.
func (f *Fleet) place(t testing.TB, p name.Path, addrs []string) {
	t.Helper()
	data := ring.Data{PartPower: 8}
	hash := f.Hasher.Hash(p)
	for i := range uint32(f.replicas) {
		row := slices.Repeat([]uint32{uint32(f.replicas) + i}, 256)
		row[hash[0]] = i
		data.Rows = append(data.Rows, row)
	}
	for i, addr := range addrs {
		host, portText, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.Atoi(portText)
		if err != nil {
			t.Fatal(err)
		}
		data.Devices = append(data.Devices, &ring.Device{ID: i, Region: 1, Zone: i + 1, IP: host, Port: port, Name: "d" + strconv.Itoa(i), Weight: 1})
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.ring.gz")
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	if f.Ring, err = ring.Open(file); err != nil {
		t.Fatal(err)
	}
}

func (f *Fleet) serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	to, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.asked = append(f.asked, to.Device)
	say := f.say[to.Device]
	f.mu.Unlock()
	if say == nil {
		say = Always(201, "")
	}
	return say(ctx, r)
}

// Script says what a device answers from now on.
func (f *Fleet) Script(device string, say backend.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.say[device] = say
}

// Asked returns the devices in the order in which they were asked.
func (f *Fleet) Asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// Status is an answer without a body, with X-Backend-Timestamp where stamp is
// not empty.
func Status(code int, stamp string) *backend.Response {
	r := &backend.Response{Status: code}
	if stamp != "" {
		r.Header.Add(backend.BackendStamp, stamp)
	}
	return r
}

// Always answers every request alike.
func Always(code int, stamp string) backend.HandlerFunc {
	return func(context.Context, *backend.Request) (*backend.Response, error) { return Status(code, stamp), nil }
}

// Body answers every request with a text.
func Body(code int, stamp, text string) backend.HandlerFunc {
	return func(context.Context, *backend.Request) (*backend.Response, error) {
		r := Status(code, stamp)
		r.Length, r.Body = int64(len(text)), io.NopCloser(strings.NewReader(text))
		return r, nil
	}
}
