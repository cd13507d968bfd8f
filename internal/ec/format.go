package ec

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/minio/crc64nvme"

	"martlet/internal/errs"
)

const (
	// HeaderSize is the length of an archive's header in bytes.
	HeaderSize = 64

	magic     = "martfrg"
	format    = 1
	codeID    = 1
	sumAt     = HeaderSize - 8
	frameHead = 16
	lastFrame = 1 << 31
	maxFrames = 1 << 32
)

// UnknownSize is the size of an object that is told by the last frame alone.
const UnknownSize = -1

// What can be wrong with a fragment. Errors that wrap ErrHeader and ErrFrame are of
// kind errs.Corrupt.
var (
	ErrHeader = errors.New("bad header of a fragment archive")
	ErrFrame  = errors.New("bad frame of a fragment archive")

	// ErrShort says that an archive ended too early. It may be torn, or only what
	// carried it: who has the archive must look.
	ErrShort = errors.New("fragment archive ends too early")

	// ErrForeign says that an archive is not of the write that is read, or that one of
	// its index is being read already.
	ErrForeign = errors.New("not a fragment to combine with the others")

	// ErrTooFew says that too few good fragments of a segment are left.
	ErrTooFew = errors.New("too few fragments")
)

// A WriteID tells one write from all others. All its archives have it, and no other
// write's: not that of the same bytes under the same name, nor that of another proxy at
// the same time.
type WriteID [16]byte

// NewWriteID returns one that was never there before, by chance.
func NewWriteID() (id WriteID) {
	_, _ = rand.Read(id[:]) // never fails, its contract says
	return id
}

// A Write is what all archives of one write have in common, beside the layout.
type Write struct {
	ID   WriteID
	Size int64 // of the object in bytes, or UnknownSize
}

// A Header says what an archive is.
type Header struct {
	Layout

	Write Write
	Index int // 0 to k+m-1
}

// Check returns an error of kind errs.Invalid where a field is out of bounds.
func (h *Header) Check() error {
	if err := h.Layout.Check(); err != nil {
		return err
	}
	if h.Index < 0 || h.Index >= h.Fragments() {
		return errs.E(errs.Op("ec.header"), errs.Invalid, fmt.Sprintf("no fragment of %v has the index %d", h.Shape, h.Index))
	}
	return h.checkSize(h.Write.Size)
}

// Append appends the HeaderSize bytes of a header that Check has nothing against.
func (h *Header) Append(b []byte) []byte {
	le := binary.LittleEndian
	start := len(b)
	b = append(b, magic...)
	b = append(b, format, byte(h.Data), byte(h.Parity), byte(h.Index), codeID)
	b = le.AppendUint32(b, uint32(h.Segment))
	b = le.AppendUint64(b, uint64(h.Write.Size))
	b = append(b, h.Write.ID[:]...)
	b = append(b, make([]byte, 16)...)
	return le.AppendUint64(b, crc64nvme.Checksum(b[start:]))
}

// sum returns the checksum that the header has, with which those of its frames begin.
func (h *Header) sum() uint64 {
	var room [HeaderSize]byte
	return binary.LittleEndian.Uint64(h.Append(room[:0])[sumAt:])
}

// ParseHeader reads the header that b begins with. Errors wrap ErrHeader, are of kind
// errs.Corrupt, and of what is shorter than a header also ErrShort.
func ParseHeader(b []byte) (h Header, err error) {
	if len(b) < HeaderSize {
		return Header{}, headerError(ErrShort)
	}
	le := binary.LittleEndian
	b = b[:HeaderSize]
	switch {
	case string(b[:len(magic)]) != magic:
		return Header{}, headerError(errors.New("it does not begin as one"))
	case le.Uint64(b[sumAt:]) != crc64nvme.Checksum(b[:sumAt]):
		return Header{}, headerError(errors.New("its checksum fails"))
	case b[7] != format:
		return Header{}, headerError(fmt.Errorf("it is of version %d, which is not known", b[7]))
	case b[11] != codeID:
		return Header{}, headerError(fmt.Errorf("it is of code %d, which is not known", b[11]))
	case [16]byte(b[40:sumAt]) != [16]byte{}:
		return Header{}, headerError(errors.New("there is something where nothing should be"))
	}
	h.Data, h.Parity, h.Index = int(b[8]), int(b[9]), int(b[10])
	h.Segment = int(le.Uint32(b[12:]))
	h.Write = Write{ID: WriteID(b[24:40]), Size: int64(le.Uint64(b[16:]))}
	if err := h.Check(); err != nil {
		return Header{}, headerError(err)
	}
	return h, nil
}

func headerError(why error) error {
	return errs.E(errs.Op("ec.header"), errs.Corrupt, fmt.Errorf("%w: %w", ErrHeader, why))
}

