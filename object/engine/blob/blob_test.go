package blob

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testHeader(text int) Header {
	h := Header{
		Kind: Data, Hash: name.Hash{1, 2, 3}, Time: timestamp.FromTicks(1402464677_04188).WithOffset(7),
		MD5:  [16]byte{9, 8, 7},
		Name: name.Path{Account: "AUTH_test", Container: "c", Object: "o/ü"}, ContentType: "text/plain",
		System: backend.Header{{Name: "X-Object-Sysmeta-A", Value: "1"}},
		Meta:   backend.Header{{Name: "X-Object-Meta-B", Value: strings.Repeat("v", text)}},
	}
	return h
}

func body(n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

// write makes a file of data with the announced size and returns its path.
func write(t testing.TB, fs vfs.FS, dir string, h Header, data []byte, size int64, bufs *Buffers) string {
	t.Helper()
	w, err := Create(context.Background(), fs, dir, size, bufs)
	if err != nil {
		t.Fatalf("Create(size %d): %v", size, err)
	}
	return writeTo(t, w, dir, h, data)
}

// writeTo has a writer make a file of data, and returns its path.
func writeTo(t testing.TB, w *Writer, dir string, h Header, data []byte) string {
	t.Helper()
	defer w.Close()
	half := len(data) / 3
	if _, err := w.Write(data[:half]); err != nil {
		t.Fatalf("Write: %v", err)
	}
	if _, err := w.ReadFrom(bytes.NewReader(data[half:])); err != nil {
		t.Fatalf("ReadFrom: %v", err)
	}
	if got, want := w.CRC(), crc32.Checksum(data, castagnoli); got != want {
		t.Fatalf("CRC of %d bytes is %08x, want %08x", len(data), got, want)
	}
	if err := w.Seal(h); err != nil {
		t.Fatalf("Seal: %v", err)
	}
	if got, want := w.CRC(), crc32.Checksum(data, castagnoli); got != want {
		t.Fatalf("CRC of %d bytes is %08x after Seal, want %08x", len(data), got, want)
	}
	path := filepath.Join(dir, fmt.Sprintf("%d-%d-%d", len(data), w.size, rand.Uint32()))
	if err := w.Link(path); err != nil {
		t.Fatalf("Link: %v", err)
	}
	return path
}

// readAll reads a file from front to end.
func readAll(f io.ReaderAt, bufs *Buffers) (Header, []byte, error) {
	r, h, err := Open(context.Background(), f, bufs)
	if err != nil {
		return h, nil, err
	}
	defer r.Close()
	var all []byte
	for {
		b, err := r.View(int64(len(all)), 1<<40)
		if err == io.EOF {
			return h, all, nil
		}
		if err != nil {
			return h, all, err
		}
		all = append(all, b...)
	}
}

func roundTrip(t *testing.T, fs vfs.FS, dir string, n int64, text int, size int64, bufs *Buffers) {
	data, h := body(n), testHeader(text)
	roundTripOf(t, fs, write(t, fs, dir, h, data, size, bufs), h, data, bufs)
}

// roundTripOf reads back what was written to a file, which has to have it and nothing else.
func roundTripOf(t *testing.T, fs vfs.FS, path string, h Header, data []byte, bufs *Buffers) {
	t.Helper()
	n := int64(len(data))
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, all, err := readAll(f, bufs)
	if err != nil {
		t.Fatalf("reading back: %v", err)
	}
	h.Length, h.CRC = n, crc32.Checksum(data, castagnoli)
	if !reflect.DeepEqual(got, h) {
		t.Errorf("header is %+v, want %+v", got, h)
	}
	if alone, err := ReadHeader(f); err != nil || !reflect.DeepEqual(alone, h) {
		t.Errorf("ReadHeader gave %+v, %v, want %+v", alone, err, h)
	}
	if !bytes.Equal(all, data) {
		t.Errorf("%d bytes differ from the %d written", len(all), n)
	}
	length, err := f.Size()
	if want := PageSize + n + layoutOf(len(h.AppendText(nil)), n).footer; err != nil || length != want {
		t.Errorf("file has %d bytes, %v, want %d", length, err, want)
	}
}

func TestTruncated(t *testing.T) {
	bufs := NewBuffers(8 << 20)
	fs := vfs.NewMem()
	image := content(t, fs, write(t, fs, "/", testHeader(5000), body(200_000), -1, bufs))
	for n := 0; n < len(image); n += 1 + n/50 {
		if _, all, err := readAll(bytes.NewReader(image[:n]), bufs); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d of %d: %d bytes and %v, want ErrCorrupt", n, len(image), len(all), err)
		}
	}
}

