// Package ectest has what tests of servers need to look into fragments.
package ectest

import (
	"bytes"
	"io"
	"maps"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/ec"
)

// Decode returns the bytes of an object, of which there are archives by index; those with the least
// come first.
func Decode(code *ec.Code, of backend.Coded, archives map[int][]byte) ([]byte, error) {
	w := ec.Write{ID: of.Write, Size: of.Size}
	if !of.Sized {
		w.Size = ec.UnknownSize
	}
	left := slices.Sorted(maps.Keys(archives))
	d, err := code.Decode(w, 0, -1, func(segment int64) (ec.Part, error) {
		if len(left) == 0 {
			return ec.Part{}, io.EOF
		}
		a := archives[left[0]]
		left = left[1:]
		h, err := ec.ParseHeader(a)
		if err != nil {
			return ec.Part{}, err
		}
		return ec.Part{Header: h, Frames: bytes.NewReader(a[min(h.FrameAt(segment), int64(len(a))):])}, nil
	})
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // what it has read was checked
	return io.ReadAll(d)
}
