//go:build !race

// The race detector has pools forget some of what they are given.

package engine

import (
	"testing"

	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// A GET of a small object is one read, and takes no more memory of its own than a reader and
// a text: so that a busy node does not work for its garbage.
func TestCostOfGet(t *testing.T) {
	fs := vfs.Count(vfs.OS)
	e := newEngineWith(fs, t.TempDir(), blob.NewBuffers(testMemory))
	defer e.Close()
	l := numbered(1)
	if err := putNumbered(e, l, 1, make([]byte, 4<<10), usual); err != nil {
		t.Fatal(err)
	}
	once := func() {
		r, err := e.Open(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.View(0, 1<<20); len(b) != 4<<10 || err != nil {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const runs = 200
	before := fs.Counts()
	if n := testing.AllocsPerRun(runs-1, once); n > 2 {
		t.Errorf("%v allocations, want 2 at most", n)
	}
	if c := fs.Counts().Sub(before); c.Reads != runs || c.Opens != 0 {
		t.Errorf("%d reads and %d files opened for %d objects", c.Reads, c.Opens, runs)
	}
	stat := func() {
		if s, err := e.Stat(ctx, l); s.Kind != Live || err != nil {
			t.Fatal(s, err)
		}
	}
	if n := testing.AllocsPerRun(runs, stat); n > 2 {
		t.Errorf("%v allocations to look at it, want 2 at most", n)
	}
}
