//go:build !race

package blob

import (
	"bytes"
	"context"
	"math"
	"testing"

	"martlet/internal/vfs"
)

// A file is written with as few calls as can be: one, as long as all of it is in one buffer, also where it is full; else one
// for each buffer, the last with what is behind it, and one for the page in front.
func TestFewWrites(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	for _, tt := range []struct{ n, text, said, unsaid int64 }{
		{0, 0, 1, 1},
		{1, 100_000, 1, 1},
		{SmallMax, 0, 1, 1},
		{SmallMax + 1, 5000, 1, 1},
		{largeBuffer - PageSize + 1, 0, 1, 1},
		{largeBuffer, 0, 1, 2}, // who was told nothing writes what is full
		{largeBuffer, 5000, 1, 3},
		{largeBuffer + 1, 0, 3, 3},
		{2 * largeBuffer, 0, 3, 3},
		{2 * largeBuffer, 100_000, 3, 4},
		{20*largeBuffer + 5, 0, 22, 22},
	} {
		data := body(tt.n)
		for _, begin := range []func(vfs.FS) (*Writer, error){
			func(fs vfs.FS) (*Writer, error) { return Create(context.Background(), fs, "/", tt.n, bufs) },
			func(fs vfs.FS) (*Writer, error) { return CreateAbout(context.Background(), fs, "/", tt.n, bufs) },
			func(fs vfs.FS) (*Writer, error) { return Create(context.Background(), fs, "/", -1, bufs) },
		} {
			fs := vfs.Count(vfs.NewMem())
			w, err := begin(fs)
			if err != nil {
				t.Fatal(err)
			}
			want := tt.said
			if w.size < 0 && w.about == 0 {
				want = tt.unsaid
			}
			h := testHeader(int(tt.text))
			path := writeTo(t, w, "/", h, data)
			end := PageSize + tt.n + layoutOf(len(h.AppendText(nil)), tt.n).footer
			if c := fs.Counts(); c.Writes != want || c.BytesWritten < end || c.BytesWritten >= end+2*PageSize {
				t.Errorf("%d bytes, %d announced, said to be %d: %d calls and %d bytes to write %d, want %d calls", tt.n, w.size, w.about, c.Writes, c.BytesWritten, end, want)
			}
			roundTripOf(t, fs, path, h, data, bufs)
		}
	}
}

// What somebody says of a size that is not announced changes nothing, right or wrong: the same bytes are in the file, and
// as much room is used, also where there is not as much as was said.
func TestSaidSize(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	for _, n := range []int64{0, 1, SmallMax, largeBuffer - PageSize, largeBuffer, 3*largeBuffer + 12345} {
		data := body(n)
		plain := vfs.NewMem()
		want := content(t, plain, write(t, plain, "/", testHeader(10), data, -1, bufs))
		for _, about := range []int64{math.MinInt64, 0, 1, n - 1, n, n + 1, n + 2*largeBuffer, 1 << 40, math.MaxInt64} {
			fs := vfs.NewMem()
			fs.SetCapacity(n + largeBuffer)
			w, err := CreateAbout(context.Background(), fs, "/", about, bufs)
			if err != nil {
				t.Fatal(err)
			}
			got := content(t, fs, writeTo(t, w, "/", testHeader(10), data))
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, said to be %d: the file has %d bytes and is another one", n, about, len(got))
			}
			if used, before := usedIn(t, fs), usedIn(t, plain); used != before {
				t.Errorf("%d bytes, said to be %d: %d bytes are used, want %d", n, about, used, before)
			}
		}
	}
}

func usedIn(t testing.TB, fs vfs.FS) int64 {
	t.Helper()
	u, err := fs.Usage("/")
	if err != nil {
		t.Fatal(err)
	}
	return u.Total - u.Free
}

// sink is a file system whose files keep nothing.
type sink struct {
	vfs.FS
	written, reserved int64 // up to where
}

type sinkFile struct {
	vfs.File
	fs *sink
}

func (s *sink) CreateUnnamed(dir string) (vfs.File, error) {
	f, err := s.FS.CreateUnnamed(dir)
	return sinkFile{f, s}, err
}

func (f sinkFile) WriteVec(parts [][]byte, off int64) (n int, err error) {
	for _, p := range parts {
		n += len(p)
	}
	f.fs.written = max(f.fs.written, off+int64(n))
	return n, nil
}

func (f sinkFile) Preallocate(off, n int64) error {
	f.fs.reserved = max(f.fs.reserved, off+n)
	return nil
}

// Room is reserved for what is said to come, and not for all of it at once.
func TestSaidSizeReservesLittle(t *testing.T) {
	fs := &sink{FS: vfs.NewMem()}
	w, err := CreateAbout(context.Background(), fs, "/", 1<<40, NewBuffers(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	chunk := body(largeBuffer)
	for came := int64(0); came < 2*reserveAhead; {
		if fs.reserved > 0 && came < largeBuffer || fs.reserved > fs.written+reserveAhead {
			t.Fatalf("%d bytes have come, %d are written: room is reserved for %d", came, fs.written, fs.reserved)
		}
		n, err := w.Write(chunk)
		if err != nil {
			t.Fatal(err)
		}
		came += int64(n)
		if fs.reserved < fs.written {
			t.Fatalf("%d bytes are written, and room for %d was reserved", fs.written, fs.reserved)
		}
	}
}
