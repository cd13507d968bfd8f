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

// What is replaced as a whole is not read: a delete, and a version after another, wait for no read of the disk. Where something is
// to be known that the index does not say, it is.
func TestCostOfReplacing(t *testing.T) {
	fs := vfs.Count(vfs.OS)
	e := newEngine(fs, t.TempDir())
	defer e.Close()
	l := numbered(1)
	put := func(n int64) error { return putNumbered(e, l, n, make([]byte, 4<<10), usual) }
	if err := put(1); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what  string
		do    func() (Outcome, error)
		was   Kind
		reads bool
	}{
		{"a version after another", func() (Outcome, error) { return Outcome{Before: State{Kind: Live}}, put(2) }, Live, false},
		{"a delete", func() (Outcome, error) { return e.Delete(ctx, l, usual.Name, ts(3), Terms{}) }, Live, false},
		{"a delete of what was deleted", func() (Outcome, error) { return e.Delete(ctx, l, usual.Name, ts(4), Terms{}) }, Deleted, false},
		{"a delete under a condition", func() (Outcome, error) {
			return e.Delete(ctx, l, usual.Name, ts(5), Terms{Check: func(s State) error {
				if s.Name != usual.Name {
					t.Errorf("the condition is asked of %+v", s)
				}
				return nil
			}})
		}, Deleted, true},
		{"a delete of another replica", func() (Outcome, error) { return e.Delete(ctx, l, usual.Name, ts(6), Terms{Merge: true}) }, Deleted, true},
	} {
		before := fs.Counts()
		o, err := tt.do()
		if err != nil || o.Before.Kind != tt.was {
			t.Errorf("%s: of %v, %v; want of %v", tt.what, o.Before.Kind, err, tt.was)
		}
		if n := fs.Counts().Sub(before).Reads; (n > 0) != tt.reads {
			t.Errorf("%s: %d reads, want some: %v", tt.what, n, tt.reads)
		}
	}
}
