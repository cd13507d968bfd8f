package vfs

import (
	"math/bits"
	"unsafe"
)

// AlignedBuffer returns n zero bytes whose first lies at a multiple of align,
// as direct I/O wants. An align that is no power of two is rounded up to one; one
// below 2 asks for nothing. The capacity is n.
//
// It must not be inlined: a buffer that the compiler moved to the stack would
// lose its alignment when the stack grows.
//
//go:noinline
func AlignedBuffer(n, align int) []byte {
	n = max(n, 0)
	if align < 2 {
		return make([]byte, n)
	}
	align = 1 << bits.Len(uint(align-1))
	// Large blocks of the allocator mostly are aligned already.
	if b := make([]byte, n); misaligned(b, align) == 0 {
		return b
	}
	b := make([]byte, n+align-1)
	if skip := misaligned(b, align); skip != 0 {
		b = b[align-skip:]
	}
	return b[:n:n]
}

// misaligned returns how far past a multiple of align, a power of two, b starts.
func misaligned(b []byte, align int) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) & uintptr(align-1))
}
