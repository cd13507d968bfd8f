package clusterkey

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

var (
	one   = strings.Repeat("1", minKey)
	two   = strings.Repeat("2", minKey)
	three = strings.Repeat("3", minKey)
)

// source is one whose file has the lines.
func source(t testing.TB, lines ...string) *Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, lines...)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

const here = "10.0.0.1:6203"

// world is a sender and a guard with a wire between them that a test has in its hands.
type world struct {
	sender  *Sender
	guard   *Guard
	handler backend.HandlerFunc
	now     time.Time // of the guard; the sender's is ahead by
	ahead   time.Duration
	refused []string

	request func(*backend.Request)  // changes what is on the wire; nil for nobody
	answer  func(*backend.Response) // likewise
	last    wireful                 // the last request on the wire
	served  []served                // what the handler has seen
}

// wireful is a request as it was on the wire.
type wireful struct {
	backend.Request
	body []byte
}

type served struct {
	backend.Request
	body string
	err  error
}

func newWorld(t testing.TB, sender, guard *Source) *world {
	w := &world{now: time.Unix(1_800_000_000, 0)}
	w.sender = &Sender{Keys: sender, Next: w, Now: func() time.Time { return w.now.Add(w.ahead) }}
	w.guard = NewGuard(Config{
		Keys: guard, Skew: time.Minute, Self: func(host string, port int) bool { return host == "10.0.0.1" && port == 6203 },
		Refused: func(why string) { w.refused = append(w.refused, why) },
		Now:     func() time.Time { return w.now },
		Fail: func(_ context.Context, _ *backend.Request, err error) *backend.Response {
			text := errs.PublicOf(err)
			status := 409
			if errs.Is(err, errs.Forbidden) {
				status = 403
			}
			return &backend.Response{Status: status, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}
		},
	}, backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) { return w.serve(ctx, r) }))
	w.now = w.now.Add(time.Hour)
	w.handler = func(context.Context, *backend.Request) (*backend.Response, error) {
		return &backend.Response{Status: 201, Header: backend.Header{{Name: "X-Backend-Node", Value: "n"}}, Length: 2, Body: io.NopCloser(strings.NewReader("ok"))}, nil
	}
	return w
}

// serve notes what comes through.
func (w *world) serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	s := served{Request: *r}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		s.body, s.err = string(b), err
	}
	w.served = append(w.served, s)
	if s.err != nil {
		return nil, s.err
	}
	return w.handler(ctx, r)
}

// Do is the wire: it carries what the sender has signed to the guard, and its answer back.
func (w *world) Do(ctx context.Context, _ string, r *backend.Request) (*backend.Response, error) {
	on := wireful{Request: *r}
	on.Header = slices.Clone(r.Header)
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.Length {
			return nil, errors.Join(err, errors.New("the body is not as long as is said"))
		}
		on.body = b
	}
	on.Header = append(on.Header, backend.Field{Name: "User-Agent", Value: "test"})
	w.last = on
	if w.request != nil {
		on.Body = bytes.NewReader(on.body)
		w.request(&on.Request)
		on.body, _ = io.ReadAll(on.Body)
	}
	return w.deliver(ctx, on)
}

// deliver hands a request to the guard, as often as a test likes.
func (w *world) deliver(ctx context.Context, on wireful) (*backend.Response, error) {
	in := on.Request
	if in.Body = nil; in.Length != 0 {
		in.Body = bytes.NewReader(on.body)
	}
	in.Remote = "10.0.0.9:1234"
	resp, err := w.guard.Serve(ctx, &in)
	if err != nil {
		text := errs.PublicOf(err)
		resp = &backend.Response{Status: 403, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))}
	}
	resp.Header = append(resp.Header, backend.Field{Name: "Date", Value: "now"}, backend.Field{Name: "X-Trans-Id", Value: "tx"})
	if resp.Length == 0 {
		resp.Body = nil
	}
	if w.answer != nil {
		w.answer(resp)
	}
	return resp, nil
}

// push is a request with a body of so many bytes.
func push(n int) *backend.Request {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	return &backend.Request{
		Method: "PUT", Path: "/d1/5/a/c/o%20x", Query: "from=1", Length: int64(n), Body: bytes.NewReader(body),
		Header: backend.Header{{Name: "X-Timestamp", Value: "1.5"}, {Name: "X-Backend-Kind", Value: "object"}, {Name: "X-Object-Meta-B", Value: "2"}, {Name: "X-Object-Meta-B", Value: "3"}},
	}
}

func read(resp *backend.Response) (string, error) {
	if resp.Body == nil {
		return "", nil
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
