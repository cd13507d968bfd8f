package vfs_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"martlet/internal/vfs"
	"martlet/internal/vfs/vfstest"
)

// newMem returns a Mem with a durable, empty directory /d.
func newMem(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	if err := errors.Join(m.Mkdir("/d"), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConformance(t *testing.T) {
	for name, newFS := range map[string]func(t *testing.T) (vfs.FS, string){
		"os":            func(t *testing.T) (vfs.FS, string) { return vfs.OS, t.TempDir() },
		"os, temporary": func(t *testing.T) (vfs.FS, string) { return vfs.NamedTemp, t.TempDir() },
		"root": func(t *testing.T) (vfs.FS, string) {
			dir := t.TempDir()
			return openRoot(t, dir), dir
		},
		"mem":         func(t *testing.T) (vfs.FS, string) { return newMem(t), "/d" },
		"after crash": func(t *testing.T) (vfs.FS, string) { return newMem(t).AfterCrash(8), "/d" },
		"counter":     func(t *testing.T) (vfs.FS, string) { return vfs.Count(newMem(t)), "/d" },
		"faultless":   func(t *testing.T) (vfs.FS, string) { return vfs.FailAt(vfs.OS, -1), t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) { vfstest.Run(t, newFS) })
	}
}

func TestAlignedBuffer(t *testing.T) {
	for _, tt := range []struct{ n, align, want int }{
		{0, 4096, 1}, {-1, 512, 1}, {1, 0, 1}, {7, 1, 1}, {1, 512, 512}, {100, 4096, 4096},
		{4096, 4096, 4096}, {65537, 4096, 4096}, {10, 3, 4}, {1 << 20, 1 << 16, 1 << 16},
	} {
		for range 20 {
			b := vfs.AlignedBuffer(tt.n, tt.align)
			if len(b) != max(0, tt.n) || cap(b) != len(b) {
				t.Fatalf("AlignedBuffer(%d, %d): got len %d, cap %d", tt.n, tt.align, len(b), cap(b))
			}
			if at := uintptr(unsafe.Pointer(unsafe.SliceData(b))); at%uintptr(tt.want) != 0 {
				t.Fatalf("AlignedBuffer(%d, %d): got address %#x, want a multiple of %d", tt.n, tt.align, at, tt.want)
			}
		}
	}
}

// The temporary name of a file is visible where there are no unnamed ones.
func TestNamedTemp(t *testing.T) {
	dir := t.TempDir()
	f, err := vfs.NamedTemp.CreateUnnamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := vfs.NamedTemp.ReadDir(dir)
	if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Name, vfs.TempPrefix) {
		t.Errorf("ReadDir: got %v, %v; want one name that starts with %q", entries, err, vfs.TempPrefix)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Mem is strict about direct I/O, however patient the disk at hand may be.
func TestMemDirectAlignment(t *testing.T) {
	m := newMem(t)
	f := create(t, m, "/d/f", "")
	if err := f.SetDirect(true); err != nil {
		t.Fatal(err)
	}
	good := vfs.AlignedBuffer(8192, 4096)
	for name, call := range map[string]func() (int, error){
		"offset":        func() (int, error) { return f.WriteAt(good, 512) },
		"length":        func() (int, error) { return f.WriteAt(good[:100], 0) },
		"memory":        func() (int, error) { return f.WriteAt(good[1:4097], 0) },
		"read":          func() (int, error) { return f.ReadAt(good[:512], 0) },
		"one of vector": func() (int, error) { return f.WriteVec([][]byte{good[:4096], good[1:4097]}, 0) },
	} {
		if n, err := call(); n != 0 || !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s misaligned: got %d, %v; want 0, %v", name, n, err, syscall.EINVAL)
		}
	}
	if n, err := f.WriteAt(good, 4096); n != len(good) || err != nil {
		t.Errorf("aligned: got %d, %v", n, err)
	}
}

func TestMemCapacity(t *testing.T) {
	m := newMem(t)
	m.SetCapacity(10 * 4096)
	free := func() int64 {
		t.Helper()
		u, err := m.Usage("/")
		if err != nil {
			t.Fatal(err)
		}
		return u.Free / 4096
	}
	reserve := create(t, m, "/d/reserve", "")
	f := create(t, m, "/d/f", "")
	if err := reserve.Preallocate(0, 4*4096); err != nil || free() != 6 {
		t.Fatalf("Preallocate: %v, %d pages free, want 6", err, free())
	}
	n, err := f.WriteAt(make([]byte, 8*4096), 100)
	if want := 6*4096 - 100; n != want || !errors.Is(err, syscall.ENOSPC) || free() != 0 {
		t.Fatalf("write past the room: got %d, %v, %d free; want %d, %v, 0", n, err, free(), want, syscall.ENOSPC)
	}
	if err := f.Preallocate(0, 7*4096); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Preallocate past the room: got %v", err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
		t.Errorf("write over what is there: %v", err)
	}
	if _, err := reserve.WriteAt(make([]byte, 4*4096), 0); err != nil {
		t.Errorf("write into the reserve: %v", err)
	}
	if err := errors.Join(f.Sync(), reserve.Sync(), m.SyncDir("/d")); err != nil {
		t.Fatal(err)
	}
	if u, err := m.AfterCrash(9).Usage("/"); err != nil || u.Free != 0 {
		t.Errorf("after a crash: got %+v, %v; want nothing free", u, err)
	}
	if err := f.Truncate(4096); err != nil || free() != 5 {
		t.Errorf("Truncate: %v, %d pages free, want 5", err, free())
	}
	if err := m.Remove("/d/reserve"); err != nil || free() != 5 {
		t.Errorf("Remove of an open file: %v, %d pages free, want 5", err, free())
	}
	if err := reserve.Close(); err != nil || free() != 9 {
		t.Errorf("its Close: %v, %d pages free, want 9", err, free())
	}
}