func content(t testing.TB, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func TestAnnouncedSize(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	for _, size := range []int64{10, SmallMax, SmallMax + 1, 3 << 20} {
		for _, d := range []int64{-1, 0, 1, 5000} {
			fs := vfs.NewMem()
			w, err := Create(context.Background(), fs, "/", size, bufs)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(body(size + d))
			if err == nil {
				err = w.Seal(testHeader(0))
			}
			if (err == nil) != (d == 0) {
				t.Errorf("%d bytes for %d announced: %v", size+d, size, err)
			}
			if err := w.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
}

func TestReadFromTellsWhoFailed(t *testing.T) {
	w, err := Create(context.Background(), vfs.NewMem(), "/", 100, NewGuarded(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	broken := errors.New("connection broke")
	_, err = w.ReadFrom(io.MultiReader(strings.NewReader("abc"), errReader{broken}))
	var read *ReadError
	if !errors.As(err, &read) || !errors.Is(err, broken) {
		t.Errorf("ReadFrom gave %v, want a ReadError", err)
	}
	if err := w.Seal(testHeader(0)); err == nil {
		t.Error("Seal after a broken body succeeded")
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// What does not fit is refused before anything has a name, and no fault on the
// way is taken for success, but that room was not reserved for what was only said to come.
func TestWriterFaults(t *testing.T) {
	bufs := NewGuarded(8 << 20)
	for _, size := range []int64{5000, 2 << 20, -2 << 20} {
		said := size < 0
		size = max(size, -size)
		passed := 0
		for n, fired := 0, true; fired; n++ {
			disk := vfs.NewMem()
			faulty := vfs.FailAt(disk, n)
			err := func() error {
				begin := Create
				if said {
					begin = CreateAbout
				}
				w, err := begin(context.Background(), faulty, "/", size, bufs)
				if err != nil {
					return err
				}
				defer w.Close()
				if _, err := w.Write(body(size)); err != nil {
					return err
				}
				if err := w.Seal(testHeader(0)); err != nil {
					if again := w.Seal(testHeader(0)); again == nil {
						t.Errorf("fault %d: a second Seal succeeded", n)
					}
					return err
				}
				return w.Link("/x")
			}()
			if fired = faulty.Fired(); fired && err == nil {
				if passed++; !said || passed > 1 {
					t.Errorf("size %d, fault %d: no error", size, n)
				}
			}
			if _, statErr := disk.Stat("/x"); (statErr == nil) != (err == nil) {
				t.Errorf("size %d, fault %d: error %v, but Stat says %v", size, n, err, statErr)
			}
		}
	}
}

func TestFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	fs.SetCapacity(1 << 20)
	_, err := Create(context.Background(), fs, "/", 2<<20, NewGuarded(8<<20))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Create beyond the room gave %v, want ENOSPC", err)
	}
}

func TestBuffersAreBounded(t *testing.T) {
	bufs := NewGuarded(0) // one of each
	w, err := Create(context.Background(), vfs.NewMem(), "/", 10, bufs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Create(ctx, vfs.NewMem(), "/", 10, bufs); !errs.Is(err, errs.Aborted) {
		t.Errorf("a second buffer of one: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err = Create(ctx, vfs.NewMem(), "/", 10, bufs)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	_ = w.Close()
}

// The golden file is what version 1 has written; it must be read for ever.
func TestGolden(t *testing.T) {
	golden := filepath.Join("testdata", "v1.blob")
	bufs := NewGuarded(8 << 20)
	fs := vfs.NewMem()
	h, data := testHeader(20), make([]byte, 66_000)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	image := content(t, fs, write(t, fs, "/", h, data, -1, bufs))
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, want) {
		t.Error("the format has changed: it needs a new version, and old files must stay readable")
	}
	got, all, err := readAll(bytes.NewReader(want), bufs)
	if err != nil || !bytes.Equal(all, data) || got.Name != h.Name {
		t.Errorf("golden file reads as %+v, %d bytes, %v", got, len(all), err)
	}
}

// A file of a later format is whole: it must not come into quarantine.
func TestLater(t *testing.T) {
	bufs, fs := NewGuarded(8<<20), vfs.NewMem()
	image := content(t, fs, write(t, fs, "/", testHeader(20), make([]byte, 70_000), -1, bufs))
	image[7]++
	if _, _, err := readAll(bytes.NewReader(image), bufs); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrLater) {
		t.Errorf("a version that the checksum does not have: got %v, want that it is damaged", err)
	}
	binary.LittleEndian.PutUint32(image[188:], checksum(image[:188]))
	_, _, err := readAll(bytes.NewReader(image), bufs)
	if !errors.Is(err, ErrLater) || errors.Is(err, ErrCorrupt) || !errs.Is(err, errs.BadDevice) {
		t.Errorf("got %v, want that it is of a later format", err)
	}
	image[100] ^= 1
	if _, _, err := readAll(bytes.NewReader(image), bufs); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged as well: got %v", err)
	}
}

func TestPut(t *testing.T) {
	fs := vfs.NewMem()
	h := testHeader(9000)
	h.Kind, h.MD5 = Meta, [16]byte{}
	h.MetaTime = timestamp.FromTicks(5)
	f, err := Put(fs, "/", h)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := ReadHeader(f); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("read back %+v, %v, want %+v", got, err, h)
	}
	h.Meta[0].Value = strings.Repeat("v", MaxText)
	if _, err := Put(fs, "/", h); !errors.Is(err, ErrTooMuch) {
		t.Errorf("text over the limit gave %v, want ErrTooMuch", err)
	}
}

// FuzzBlob reads what may be no blob. With reseal set the checksums of the
// header are made right first, so that what is behind them is met.
func FuzzBlob(f *testing.F) {
	bufs := NewBuffers(8 << 20)
	fs := vfs.NewMem()
	h, data := testHeader(10), body(300)
	whole := content(f, fs, write(f, fs, "/", h, data, -1, bufs))
	footer := content(f, fs, write(f, fs, "/", testHeader(4000), data[:50], -1, bufs))
	for _, reseal := range []bool{false, true} {
		f.Add(whole, uint32(0), byte(0), reseal)
		f.Add(whole[:4200], uint32(80), byte(1), reseal)
		f.Add(footer, uint32(4200), byte(4), reseal)
	}
	f.Add([]byte("martblb\x01"), uint32(0), byte(0), false)
	f.Fuzz(func(t *testing.T, image []byte, at uint32, flip byte, reseal bool) {
		if len(image) > 0 {
			image = bytes.Clone(image)
			image[int(at)%len(image)] ^= flip
		}
		if reseal = reseal && len(image) >= PageSize; reseal {
			binary.LittleEndian.PutUint32(image[184:], checksum(image[fixedSize:PageSize]))
			binary.LittleEndian.PutUint32(image[188:], checksum(image[:188]))
		}
		got, all, err := readAll(bytes.NewReader(image), bufs)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v, want ErrCorrupt", err)
			}
			return
		}
		if int64(len(all)) != got.Length {
			t.Fatalf("%d bytes of %d read without an error", len(all), got.Length)
		}
		if !reseal && got.CRC != checksum(all) {
			t.Fatal("other bytes were taken for those written")
		}
	})
}
