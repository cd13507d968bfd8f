//go:build !race

package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"martlet/internal/vfs"
)

// Ranges of all kinds are read as they were written, however much memory there is, and
// whether the file system reads directly or not; and nothing is read but their blocks.
func TestDirectRanges(t *testing.T) {
	for name, tt := range map[string]struct {
		fs      vfs.FS
		memory  int64
		refuses error
	}{
		"os, nothing to spare":  {vfs.OS, 0, nil},
		"os, plenty":            {vfs.OS, 32 << 20, nil},
		"os, refused":           {vfs.OS, 32 << 20, errors.ErrUnsupported},
		"mem, nothing to spare": {vfs.NewMem(), 0, nil},
		"mem, one to spare":     {vfs.NewMem(), 4 << 20, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := "/"
			if tt.fs == vfs.OS {
				dir = t.TempDir()
			}
			bufs := NewGuarded(tt.memory)
			for i, size := range []int64{
				1, PageSize, BlockSize + 1, SmallMax + PageSize, largeBuffer + BlockSize, largeBuffer + BlockSize + 1, 3*largeBuffer + 12345,
			} {
				data := body(size)
				f := stored(t, tt.fs, dir, data, i%2*5000)
				f.refuses = tt.refuses
				ranges(t, f, data, bufs)
			}
		})
	}
}

func ranges(t *testing.T, f *watched, data []byte, bufs *Buffers) {
	size := int64(len(data))
	var starts []int64
	for _, base := range []int64{0, BlockSize, BlockSize + largeBuffer, size - size%PageSize, size} {
		for _, e := range []int64{0, 1, PageSize, BlockSize - 1} {
			starts = append(starts, base+e, base-e)
		}
	}
	for i, off := range starts {
		n := []int64{1, PageSize, BlockSize, BlockSize + 1, SmallMax + 1, largeBuffer + 7, MaxLength}[i%7]
		if off < 0 || off >= size {
			continue
		}
		f.bytesRead.Store(0)
		r, _, err := OpenDirect(context.Background(), f, bufs)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		opened := f.bytesRead.Load()
		want := data[off:min(off+min(n, size), size)]
		got, err := view(r, off, n)
		if n > int64(len(want)) && err == io.EOF {
			err = nil
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("size %d: %d bytes from %d: got %d bytes, %v", size, n, off, len(got), err)
		}
		r.Close()
		if read, most := f.bytesRead.Load()-opened, int64(len(want))+2*BlockSize+4*PageSize; read > most {
			t.Fatalf("size %d: %d bytes from %d: %d bytes were read, want at most %d", size, n, off, read, most)
		}
	}
	// One reader goes to and fro.
	r, _, err := OpenDirect(context.Background(), f, bufs)
	if err != nil {
		t.Fatal(err)
	}
	defer idle(t, bufs)
	defer r.Close()
	dice := rand.New(rand.NewPCG(1, uint64(size)))
	for range 10 {
		off, n := dice.Int64N(size), 1+dice.Int64N(size)
		part := min(n, 1+dice.Int64N(size)) // it says more than it reads
		b, err := r.View(off, n)
		if err != nil || !bytes.HasPrefix(data[off:], b) || int64(len(b)) > n {
			t.Fatalf("size %d: View(%d, %d): %d bytes, %v", size, off, n, len(b), err)
		}
		if got, err := view(r, off, min(part, size-off)); err != nil || !bytes.HasPrefix(data[off:], got) {
			t.Fatalf("size %d: %d bytes from %d: %d bytes, %v", size, part, off, len(got), err)
		}
	}
}
