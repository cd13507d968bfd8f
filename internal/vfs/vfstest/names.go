package vfstest

import (
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

func testUnnamed(t *testing.T, e env) {
	_, err := e.CreateUnnamed(e.path("no"))
	e.fails(err, fs.ErrNotExist, e.path("no"))
	f, err := e.CreateUnnamed(e.dir)
	e.ok(err)
	e.write(f, "secret", 0)
	if got := e.contents(f); got != "secret" {
		t.Fatalf("unnamed file: got %q, want %q", got, "secret")
	}
	e.ok(f.Close())
	e.lists() // nothing is left of it
}

func testLink(t *testing.T, e env) {
	f, err := e.CreateUnnamed(e.dir)
	e.ok(err)
	e.write(f, "data", 0)
	e.ok(f.Sync())
	e.ok(e.create("taken", "old").Close())
	e.fails(e.Link(f, e.path("taken")), fs.ErrExist, e.path("taken"))
	e.has("taken", "old")
	e.fails(e.Link(f, e.path("no/a")), fs.ErrNotExist, e.path("no/a"))
	e.ok(e.Link(f, e.path("a")))
	e.ok(e.SyncDir(e.dir))
	e.has("a", "data")
	e.fails(e.Link(f, e.path("b")), syscall.EINVAL, e.path("b"))
	e.write(f, "!", 4)
	e.ok(f.Close())
	e.has("a", "data!")
	e.lists(vfs.Entry{Name: "a"}, vfs.Entry{Name: "taken"})
	e.fails(e.Link(f, e.path("b")), fs.ErrClosed, e.path("b"))

	g := e.create("named", "")
	e.fails(e.Link(g, e.path("b")), syscall.EINVAL, e.path("b"))
	e.fails(e.Link(nil, e.path("b")), syscall.EINVAL, e.path("b"))
}

func testRename(t *testing.T, e env) {
	e.ok(e.Mkdir(e.path("d")))
	f := e.create("a", "new")
	e.ok(e.create("d/b", "old").Close())
	old, err := e.Open(e.path("d/b"))
	e.ok(err)
	e.ok(e.Rename(e.path("a"), e.path("d/b")))
	e.has("d/b", "new")
	e.lacks("a")
	if got := e.contents(old); got != "old" {
		t.Fatalf("replaced file that is still open: got %q, want %q", got, "old")
	}
	e.ok(old.Close())
	e.write(f, "er", 3)
	e.has("d/b", "newer")
	e.ok(e.Rename(e.path("d/b"), e.path("d/b")))
	e.ok(e.SyncDir(e.path("d")))
	e.ok(e.SyncDir(e.dir))

	e.fails(e.Rename(e.path("no"), e.path("x")), fs.ErrNotExist, e.path("no"))
	e.fails(e.Rename(e.path("d/b"), e.path("no/x")), fs.ErrNotExist, e.path("d/b"))
	e.fails(e.Rename(e.path("d/b"), e.path("d")), syscall.ENOTEMPTY, e.path("d/b"))
	e.ok(e.Mkdir(e.path("empty")))
	e.fails(e.Rename(e.path("d/b"), e.path("empty")), syscall.EISDIR, e.path("d/b"))
	e.has("d/b", "newer")
}

func testRenameDir(t *testing.T, e env) {
	for _, name := range []string{"d", "d/sub", "empty", "full", "full/x"} {
		e.ok(e.Mkdir(e.path(name)))
	}
	e.ok(e.create("d/sub/f", "deep").Close())
	e.fails(e.Rename(e.path("d"), e.path("d/sub/d")), syscall.EINVAL, e.path("d"))
	e.fails(e.Rename(e.path("d"), e.path("full")), fs.ErrExist, e.path("d")) // ENOTEMPTY is one
	e.fails(e.Rename(e.path("d"), e.path("d/sub/f")), syscall.EINVAL, e.path("d"))
	e.ok(e.create("file", "").Close())
	e.fails(e.Rename(e.path("d"), e.path("file")), syscall.ENOTDIR, e.path("d"))
	e.ok(e.Rename(e.path("d"), e.path("empty")))
	e.has("empty/sub/f", "deep")
	e.lacks("d")
}

func testRemove(t *testing.T, e env) {
	e.fails(e.Remove(e.path("a")), fs.ErrNotExist, e.path("a"))
	f := e.create("a", "still here")
	e.ok(e.Remove(e.path("a")))
	e.lacks("a")
	if got := e.contents(f); got != "still here" {
		t.Fatalf("removed file that is still open: got %q", got)
	}
	e.ok(e.Mkdir(e.path("d")))
	e.ok(e.create("d/f", "").Close())
	e.fails(e.Remove(e.path("d")), syscall.ENOTEMPTY, e.path("d"))
	e.ok(e.Remove(e.path("d/f")))
	e.ok(e.Remove(e.path("d")))
	e.lists()
	e.fails(e.Remove(e.path("d/f")), fs.ErrNotExist, e.path("d/f"))
}

func testDirectories(t *testing.T, e env) {
	e.ok(e.create("f", "").Close())
	e.ok(e.Mkdir(e.path("d")))
	e.fails(e.Mkdir(e.path("d")), fs.ErrExist, e.path("d"))
	e.fails(e.Mkdir(e.path("f")), fs.ErrExist, e.path("f"))
	e.fails(e.Mkdir(e.path("no/d")), fs.ErrNotExist, e.path("no/d"))
	e.fails(e.Mkdir(e.path("f/d")), syscall.ENOTDIR, e.path("f/d"))
	e.ok(e.create("e", "").Close())
	e.ok(e.create("d/inner", "").Close())
	e.lists(vfs.Entry{Name: "d", Dir: true}, vfs.Entry{Name: "e"}, vfs.Entry{Name: "f"})
	_, err := e.ReadDir(e.path("no"))
	e.fails(err, fs.ErrNotExist, e.path("no"))
	_, err = e.ReadDir(e.path("f"))
	e.fails(err, syscall.ENOTDIR, e.path("f"))
	e.ok(e.SyncDir(e.path("d")))
	e.fails(e.SyncDir(e.path("no")), fs.ErrNotExist, e.path("no"))
	e.fails(e.SyncDir(e.path("f")), syscall.ENOTDIR, e.path("f"))
}

func testStat(t *testing.T, e env) {
	e.ok(e.create("f", "hello").Close())
	e.ok(e.Mkdir(e.path("d")))
	f, err := e.Stat(e.path("f"))
	e.ok(err)
	d, err := e.Stat(e.path("d"))
	e.ok(err)
	if f.Dir || f.Size != 5 || f.ModTime.IsZero() {
		t.Errorf("Stat of a file of 5 bytes: got %+v", f)
	}
	if !d.Dir || d.Dev != f.Dev || d.Ino == f.Ino {
		t.Errorf("Stat of a directory beside it: got %+v, the file %+v", d, f)
	}
	e.ok(e.Rename(e.path("f"), e.path("g")))
	if g, err := e.Stat(e.path("g")); err != nil || g.Ino != f.Ino {
		t.Errorf("Stat after a rename: got %+v, %v; want inode %d", g, err, f.Ino)
	}
	e.lacks("f")
}

func testUsage(t *testing.T, e env) {
	u, err := e.Usage(e.dir)
	e.ok(err)
	if u.Total <= 0 || u.Free < 0 || u.Free > u.Total || u.Available > u.Free || u.FilesFree > u.Files {
		t.Errorf("Usage: got %+v", u)
	}
	_, err = e.Usage(e.path("no"))
	e.fails(err, fs.ErrNotExist, e.path("no"))
}

func testClosed(t *testing.T, e env) {
	f := e.create("a", "hello")
	e.ok(f.Close())
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt(make([]byte, 1), 0)
	_, vecErr := f.WriteVec([][]byte{{1}}, 0)
	_, sizeErr := f.Size()
	for name, err := range map[string]error{
		"ReadAt": readErr, "WriteAt": writeErr, "WriteVec": vecErr, "Size": sizeErr,
		"Sync": f.Sync(), "Truncate": f.Truncate(0), "Preallocate": f.Preallocate(0, 1),
		"SetDirect": f.SetDirect(true), "DropCache": f.DropCache(0, 0), "Close": f.Close(),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s of a closed file: got %v, want %v", name, err, fs.ErrClosed)
		}
	}
}

