package ec

import (
	"errors"
	"io"
	"sync"

	"github.com/minio/crc64nvme"

	"martlet/internal/errs"
)

var verifyBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// Verify reads an archive to its end and checks all of it. It returns its header and the
// size of the object. Errors wrap ErrHeader or ErrFrame, and are of kind errs.Corrupt;
// where the end is missing ErrShort; or are r's.
func Verify(r io.Reader) (h Header, size int64, err error) {
	const op errs.Op = "ec.verify"
	pooled := verifyBuffers.Get().(*[]byte)
	defer verifyBuffers.Put(pooled)
	buf := *pooled
	if _, err := io.ReadFull(r, buf[:HeaderSize]); err != nil {
		return Header{}, 0, errs.E(op, shortOr(err))
	}
	if h, err = ParseHeader(buf); err != nil {
		return Header{}, 0, errs.E(op, err)
	}
	seed := h.sum()
	var f frame
	for number := int64(0); !f.last; number++ {
		if f, err = verifyFrame(r, h, seed, number, buf); err != nil {
			return h, 0, errs.E(op, err)
		}
		size += int64(f.length)
	}
	if n, err := io.ReadFull(r, buf[:1]); n > 0 {
		return h, 0, errs.E(op, frameError(h.Segments(size)-1, errors.New("there are bytes behind the last frame")))
	} else if err != io.EOF {
		return h, 0, errs.E(op, err)
	}
	return h, size, nil
}

func verifyFrame(r io.Reader, h Header, seed uint64, number int64, buf []byte) (frame, error) {
	if _, err := io.ReadFull(r, buf[:frameHead]); err != nil {
		return frame{}, shortOr(err)
	}
	f := parseFrame(buf)
	if err := f.check(h.Layout, h.Write.Size, number); err != nil {
		return frame{}, err
	}
	sum := crc64nvme.Update(seed, buf[:8])
	for left := h.fragment(f.length); left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, len(buf))])
		if err != nil {
			return frame{}, shortOr(err)
		}
		sum = crc64nvme.Update(sum, buf[:n])
		left -= n
	}
	if sum != f.sum {
		return frame{}, frameError(number, errSum)
	}
	return f, nil
}
