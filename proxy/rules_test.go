package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestShowObject(t *testing.T) {
	var from backend.Header
	for _, n := range []string{"Content-Type", "Etag", "X-Object-Meta-K", "X-Delete-At", "Cache-Control", "X-Backend-Timestamp", "X-Object-Sysmeta-S", "X-Object-Transient-Sysmeta-T", "Server", "X-Trans-Id"} {
		from.Add(n, "v")
	}
	to := http.Header{}
	showObject(to, from)
	// The system's own is for features; the gatekeeper keeps it in.
	shown := []string{
		"Content-Type", "Etag", "X-Object-Meta-K", "X-Delete-At", "Cache-Control", "X-Backend-Timestamp", "X-Object-Sysmeta-S", "X-Object-Transient-Sysmeta-T",
	}
	for _, n := range shown {
		if to.Get(n) != "v" {
			t.Errorf("%s is not shown", n)
		}
	}
	if len(to) != len(shown) {
		t.Errorf("shown %v, want %v", to, shown)
	}
}

func TestWithoutSize(t *testing.T) {
	for given, want := range map[string]string{
		"a/b": "a/b", "a/b;swift_bytes=12": "a/b", "a/b;c=d;swift_bytes=12": "a/b;c=d", "a/b;swift_bytes=1;c=d": "a/b;c=d", "": "",
	} {
		if got := withoutSize(given); got != want {
			t.Errorf("withoutSize(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestMetaUpdate(t *testing.T) {
	h := http.Header{
		"X-Container-Meta-A":          {"1"},
		"X-Container-Meta-Empty":      {""},
		"X-Remove-Container-Meta-B":   {"x"},
		"X-Remove-Container-Meta-A":   {"x"}, // what is set wins
		"X-Container-Read":            {".r:*"},
		"X-Remove-Container-Write":    {""},
		"X-Object-Meta-No":            {"1"},
		"X-Container-Meta-":           {"nameless"},
		"X-Container-Object-Count":    {"7"},
		"X-Remove-Container-Sync-Key": {"x"},
	}
	got := metaUpdate(h, "Container", containerNamed)
	want := map[string]string{
		"X-Container-Meta-A": "1", "X-Container-Meta-Empty": "", "X-Container-Meta-B": "", "X-Container-Read": ".r:*",
		"X-Container-Write": "", "X-Container-Sync-Key": "", "X-Container-Meta-": "nameless",
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, f := range got {
		if v, ok := want[f.Name]; !ok || v != f.Value {
			t.Errorf("got %s: %q", f.Name, f.Value)
		}
	}
}

func TestGuessType(t *testing.T) {
	for name, tt := range map[string]struct{ object, given, detect, want string }{
		"given":      {"a.png", "text/x", "", "text/x"},
		"plain text": {"a.txt", "", "", "text/plain"},
		"wave":       {"a.wav", "", "", "audio/x-wav"},
		"missing":    {"a.png", "", "", "image/png"},
		"unknown":    {"a.nosuchthing", "", "", "application/octet-stream"},
		"no ending":  {"a", "", "", "application/octet-stream"},
		"to be seen": {"a.png", "text/x", "yes", "image/png"},
	} {
		h := http.Header{}
		if tt.given != "" {
			h.Set("Content-Type", tt.given)
		}
		h.Set("X-Detect-Content-Type", tt.detect)
		guessType(h, tt.object)
		if got := h.Get("Content-Type"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestInfoCache(t *testing.T) {
	p := name.Path{Account: "a", Container: "c"}
	t.Run("one look-up for many", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var looks atomic.Int32
			c := newInfoCache(time.Second, func(context.Context, name.Path) (facts, error) {
				looks.Add(1)
				<-time.After(10 * time.Millisecond) // of the bubble's clock: a slow node
				return facts{exists: true, at: time.Now()}, nil
			})
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if i, err := c.get(t.Context(), p); err != nil || !i.exists {
						t.Errorf("got %+v, %v", i, err)
					}
				})
			}
			all.Wait()
			if looks.Load() != 1 {
				t.Errorf("%d look-ups, want 1", looks.Load())
			}
			<-time.After(2 * time.Second) // of the bubble's clock
			_, _ = c.get(t.Context(), p)
			if looks.Load() != 2 {
				t.Errorf("%d look-ups after its life, want 2", looks.Load())
			}
		})
	})
	t.Run("absence and errors are not remembered", func(t *testing.T) {
		var looks int
		fail := errors.New("down")
		c := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) {
			looks++
			if looks%2 == 0 {
				return facts{}, fail
			}
			return facts{at: time.Now()}, nil
		})
		for range 4 {
			_, _ = c.get(t.Context(), p)
		}
		if looks != 4 {
			t.Errorf("%d look-ups, want 4", looks)
		}
	})
	t.Run("what is forgotten while it is looked up stays forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var looks atomic.Int32
			c := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) {
				n := looks.Add(1)
				<-time.After(10 * time.Millisecond)
				return facts{exists: true, at: time.Now(), header: backend.Header{{Name: "N", Value: string('0' + n)}}}, nil
			})
			done := make(chan struct{})
			go func() { _, _ = c.get(t.Context(), p); close(done) }()
			synctest.Wait()
			c.forget(p) // a write of this proxy
			<-done
			if i, _ := c.get(t.Context(), p); i.header.Get("N") != "2" {
				t.Errorf("got look-up %s, want the second", i.header.Get("N"))
			}
		})
	})
	t.Run("who begins a look-up is let go as well", func(t *testing.T) {
		leave := make(chan struct{})
		defer close(leave)
		c := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) { <-leave; return facts{}, nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.get(ctx, p); !errs.Is(err, errs.Aborted) {
			t.Errorf("got %v, want aborted", err)
		}
	})
	t.Run("a panic is an error", func(t *testing.T) {
		c := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) { panic("broken") })
		if _, err := c.get(t.Context(), p); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a waiter that leaves is let go", func(t *testing.T) {
		leave := make(chan struct{})
		c := newInfoCache(time.Hour, func(context.Context, name.Path) (facts, error) { <-leave; return facts{exists: true}, nil })
		first := make(chan struct{})
		go func() { _, _ = c.get(t.Context(), p); close(first) }()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for {
			c.mu.Lock()
			_, under := c.under[p]
			c.mu.Unlock()
			if under {
				break
			}
		}
		if _, err := c.get(ctx, p); !errs.Is(err, errs.Aborted) {
			t.Errorf("got %v, want aborted", err)
		}
		close(leave)
		<-first
	})
}

func TestParsePath(t *testing.T) {
	for raw, kind := range map[string]errs.Kind{
		"/a/c/o": errs.Other, "/": errs.Precondition, "": errs.Precondition, "/a/": errs.Other, "/a/c/": errs.Other,
		"//c": errs.NotFound, "//c/o": errs.NotFound, "/a//o": errs.NotFound, "/a//": errs.NotFound, "//": errs.NotFound, "///o": errs.NotFound,
		"/a/c//o/../": errs.Other, "/a/c/%00": errs.Precondition, "/a/c/%ff": errs.Precondition,
	} {
		if _, err := parsePath(raw); errs.KindOf(err) != kind {
			t.Errorf("parsePath(%q): %v, want %v", raw, err, kind)
		}
	}
}

// What is under no version of the API has the status that Swift gives it.
func TestNowhere(t *testing.T) {
	for target, want := range map[string]int{
		"/": 404, "/v2": 412, "/v2/": 412, "/v2/a": 400, "/v2/a/c/o": 400, "/v2//c": 404, "/v2/a//o": 404, "/info%20asdf": 412,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if got := nowhere(t.Context(), &chain.Request{Client: r}); got.Status != want {
			t.Errorf("%s: got %d, want %d", target, got.Status, want)
		}
	}
}