// testConcurrent has goroutines append to files of their own and read and close
// one that they share, for the race detector to watch.
func testConcurrent(t *testing.T, e env) {
	shared := e.create("shared", "")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			name := e.path(string(rune('a' + g)))
			f, err := e.CreateUnnamed(e.dir)
			if err != nil {
				t.Errorf("CreateUnnamed: %v", err)
				return
			}
			for i := range 20 {
				_, writeErr := f.WriteAt([]byte{byte(i)}, int64(i))
				_, sharedErr := shared.WriteAt([]byte{byte(g)}, int64(g))
				_, readErr := shared.ReadAt(make([]byte, 1), int64(g))
				if err := errors.Join(writeErr, sharedErr, readErr); err != nil {
					t.Errorf("goroutine %d, step %d: %v", g, i, err)
				}
			}
			if err := errors.Join(f.Sync(), e.Link(f, name), e.SyncDir(e.dir), f.Close()); err != nil {
				t.Errorf("goroutine %d: %v", g, err)
			}
		})
	}
	wg.Wait()
	if got, want := e.contents(shared), "\x00\x01\x02\x03\x04\x05\x06\x07"; got != want {
		t.Errorf("shared file: got %q, want %q", got, want)
	}
	entries, err := e.ReadDir(e.dir)
	if err != nil || len(entries) != 9 {
		t.Errorf("ReadDir: got %v, %v; want 9 entries", entries, err)
	}
}
