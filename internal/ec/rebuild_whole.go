package ec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/minio/crc64nvme"

	"martlet/internal/errs"
)

// RebuildFrom appends to dst the archive of an index, made from the first k of others of the same write
// that are in memory as a whole, and returns it with the size of the object. It is, byte for byte, the one that
// was lost. Every byte of those k is checked; where anything is wrong with one, it is an error: of kind errs.Corrupt
// where it is damaged, wrapping ErrForeign where it is of something else. It is for small archives, of which it copies nothing.
func (c *Code) RebuildFrom(dst []byte, write Write, index int, archives [][]byte) (out []byte, size int64, err error) {
	const op errs.Op = "ec.rebuild"
	h := Header{Layout: c.Layout, Write: write, Index: index}
	if err := h.Check(); err != nil {
		return dst, 0, errs.E(op, err)
	}
	if len(archives) < c.Data {
		return dst, 0, errs.E(op, errs.Unavailable, fmt.Errorf("%w: %d of %d", ErrTooFew, len(archives), c.Data))
	}
	r := rebuilding{Code: c, write: write, index: index, shards: make([][]byte, c.Fragments()), only: make([]bool, c.Fragments())}
	r.only[index] = true
	for _, a := range archives[:c.Data] {
		if err := r.take(a); err != nil {
			return dst, 0, errs.E(op, err)
		}
	}
	out = h.Append(dst)
	r.seed = binary.LittleEndian.Uint64(out[len(out)-8:])
	for last := false; !last; r.number++ {
		var n int
		if out, n, last, err = r.next(out); err != nil {
			return dst, 0, errs.E(op, err)
		}
		size += int64(n)
	}
	for i := range r.from {
		if x := &r.from[i]; len(x.rest) > 0 {
			return dst, 0, errs.E(op, frameError(r.number-1, errors.New("there are bytes behind the last frame")))
		}
	}
	return out, size, nil
}

// rebuilding is an archive that is made from others in memory.
type rebuilding struct {
	*Code
	write  Write
	index  int
	seed   uint64
	number int64 // of the segment
	shards [][]byte
	only   []bool
	from   []readFrom
}

// readFrom is one of the others.
type readFrom struct {
	index int
	seed  uint64
	rest  []byte // that was not read yet
}

// take takes an archive to make one from.
func (r *rebuilding) take(a []byte) error {
	h, err := ParseHeader(a)
	if err != nil {
		return err
	}
	if h.Layout != r.Layout || h.Write != r.write || h.Index == r.index || slices.ContainsFunc(r.from, func(x readFrom) bool { return x.index == h.Index }) {
		return fmt.Errorf("%w: it is fragment %d of %v of write %x", ErrForeign, h.Index, h.Shape, h.Write.ID)
	}
	r.from = append(r.from, readFrom{h.Index, binary.LittleEndian.Uint64(a[sumAt:]), a[HeaderSize:]})
	return nil
}

// next appends the frame of a segment, and says how long the segment is and whether it is the last.
func (r *rebuilding) next(out []byte) (_ []byte, length int, last bool, err error) {
	for i := range r.from {
		x := &r.from[i]
		f, fragment, err := x.next(r.Layout, r.write.Size, r.number)
		if err == nil && i > 0 && (f.length != length || f.last != last) {
			err = frameError(r.number, errors.New("other fragments are of a segment of another length"))
		}
		if err != nil {
			return out, 0, false, err
		}
		length, last = f.length, f.last
		r.shards[x.index] = fragment
	}
	n, at := r.fragment(length), len(out)
	out = slices.Grow(out, frameHead+n)[:at+frameHead+n]
	fragment := out[at+frameHead:]
	if n > 0 {
		r.shards[r.index] = fragment[:0:n]
		if err := r.rs.ReconstructSome(r.shards, r.only); err != nil {
			return out, 0, false, err
		}
	}
	frame{length: length, last: last, number: r.number}.put(out[at:], r.seed, fragment)
	return out, length, last, nil
}

// next reads the next frame and checks it.
func (x *readFrom) next(l Layout, size, number int64) (f frame, fragment []byte, err error) {
	if len(x.rest) < frameHead {
		return f, nil, ErrShort
	}
	f = parseFrame(x.rest)
	if err := f.check(l, size, number); err != nil {
		return f, nil, err
	}
	end := frameHead + l.fragment(f.length)
	if len(x.rest) < end {
		return f, nil, ErrShort
	}
	fragment = x.rest[frameHead:end:end]
	if crc64nvme.Update(crc64nvme.Update(x.seed, x.rest[:8]), fragment) != f.sum {
		return f, nil, frameError(number, errSum)
	}
	x.rest = x.rest[end:]
	return f, fragment, nil
}
