package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

// watched is a file whose reads are counted, and may be made to fail or to wait.
type watched struct {
	vfs.File
	fail      func(off int64) error // nil for what does not
	short     int64                 // where the file ends for who reads, 0 for where it does
	hold      chan struct{}         // what reads beyond the first block waits for
	refuses   error                 // what SetDirect(true) returns
	reads     atomic.Int64
	bytesRead atomic.Int64
	most      atomic.Int64 // the greatest offset
	direct    atomic.Bool
}

func (f *watched) SetDirect(on bool) error {
	if on && f.refuses != nil {
		return f.refuses
	}
	f.direct.Store(on)
	return f.File.SetDirect(on)
}

func (f *watched) ReadAt(p []byte, off int64) (int, error) {
	f.reads.Add(1)
	if f.hold != nil && off > 0 {
		<-f.hold
	}
	if f.fail != nil {
		if err := f.fail(off); err != nil {
			return 0, err
		}
	}
	n, err := f.File.ReadAt(p, off)
	if f.short > 0 && off+int64(n) > f.short {
		n, err = int(max(0, f.short-off)), io.EOF
	}
	f.bytesRead.Add(int64(n))
	for end := off + int64(n); ; {
		if most := f.most.Load(); end <= most || f.most.CompareAndSwap(most, end) {
			return n, err
		}
	}
}

// stored writes an object and opens its file.
func stored(t testing.TB, fs vfs.FS, dir string, data []byte, text int) *watched {
	t.Helper()
	path := write(t, fs, dir, testHeader(text), data, int64(len(data)), NewGuarded(8<<20))
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &watched{File: f}
}

// idle fails the test unless all buffers were given back.
func idle(t *testing.T, bufs *Buffers) {
	t.Helper()
	if small, large := len(bufs.small.sem), len(bufs.large.sem); small != 0 || large != 0 {
		t.Errorf("%d small and %d large buffers are still in use", small, large)
	}
}

// view reads n bytes from off on, which may be more than there is.
func view(r *Reader, off, n int64) ([]byte, error) {
	var all []byte
	for n > 0 {
		b, err := r.View(off, n)
		if err != nil {
			return all, err
		}
		all = append(all, b...)
		off += int64(len(b))
		n -= int64(len(b))
	}
	return all, nil
}

// Many read one file at the same time, with less memory than they would like.
func TestDirectTogether(t *testing.T) {
	dir := t.TempDir()
	data := body(6<<20 + 5)
	path := write(t, vfs.OS, dir, testHeader(0), data, int64(len(data)), NewGuarded(8<<20))
	bufs := NewGuarded(16 << 20)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			f, err := vfs.OS.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			r, _, err := OpenDirect(context.Background(), f, bufs)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			off := int64(i) * 400_000
			if got, err := view(r, off, int64(len(data))-off); err != nil || !bytes.Equal(got, data[off:]) {
				t.Errorf("from %d: %d bytes, %v", off, len(got), err)
			}
		})
	}
	all.Wait()
	idle(t, bufs)
}

// What file systems say that have no direct reads, when they are told to or later.
func TestDirectRefused(t *testing.T) {
	data := body(5<<20 + 100)
	for name, tt := range map[string]struct {
		refuses error
		from    int64 // reads from there on are EINVAL in direct mode; -1 for none
	}{
		"at once":           {errors.ErrUnsupported, -1},
		"by the first read": {nil, 0},
		"by the next":       {nil, 1},
		"in the middle":     {nil, 2<<20 + 1},
		"at the end":        {nil, 4 << 20},
	} {
		f := stored(t, vfs.NewMem(), "/", data, 0)
		f.refuses = tt.refuses
		f.fail = func(off int64) error {
			if tt.from >= 0 && off >= tt.from && f.direct.Load() {
				return syscall.EINVAL
			}
			return nil
		}
		bufs := NewGuarded(32 << 20)
		r, _, err := OpenDirect(context.Background(), f, bufs)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := view(r, 0, int64(len(data)))
		r.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if f.direct.Load() {
			t.Errorf("%s: still in direct mode", name)
		}
		idle(t, bufs)
	}
}

