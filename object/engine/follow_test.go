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
