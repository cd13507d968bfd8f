package device

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// content is what a device holds before it is emptied.
var content = []string{"log/1", "index/a", "replication/steps", "file"}

// filled is a device with content, durably, and that is to be emptied.
func filled(t *testing.T) (mem *vfs.Mem, before Identity, e emptying) {
	t.Helper()
	mem = vfs.NewMem()
	before = NewIdentity(owner, "d1")
	e = emptying{Aside: AsidePrefix + "x", Identity: NewIdentity(owner, "d1")}
	err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/"), writeIdentity(mem, "/d1", before))
	for _, file := range content {
		dir := filepath.Join("/d1", filepath.Dir(file))
		if dir != "/d1" {
			err = errors.Join(err, mem.Mkdir(dir))
		}
		err = errors.Join(err, writeNew(mem, dir, filepath.Base(file), []byte(file)))
	}
	text, sealErr := sealed(&e)
	if err := errors.Join(err, sealErr, mem.SyncDir("/d1"), writeNew(mem, "/d1", EmptyingFile, text)); err != nil {
		t.Fatal(err)
	}
	return mem, before, e
}

// whole checks that content is in a folder, all of it.
func whole(t *testing.T, disk vfs.FS, folder, when string) {
	t.Helper()
	for _, file := range content {
		if b, err := readSmall(disk, filepath.Join(folder, file)); err != nil || string(b) != file {
			t.Errorf("%s: %s in %s is %q, %v", when, file, folder, b, err)
		}
	}
}

// Whatever call fails, and whenever the power goes, once it is tried again all is set aside, and the device is another one
// with nothing on it. Before that it is the one that it was.
func TestEmptyingCrash(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		mem, before, e := filled(t)
		disk := vfs.FailAt(mem, n, vfs.FaultForever())
		aside, err := finishEmptying(disk, "/d1")
		if fired = disk.Fired(); fired == (err == nil) || err == nil && aside != "/d1/"+e.Aside {
			t.Fatalf("call %d fails: %v: %q, %v", n, fired, aside, err)
		}
		for seed := range uint64(6) {
			after := mem.AfterCrash(seed)
			if i, err := ReadIdentity(after, "/d1"); err != nil || i != before && i != e.Identity {
				t.Errorf("call %d, crash %d: the device is %+v, %v", n, seed, i, err)
			}
			if _, err := finishEmptying(after, "/d1"); err != nil {
				t.Errorf("call %d, crash %d: the next time: %v", n, seed, err)
			}
			again := after.AfterCrash(seed)
			if aside, err := finishEmptying(again, "/d1"); aside != "" || err != nil {
				t.Errorf("call %d, crash %d: a third time: %q, %v", n, seed, aside, err)
			}
			when := "after a crash"
			whole(t, again, "/d1/"+e.Aside, when)
			if i, err := ReadIdentity(again, "/d1/"+e.Aside); err != nil || i != before {
				t.Errorf("call %d, crash %d: what is set aside is %+v, %v, want %+v", n, seed, i, err, before)
			}
			if i, err := ReadIdentity(again, "/d1"); err != nil || i != e.Identity {
				t.Errorf("call %d, crash %d: then the device is %+v, %v, want %+v", n, seed, i, err, e.Identity)
			}
			list, err := again.ReadDir("/d1")
			if err != nil || len(list) != 2 {
				t.Errorf("call %d, crash %d: then there is %v, %v", n, seed, list, err)
			}
		}
	}
}

// A device that is in use is emptied by who watches it: its followers are told that it is away, and then that there is another
// disk; what was on it is beside, and what is written then is not.
func TestEmptied(t *testing.T) {
	n := newNode(t, nil)
	write(t, n.path("d1", "kept"), "kept")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	changes := make(chan Change, 8)
	n.d.Follow(func(c Change) { changes <- c })
	first := <-changes
	go func() { ended <- n.set.Watch(ctx) }()
	aside, err := n.d.Empty()
	if err != nil {
		t.Fatal(err)
	}
	if c := <-changes; c.FS != vfs.Absent {
		t.Errorf("first it is %+v", c)
	}
	c := <-changes
	if !c.Fresh || c.Disk == first.Disk || c.Disk == "" {
		t.Errorf("then it is %+v, and was %+v", c, first)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(aside, "kept")); string(b) != "kept" {
		t.Errorf("set aside is %q, %v", b, err)
	}
	if _, err := os.Stat(n.path("d1", "kept")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if err := n.d.Check(); err != nil {
		t.Error(err)
	}
	if i, err := ReadIdentity(vfs.OS, n.path("d1")); err != nil || i.ID != c.Disk {
		t.Errorf("it is %+v, %v", i, err)
	}
	n.d.Fail(errors.New("away"))
	if _, err := n.d.Empty(); !errs.Is(err, errs.BadDevice) {
		t.Errorf("while it can't be used: %v", err)
	}
}

// unsynced is a folder whose names can't be made durable for a while.
type unsynced struct {
	Mount
	folder string
	fails  atomic.Int32 // how often
}

func (u *unsynced) SyncDir(name string) error {
	if name == u.folder && u.fails.Add(-1) >= 0 {
		return errNoSync
	}
	return u.Mount.SyncDir(name)
}

var errNoSync = errors.New("no sync")

// A device that could not be emptied, and was said not to be, is not emptied when its node is started again; where that can't be
// seen to it is not used on, so that nothing more comes to be on it.
func TestNotEmptied(t *testing.T) {
	for _, fails := range []int32{1, 2} {
		var u *unsynced
		n := newNode(t, func(c *Config) {
			c.Mount = func(folder string) (Mount, error) {
				m, err := vfs.OpenRoot(folder)
				if err == nil && filepath.Base(folder) == "d1" {
					u = &unsynced{Mount: m, folder: folder}
					return u, nil
				}
				return m, err
			}
		})
		write(t, n.path("d1", "kept"), "kept")
		u.fails.Store(fails)
		if _, err := n.d.Empty(); !errors.Is(err, errNoSync) {
			t.Fatalf("%d syncs fail: %v", fails, err)
		}
		if usable := n.d.Check() == nil; usable != (fails == 1) {
			t.Errorf("%d syncs fail: the device can be used: %v", fails, usable)
		}
		if fails > 1 {
			continue
		}
		if err := n.set.Close(); err != nil {
			t.Fatal(err)
		}
		n.open(t, nil)
		if b, err := os.ReadFile(n.path("d1", "kept")); string(b) != "kept" {
			t.Errorf("when its node is started again: %q, %v", b, err)
		}
	}
}

// What says that a device is to be emptied, and is not whole, has nothing be moved, and the device not be used.
func TestEmptyingDamaged(t *testing.T) {
	n := newNode(t, nil)
	if err := n.set.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, n.path("d1", EmptyingFile), "{}\n")
	write(t, n.path("d1", "kept"), "kept")
	n.open(t, func(c *Config) { c.Interval = time.Hour })
	if err := n.d.Check(); !errors.Is(err, errEmptyingDamaged) || !strings.Contains(n.log.String(), EmptyingFile) {
		t.Errorf("the device says %v, the log %s", err, n.log.String())
	}
	if b, err := os.ReadFile(n.path("d1", "kept")); string(b) != "kept" {
		t.Errorf("what is on it is %q, %v", b, err)
	}
}
