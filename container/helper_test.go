package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// accounts stands for the account servers: it answers with a status per
// address, 201 unless another is set, and keeps what it was told.
type accounts struct {
	mu     sync.Mutex
	status map[string]int // 0 stands for an error, -1 for silence
	told   []string       // address, path and row
	insist bool           // the last was to be taken by an account that was deleted, too
}

// insisted reports whether what was told last is to be taken by an account that was deleted, too.
func (a *accounts) insisted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.insist
}

func (a *accounts) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	a.mu.Lock()
	h := r.Header
	a.told = append(a.told, fmt.Sprintf("%s %s %s put=%s delete=%s %s/%s policy=%s", addr, r.Method, r.Path, h.Get("X-Put-Timestamp"),
		h.Get("X-Delete-Timestamp"), h.Get("X-Object-Count"), h.Get("X-Bytes-Used"), h.Get("X-Backend-Storage-Policy-Index")))
	a.insist = h.Get(backend.OverrideGone) == "yes"
	status, ok := a.status[addr]
	a.mu.Unlock()
	switch {
	case !ok:
		status = 201
	case status == 0:
		return nil, errors.New("refused")
	case status < 0:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &backend.Response{Status: status, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// heard returns what was told since the last call, in order of text.
func (a *accounts) heard() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.Sorted(slices.Values(a.told))
	a.told = nil
	return list
}

// start returns a server over one device, "sda", below dir.
func start(t testing.TB, dir string) (*Server, *accounts) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "sda"), 0o750); err != nil {
		t.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, dir, []string{"sda"})
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := name.NewHasher("p", "s")
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}, {Index: 3, Name: "tin"}})
	if err != nil {
		t.Fatal(err)
	}
	to := &accounts{status: map[string]int{}}
	s, err := New(Config{NodeTimeout: 50 * time.Millisecond}, Deps{Accounts: to, Deps: dbserver.Deps{
		Devices: set, Hasher: hasher, Policies: policies, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, to
}

// answer is what came back of a request.
type answer struct {
	status int
	header backend.Header
	body   string
}

// request makes one of "METHOD /path[?query]" and headers given as
// "Name: value".
func request(line string, headers ...string) *backend.Request {
	method, path, _ := strings.Cut(line, " ")
	path, query, _ := strings.Cut(path, "?")
	r := &backend.Request{Method: method, Path: path, Query: query}
	for _, h := range headers {
		n, v, _ := strings.Cut(h, ": ")
		r.Header.Add(n, v)
	}
	return r
}

func ask(t testing.TB, s *Server, line string, headers ...string) answer {
	t.Helper()
	resp, err := s.Serve(t.Context(), request(line, headers...))
	if err != nil {
		return answer{status: statusOf(err), body: errs.PublicOf(err)}
	}
	a := answer{status: resp.Status, header: resp.Header}
	if resp.Body != nil {
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || int64(len(b)) != resp.Length {
			t.Fatalf("%s: %d bytes of %d, %v", line, len(b), resp.Length, err)
		}
		a.body = string(b)
	}
	return a
}

func statusOf(err error) int {
	return map[errs.Kind]int{
		errs.Invalid: 400, errs.NotFound: 404, errs.Method: 405, errs.Conflict: 409, errs.Precondition: 412, errs.BadDevice: 507, errs.Unavailable: 503,
	}[errs.KindOf(err)]
}

// want sends a request and checks its status.
func want(t testing.TB, s *Server, status int, line string, headers ...string) answer {
	t.Helper()
	a := ask(t, s, line, headers...)
	if a.status != status {
		t.Errorf("%s %v: got %d %s, want %d", line, headers, a.status, a.body, status)
	}
	return a
}

// at is a stamp of so many seconds.
func at(seconds int) string { return fmt.Sprintf("X-Timestamp: %010d.00000", seconds) }

// object is the headers of an object's row.
func object(seconds, size int, more ...string) []string {
	return append([]string{at(seconds), fmt.Sprintf("X-Size: %d", size), "X-Content-Type: text/plain", "X-Etag: d41d8cd98f00b204e9800998ecf8427e"}, more...)
}