// A frame is the head of one.
type frame struct {
	length int // bytes of the segment
	last   bool
	number int64
	sum    uint64
}

// put writes the head of the frame of a fragment, checksum and all; seed is the header's.
func (f frame) put(b []byte, seed uint64, fragment []byte) {
	word := uint32(f.length)
	if f.last {
		word |= lastFrame
	}
	le := binary.LittleEndian
	le.PutUint32(b, word)
	le.PutUint32(b[4:], uint32(f.number))
	le.PutUint64(b[8:], crc64nvme.Update(crc64nvme.Update(seed, b[:8]), fragment))
}

func parseFrame(b []byte) frame {
	le := binary.LittleEndian
	word := le.Uint32(b)
	return frame{
		length: int(word &^ lastFrame), last: word&lastFrame != 0,
		number: int64(le.Uint32(b[4:])), sum: le.Uint64(b[8:]),
	}
}

// check says what is wrong with the head of frame number of an archive, nil if nothing is.
func (f frame) check(l Layout, size, number int64) error {
	var why string
	switch {
	case f.number != number:
		why = fmt.Sprintf("it is number %d", f.number)
	case f.length > l.Segment || f.length < l.Segment && !f.last || f.length == 0 && number > 0:
		why = fmt.Sprintf("no such frame has %d bytes", f.length)
	case size >= 0 && (f.length != l.length(size, number) || f.last != (number == l.Segments(size)-1)):
		why = "its length is not what the header says"
	default:
		return nil
	}
	return frameError(number, errors.New(why))
}

func frameError(number int64, why error) error {
	return errs.E(errs.Op("ec.frame"), errs.Corrupt, fmt.Errorf("%w %d: %w", ErrFrame, number, why))
}

var errSum = errors.New("its checksum fails")

// A Layout says where in the archives of an object what is. All is in bytes.
type Layout struct {
	Shape

	Segment int // how long a segment is, 1 to MaxSegment
}

// Of returns the layout of new objects of a shape.
func Of(s Shape) Layout { return Layout{Shape: s, Segment: Segment} }

// Check returns an error of kind errs.Invalid where the layout is out of bounds.
func (l Layout) Check() error {
	if l.Segment < 1 || l.Segment > MaxSegment {
		return errs.E(errs.Op("ec.layout"), errs.Invalid, fmt.Sprintf("segments of %d bytes: 1 to %d are in bounds", l.Segment, MaxSegment))
	}
	return l.Shape.Check()
}

// checkSize returns an error where no object may be of the size, UnknownSize not counted.
func (l Layout) checkSize(size int64) error {
	if size < UnknownSize || size > l.MaxSize() {
		return errs.E(errs.Op("ec.size"), errs.Invalid, fmt.Sprintf("no object has %d bytes", size))
	}
	return nil
}

// MaxSize returns the size of the largest object: 4 PiB with segments of 1 MiB.
func (l Layout) MaxSize() int64 { return int64(l.Segment) * maxFrames }

// Segments returns how many segments an object of the size has, 1 at least.
func (l Layout) Segments(size int64) int64 {
	return max(1, (size+int64(l.Segment)-1)/int64(l.Segment))
}

// length returns how long a segment of an object of the size is.
func (l Layout) length(size, segment int64) int {
	return int(min(size-segment*int64(l.Segment), int64(l.Segment)))
}

// fragment returns how long a fragment of a segment of n bytes is.
func (s Shape) fragment(n int) int { return (n + s.Data - 1) / s.Data }

// FrameAt returns where in an archive the frame of a segment begins.
func (l Layout) FrameAt(segment int64) int64 {
	return HeaderSize + segment*l.frame(l.Segment)
}

// frame returns how long the frame of a segment of n bytes is.
func (l Layout) frame(n int) int64 { return int64(frameHead + l.fragment(n)) }

// ArchiveSize returns how long each archive of an object of the size is.
func (l Layout) ArchiveSize(size int64) int64 {
	last := l.Segments(size) - 1
	return l.FrameAt(last) + l.frame(l.length(size, last))
}

// Span returns which segments n bytes from off on are in: from first up to, not
// including, end. Of no bytes there are none.
func (l Layout) Span(off, n int64) (first, end int64) {
	first = off / int64(l.Segment)
	if n <= 0 {
		return first, first
	}
	return first, (min(off, math.MaxInt64-n)+n-1)/int64(l.Segment) + 1
}

// Part returns where in an archive of an object of the size the frames are that a read
// of n bytes from off on needs: from one byte of it up to, not including, another.
// The range must be within the object.
func (l Layout) Part(size, off, n int64) (from, to int64) {
	first, end := l.Span(off, n)
	return l.FrameAt(first), min(l.FrameAt(end), max(l.FrameAt(first), l.ArchiveSize(size)))
}
