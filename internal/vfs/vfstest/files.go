package vfstest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

func testOpenFlags(t *testing.T, e env) {
	_, err := e.Open(e.path("a"))
	e.fails(err, fs.ErrNotExist, e.path("a"))
	_, err = e.OpenFile(e.path("a"), os.O_RDWR)
	e.fails(err, fs.ErrNotExist, e.path("a"))
	_, err = e.OpenFile(e.path("no/a"), os.O_RDWR|os.O_CREATE)
	e.fails(err, fs.ErrNotExist, e.path("no/a"))

	e.ok(e.create("a", "hello").Close())
	_, err = e.OpenFile(e.path("a"), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	e.fails(err, fs.ErrExist, e.path("a"))
	_, err = e.OpenFile(e.path("a/b"), os.O_RDWR|os.O_CREATE)
	e.fails(err, syscall.ENOTDIR, e.path("a/b"))
	_, err = e.OpenFile(e.dir, os.O_RDWR)
	e.fails(err, syscall.EISDIR, e.dir)
	for _, flag := range []int{os.O_RDWR | os.O_APPEND, os.O_RDWR | os.O_SYNC} {
		_, err = e.OpenFile(e.path("a"), flag)
		e.fails(err, syscall.EINVAL, e.path("a"))
	}

	f, err := e.Open(e.path("a"))
	e.ok(err)
	_, err = f.WriteAt([]byte("x"), 0)
	e.fails(err, syscall.EBADF, e.path("a"))
	_, err = f.WriteVec([][]byte{[]byte("x")}, 0)
	e.fails(err, syscall.EBADF, e.path("a"))
	e.fails(f.Truncate(0), syscall.EINVAL, e.path("a"))
	e.fails(f.Preallocate(0, 1), syscall.EBADF, e.path("a"))
	e.ok(f.Sync())
	e.ok(f.Close())

	f, err = e.OpenFile(e.path("a"), os.O_WRONLY|os.O_CREATE)
	e.ok(err)
	_, err = f.ReadAt(make([]byte, 1), 0)
	e.fails(err, syscall.EBADF, e.path("a"))
	e.write(f, "J", 0)
	e.ok(f.Close())
	e.has("a", "Jello")

	f, err = e.OpenFile(e.path("a"), os.O_RDWR|os.O_TRUNC)
	e.ok(err)
	e.ok(f.Close())
	e.has("a", "")
}

func testBadArguments(t *testing.T, e env) {
	f := e.create("a", "hello")
	_, err := f.ReadAt(make([]byte, 1), -1)
	e.fails(err, syscall.EINVAL, e.path("a"))
	_, err = f.WriteAt(make([]byte, 1), -1)
	e.fails(err, syscall.EINVAL, e.path("a"))
	_, err = f.WriteVec([][]byte{{1}}, -1)
	e.fails(err, syscall.EINVAL, e.path("a"))
	e.fails(f.Truncate(-1), syscall.EINVAL, e.path("a"))
	e.fails(f.Preallocate(-1, 1), syscall.EINVAL, e.path("a"))
	e.fails(f.Preallocate(0, 0), syscall.EINVAL, e.path("a"))
	_, err = e.Open("")
	e.fails(err, fs.ErrNotExist, "")
	if got := e.contents(f); got != "hello" {
		t.Fatalf("after bad calls: got %q, want %q", got, "hello")
	}
}

func testReadWrite(t *testing.T, e env) {
	f := e.create("a", "hello")
	for _, tt := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 5, "hello", nil}, {1, 3, "ell", nil}, {3, 5, "lo", io.EOF}, {5, 1, "", io.EOF}, {99, 1, "", io.EOF}, {0, 0, "", nil},
	} {
		p := make([]byte, tt.n)
		n, err := f.ReadAt(p, tt.off)
		if string(p[:n]) != tt.want || err != tt.err {
			t.Fatalf("ReadAt(%d bytes, %d): got %q, %v; want %q, %v", tt.n, tt.off, p[:n], err, tt.want, tt.err)
		}
	}
	e.write(f, "", 100)
	e.write(f, "!", 7) // leaves a hole
	if got, want := e.contents(f), "hello\x00\x00!"; got != want {
		t.Fatalf("after a write past the end: got %q, want %q", got, want)
	}
	g, err := e.Open(e.path("a"))
	e.ok(err)
	e.write(f, "HELLO", 0)
	if got, want := e.contents(g), "HELLO\x00\x00!"; got != want {
		t.Fatalf("through another handle: got %q, want %q", got, want)
	}
	e.ok(g.DropCache(0, 0))
	e.ok(g.Close())
	e.ok(f.Sync())
	e.ok(f.DropCache(0, 0))
	e.has("a", "HELLO\x00\x00!")
}

func testWriteVec(t *testing.T, e env) {
	f := e.create("a", "")
	many := make([][]byte, 2500) // more than one call takes
	for i := range many {
		many[i] = bytes.Repeat([]byte{byte(i), byte(i >> 8)}, i%5) // some are empty
	}
	for name, bufs := range map[string][][]byte{
		"none": nil, "empty": {nil, {}}, "two": {[]byte("ab"), []byte("cde")}, "many": many,
	} {
		before := slices.Clone(bufs)
		want := slices.Concat(bufs...)
		e.ok(f.Truncate(0))
		n, err := f.WriteVec(bufs, 3)
		if n != len(want) || err != nil {
			t.Fatalf("%s: WriteVec: got %d, %v; want %d", name, n, err, len(want))
		}
		if len(want) > 0 {
			want = append(make([]byte, 3), want...)
		}
		if got := e.contents(f); got != string(want) {
			t.Fatalf("%s: got %d bytes that differ from the %d wanted", name, len(got), len(want))
		}
		for i := range before {
			if !bytes.Equal(before[i], bufs[i]) {
				t.Fatalf("%s: WriteVec changed buffer %d from %q to %q", name, i, before[i], bufs[i])
			}
		}
	}
}

