package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/policy"
	"martlet/ring"
	"martlet/ring/builder"
)

// events is what happened, in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, what)
}

// A process ends requests first, then background work, then databases, the last
// opened first.
func TestRunOrder(t *testing.T) {
	var seen events
	log := slog.New(slog.DiscardHandler)
	ctx, end := context.WithCancel(t.Context())
	p := &process{log: log}
	p.atEnd(func() error { seen.add("first database"); return nil })
	p.atEnd(func() error { seen.add("second database"); return errors.New("the disk is gone") })

	working := make(chan struct{})
	p.every("sweep", 1, func(ctx context.Context) error {
		close(working)
		<-ctx.Done()
		seen.add("work")
		return ctx.Err()
	})
	serving := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(serving)
		<-ctx.Done()
		seen.add("request")
		w.WriteHeader(http.StatusNoContent)
	})
	if err := p.listen(&httpapi.Server{Name: "test", Handler: handler, Log: log}, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	address := p.addressOf("test")

	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + address)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	<-working
	<-serving
	end()
	if err := <-answered; err != nil {
		t.Errorf("a request that was under way: %v, want its answer", err)
	}
	select {
	case err := <-ended:
		if err == nil || err.Error() != "the disk is gone" {
			t.Errorf("run returned %v, want what closing said", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("run did not end")
	}
	if want := []string{"request", "work", "second database", "first database"}; !slices.Equal(seen.all, want) {
		t.Errorf("it ended in the order %q, want %q", seen.all, want)
	}
}

// A listener that fails ends the process.
func TestRunFails(t *testing.T) {
	p := &process{log: slog.New(slog.DiscardHandler)}
	if err := p.listen(&httpapi.Server{Name: "test", Handler: http.NotFoundHandler(), Log: p.log}, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := p.servers[0].listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.run(t.Context()); err == nil || !strings.Contains(err.Error(), "test") {
		t.Errorf("run returned %v, want an error that names the server", err)
	}
}

// saveRing writes a ring of one device to a file, and returns it.
func saveRing(t *testing.T, path, device string, changes int) *ring.Ring {
	t.Helper()
	b, err := builder.New(4, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := b.Add(ring.Device{IP: "127.0.1.1", Port: 6200, Name: device, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range changes {
		if err := b.SetWeight(id, float64(2+i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Rebalance(builder.Options{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Ring()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	return r
}

// A pass of the reload puts newer rings in use, keeps what is in use where a file
// is older or damaged, and says so.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"account", "container", "object"} {
		saveRing(t, filepath.Join(dir, name+".ring.gz"), "d1", 1)
	}
	all, err := openRings(dir, policy.Single())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{log: slog.New(slog.DiscardHandler)}
	p.reload(all, time.Second)
	pass := p.work[0].pass
	if err := pass(t.Context()); err != nil {
		t.Errorf("nothing new: %v", err)
	}
	next := saveRing(t, filepath.Join(dir, "object.ring.gz"), "d2", 5)
	if err := pass(t.Context()); err != nil || all.objects[0].Ring().Version() != next.Version() {
		t.Errorf("a newer ring: version %d, %v, want %d", all.objects[0].Ring().Version(), err, next.Version())
	}
	saveRing(t, filepath.Join(dir, "object.ring.gz"), "d3", 0)
	if err := os.WriteFile(filepath.Join(dir, "account.ring.gz"), []byte("no ring"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = pass(t.Context())
	if err == nil || !errors.Is(err, ring.ErrOlder) || !errors.Is(err, ring.ErrDamaged) {
		t.Errorf("an older and a damaged ring: %v, want both said", err)
	}
	if got := all.objects[0].Ring().Version(); got != next.Version() {
		t.Errorf("an older ring took the place of version %d: %d", next.Version(), got)
	}
	if _, err := openRings(t.TempDir(), policy.Single()); err == nil || !strings.Contains(err.Error(), "account.ring.gz") {
		t.Errorf("no rings: %v, want an error that names the file", err)
	}
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	one := map[string]*ring.Ring{"object": saveRing(t, filepath.Join(dir, "object.ring.gz"), "d1", 0)}
	two := map[string]*ring.Ring{"object": one["object"], "object-1": saveRing(t, filepath.Join(dir, "object-1.ring.gz"), "d2", 0)}
	for name, tt := range map[string]struct {
		rings   map[string]*ring.Ring
		address string
		devices []string
		warns   []string
	}{
		"agree":             {one, "127.0.1.1:6200", []string{"d1"}, nil},
		"one too many":      {one, "127.0.1.1:6200", []string{"d1", "d2"}, []string{"ring=object address=127.0.1.1:6200 device=d2"}},
		"other name":        {one, "127.0.1.1:6200", []string{"d2"}, []string{"device=d2", "device=d1"}},
		"other node":        {one, "127.0.1.2:6200", []string{"d1"}, []string{"device=d1"}},
		"other port":        {one, "127.0.1.1:6201", []string{"d1"}, []string{"device=d1"}},
		"a policy each":     {two, "127.0.1.1:6200", []string{"d1", "d2"}, nil},
		"in none":           {two, "127.0.1.1:6200", []string{"d1", "d2", "d3"}, []string{"ring=\"object, object-1\" address=127.0.1.1:6200 device=d3"}},
		"one is not named":  {two, "127.0.1.1:6200", []string{"d1"}, []string{"ring=object-1 address=127.0.1.1:6200 device=d2"}},
		"all on other node": {two, "127.0.1.2:6200", []string{"d1", "d2"}, []string{"device=d1", "device=d2"}},
	} {
		var out bytes.Buffer
		p := &process{log: slog.New(slog.NewTextHandler(&out, nil))}
		p.compare(tt.rings, hosts.At(netip.MustParseAddrPort(tt.address), nil), tt.devices)
		if got := strings.Count(out.String(), "level=WARN"); got != len(tt.warns) {
			t.Errorf("%s: %d warnings, want %d:\n%s", name, got, len(tt.warns), out.String())
		}
		for _, w := range tt.warns {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: no warning of %s:\n%s", name, w, out.String())
			}
		}
	}
}

func TestOpenLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.log")
	for i, format := range []string{"json", "text"} {
		log, file, err := OpenLog(config.Log{Level: "warn", Format: format, File: path})
		if err != nil {
			t.Fatal(err)
		}
		log.Info("too quiet")
		log.Warn("heard", "n", i)
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(text), "\n")
	var line map[string]any
	if err := json.Unmarshal([]byte(first), &line); err != nil || line["msg"] != "heard" {
		t.Errorf("json: %q, %v", first, err)
	}
	if !strings.Contains(second, "level=WARN msg=heard n=1") || strings.Count(second, "\n") != 1 {
		t.Errorf("text, appended: %q", second)
	}
	missing := filepath.Join(t.TempDir(), "no", "m.log")
	if _, _, err := OpenLog(config.Log{Level: "info", Format: "text", File: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that can't be opened: %v, want an error that names it", err)
	}
	for _, c := range []config.Log{{Level: "loud", Format: "text"}, {Level: "info", Format: "xml"}} {
		if _, _, err := OpenLog(c); err == nil {
			t.Errorf("%s: no error", fmt.Sprint(c))
		}
	}
}
