package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/ring"
)

func TestFormOf(t *testing.T) {
	for name, tt := range map[string]struct {
		query, accept string
		want          form
		err           bool
	}{
		"nothing said":          {"", "", formText, false},
		"anything":              {"", "*/*", formText, false},
		"format wins":           {"format=json", "text/xml", formJSON, false},
		"format in capitals":    {"format=XML", "", formXML, false},
		"unknown format":        {"format=yaml", "application/json", formJSON, false},
		"json":                  {"", "application/json", formJSON, false},
		"xml":                   {"", "application/xml", formXML, false},
		"text/xml":              {"", "text/xml", formTextXML, false},
		"quality":               {"", "text/plain;q=0.3, application/json;q=0.9", formJSON, false},
		"exact beats wide":      {"", "*/*;q=0.9, text/plain;q=0.1", formJSON, false},
		"application/*":         {"", "application/*", formJSON, false},
		"nothing that is known": {"", "image/png", 0, true},
		"refused":               {"", "text/plain;q=0", 0, true},
		"bad quality":           {"", "application/json;q=x", 0, true},
		"too long":              {"", strings.Repeat("a/b,", 5000), 0, true},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "/v1/a?"+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.accept != "" {
			r.Header.Set("Accept", tt.accept)
		}
		got, err := formOf(r)
		if got != tt.want || (err != nil) != tt.err {
			t.Errorf("%s: formOf(%q, %.40q) = %v, %v, want %v", name, tt.query, tt.accept, got, err, tt.want)
		}
	}
}

func TestGatekeeper(t *testing.T) {
	h := http.Header{}
	for _, n := range []string{
		"X-Backend-Anything", "X-Object-Sysmeta-A", "X-Container-Sysmeta-A", "X-Account-Sysmeta-A", "X-Object-Transient-Sysmeta-A",
		"X-Container-Host", "X-Container-Device", "X-Container-Partition", "X-Account-Host", "X-Delete-At-Host", "X-Timestamp",
		"X-Container-Root-Db-State", "X-Size", "X-Etag", "X-Put-Timestamp",
	} {
		h.Set(n, "x")
	}
	kept := []string{"X-Object-Meta-A", "X-Container-Read", "X-Delete-At", "X-Delete-After", "X-Auth-Token", "Etag", "X-Container-Meta-Host", "X-Newest"}
	for _, n := range kept {
		h.Set(n, "x")
	}
	gatekeep(h)
	for n := range h {
		if !slices.Contains(kept, n) {
			t.Errorf("%s came in from a client", n)
		}
	}
	if len(h) != len(kept) {
		t.Errorf("left %v, want %v", h, kept)
	}
}

func TestShowObjectHidesTheInside(t *testing.T) {
	var from backend.Header
	for _, n := range []string{"Content-Type", "Etag", "X-Object-Meta-K", "X-Delete-At", "Cache-Control", "X-Backend-Timestamp", "X-Object-Sysmeta-S", "X-Object-Transient-Sysmeta-T", "Server", "X-Trans-Id"} {
		from.Add(n, "v")
	}
	to := http.Header{}
	showObject(to, from)
	for _, n := range []string{"Content-Type", "Etag", "X-Object-Meta-K", "X-Delete-At", "Cache-Control"} {
		if to.Get(n) != "v" {
			t.Errorf("%s is not shown", n)
		}
	}
	if len(to) != 5 {
		t.Errorf("shown %v, want five headers", to)
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

func TestCopyPath(t *testing.T) {
	for value, want := range map[string]name.Path{
		"c/o":       {Account: "own", Container: "c", Object: "o"},
		"/c/o/p":    {Account: "own", Container: "c", Object: "o/p"},
		"/c%20d/%2": {},
		"/c%20d/x":  {Account: "own", Container: "c d", Object: "x"},
		"c%2Fo":     {},
		"c":         {},
		"":          {},
		"/":         {},
		"//o":       {},
		"c/":        {},
		"c/%00":     {},
	} {
		got, err := copyPath("Destination", value, "Destination-Account", "", "own")
		if got != want || (err != nil) != (want == name.Path{}) {
			t.Errorf("copyPath(%q) = %+v, %v, want %+v", value, got, err, want)
		}
		if err != nil && !errs.Is(err, errs.Precondition) {
			t.Errorf("copyPath(%q): %v, want a failed precondition", value, err)
		}
	}
	if got, err := copyPath("Destination", "c/o", "Destination-Account", "AUTH_x", "own"); err != nil || got.Account != "AUTH_x" {
		t.Errorf("another account: %+v, %v", got, err)
	}
	if _, err := copyPath("Destination", "c/o", "Destination-Account", "a/b", "own"); !errs.Is(err, errs.Precondition) {
		t.Errorf("an account with a slash: %v", err)
	}
}

func TestCheckManifest(t *testing.T) {
	for value, ok := range map[string]bool{"": true, "c/p": true, "/c/p/q": true, "c": false, "c/": false, "/p": false, "c/p?x": false, "c/p&x": false, "c%2Fp": true} {
		if err := checkManifest(http.Header{"X-Object-Manifest": {value}}); (err == nil) != ok {
			t.Errorf("checkManifest(%q) = %v, want ok %v", value, err, ok)
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

func TestUpdatesCoverTheContainer(t *testing.T) {
	place := quorum.Place{Partition: 7}
	for i := range 3 {
		place.Primaries = append(place.Primaries, &ring.Device{IP: "127.0.0.1", Port: 6200 + i, Name: "d"})
	}
	for objects, hosts := range map[int][]string{
		3: {"127.0.0.1:6200", "127.0.0.1:6201", "127.0.0.1:6202"},
		2: {"127.0.0.1:6200,127.0.0.1:6202", "127.0.0.1:6201"},
		1: {"127.0.0.1:6200,127.0.0.1:6201,127.0.0.1:6202"},
		4: {"127.0.0.1:6200", "127.0.0.1:6201", "127.0.0.1:6202", ""},
	} {
		got := updates(objects, place)
		for i, h := range got {
			if h.Get(backend.ContainerHost) != hosts[i] {
				t.Errorf("%d objects, slot %d tells %q, want %q", objects, i, h.Get(backend.ContainerHost), hosts[i])
			}
			if hosts[i] != "" && (h.Get(backend.ContainerPart) != "7" || strings.Count(h.Get(backend.ContainerDevice), ",") != strings.Count(hosts[i], ",")) {
				t.Errorf("slot %d: %v", i, h)
			}
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
		"/a/c/o": errs.Other, "/": errs.Precondition, "": errs.Precondition, "//c": errs.Precondition, "/a//o": errs.Precondition,
		"/a/c/%00": errs.Precondition, "/a/c/%ff": errs.Precondition,
	} {
		if _, err := parsePath(raw); errs.KindOf(err) != kind {
			t.Errorf("parsePath(%q): %v, want %v", raw, err, kind)
		}
	}
}

func FuzzAccept(f *testing.F) {
	f.Add("text/plain;q=0.5, */*")
	f.Fuzz(func(t *testing.T, accept string) {
		for _, typ := range types {
			if q := quality(accept, typ); q > 1 || q < -1 {
				t.Errorf("quality(%q, %s) = %v", accept, typ, q)
			}
		}
	})
}