// What is wrong with a part that is read ahead is the caller's to know when he gets there,
// and not before.
func TestDirectFaults(t *testing.T) {
	const size, bad = 6 << 20, 4<<20 + 3*BlockSize // in the middle of the fourth piece
	data := body(size)
	for name, tt := range map[string]struct {
		damage func(f *watched)
		want   error
	}{
		"EIO": {func(f *watched) {
			f.fail = func(off int64) error {
				if off <= PageSize+bad && off+largeBuffer > PageSize+bad {
					return syscall.EIO
				}
				return nil
			}
		}, syscall.EIO},
		"short":    {func(f *watched) { f.short = PageSize + bad + 10 }, ErrCorrupt},
		"detached": {func(f *watched) { f.fail = detachedFrom(PageSize + bad - largeBuffer + 1) }, vfs.ErrDetached},
		"flipped":  {func(f *watched) { f.File = &flipped{f.File, PageSize + bad + 7} }, ErrCorrupt},
	} {
		for _, memory := range []int64{0, 32 << 20} {
			f := stored(t, vfs.NewMem(), "/", data, 0)
			bufs := NewGuarded(memory)
			tt.damage(f)
			r, _, err := OpenDirect(context.Background(), f, bufs)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := view(r, 0, size)
			if !errors.Is(err, tt.want) || !bytes.HasPrefix(data, got) {
				t.Errorf("%s: %d bytes and %v, want %v", name, len(got), err, tt.want)
			}
			if n := int64(len(got)); n < bad-largeBuffer-SmallMax || n > bad {
				t.Errorf("%s: %d bytes came before %d is bad", name, n, bad)
			}
			if again, err := r.View(int64(len(got)), size); !errors.Is(err, tt.want) {
				t.Errorf("%s: asked again: %d bytes, %v", name, len(again), err)
			}
			// The caller may still have what is whole.
			if b, err := r.View(100, 10); err != nil || !bytes.Equal(b, data[100:110]) {
				t.Errorf("%s: the first bytes afterwards: %v", name, err)
			}
			r.Close()
			idle(t, bufs)
		}
	}
}

func detachedFrom(from int64) func(off int64) error {
	return func(off int64) error {
		if off >= from {
			return vfs.ErrDetached
		}
		return nil
	}
}

// flipped is a file with a damaged byte.
type flipped struct {
	vfs.File
	at int64
}

func (f *flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}

// A reader that is closed while the disk is busy for it waits for the disk, and then
// nothing is left.
func TestCloseWhileReadingAhead(t *testing.T) {
	data := body(6 << 20)
	f := stored(t, vfs.NewMem(), "/", data, 0)
	f.hold = make(chan struct{})
	bufs := NewGuarded(32 << 20)
	r, _, err := OpenDirect(context.Background(), f, bufs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.View(0, MaxLength); err != nil { // of the first block, which is there
		t.Fatal(err)
	}
	if got := len(bufs.large.sem); got != pieces {
		t.Errorf("%d pieces are being read, want %d", got, pieces)
	}
	closed := make(chan struct{})
	go func() {
		r.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("closed while the disk still writes into its buffers")
	case f.hold <- struct{}{}: // the first of the reads goes on
	}
	close(f.hold)
	<-closed
	idle(t, bufs)
	r.Close()
	idle(t, bufs)
}

// Reading ahead leaves half of the buffers to those who write.
func TestReadAheadLeavesBuffers(t *testing.T) {
	data := body(6 << 20)
	bufs := NewGuarded(16 << 20) // eight large ones
	for range 5 {
		r, _, err := OpenDirect(context.Background(), stored(t, vfs.NewMem(), "/", data, 0), bufs)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := view(r, 0, 2<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := r.View(2<<20, MaxLength); err != nil {
			t.Fatal(err)
		}
	}
	if used, all := len(bufs.large.sem), cap(bufs.large.sem); used != all/2 {
		t.Errorf("%d of %d large buffers are in use, want half", used, all)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w, err := Create(ctx, vfs.NewMem(), "/", 1<<20, bufs)
	if err != nil {
		t.Fatalf("a write beside: %v", err)
	}
	_ = w.Close()
}

// After a fault anywhere what was read is right, and the error says what it was.
func TestDirectFaultAtEveryCall(t *testing.T) {
	data := body(4<<20 + 77)
	disk := vfs.NewMem()
	path := write(t, disk, "/", testHeader(5000), data, int64(len(data)), NewGuarded(8<<20))
	bufs := NewGuarded(32 << 20)
	for n, fired := 0, true; fired; n++ {
		faulty := vfs.FailAt(disk, n)
		err := func() error {
			f, err := faulty.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			r, _, err := OpenDirect(context.Background(), f, bufs)
			if err != nil {
				return err
			}
			defer r.Close()
			got, err := view(r, 0, int64(len(data)))
			if !bytes.HasPrefix(data, got) {
				t.Errorf("fault %d: %d bytes are not those written", n, len(got))
			}
			return err
		}()
		if fired = faulty.Fired(); fired != (err != nil) || fired && !errors.Is(err, syscall.EIO) {
			t.Errorf("fault %d: fired %t, and %v", n, fired, err)
		}
		idle(t, bufs)
	}
}
