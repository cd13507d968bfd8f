package blob

import (
	"context"
	"errors"
	"runtime/debug"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

// faults reports whether something touches memory that is nobody's.
func faults(do func()) (fault bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { fault = recover() != nil }()
	do()
	return false
}

// Guarded buffers are what they are taken for: whoever touches one that he has given back is found out, and so is who gives it
// back twice. That is what the tests of writers and readers rely on.
func TestGuardedBuffers(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	file, err := vfs.OS.CreateUnnamed(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*class{"tiny": &bufs.tiny, "small": &bufs.small, "large": &bufs.large} {
		b, err := c.take(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		mem, last := *b, len(*b)-1
		if faults(func() { mem[0], mem[last] = 1, mem[last]+1 }) {
			t.Errorf("%s: a buffer can't be used", name)
		}
		c.give(b)
		for what, touch := range map[string]func(){
			"read at its beginning":    func() { read = mem[0] },
			"written at its beginning": func() { mem[0] = 1 },
			"read at its end":          func() { read = mem[last] },
			"written at its end":       func() { mem[last] = 1 },
		} {
			if !faults(touch) {
				t.Errorf("%s: what was given back can be %s", name, what)
			}
		}
		if _, err := file.ReadAt(mem[:5], 0); !errors.Is(err, syscall.EFAULT) {
			t.Errorf("%s: the kernel reads into what was given back: %v", name, err)
		}
		if _, err := file.WriteVec([][]byte{mem[:5]}, 0); !errors.Is(err, syscall.EFAULT) {
			t.Errorf("%s: the kernel writes what was given back: %v", name, err)
		}
		if !faults(func() { c.pool.Put(b) }) {
			t.Errorf("%s: it is given back twice", name)
		}
		for range 2 * sealedKept {
			again, err := c.take(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			c.give(again)
		}
	}
}

var read byte

// A large buffer that is given back twice, or was given back to the system, would be two writers' at one time, or taken away from one.
func TestSlabsAreGivenBackOnce(t *testing.T) {
	var s slabs
	b, other := s.Get(), s.Get()
	s.Put(b)
	if !faults(func() { s.Put(b) }) {
		t.Error("a buffer is given back twice")
	}
	s.Put(other)
	s.mu.Lock()
	s.least = len(s.whole)
	s.mu.Unlock()
	s.look()
	if !faults(func() { s.Put(b) }) {
		t.Error("a buffer is given back that the system has")
	}
}

// What a reader has handed out is not to be touched once it is closed: in tests it can't be.
func TestViewEndsWithItsReader(t *testing.T) {
	bufs, fs := NewGuarded(32<<20), vfs.NewMem()
	for _, size := range []int64{100, SmallMax + 1, 3 * largeBuffer} {
		path := write(t, fs, "/", testHeader(0), body(size), size, bufs)
		for _, open := range []func(vfs.File) (*Reader, Header, error){
			func(f vfs.File) (*Reader, Header, error) { return Open(context.Background(), f, bufs) },
			func(f vfs.File) (*Reader, Header, error) { return OpenDirect(context.Background(), f, bufs) },
		} {
			f, err := fs.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := open(f)
			if err != nil {
				t.Fatal(err)
			}
			view, err := r.View(size/2, size)
			if err != nil {
				t.Fatal(err)
			}
			if read = view[0]; faults(func() { read = view[len(view)-1] }) {
				t.Errorf("%d bytes: what was handed out can't be read", size)
			}
			r.Close()
			if !faults(func() { read = view[0] }) {
				t.Errorf("%d bytes: what was handed out can be read once the reader is closed", size)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
