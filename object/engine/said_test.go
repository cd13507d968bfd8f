//go:build !race

package engine

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// putAbout is put of data whose length is not known, but was said.
func putAbout(e *Engine, about int64, l Location, t timestamp.T, data []byte, meta string, terms Terms) error {
	w, err := e.CreateAbout(ctx, l, about)
	return putBy(w, err, l, t, data, meta, terms)
}

// Whatever is said of a length that is not known, what comes is kept as if nothing had been said: in the log up to the
// threshold, else in a file, whole. No file is left of what is in the log.
func TestSaidLength(t *testing.T) {
	const limit = 1 << 20 / 8 // for the small segments of newEngine
	for _, size := range []int{0, 10, limit, limit + 1, 1 << 20} {
		data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		for _, about := range []int64{-7, 0, int64(size) - 1, int64(size), int64(size) + 1, 3 << 20, 1 << 50} {
			disk := vfs.NewMem()
			e := newEngine(disk, "/")
			if err := putAbout(e, about, at(1), ts(1), data, "x", Terms{}); err != nil {
				t.Errorf("%d bytes, said to be %d: %v", size, about, err)
				continue
			}
			d, err := e.now().open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d.threshold != limit {
				t.Fatalf("the threshold is %d", d.threshold)
			}
			if entry, err := d.get(at(1)); err != nil || entry.Blob != (size > limit) {
				t.Errorf("%d bytes, said to be %d: in a file: %t, %v", size, about, entry.Blob, err)
			}
			if s, got, err := get(newEngine(disk.AfterCrash(1), "/"), at(1)); err != nil || !bytes.Equal(got, data) || s.Length != int64(size) {
				t.Errorf("%d bytes, said to be %d: %d are there after a crash, %v", size, about, len(got), err)
			}
		}
	}
}

// Who breaks off, or brings other bytes, leaves nothing and keeps nothing of what was said to be a lot.
func TestSaidLengthAndNothingKept(t *testing.T) {
	disk := vfs.NewMem()
	e := newEngine(disk, "/")
	if err := put(e, at(1), ts(1), []byte("old"), "x", Terms{}); err != nil {
		t.Fatal(err)
	}
	used := func() int64 {
		u, err := disk.Usage("/")
		if err != nil {
			t.Fatal(err)
		}
		return u.Free
	}
	before := int64(-1)
	for range 2 * testMemory / (1 << 20) { // more than there are buffers
		w, err := e.CreateAbout(ctx, at(1), 100<<20)
		if err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken off")
		if _, err := w.ReadFrom(io.MultiReader(bytes.NewReader(make([]byte, 1200<<10)), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if _, err := w.Commit(Version{Time: ts(2), Name: path3(at(1))}, Terms{}); err == nil {
			t.Fatal("what broke off was kept")
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if before < 0 {
			before = used() // the folders are there now
		}
	}
	if now := used(); now != before {
		t.Errorf("%d bytes are free, and %d were", now, before)
	}
	if _, got, err := get(e, at(1)); string(got) != "old" || err != nil {
		t.Errorf("%q is there, %v", got, err)
	}
}
