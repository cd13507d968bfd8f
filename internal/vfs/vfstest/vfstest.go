// Package vfstest is the conformance suite of package vfs: what every vfs.FS
// does alike. It does not say what survives a crash; that can be tried only
// where there is a power cord to pull, on vfs.Mem.
package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"testing"

	"martlet/internal/vfs"
)

// Run runs the suite. Each part of it asks newFS for a file system and an empty
// directory on it.
func Run(t *testing.T, newFS func(t *testing.T) (vfs.FS, string)) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T, e env)
	}{
		{"open flags", testOpenFlags},
		{"bad arguments", testBadArguments},
		{"read and write", testReadWrite},
		{"write vector", testWriteVec},
		{"random file", testRandomFile},
		{"truncate", testTruncate},
		{"preallocate", testPreallocate},
		{"direct", testDirect},
		{"direct write vector", testDirectVec},
		{"unnamed", testUnnamed},
		{"link", testLink},
		{"rename", testRename},
		{"rename directory", testRenameDir},
		{"remove", testRemove},
		{"directories", testDirectories},
		{"stat", testStat},
		{"usage", testUsage},
		{"closed", testClosed},
		{"many goroutines", testConcurrent},
	} {
		t.Run(part.name, func(t *testing.T) {
			fsys, dir := newFS(t)
			part.run(t, env{T: t, FS: fsys, dir: dir})
		})
	}
}

// env is a file system under test with what the parts do again and again.
type env struct {
	*testing.T
	vfs.FS
	dir string
}

func (e env) path(name string) string { return e.dir + "/" + name }

func (e env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("got error %v, want none", err)
	}
}

// fails wants an error that is want and names name.
func (e env) fails(err, want error, name string) {
	e.Helper()
	var pe *fs.PathError
	if !errors.Is(err, want) || !errors.As(err, &pe) {
		e.Fatalf("got error %v (%T), want a *fs.PathError that is %q", err, err, want)
	}
	if name != "" && pe.Path != name {
		e.Fatalf("error %q names %q, want %q", err, pe.Path, name)
	}
}

// create makes a file with content and leaves it open.
func (e env) create(name, content string) vfs.File {
	e.Helper()
	f, err := e.OpenFile(e.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	e.ok(err)
	e.Cleanup(func() {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			e.Errorf("close %s: %v", name, err)
		}
	})
	e.write(f, content, 0)
	return f
}

func (e env) write(f vfs.File, content string, off int64) {
	e.Helper()
	if n, err := f.WriteAt([]byte(content), off); n != len(content) || err != nil {
		e.Fatalf("WriteAt of %d bytes at %d: got %d, %v", len(content), off, n, err)
	}
}

// contents reads all of an open file.
func (e env) contents(f vfs.File) string {
	e.Helper()
	size, err := f.Size()
	e.ok(err)
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); int64(n) != size || err != nil && err != io.EOF {
		e.Fatalf("ReadAt of all %d bytes: got %d, %v", size, n, err)
	}
	return string(p)
}

// has wants a file of that name with that content.
func (e env) has(name, want string) {
	e.Helper()
	f, err := e.Open(e.path(name))
	e.ok(err)
	if got := e.contents(f); got != want {
		e.Fatalf("%s: got %q, want %q", name, got, want)
	}
	e.ok(f.Close())
}

func (e env) lacks(name string) {
	e.Helper()
	_, err := e.Stat(e.path(name))
	e.fails(err, fs.ErrNotExist, e.path(name))
}

// lists wants exactly these names in the directory under test.
func (e env) lists(want ...vfs.Entry) {
	e.Helper()
	got, err := e.ReadDir(e.dir)
	e.ok(err)
	if !slices.Equal(got, want) {
		e.Fatalf("ReadDir: got %v, want %v", got, want)
	}
}
