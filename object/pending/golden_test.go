package pending

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

var rewrite = flag.Bool("update", false, "write the golden file anew")

// The golden file is an update as version 1 queues it: what an older release has left on a device is delivered by a later one, and
// after going back the other way round.
func TestGolden(t *testing.T) {
	const file = "testdata/v1.update"
	want := update(2)
	want.Method, want.Confirmed = "DELETE", []string{Place("127.0.0.1:6201", "d1")}
	want.Path.Object = "o/\xc3\xa9\xff"
	want.Data, want.Meta = ts(3).WithOffset(0x1f), ts(5)
	made, err := encode(&want)
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(made, kept) {
		t.Errorf("made is %q, want %q, %v", made, kept, err)
	}
	got, err := decode(kept)
	got.Policy, got.Hash = policy.Index(1), want.Hash // they are in its name
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it is read as %+v, %v, want %+v", got, err, want)
	}
}

// An update that a later release has queued stays for that one: it is neither taken for damaged, nor is another put in its place.
func TestLater(t *testing.T) {
	dir := t.TempDir()
	q := New(vfs.OS, dir)
	u := update(2)
	if err := q.Put(ctx, u); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "async_pending-1", u.Hash.String()[:2], u.Hash.String())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[plain]++
	binary.LittleEndian.PutUint32(b[head-8:], crc32.Update(crc32.Checksum(b[plain:plain+1], castagnoli), castagnoli, b[head:]))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n := 0
		for _, err := range q.All(ctx) {
			if n++; !errors.Is(err, errLater) || errs.Is(err, errs.Corrupt) {
				t.Errorf("got %v, want that it is of a later format", err)
			}
		}
		if n != 1 {
			t.Errorf("%d are queued, want 1", n)
		}
	}
	if err := q.Put(ctx, update(4)); !errors.Is(err, errLater) {
		t.Errorf("another one is put in its place: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
		t.Errorf("it is %q, and was %q, %v", now, b, err)
	}
}

// Bits of the byte of version that have changed make no update one of a later version, which nobody would ever tell of: what it says is
// whole. With any other bit changed it is damaged, whatever the version is then.
func TestVersionIsNotBelievedByItself(t *testing.T) {
	want := update(2)
	made, err := encode(&want)
	if err != nil {
		t.Fatal(err)
	}
	for version := range 256 {
		b := bytes.Clone(made)
		b[plain] = byte(version)
		got, err := decode(b)
		got.Policy, got.Hash = want.Policy, want.Hash // they are in its name
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("version %d: it is read as %+v, %v", version, got, err)
		}
		b[len(b)-2] ^= 4
		if _, err := decode(b); !errors.Is(err, errFormat) {
			t.Errorf("version %d, and another bit: %v, want that it is damaged", version, err)
		}
	}
}
