package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

func openRoot(t *testing.T, dir string) *vfs.Root {
	t.Helper()
	r, err := vfs.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// What is asked of the disk is counted where it was said, and nothing else is.
func TestRootCounts(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	var tally vfs.Tally
	r.CountIn(&tally)
	f, err := r.OpenFile(dir+"/f", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.WriteAt([]byte("abc"), 0)
	_, err2 := f.WriteVec([][]byte{[]byte("de"), []byte("f")}, 3)
	_, err3 := f.ReadAt(make([]byte, 4), 0)
	if err := errors.Join(err1, err2, err3, f.Sync(), f.Sync(), r.SyncDir(dir), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got, want := tally.Sum(), (vfs.Tallied{Syncs: 2, DirSyncs: 1, Written: 6, Read: 4}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// A Root stays with the folder that it opened, whatever has its name later.
func TestRootStays(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "d1")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	r := openRoot(t, dir)
	moved := filepath.Join(top, "moved")
	if err := errors.Join(os.Rename(dir, moved), os.Mkdir(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	if err := r.Mkdir(dir + "/objects"); err != nil {
		t.Fatal(err)
	}
	f, err := r.CreateUnnamed(dir + "/objects")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Link(f, dir+"/objects/a"), f.Close(), r.Rename(dir+"/objects/a", dir+"/b"), r.SyncDir(dir)); err != nil {
		t.Fatal(err)
	}
	o, err := r.OpenOS(dir+"/c", os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("the folder that took its name has %v, %v, want nothing", list, err)
	}
	for _, name := range []string{"objects", "b", "c"} {
		if _, err := os.Stat(filepath.Join(moved, name)); err != nil {
			t.Errorf("the folder that was opened: %v", err)
		}
	}
	here, err := vfs.OS.Stat(dir)
	if there, err2 := r.Stat(dir); err != nil || err2 != nil || there.Ino == here.Ino {
		t.Errorf("Stat through the root is %+v, %v, of the name now %+v, %v: want two folders", there, err2, here, err)
	}
}

func TestRootBounds(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	for _, name := range []string{"/", "/etc/passwd", dir + "x", filepath.Dir(dir), "relative"} {
		if _, err := r.Stat(name); !errors.Is(err, syscall.EXDEV) {
			t.Errorf("Stat(%q): %v, want EXDEV", name, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Rename(file, "/elsewhere"); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("Rename out of it: %v, want EXDEV", err)
	}
	if _, err := vfs.OpenRoot(file); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("OpenRoot of a file: %v, want ENOTDIR", err)
	}
}

func TestRootLock(t *testing.T) {
	dir := t.TempDir()
	first, second := openRoot(t, dir), openRoot(t, dir)
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("a folder that is locked: %v, want EWOULDBLOCK", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); err != nil {
		t.Errorf("after Close: %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("locking left %v, %v", list, err)
	}
	if first.MountID() != 0 || second.MountID() == 0 {
		t.Errorf("mount %d of a closed root, want 0; %d of an open one, want a number", first.MountID(), second.MountID())
	}
}

// Close ends what begins after it, and its descriptor is never another's in a call.
func TestRootClose(t *testing.T) {
	dir := t.TempDir()
	r := openRoot(t, dir)
	f, err := r.OpenFile(dir+"/f", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				if _, err := r.Stat(dir); err != nil {
					if !errors.Is(err, syscall.ENODEV) {
						t.Errorf("Stat: %v, want ENODEV after Close", err)
					}
					return
				}
			}
		})
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	for name, err := range map[string]error{
		"mkdir": r.Mkdir(dir + "/x"), "remove": r.Remove(dir + "/f"), "rename": r.Rename(dir+"/f", dir+"/g"), "syncdir": r.SyncDir(dir), "lock": r.Lock(),
	} {
		if !errors.Is(err, syscall.ENODEV) || !errors.Is(err, vfs.ErrDetached) {
			t.Errorf("%s after Close: %v, want ENODEV and ErrDetached", name, err)
		}
	}
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Errorf("a file that was open: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
