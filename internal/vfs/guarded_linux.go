package vfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guarded is memory of its own for tests that find out who touches what is not his any more: between pages that nobody may
// touch, and from Seal on a place of which that is so altogether. Whoever touches it ends the process; a call of the kernel
// that is handed it fails with EFAULT.
type Guarded struct {
	Bytes []byte // zeros at first, at a multiple of the size of a page; behind them comes a page's rest at most

	all unsafe.Pointer
	n   uintptr // with the pages around
}

const guardPage = 4096

// NewGuarded maps n bytes, at least one. The error is the kernel's, where it gives no mapping.
func NewGuarded(n int) (*Guarded, error) {
	room := (uintptr(n) + guardPage - 1) / guardPage * guardPage
	g := &Guarded{n: room + 2*guardPage}
	var err error
	if g.all, err = unix.MmapPtr(-1, 0, nil, g.n, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return nil, pathError("mmap", "", err)
	}
	g.Bytes = unsafe.Slice((*byte)(unsafe.Add(g.all, guardPage)), room)
	if err := unix.Mprotect(g.Bytes, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		g.Free()
		return nil, pathError("mprotect", "", err)
	}
	g.Bytes = g.Bytes[:n:n]
	return g, nil
}

// Seal takes the memory back from whoever has it. Nothing else comes in its place before Free.
func (g *Guarded) Seal() error {
	all := unsafe.Slice((*byte)(g.all), g.n)
	if err := unix.Mprotect(all, unix.PROT_NONE); err != nil {
		return pathError("mprotect", "", err)
	}
	return pathError("madvise", "", unix.Madvise(all, unix.MADV_DONTNEED))
}

// Free gives the place back as well.
func (g *Guarded) Free() {
	unmap(g.all, g.n)
	*g = Guarded{}
}
