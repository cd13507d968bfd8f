package node

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/conf"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/object/engine"
)

// A disk that hangs is looked at once, however often is asked, and nobody waits for it longer than he says.
func TestOneLookAtADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, looks, let := &look{}, atomic.Int64{}, make(chan struct{})
		see := func() seen {
			looks.Add(1)
			<-let
			return seen{fenced: 7}
		}
		for range 3 {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			if s := l.at(ctx, see); !errors.Is(s.err, errLooking) {
				t.Errorf("of a disk that hangs there is %+v", s)
			}
			stop()
		}
		close(let)
		synctest.Wait()
		if s := l.at(t.Context(), see); s.err != nil || s.fenced != 7 {
			t.Errorf("when it answers there is %+v", s)
		}
		if n := looks.Load(); n != 2 {
			t.Errorf("%d looks, want one while it hung, and one afterwards", n)
		}
	})
}

// What is left of a queue is that of all devices together, since when the first of them had something left.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backlog
		out := ""
		want := func(known bool, length int64, age float64) {
			t.Helper()
			if q := b.status("expirer", func(of string) bool { return of == out }); q.Known != known || q.Length != length || q.Age != age {
				t.Errorf("%+v, want %v, %d, %v", q, known, length, age)
			}
		}
		want(false, 0, 0)
		b.note("expirer", "d1", 0)
		b.note("other", "d1", 100)
		want(true, 0, 0)
		b.note("expirer", "d1", 5)
		time.Sleep(time.Minute) // in the bubble
		b.note("expirer", "d1", 3)
		b.note("expirer", "d2", 4)
		want(true, 7, 60)
		b.note("expirer", "d1", 0)
		time.Sleep(time.Minute) // in the bubble
		want(true, 4, 60)
		// Of a device that is out of use nothing is known, and when it is back what it has left is as old as the pass that finds it.
		out = "d2"
		want(true, 0, 0)
		b.forget("expirer", "d2")
		time.Sleep(time.Hour) // in the bubble
		out = ""
		want(true, 0, 0)
		b.note("expirer", "d2", 4)
		want(true, 4, 0)
	})
}

// A device that can't be used has no backlog that grows old: neither before a pass finds out, nor after that.
func TestBacklogOfADeviceThatIsOut(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "d1"), 0o750), os.Mkdir(filepath.Join(root, "d2"), 0o750)); err != nil {
		t.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, root, []string{"d1", "d2"})
	if err != nil {
		t.Fatal(err)
	}
	s := &Storage{owned: set, watcher: &watcher{devices: set}}
	b := &s.watcher.backlog
	for _, one := range []string{"d1", "d2"} {
		b.note(QueueExpired, one, 3)
		b.note(QueueReaped, one, 1)
	}
	b.note(QueueMisplaced, "", 5)
	want := func(when string, lengths ...int64) {
		t.Helper()
		var got []int64
		for _, q := range s.queues() {
			got = append(got, q.Length)
		}
		if !slices.Equal(got, lengths) {
			t.Errorf("%s: %v are left, want %v", when, got, lengths)
		}
	}
	want("with both devices", 6, 5, 2)
	d, err := set.Lookup("d2")
	if err != nil {
		t.Fatal(err)
	}
	d.Fail(errors.New("gone"))
	want("with one out", 3, 5, 1)
	if err := s.expire(t.Context(), "d2"); !errs.Is(err, errs.BadDevice) {
		t.Errorf("the expirer says %v", err)
	}
	if err := s.reap(t.Context(), d); err != nil {
		t.Errorf("the reaper says %v", err)
	}
	d.Fail(nil)
	want("when it is back, before a pass", 3, 5, 1)
}

// A storage node says that it is well once the indexes of the devices that it has are loaded, and then goes on saying so.
func TestHealthcheckWaitsForIndexes(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "d1"), 0o750); err != nil {
		t.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, root, []string{"d1", "d2"}) // the second is away
	if err != nil {
		t.Fatal(err)
	}
	s := &Storage{owned: set, watcher: &watcher{stores: object.OpenStores(set, engine.Defaults(), nil)}}
	want := func(when string, status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		s.healthcheck(w, httptest.NewRequest("GET", "/healthcheck", nil))
		if w.Code != status || w.Body.String() != body {
			t.Errorf("%s: %d %q, want %d %q", when, w.Code, w.Body, status, body)
		}
	}
	want("at first", 503, "loading: d1")
	e := s.watcher.stores["d1"].Engine
	if _, err := e.Summary(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("when it is open", 200, "OK")
	e.Follow(device.Change{FS: vfs.OS, Disk: "another"})
	if loading, _ := e.Loading(); !loading {
		t.Error("another disk is not loaded anew")
	}
	want("with another disk", 200, "OK")
	for _, one := range s.watcher.stores {
		_ = one.Engine.Close() // one of them never had a folder
	}
}

// What is in quarantine is counted by the reasons beside it, and queued updates one by one.
func TestQuarantineCounted(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"objects/a.data", "objects/a.data.reason", "objects-1/b.reason", "accounts/c.db", "accounts/c.replaced", "async_pending/d", "empty/x"} {
		path := filepath.Join(root, "d1", "quarantined", file)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := device.NewSet(vfs.OS, root, []string{"d1"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := set.Lookup("d1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := quarantinedOn(d)
	if err != nil || len(got) != 3 || got["objects"] != 1 || got["objects-1"] != 1 || got["async_pending"] != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

// The scrub of a device removes what has been in quarantine for as long as the configuration says; zero is for ever.
func TestQuarantineAge(t *testing.T) {
	for age, days := range map[time.Duration][2]int{0: {100, 0}, 30 * 24 * time.Hour: {29, 31}} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			const kept = "/d1/quarantined/objects/00112233445566778899aabbccddeeff.1.2.data.reason"
			for _, dir := range []string{"/d1", "/d1/quarantined", "/d1/quarantined/objects"} {
				if err := disk.Mkdir(dir); err != nil {
					t.Fatal(err)
				}
			}
			f, err := disk.OpenFile(kept, os.O_RDWR|os.O_CREATE)
			if err != nil || f.Close() != nil {
				t.Fatal(err)
			}
			set, err := device.NewSet(disk, "/", []string{"d1"})
			if err != nil {
				t.Fatal(err)
			}
			d, err := set.Lookup("d1")
			if err != nil {
				t.Fatal(err)
			}
			cfg := engine.Defaults()
			cfg.FS, cfg.SegmentSize, cfg.Depth = disk, 1<<20, 8
			e := object.OpenStores(set, cfg, nil)["d1"].Engine
			defer e.Close()
			c := config.DefaultStorage()
			c.Store.QuarantineAge = conf.Duration(age)
			s := &Storage{owned: set}
			s.keepStore(parts{c: c}, d, e)
			for _, there := range []bool{true, false} {
				day := days[0]
				if !there {
					day = days[1]
				}
				if day == 0 {
					continue // for ever
				}
				time.Sleep(time.Until(time.Date(2000, 1, 1+day, 0, 0, 0, 0, time.UTC))) // in the bubble, which begins then
				for _, w := range s.work {
					if w.name != "scrub of d1" {
						continue
					}
					if err := w.pass(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := disk.Stat(kept); (err == nil) != there {
					t.Errorf("kept for %v: after %d days %v", age, day, err)
				}
			}
		})
	}
}
