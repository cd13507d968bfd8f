package vfs

import "golang.org/x/sys/unix"

// HugePage is the size of the huge pages of the processors that Linux mostly runs on.
const HugePage = 2 << 20

// HugeBuffer returns HugePage bytes, as AlignedBuffer does, that are one page of memory
// where the kernel can have it so. Direct I/O then has one address to hand to the device
// instead of 512, which costs less, and with virtual disks takes less than half the time.
func HugeBuffer() []byte {
	b := AlignedBuffer(HugePage, HugePage)
	b[0] = 0 // the kernel makes one page only of what has a page
	_ = unix.Madvise(b, unix.MADV_COLLAPSE)
	return b
}
