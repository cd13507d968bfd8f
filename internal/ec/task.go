package ec

import (
	"errors"
	"io"

	"github.com/minio/crc64nvme"
)

// A task is to read the frame of a segment. There is room for the longest that it may be; what else is
// there is too much.
type task struct {
	into   []byte
	number int64
}

// has reports whether so many bytes can be read without waiting.
func (p *part) has(n int) bool { return p.buffered != nil && p.buffered.Buffered() >= n }

// read reads a frame of an archive, and checks all of it that does not take another. The seed is the checksum of the
// archive's header.
func (t task) read(r io.Reader, l Layout, size int64, seed uint64) (f frame, err error) {
	n, err := io.ReadFull(r, t.into)
	if n < frameHead || err != nil && err != io.ErrUnexpectedEOF {
		return frame{}, shortOr(err)
	}
	f = parseFrame(t.into)
	if err := f.check(l, size, t.number); err != nil {
		return frame{}, err
	}
	switch end := frameHead + l.fragment(f.length); {
	case n < end:
		return frame{}, ErrShort
	case n > end:
		return frame{}, frameError(t.number, errors.New("there are bytes behind the last frame"))
	case crc64nvme.Update(crc64nvme.Update(seed, t.into[:8]), t.into[frameHead:end]) != f.sum:
		return frame{}, frameError(t.number, errSum)
	}
	return f, nil
}

func shortOr(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrShort
	}
	return err
}
