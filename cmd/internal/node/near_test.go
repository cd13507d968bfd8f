package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/rowbatch"
)

// network is the way over the network, which answers with 202 and counts.
type network struct{ asked atomic.Int64 }

func (n *network) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	n.asked.Add(1)
	return &backend.Response{Status: 202}, nil
}

// besideOne returns a near before a network, to whose process the address 10.0.0.1:6201 belongs.
func besideOne(h backend.HandlerFunc) (*near, *network) {
	net := &network{}
	n := newNear(rowbatch.NewSender(rowbatch.Config{}, net), slog.New(slog.DiscardHandler))
	n.add(hosts.At(netip.MustParseAddrPort("10.0.0.1:6201"), nil), h)
	return n, net
}

func TestNear(t *testing.T) {
	n, net := besideOne(func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		switch r.Path {
		case "/d1/7/a/c/stored":
			return &backend.Response{Status: 201}, nil
		case "/d1/7/a/c/panics":
			panic("a bug")
		}
		return nil, errs.Refuse(errs.NotFound, "no such container")
	})
	for _, tt := range []struct {
		addr, path string
		body       io.Reader
		status     int // 0 is an error
		far        int64
		text       string
	}{
		{"10.0.0.1:6201", "/d1/7/a/c/stored", nil, 201, 0, ""},
		{"10.0.0.1:6201", "/d1/7/a/c/none", nil, 404, 0, "no such container"},
		{"10.0.0.1:6201", "/d1/7/a/c/panics", nil, 0, 0, ""},
		{"10.0.0.1:6201", "/d1/7/a/c/stored", strings.NewReader("x"), 202, 1, ""},
		{"10.0.0.2:6201", "/d1/7/a/c/stored", nil, 202, 1, ""},
		{"10.0.0.1:6202", "/d1/7/a/c/stored", nil, 202, 1, ""},
		{"10.0.0.1", "/d1/7/a/c/stored", nil, 202, 1, ""},
		{"10.0.0.1:http", "/d1/7/a/c/stored", nil, 202, 1, ""},
	} {
		before := net.asked.Load()
		resp, err := n.Do(t.Context(), tt.addr, &backend.Request{Method: "PUT", Path: tt.path, Body: tt.body})
		switch {
		case tt.status == 0:
			if err == nil {
				t.Errorf("%s %s: %+v, want an error", tt.addr, tt.path, resp)
			}
		case err != nil || resp.Status != tt.status:
			t.Errorf("%s %s: %+v, %v, want %d", tt.addr, tt.path, resp, err, tt.status)
		case tt.text != "":
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != tt.text {
				t.Errorf("%s %s says %q, %v, want %q", tt.addr, tt.path, text, err, tt.text)
			}
		}
		if got := net.asked.Load() - before; got != tt.far {
			t.Errorf("%s %s: %d requests over the network, want %d", tt.addr, tt.path, got, tt.far)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// Nobody waits longer than he said for a disk that hangs; what waits for one is not without end, and keeps nobody else from being heard.
func TestNearDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		n, net := besideOne(func(context.Context, *backend.Request) (*backend.Response, error) {
			<-hangs
			return &backend.Response{Status: 201}, nil
		})
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := n.Do(ctx, "10.0.0.1:6201", &backend.Request{Method: "PUT", Path: "/d1/7/a/c/o"})
			return err
		}
		began := time.Now()
		if err := ask(); !errs.Is(err, errs.Unavailable) || time.Since(began) != time.Second {
			t.Fatalf("%v after %v, want that it is unavailable after a second", err, time.Since(began))
		}
		gone, cancel := context.WithCancelCause(t.Context())
		why := errors.New("gone")
		cancel(why)
		if _, err := n.Do(gone, "10.0.0.1:6201", &backend.Request{Method: "PUT", Path: "/d1/7/a/c/o"}); !errors.Is(err, why) {
			t.Fatalf("%v, want what has ended the context", err)
		}
		for range maxNear - 2 {
			go func() { _ = ask() }()
		}
		synctest.Wait()
		if net.asked.Load() != 0 {
			t.Fatal("there was room, and it was asked over the network")
		}
		if err := ask(); err != nil || net.asked.Load() != 1 {
			t.Fatalf("%v, %d requests over the network, want one, as there is no more room", err, net.asked.Load())
		}
		close(hangs)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if err := ask(); err != nil {
			t.Fatalf("%v after the disk has come back", err)
		}
	})
}
