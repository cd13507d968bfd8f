// Package nodetest is storage nodes for tests: real servers on loopback whose
// answers a test scripts, and a ring that leads to them.
package nodetest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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

	mu    sync.Mutex
	say   map[string]backend.HandlerFunc // by device; guarded by mu
	asked []string                       // devices in the order they were asked; guarded by mu
}

// New starts a fleet in which the replicas of p are on d0, d1 and d2. A device
// without a script answers 201.
func New(t testing.TB, p name.Path) *Fleet {
	t.Helper()
	hasher, err := name.NewHasher("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{say: map[string]backend.HandlerFunc{}, Hasher: hasher}
	data := ring.Data{PartPower: 8}
	hash := hasher.Hash(p)
	for i := range uint32(3) {
		row := slices.Repeat([]uint32{3 + i}, 256)
		row[hash[0]] = i
		data.Rows = append(data.Rows, row)
	}
	served := httpapi.Observe(httpapi.Backend(backend.HandlerFunc(f.serve), slog.New(slog.DiscardHandler)),
		httpapi.Observed{Server: "test", Silence: time.Minute, Log: slog.New(slog.DiscardHandler)})
	for i := range Nodes {
		srv := httptest.NewServer(served)
		t.Cleanup(srv.Close)
		host, portText, err := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
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
	return f
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
