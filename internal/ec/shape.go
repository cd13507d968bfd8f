package ec

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/reedsolomon"

	"martlet/internal/errs"
)

// Bounds of shapes and segments.
const (
	MaxData   = 20
	MaxParity = 8

	// Segment is how many bytes of an object are encoded together.
	Segment = 1 << 20

	// MaxSegment is the longest segment that an archive may have, in bytes.
	MaxSegment = 16 << 20
)

// A Shape says into how many fragments a segment is encoded: any Data of the
// Data+Parity give it back.
type Shape struct {
	Data   int // k, 1 to MaxData
	Parity int // m, 1 to MaxParity
}

// ParseShape reads "4+2". The error is of kind errs.Invalid.
func ParseShape(s string) (Shape, error) {
	k, m, found := strings.Cut(s, "+")
	var shape Shape
	var errK, errM error
	shape.Data, errK = strconv.Atoi(k)
	shape.Parity, errM = strconv.Atoi(m)
	if !found || errK != nil || errM != nil || shape.String() != s {
		return Shape{}, errs.E(errs.Op("ec.shape"), errs.Invalid, fmt.Sprintf("%q is no shape: two numbers are, such as 4+2", s))
	}
	return shape, shape.Check()
}

// String returns "4+2".
func (s Shape) String() string { return fmt.Sprintf("%d+%d", s.Data, s.Parity) }

// Fragments returns how many fragments there are, k+m.
func (s Shape) Fragments() int { return s.Data + s.Parity }

// Check returns an error of kind errs.Invalid where the shape is out of bounds.
func (s Shape) Check() error {
	if s.Data < 1 || s.Data > MaxData || s.Parity < 1 || s.Parity > MaxParity {
		return errs.E(errs.Op("ec.shape"), errs.Invalid, fmt.Sprintf("%v is out of bounds: 1+1 to %d+%d are in", s, MaxData, MaxParity))
	}
	return nil
}

// A Code encodes and decodes objects of one shape. It is safe for concurrent use,
// and keeps buffers for its encoders and decoders: a process needs one for each policy.
type Code struct {
	Layout

	rs      reedsolomon.Encoder
	recipes recipes
	small   sync.Pool // of *buffer, for segments of up to smallSegment bytes
	whole   sync.Pool // of *buffer, for whole segments
}

// New returns the code of a layout. The error is of kind errs.Invalid.
func New(l Layout) (*Code, error) {
	const op errs.Op = "ec.new"
	if err := l.Check(); err != nil {
		return nil, errs.E(op, err)
	}
	rs, err := reedsolomon.New(l.Data, l.Parity, l.options()...)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, err)
	}
	c := &Code{Layout: l, rs: rs}
	c.small.New = func() any { return newBuffer(l.Shape, min(smallSegment, l.Segment)) }
	c.whole.New = func() any { return newBuffer(l.Shape, l.Segment) }
	return c, nil
}

// A buffer has the fragments of one segment, with room for heads in front of each.
type buffer struct {
	slots  [][]byte // for each index, all there is: room for the heads, and the fragment
	shards [][]byte // for each index, the fragment
	out    [][]byte // for each index, what is handed on
	in     [][]byte // what fragments are made of, and these
	most   int      // bytes of a segment that it is for
}

const (
	// A slot begins with room for the header of the archive and the head of the frame,
	// so that both and the fragment are handed on as one, and the fragment is aligned.
	fragmentAt = 128
	frameAt    = fragmentAt - frameHead
	headerAt   = frameAt - HeaderSize

	// smallSegment is up to how many bytes objects have buffers of their own, so
	// that many small ones at a time do not take those of whole segments.
	smallSegment = 64 << 10

	align = 64
)

// slotSize is how many bytes a buffer has for each fragment.
func slotSize(s Shape, segment int) int64 {
	return int64((fragmentAt + s.fragment(segment) + align - 1) / align * align)
}

func newBuffer(s Shape, segment int) *buffer {
	n := s.Fragments()
	each := int(slotSize(s, segment))
	mem := make([]byte, n*each)
	b := &buffer{
		slots: make([][]byte, n), shards: make([][]byte, n), out: make([][]byte, n), in: make([][]byte, 0, n),
		most: segment,
	}
	for i := range b.slots {
		b.slots[i] = mem[i*each : (i+1)*each : (i+1)*each]
	}
	return b
}

// Memory returns how many bytes of buffers a decoder of n bytes from off on holds: a segment's
// fragments, and those of another if there is one.
func (c *Code) Memory(w Write, off, n int64) int64 {
	first, end := c.Span(off, n)
	most := int64(c.Segment)
	if w.Size >= 0 && w.Size <= smallSegment {
		most = min(most, smallSegment)
	}
	return min(max(end-first, 1), 2) * int64(c.Fragments()) * slotSize(c.Shape, int(most))
}

// buffer returns one for segments of up to n bytes.
func (c *Code) buffer(n int64) *buffer {
	if n <= smallSegment {
		return c.small.Get().(*buffer)
	}
	return c.whole.Get().(*buffer)
}

func (c *Code) give(b *buffer) {
	if b.most < c.Segment {
		c.small.Put(b)
		return
	}
	c.whole.Put(b)
}
