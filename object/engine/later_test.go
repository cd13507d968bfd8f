package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// changeBlob has a function change the file of the data of a name.
func changeBlob(t *testing.T, fs vfs.FS, l Location, change func(image []byte)) {
	t.Helper()
	dir := "/blobs/" + l.Hash.String()[:2]
	list, err := fs.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if len(e.Name) < 32 || e.Name[:32] != l.Hash.String() {
			continue
		}
		f, err := fs.OpenFile(path.Join(dir, e.Name), os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		size, err1 := f.Size()
		image := make([]byte, size)
		_, err2 := f.ReadAt(image, 0)
		if err2 == io.EOF {
			err2 = nil
		}
		change(image)
		_, err3 := f.WriteAt(image, 0)
		if err := errors.Join(err1, err2, err3, f.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s has no file in %v", l.Hash, list)
}

// A large object of a later format stays as it is, and those behind it are scrubbed all the same.
func TestScrubGoesOnBehindLater(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	defer e.Close()
	later, damaged := at(1), at(1)
	damaged.Hash[1]++
	for _, l := range []Location{later, damaged} {
		if err := put(e, l, ts(1), bytes.Repeat([]byte("large"), 400_000), "m", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	changeBlob(t, fs, later, func(image []byte) {
		image[7]++
		binary.LittleEndian.PutUint32(image[188:], crc32.Checksum(image[:188], crc32.MakeTable(crc32.Castagnoli)))
	})
	changeBlob(t, fs, damaged, func(image []byte) { image[len(image)/2] ^= 1 })
	if err := e.Scrub(ctx, time.Now().Add(time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(ctx, later); !errors.Is(err, blob.ErrLater) {
		t.Errorf("what is of a later format: %v", err)
	}
	if s, err := e.Stat(ctx, damaged); err == nil && s.Kind == Live || err != nil && !errs.Is(err, errs.Corrupt) {
		t.Errorf("what is damaged was not found: %+v, %v", s, err)
	}
}
