// Package body makes the bytes of a benchmark's objects, and compares what comes back
// with them.
//
// The name, the size and each byte of an object follow from a seed and the object's
// number, so that nothing has to be kept in order to know what a GET should bring, in
// this run or in a later one. The bytes can't be compressed.
package body

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"martlet/cmd/internal/bench/size"
)

// A Set is all objects that there can be with a seed and a distribution of sizes.
type Set struct {
	Seed  uint64
	Sizes size.Dist
}

// mix spreads what two numbers have over 64 bits: the finish of SplitMix64, which is
// fast and has no state.
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 ^ b*0xd1342543de82ef95
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// base is what the n-th object's bytes follow from.
func (s Set) base(n int64) uint64 { return mix(s.Seed+1, uint64(n)+1) }

// AppendName appends the name of the n-th object. Names that are numbered one after the
// other are in no order, as those of most people's objects.
func (s Set) AppendName(b []byte, n int64) []byte {
	const digits = "0123456789abcdef"
	for base, shift := s.base(n), 60; shift >= 32; shift -= 4 {
		b = append(b, digits[base>>shift&15])
	}
	return strconv.AppendInt(append(b, '-'), n, 10)
}

// Size returns how large the n-th object is.
func (s Set) Size(n int64) int64 {
	base := s.base(n)
	return s.Sizes.Pick(mix(base, 1), mix(base, 2))
}

// Fill makes the bytes of the n-th object from an offset on, which is a multiple of 8.
func (s Set) Fill(p []byte, n, at int64) {
	base := s.base(n)
	word := uint64(at) / 8
	for ; len(p) >= 8; word++ {
		binary.LittleEndian.PutUint64(p, mix(base, word+3))
		p = p[8:]
	}
	var last [8]byte
	binary.LittleEndian.PutUint64(last[:], mix(base, word+3))
	copy(p, last[:])
}

// A Reader reads an object's bytes. It is for one goroutine, and used again with Reset.
type Reader struct {
	set         Set
	n, at, size int64
	rest        [8]byte
}

// Reset has r read the n-th object of a set from its beginning.
func (r *Reader) Reset(s Set, n, size int64) { r.set, r.n, r.at, r.size = s, n, 0, size }

// Read never fails, but for io.EOF at the end.
func (r *Reader) Read(p []byte) (int, error) {
	left := r.size - r.at
	if left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	done := 0
	if within := r.at % 8; within != 0 { // somebody has read an odd number of bytes
		r.set.Fill(r.rest[:], r.n, r.at-within)
		done = copy(p, r.rest[within:])
	}
	r.set.Fill(p[done:], r.n, r.at+int64(done))
	r.at += int64(len(p))
	return len(p), nil
}

// WriteTo writes what is left.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	var block [4 << 10]byte
	for {
		n, err := r.Read(block[:])
		if err != nil {
			return total, nil //nolint:nilerr // there is no other than io.EOF
		}
		if _, err := w.Write(block[:n]); err != nil {
			return total, err
		}
		total += int64(n)
	}
}

// Seek begins anew; it knows no other way than from the start.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 || offset > r.size {
		return r.at, fmt.Errorf("offset %d is not in an object of %d bytes", offset, r.size)
	}
	r.at = offset
	return offset, nil
}

// A Checker compares what comes of an object with what it should be. It is for one
// goroutine, and used again with Reset.
type Checker struct {
	want  Reader
	block [4 << 10]byte
	wrong string
}

// Reset has c expect the n-th object of a set.
func (c *Checker) Reset(s Set, n, size int64) {
	c.want.Reset(s, n, size)
	c.wrong = ""
}

// Add takes the next bytes. What comes after a wrong one is not looked at.
func (c *Checker) Add(got []byte) {
	for len(got) > 0 && c.wrong == "" {
		at := c.want.at
		n, err := c.want.Read(c.block[:min(len(c.block), len(got))])
		if err != nil {
			c.wrong = fmt.Sprintf("more bytes than the %d that it has", c.want.size)
			return
		}
		if !bytes.Equal(got[:n], c.block[:n]) {
			c.wrong = difference(got[:n], c.block[:n], at, c.want.size)
		}
		got = got[n:]
	}
}

// difference names the first byte that differs.
func difference(got, want []byte, at, size int64) string {
	i := 0
	for got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("byte %d of %d is %#02x, and was written as %#02x", at+int64(i), size, got[i], want[i])
}

// Wrong says what is wrong with the bytes that came, once all have; "" if nothing is.
func (c *Checker) Wrong() string {
	if c.wrong == "" && c.want.at < c.want.size {
		return fmt.Sprintf("%d bytes of the %d that it has", c.want.at, c.want.size)
	}
	return c.wrong
}
