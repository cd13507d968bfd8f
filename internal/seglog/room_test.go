package seglog

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/vfs"
)

// heldFS is one on which spares are filled when it is said that they may be.
type heldFS struct {
	vfs.FS
	held  atomic.Bool
	free  chan struct{}
	began chan struct{} // gets one for each write that is held
}

type heldFile struct {
	vfs.File
	fs *heldFS
}

func (h *heldFS) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := h.FS.OpenFile(name, flag)
	if err == nil && strings.Contains(name, newPrefix) {
		return &heldFile{f, h}, nil
	}
	return f, err
}

func (f *heldFile) WriteAt(b []byte, at int64) (int, error) {
	if f.fs.held.Load() {
		f.fs.began <- struct{}{}
		<-f.fs.free
	}
	return f.File.WriteAt(b, at)
}

// TestFillingHoldsNobodyUp: a spare is filled with zeros while what comes meanwhile is
// appended to the segment before it.
func TestFillingHoldsNobodyUp(t *testing.T) {
	fs := &heldFS{FS: vfs.NewMem(), free: make(chan struct{}), began: make(chan struct{}, 100)}
	c := config(fs)
	c.Zero = true
	l := open(t, c)
	n := uint64(0)
	to := func(end Position) {
		t.Helper()
		for at := (Position{}); at.Less(end); n++ {
			var err error
			if at, err = l.Append(record(n), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	to(Position{1, firstRecord})
	fs.held.Store(true)
	to(Position{1, c.SegmentSize * 3 / 4})
	select {
	case <-fs.began:
	case <-time.After(time.Minute):
		t.Fatal("nothing was filled")
	}
	fs.held.Store(false)
	close(fs.free)
	to(Position{4, 0})
	if got := uint64(len(found(t, l))); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, spares, err := l.dir.list(); err != nil || len(spares) == 0 {
		t.Errorf("spares %q, %v", spares, err)
	}
}

// roomless is a file system on which no spare can be made while it is full.
type roomless struct {
	vfs.FS
	full  atomic.Bool
	asked atomic.Int64 // times while it was
}

func (r *roomless) OpenFile(name string, flag int) (vfs.File, error) {
	if r.full.Load() && strings.Contains(name, newPrefix) {
		r.asked.Add(1)
		return nil, syscall.ENOSPC
	}
	return r.FS.OpenFile(name, flag)
}

// TestNoRoomWasLongAgo: a spare could not be made beside, when nobody needed it; there is room
// when it is needed.
func TestNoRoomWasLongAgo(t *testing.T) {
	fs := &roomless{FS: vfs.NewMem()}
	c := config(fs)
	c.Zero = true
	l := open(t, c)
	add := func() Position {
		t.Helper()
		at, err := l.Append(&Record{Kind: 1, Body: make([]byte, 8000)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	add()
	fs.full.Store(true)
	for at := (Position{}); at.Offset < c.SegmentSize*3/4; {
		at = add()
	}
	if failed := <-l.making; failed.err == nil || fs.asked.Load() == 0 {
		t.Fatal("nothing has failed")
	} else {
		l.making <- failed
	}
	fs.full.Store(false)
	for at := (Position{}); at.Segment < 3; {
		at = add()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