// testRandomFile compares a file with a slice of bytes.
func testRandomFile(t *testing.T, e env) {
	const limit = 40_000
	f := e.create("a", "")
	var model []byte
	grow := func(n int) { model = append(model, make([]byte, max(0, n-len(model)))...) }
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		off, n := r.IntN(limit), r.IntN(9000)
		p := bytes.Repeat([]byte{byte(i), byte(i >> 8), 1}, n/3)
		switch r.IntN(5) {
		case 0:
			e.ok(f.Truncate(int64(off)))
			grow(off)
			model = model[:off:off]
		case 1:
			half := len(p) / 2
			if got, err := f.WriteVec([][]byte{p[:half], p[half:]}, int64(off)); got != len(p) || err != nil {
				t.Fatalf("step %d: WriteVec of %d bytes: got %d, %v", i, len(p), got, err)
			}
			if len(p) > 0 {
				grow(off + len(p))
				copy(model[off:], p)
			}
		case 2:
			e.ok(f.Sync())
		default:
			e.write(f, string(p), int64(off))
			if len(p) > 0 {
				grow(off + len(p))
				copy(model[off:], p)
			}
		}
		if got := e.contents(f); got != string(model) {
			t.Fatalf("step %d: got %d bytes that differ from the %d wanted", i, len(got), len(model))
		}
	}
}

func testTruncate(t *testing.T, e env) {
	f := e.create("a", "hello")
	for _, tt := range []struct {
		size int64
		want string
	}{{3, "hel"}, {6, "hel\x00\x00\x00"}, {6, "hel\x00\x00\x00"}, {0, ""}, {2, "\x00\x00"}} {
		e.ok(f.Truncate(tt.size))
		if got := e.contents(f); got != tt.want {
			t.Fatalf("Truncate(%d): got %q, want %q", tt.size, got, tt.want)
		}
	}
	const huge = 1 << 33
	e.ok(f.Truncate(huge))
	e.write(f, "end", huge-3)
	p := make([]byte, 6)
	if n, err := f.ReadAt(p, huge-6); n != 6 || err != nil || string(p) != "\x00\x00\x00end" {
		t.Fatalf("end of a sparse file: got %q, %v", p[:n], err)
	}
}

func testPreallocate(t *testing.T, e env) {
	f := e.create("a", "hello")
	if err := f.Preallocate(0, 1<<20); err != nil {
		e.fails(err, errors.ErrUnsupported, e.path("a"))
	}
	if got := e.contents(f); got != "hello" {
		t.Fatalf("Preallocate changed the file: got %q", got)
	}
	e.write(f, "more", 5)
	e.ok(f.Sync())
	e.has("a", "hellomore")
}

// direct opens a new file in direct mode; ok is false where that is refused.
func (e env) direct(name string) (f vfs.File, mem, off int, ok bool) {
	e.Helper()
	f = e.create(name, "")
	mem, off = f.Align()
	if mem < 1 || off < 1 || mem&(mem-1) != 0 || off&(off-1) != 0 {
		e.Fatalf("Align: got %d, %d; want powers of two", mem, off)
	}
	if err := f.SetDirect(true); err != nil {
		e.fails(err, errors.ErrUnsupported, e.path(name))
		return nil, mem, off, false
	}
	return f, mem, off, true
}

// testDirect writes a file of no round size around the cache: aligned blocks,
// the last one padded, then cut.
func testDirect(t *testing.T, e env) {
	f, mem, off, ok := e.direct("a")
	if !ok {
		return // the file system has none, and says so as it should
	}
	const size = 100_003
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(want)
	block := 8 * max(off, 4096)
	buf := vfs.AlignedBuffer(block, mem)
	for at := 0; at < size; at += block {
		n := copy(buf, want[at:])
		padded := (n + off - 1) / off * off
		clear(buf[n:padded])
		if got, err := f.WriteAt(buf[:padded], int64(at)); got != padded || err != nil {
			t.Fatalf("direct WriteAt(%d bytes, %d): got %d, %v", padded, at, got, err)
		}
	}
	e.ok(f.Truncate(size))
	e.ok(f.Sync())

	var got []byte
	for at := 0; ; at += block {
		n, err := f.ReadAt(buf, int64(at))
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		e.ok(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("direct read: got %d bytes that differ from the %d written", len(got), size)
	}
	e.has("a", string(want))

	e.ok(f.SetDirect(false))
	e.write(f, "odd", size)
	e.has("a", string(want)+"odd")
}

func testDirectVec(t *testing.T, e env) {
	f, mem, off, ok := e.direct("a")
	if !ok {
		return // the file system has none, and says so as it should
	}
	unit := max(mem, off)
	var bufs [][]byte
	for i := range 5 {
		b := vfs.AlignedBuffer(unit*(1+i%2), unit)
		copy(b, bytes.Repeat([]byte{byte('a' + i)}, len(b)))
		bufs = append(bufs, b)
	}
	want := slices.Concat(bufs...)
	if n, err := f.WriteVec(bufs, int64(unit)); n != len(want) || err != nil {
		t.Fatalf("direct WriteVec of %d bytes: got %d, %v", len(want), n, err)
	}
	e.has("a", string(make([]byte, unit))+string(want))
}