// A failed sync drops pages; writing them again takes the same room again.
func TestMemCapacityAfterFailedSync(t *testing.T) {
	for seed := range uint64(20) {
		m := newMem(t)
		m.SetCapacity(4 * 4096)
		f, err := vfs.FailAt(m, 2, vfs.FaultSeed(seed)).OpenFile("/d/f", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]byte, 4*4096)
		if _, err := f.WriteAt(all, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("Sync number 2: got %v, want EIO", err)
		}
		if _, err := f.WriteAt(all, 0); err != nil {
			t.Fatalf("seed %d: the same write after a failed sync: %v", seed, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCounter(t *testing.T) {
	c := vfs.Count(newMem(t))
	f, err := c.CreateUnnamed("/d")
	if err != nil {
		t.Fatal(err)
	}
	before := c.Counts()
	_, writeErr := f.WriteAt([]byte("hello"), 0)
	_, vecErr := f.WriteVec([][]byte{[]byte("a"), []byte("bc")}, 5)
	_, readErr := f.ReadAt(make([]byte, 4), 0)
	err = errors.Join(writeErr, vecErr, readErr, f.Sync(), c.Link(f, "/d/a"), c.Rename("/d/a", "/d/b"), c.SyncDir("/d"), c.Remove("/d/b"))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Counts().Sub(before)
	want := vfs.Counts{Reads: 1, BytesRead: 4, Writes: 2, BytesWritten: 8, Syncs: 1, DirSyncs: 1, Links: 1, Renames: 1, Removes: 1}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if before.Opens != 1 {
		t.Errorf("got %d opens, want 1", before.Opens)
	}
}

func BenchmarkWriteVecSync(b *testing.B) {
	f, err := vfs.OS.OpenFile(b.TempDir()+"/log", os.O_RDWR|os.O_CREATE)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	bufs := [][]byte{make([]byte, 100), make([]byte, 3996)}
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		n, err := f.WriteVec(bufs, off)
		if err != nil {
			b.Fatal(err)
		}
		off += int64(n)
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenReadClose(b *testing.B) {
	name := b.TempDir() + "/f"
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	for kind, run := range map[string]func() error{
		"vfs": func() error {
			f, err := vfs.OS.Open(name)
			if err != nil {
				return err
			}
			_, err = f.ReadAt(p, 0)
			return errors.Join(err, f.Close())
		},
		"os": func() error {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			_, err = f.ReadAt(p, 0)
			return errors.Join(err, f.Close())
		},
	} {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// create makes a file with content, nothing synced.
func create(t testing.TB, fs vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// read returns what a file holds, or "(none)" if there is none.
func read(t testing.TB, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); int64(n) != size {
		t.Fatal(fmt.Errorf("read %d of %d bytes: %w", n, size, err))
	}
	return string(p)
}
