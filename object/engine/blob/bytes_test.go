//go:build !race

package blob

// Here nothing, or next to nothing, is done at the same time, and each byte is looked at: that is minutes under the race detector.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

// A table in the footer is read at any alignment.
func TestDirectLargeTable(t *testing.T) {
	const n = 64<<20 + 17
	data := body(n)
	f := stored(t, vfs.OS, t.TempDir(), data, 10)
	bufs := NewGuarded(32 << 20)
	r, _, err := OpenDirect(context.Background(), f, bufs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := view(r, 0, n)
	r.Close()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	idle(t, bufs)
}

// Every flipped bit is found, or changes nothing that is read.
func TestEveryByteFlipped(t *testing.T) {
	bufs := NewBuffers(8 << 20)
	fs := vfs.NewMem()
	for _, tt := range []struct{ n, text int }{{100, 10}, {1000, 10}, {100, 5000}} {
		data, h := body(int64(tt.n)), testHeader(tt.text)
		image := content(t, fs, write(t, fs, "/", h, data, int64(tt.n), bufs))
		want, _, err := readAll(bytes.NewReader(image), bufs)
		if err != nil {
			t.Fatal(err)
		}
		for i := range image {
			for _, flip := range []byte{0x01, 0xf0} {
				image[i] ^= flip
				got, all, err := readAll(bytes.NewReader(image), bufs)
				if err == nil && (!reflect.DeepEqual(got, want) || !bytes.Equal(all, data)) {
					t.Fatalf("byte %d flipped by %#x: read as whole, and other", i, flip)
				}
				if err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatalf("byte %d flipped by %#x: %v, want ErrCorrupt", i, flip, err)
				}
				if err != nil && i >= fixedSize && got.Time != want.Time {
					t.Fatalf("byte %d flipped by %#x: the time of the version was not known", i, flip)
				}
				image[i] ^= flip
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	for name, fs := range map[string]vfs.FS{"os": vfs.OS, "mem": vfs.NewMem()} {
		dir := "/"
		if name == "os" {
			dir = t.TempDir()
		}
		for _, n := range []int64{
			0, 1, 4095, BlockSize - 1, BlockSize, BlockSize + 1, SmallMax - 1, SmallMax, SmallMax + 1,
			largeBuffer - PageSize - 1, largeBuffer - PageSize, largeBuffer - PageSize + 1,
			largeBuffer - 1, largeBuffer, largeBuffer + 1, 2 * largeBuffer, 3*largeBuffer + 12345,
		} {
			for i, text := range []int{0, 3700, 100_000} {
				for _, size := range []int64{n, -1}[i/2:] {
					t.Run(fmt.Sprintf("%s/%d/%d/%d", name, n, text, size), func(t *testing.T) {
						roundTrip(t, fs, dir, n, text, size, bufs)
					})
				}
			}
		}
	}
}

// A file of over 64 MiB has a table of two pages in its footer.
func TestLargeTable(t *testing.T) {
	const n = 64<<20 + 17
	bufs := NewGuarded(8 << 20)
	dir := t.TempDir()
	data := body(n)
	path := write(t, vfs.OS, dir, testHeader(10), data, n, bufs)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if want := int64(PageSize + n + 2*tablePage); st.Size != want || st.Blocks*512 > want+128<<10 {
		t.Errorf("file has %d bytes in blocks of %d, want %d and no blocks to spare", st.Size, st.Blocks*512, want)
	}
	f, err := vfs.OS.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, _, err := Open(context.Background(), f, bufs)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, off := range []int64{n - 1, 0, perPage * BlockSize, perPage*BlockSize - 1, 50 << 20} {
		b, err := r.View(off, 1000)
		if err != nil || !bytes.Equal(b, data[off:off+int64(len(b))]) {
			t.Errorf("View(%d) gave %d bytes, %v, not those written", off, len(b), err)
		}
	}
}
