package durable

import (
	"errors"
	"io"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// place puts a file of one byte under a name, as callers do.
func place(fs vfs.FS, n *Names, taken bool, content byte) error {
	if err := n.FolderOnce("/dir", "/"); err != nil {
		return err
	}
	f, err := fs.CreateUnnamed("/dir")
	if err != nil {
		return err
	}
	if _, err = f.WriteAt([]byte{content}, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = n.Place("/dir", "file", taken, func(path string) error { return fs.Link(f, path) })
	}
	return errors.Join(err, f.Close())
}

// read returns the byte in the file, 0 where there is none.
func read(t *testing.T, fs vfs.FS) byte {
	t.Helper()
	f, err := fs.Open("/dir/file")
	if err != nil {
		return 0
	}
	defer f.Close()
	b := []byte{0xff}
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b[0]
}

func TestPlaceWithFaultsAndCrashes(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		names := New(faulty)
		var acked byte
		for i := range byte(3) {
			if place(faulty, names, i == 2, i+1) == nil { // the second time taken is wrong
				acked = i + 1
			}
		}
		fired = faulty.Fired()
		for seed := range uint64(30) {
			if got := read(t, disk.AfterCrash(seed)); got < acked {
				t.Fatalf("fault %d, seed %d: version %d is there, %d was acknowledged", n, seed, got, acked)
			}
		}
	}
}

// A directory whose sync failed takes no more names: a later sync would prove
// nothing of the earlier ones.
func TestFailedSyncIsRemembered(t *testing.T) {
	disk := vfs.NewMem()
	names := New(disk)
	if err := place(disk, names, false, 1); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.FailAt(disk, 0)
	names.fs = faulty
	if err := names.Sync("/dir"); err == nil {
		t.Fatal("the sync did not fail")
	}
	for what, err := range map[string]error{"Trusted": names.Trusted("/dir"), "Place": place(disk, names, true, 2)} {
		if !errs.Is(err, errs.BadDevice) {
			t.Errorf("%s after a failed sync: %v, want BadDevice", what, err)
		}
	}
	if err := names.Trusted("/other"); err != nil {
		t.Errorf("another directory: %v", err)
	}
	if err := names.Folder("/dir/sub", "/dir"); !errs.Is(err, errs.BadDevice) {
		t.Errorf("Folder below it: %v, want BadDevice", err)
	}
}

// What a crash left on its way does not stand in the way.
func TestPlaceOverLeftover(t *testing.T) {
	disk := vfs.NewMem()
	names := New(disk)
	if err := place(disk, names, false, 1); err != nil {
		t.Fatal(err)
	}
	f, err := disk.CreateUnnamed("/dir")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(disk.Link(f, "/dir/"+NewPrefix+"file"), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := place(disk, names, true, 2); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk); got != 2 {
		t.Errorf("version %d is there, want 2", got)
	}
	if list, err := disk.ReadDir("/dir"); err != nil || len(list) != 1 {
		t.Errorf("left in the directory: %v, %v", list, err)
	}
}

// What is in doubt stays so when the same file system is looked at through another
// view; what was known of directories does not.
func TestOver(t *testing.T) {
	mem := vfs.NewMem()
	if err := errors.Join(mem.Mkdir("/d"), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	n := New(mem)
	if err := n.FolderOnce("/d/a", "/d"); err != nil {
		t.Fatal(err)
	}
	if err := New(vfs.FailAt(mem, 0)).Sync("/d/a"); err == nil {
		t.Fatal("the sync did not fail")
	}
	doubtful := New(vfs.FailAt(mem, 0))
	_ = doubtful.Sync("/d/a")
	if err := doubtful.Over(mem).Trusted("/d/a"); !errs.Is(err, errs.BadDevice) {
		t.Errorf("in doubt before: %v, want it still in doubt", err)
	}
	if err := mem.Remove("/d/a"); err != nil {
		t.Fatal(err)
	}
	next := n.Over(mem)
	if err := errors.Join(next.Trusted("/d"), next.FolderOnce("/d/a", "/d")); err != nil {
		t.Fatal(err)
	}
	if info, err := mem.Stat("/d/a"); err != nil || !info.Dir {
		t.Errorf("a folder that went with the disk was not made again: %v", err)
	}
}

// A call on a disk that was let go of has asked it nothing: that puts nothing in
// doubt. What a view finds out of its disk holds for all views of that.
func TestDoubtIsOfTheDisk(t *testing.T) {
	mem := vfs.NewMem()
	if err := errors.Join(mem.Mkdir("/d"), mem.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	n := New(vfs.Absent)
	if err := n.Sync("/d"); !errors.Is(err, vfs.ErrDetached) {
		t.Fatalf("a disk that is away: %v, want ErrDetached", err)
	}
	now, late := n.Over(mem), n.Over(vfs.FailAt(mem, 0))
	if err := errors.Join(n.Trusted("/d"), now.Settle("/d")); err != nil {
		t.Errorf("after a call that asked nothing: %v", err)
	}
	if err := late.Sync("/d"); err == nil {
		t.Fatal("the sync did not fail")
	}
	if err := now.Settle("/d"); !errs.Is(err, errs.BadDevice) {
		t.Errorf("a failure that another view has met: %v, want a bad device", err)
	}
}
