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
	large := make([]byte, 300_000) // it has a file of its own
	if err := put(e, l, ts(10), large, "a", Terms{}); err != nil {
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
		} else if err := before.Sync(e.now().blobDir(l)); err == nil {
			t.Fatal("the sync did not fail")
		}
		stamp++
		err := put(e, l, ts(stamp), large, "a", Terms{})
		if (err == nil) != step.ok || err != nil && !errs.Is(err, errs.BadDevice) {
			t.Errorf("%s: %v, want success: %v", step.what, err, step.ok)
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
	e := newEngine(root, folder)
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
