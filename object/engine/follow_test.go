package engine

import (
	"errors"
	"testing"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A directory whose sync failed stays in doubt until its disk is mounted anew, and
// no other disk's is for that.
func TestFollowKeepsDoubt(t *testing.T) {
	disk := func() *vfs.Mem {
		mem := vfs.NewMem()
		if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		return mem
	}
	mem, other := disk(), disk()
	e := newEngine(vfs.Absent, "/d1")
	e.Follow(device.Change{FS: mem, Disk: "first", Fresh: true})
	l := at(1)
	if err := del(e, l, 10, Terms{}); err != nil {
		t.Fatal(err)
	}
	before := e.now().names.Over(vfs.FailAt(mem, 0)) // of a call that is under way
	stamp := int64(20)
	for _, step := range []struct {
		what   string
		change device.Change
		ok     bool
	}{
		{"the disk is gone", device.Change{FS: vfs.Absent}, false},
		{"another is there", device.Change{FS: other, Disk: "second", Fresh: true}, true},
		{"it is back", device.Change{FS: mem, Disk: "first"}, true},
		{"a sync fails that had begun before", device.Change{}, false},
		{"it is back again", device.Change{FS: mem, Disk: "first"}, false},
		{"the other is back", device.Change{FS: other, Disk: "second"}, true},
		{"it is back once more", device.Change{FS: mem, Disk: "first"}, false},
		{"it was mounted anew", device.Change{FS: mem, Disk: "first", Fresh: true}, true},
	} {
		if step.change.FS != nil {
			e.Follow(step.change)
		} else if err := before.Sync(e.now().folder(l)); err == nil {
			t.Fatal("the sync did not fail")
		}
		stamp++
		err := del(e, l, stamp, Terms{})
		if (err == nil) != step.ok || err != nil && !errs.Is(err, errs.BadDevice) {
			t.Errorf("%s: %v, want success: %v", step.what, err, step.ok)
		}
	}
}

// Who is told that something newer is there relies on it: a name that a killed
// process did not come to sync is synced first.
func TestStaleIsDurable(t *testing.T) {
	for what, write := range map[string]func(e *Engine) error{
		"tombstone": func(e *Engine) error { return del(e, at(1), 10, Terms{}) },
		"data":      func(e *Engine) error { return put(e, at(1), ts(10), []byte("x"), "a", Terms{}) },
		"metadata":  func(e *Engine) error { return post(e, at(1), 10, 0, "b", Terms{Merge: true}) },
	} {
		mem := vfs.NewMem()
		if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		if err := put(newEngine(mem, "/d1"), at(1), ts(1), []byte("old"), "a", Terms{}); err != nil {
			t.Fatal(err)
		}
		killed := newEngine(unsynced{mem}, "/d1")
		if err := write(killed); err != nil {
			t.Fatal(err)
		}
		if err := write(newEngine(mem, "/d1")); !errs.Is(err, errs.Stale) {
			t.Fatalf("%s: written again: %v, want stale", what, err)
		}
		for seed := range uint64(30) {
			s, err := newEngine(mem.AfterCrash(seed), "/d1").Stat(ctx, at(1))
			if err != nil || s.Newest() != ts(10) {
				t.Fatalf("%s, seed %d: after a crash there is %s, %v", what, seed, show(s), err)
			}
		}
	}
}

// unsynced is a file system whose directories are never synced, as with a process
// that is killed before it does.
type unsynced struct{ vfs.FS }

func (unsynced) SyncDir(string) error { return nil }

// An engine that is pinned stays with the disk that was attached, and fails when
// that is detached.
func TestPinned(t *testing.T) {
	folder := t.TempDir()
	root, err := vfs.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	e := New(folder, Config{FS: root})
	pinned := e.Pinned()
	if err := del(pinned, at(1), 10, Terms{}); err != nil {
		t.Fatal(err)
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := vfs.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	e.Follow(device.Change{FS: vfs.Absent})
	e.Follow(device.Change{FS: again, Fresh: true})
	if gone, err := pinned.Drop(ctx, at(1), func(*State) bool { return true }); gone || !errs.Is(err, errs.BadDevice) {
		t.Errorf("a drop on a disk that was detached: %v, %v, want a bad device", gone, err)
	}
	if s, err := e.Stat(ctx, at(1)); err != nil || s.Kind != Deleted {
		t.Errorf("after that: %s, %v", show(s), err)
	}
}
