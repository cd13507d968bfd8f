package expiry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/pending"
)

// device is a device, the container servers, and all that happens to them in its order.
type device struct {
	mu      sync.Mutex
	log     []string
	due     []string         // objects; guarded by mu
	status  map[string]int   // of container servers; 0 is no answer
	ending  map[string]error // by object
	bad     map[string]error // what can't be read
	foreign map[string]bool  // what the device is no primary of
	hangs   string           // the address that gives no answer before it is given up
	asked   time.Time        // as of when; guarded by mu
}

func (d *device) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

func (d *device) Due(_ context.Context, now time.Time) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = now
	n := int64(0)
	for _, o := range d.due {
		if !d.foreign[o] {
			n++
		}
	}
	return n, nil
}

func (d *device) Expired(context.Context, time.Time) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		d.mu.Lock()
		all := slices.Clone(d.due)
		d.mu.Unlock()
		for _, o := range all {
			h := name.Hash{}
			copy(h[:], o)
			end := func(context.Context) error {
				d.note("end %s", o)
				if err := d.ending[o]; err != nil {
					return err
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				d.due = slices.DeleteFunc(d.due, func(x string) bool { return x == o })
				return nil
			}
			if !yield(Object{Hash: h, Path: name.Path{Account: "a", Container: "c", Object: o}, Stamp: timestamp.FromTicks(7), End: end}, d.bad[o]) {
				return
			}
		}
	}
}

func (d *device) Told(_ string, o *Object) (uint32, []Replica, bool) {
	return 3, []Replica{{"n1", "d"}, {"n2", "d"}}, !d.foreign[o.Path.Object]
}

func (d *device) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	if addr == d.hangs || ctx.Err() != nil {
		<-ctx.Done()
		return nil, errs.E(errs.Unavailable, ctx.Err())
	}
	d.note("%s %s %s %s", addr, r.Method, r.Path, r.Header.Get(backend.Timestamp))
	if d.status[addr] == 0 {
		return nil, errors.New("no answer")
	}
	return &backend.Response{Status: d.status[addr]}, nil
}

func (d *device) reaper(t *testing.T, cfg Config, fs vfs.FS) (*Reaper, *pending.Queue) {
	t.Helper()
	q := pending.New(fs, "/")
	r, err := New(cfg, Deps{Device: "sda", Store: d, Queue: q, Places: d, Sender: d})
	if err != nil {
		t.Fatal(err)
	}
	return r, q
}

func queued(t *testing.T, q *pending.Queue) (all []string) {
	t.Helper()
	for u, err := range q.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(u.Method, " ", u.Path.Object, " ", u.Data, " ", u.Confirmed))
	}
	return all
}

func TestPass(t *testing.T) {
	const stamp = "0000000000.00007"
	taken := map[string]int{"n1": 204, "n2": 204}
	stale := errs.E(errs.Stale)
	for what, tt := range map[string]struct {
		d      *device
		noDisk bool // nothing can be queued
		log    string
		queue  string
		counts Counts
		fails  bool
	}{
		"all take it": {
			&device{due: []string{"o"}, status: taken}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o", "", Counts{Ended: 1}, false,
		},
		"one does not answer": {
			&device{due: []string{"o"}, status: map[string]int{"n1": 204}}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o",
			"DELETE o " + stamp + " [n1/d]", Counts{Ended: 1}, false,
		},
		"nobody answers, and nothing can be queued": {
			&device{due: []string{"o"}}, true,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp, "", Counts{Failed: 1, Left: 1}, true,
		},
		"it lives on": {
			&device{due: []string{"o"}, status: taken, ending: map[string]error{"o": stale}}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o", "", Counts{}, false,
		},
		"it can't be ended": {
			&device{due: []string{"o"}, status: taken, ending: map[string]error{"o": errs.E(errs.NoSpace)}}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o", "", Counts{Failed: 1, Left: 1}, true,
		},
		"one can't be read": {
			&device{due: []string{"bad", "o"}, status: taken, bad: map[string]error{"bad": errs.E(errs.Corrupt)}}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o", "", Counts{Ended: 1, Failed: 1, Left: 1}, true,
		},
		"it is a handoff": {
			&device{due: []string{"o"}, status: taken, foreign: map[string]bool{"o": true}}, false, "", "", Counts{}, false,
		},
		"of one it is a handoff": {
			&device{due: []string{"o", "p"}, status: taken, foreign: map[string]bool{"p": true}}, false,
			"n1 DELETE /d/3/a/c/o " + stamp + "; n2 DELETE /d/3/a/c/o " + stamp + "; end o", "", Counts{Ended: 1}, false,
		},
		"nothing is due": {&device{}, false, "", "", Counts{}, false},
	} {
		t.Run(what, func(t *testing.T) {
			var fs vfs.FS = vfs.NewMem()
			if tt.noDisk {
				fs = vfs.FailAt(fs, 0, vfs.FaultForever())
			}
			r, q := tt.d.reaper(t, Defaults(), fs)
			if err := r.Pass(t.Context()); (err != nil) != tt.fails {
				t.Errorf("the pass says %v", err)
			}
			if got := strings.Join(tt.d.log, "; "); got != tt.log {
				t.Errorf("it did %q, want %q", got, tt.log)
			}
			if got := r.Counts(); got != tt.counts {
				t.Errorf("it counts %+v, want %+v", got, tt.counts)
			}
			if tt.noDisk {
				return
			}
			if got := strings.Join(queued(t, q), "; "); got != tt.queue {
				t.Errorf("queued is %q, want %q", got, tt.queue)
			}
		})
	}
}

func TestPassKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{status: map[string]int{"n1": 204, "n2": 204}}
		for i := range 40 {
			d.due = append(d.due, fmt.Sprint("o", i))
		}
		r, _ := d.reaper(t, Config{PerSecond: 10, Concurrency: 4, Timeout: time.Second}, vfs.NewMem())
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.Pass(ctx); err != nil || len(d.due) != 0 {
			t.Fatalf("%v, and %d are left", err, len(d.due))
		}
		if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
			t.Errorf("40 at 10 a second took %v", took)
		}
		d.due = []string{"o"}
		cancel()
		if err := r.Pass(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("a pass that was ended says %v", err)
		}
	})
}

// A server of a listing hangs: what it is to be told is queued, and the others hear of it in time.
func TestListingHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{status: map[string]int{"n2": 204}, hangs: "n1"}
		const objects = 400
		for i := range objects {
			d.due = append(d.due, fmt.Sprint("o", i))
		}
		r, q := d.reaper(t, Config{Concurrency: 4, Timeout: 10 * time.Second}, vfs.NewMem())
		began := time.Now()
		if err := r.Pass(t.Context()); err != nil || len(d.due) != 0 {
			t.Fatalf("%v, and %d are left", err, len(d.due))
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%d objects took %v", objects, took)
		}
		all := queued(t, q)
		if len(all) != objects || slices.ContainsFunc(all, func(u string) bool { return !strings.HasSuffix(u, "[n2/d]") }) {
			t.Errorf("%d are queued, want %d that n2 has: %v", len(all), objects, all)
		}
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{}
		cfg := Defaults()
		cfg.Delay = time.Hour
		r, _ := d.reaper(t, cfg, vfs.NewMem())
		if err := r.Pass(t.Context()); err != nil || time.Since(d.asked) != time.Hour {
			t.Errorf("it looked for what was due %v ago, %v", time.Since(d.asked), err)
		}
	})
}

func TestBadConfig(t *testing.T) {
	d := &device{}
	deps := Deps{Store: d, Queue: pending.New(vfs.NewMem(), "/"), Places: d, Sender: d}
	for what, bad := range map[string]func(*Config, *Deps){
		"rate":        func(c *Config, _ *Deps) { c.PerSecond = -1 },
		"delay":       func(c *Config, _ *Deps) { c.Delay = -1 },
		"concurrency": func(c *Config, _ *Deps) { c.Concurrency = 0 },
		"timeout":     func(c *Config, _ *Deps) { c.Timeout = 0 },
		"store":       func(_ *Config, d *Deps) { d.Store = nil },
		"queue":       func(_ *Config, d *Deps) { d.Queue = nil },
	} {
		c, d := Defaults(), deps
		bad(&c, &d)
		if _, err := New(c, d); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
