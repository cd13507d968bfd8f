package engine

import (
	"errors"
	"testing"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A directory whose sync failed stays in doubt until the device is mounted anew.
func TestFollowKeepsDoubt(t *testing.T) {
	mem := vfs.NewMem()
	if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	e := newEngine(mem, "/d1")
	l := at(1)
	if err := del(e, l, 10, Terms{}); err != nil {
		t.Fatal(err)
	}
	e.now().names = e.now().names.Over(vfs.FailAt(mem, 0))
	if err := e.now().names.Sync(e.now().folder(l)); err == nil {
		t.Fatal("the sync did not fail")
	}
	for _, step := range []struct {
		change device.Change
		ok     bool
	}{
		{device.Change{FS: vfs.Absent}, false},
		{device.Change{FS: mem}, false},
		{device.Change{FS: mem, Fresh: true}, true},
	} {
		e.Follow(step.change)
		err := del(e, l, 20, Terms{})
		if (err == nil) != step.ok || err != nil && !errs.Is(err, errs.BadDevice) {
			t.Errorf("after %+v: %v, want success: %v", step.change, err, step.ok)
		}
	}
}

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
