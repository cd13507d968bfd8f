package vfs

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// HugePage is the size of the huge pages of the processors that Linux mostly runs on.
const HugePage = 2 << 20

// Huge is HugePage bytes at a multiple of that, zeros at first, which are one page of memory
// where the kernel can have it so. Direct I/O then has one address to hand to the device
// instead of 512, which costs less, and with virtual disks takes less than half the time.
//
// It is none of the garbage collector's: what that allocates with such an alignment is of twice the size, is
// cleared by the runtime and by the kernel, and lets more garbage lie about. Whoever has it calls Free.
type Huge struct {
	Bytes  []byte
	mapped bool
}

// NewHuge maps a Huge, or takes it from the heap where the kernel gives no mapping.
func NewHuge() *Huge {
	all, err := unix.MmapPtr(-1, 0, nil, 2*HugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return &Huge{Bytes: AlignedBuffer(HugePage, HugePage)}
	}
	skip := (HugePage - uintptr(all)%HugePage) % HugePage
	at := unsafe.Add(all, skip)
	unmap(all, skip)
	unmap(unsafe.Add(at, HugePage), HugePage-skip)
	b := unsafe.Slice((*byte)(at), HugePage)
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	b[0] = 0 // is a huge page's where that was enough; else what has a page can be made one
	_ = unix.Madvise(b, unix.MADV_COLLAPSE)
	return &Huge{Bytes: b, mapped: true}
}

// Free gives the memory back. Nothing may touch it afterwards.
func (h *Huge) Free() {
	if h.mapped {
		unmap(unsafe.Pointer(unsafe.SliceData(h.Bytes)), HugePage)
	}
	*h = Huge{}
}

// unmap gives pages back. What the kernel wants to keep is address space, and no error of anybody's.
func unmap(at unsafe.Pointer, n uintptr) {
	if n > 0 {
		_ = unix.MunmapPtr(at, n)
	}
}
