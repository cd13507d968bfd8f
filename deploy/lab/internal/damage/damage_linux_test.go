package damage

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// device makes a folder with files in it.
func device(t interface {
	Helper()
	Fatal(...any)
}, dir string, files map[string][]byte) {
	t.Helper()
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// Exactly the bits that are told of are changed, in the areas that were asked for, and nowhere where there is
// nothing.
func TestFlips(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "flips-") //nolint:usetesting // in memory: each flip is synced, and this is about where they are
		if err != nil {
			r.Fatal(err)
		}
		defer os.RemoveAll(dir)
		text := rapid.SliceOfN(rapid.ByteMin(1), 6, 3000) // more bytes than flips: one that becomes zero holds nothing any more
		before := map[string][]byte{
			"log/1.seg": append(text.Draw(r, "log"), make([]byte, 20_000)...), "log/.spare": {1, 2, 3}, "blobs/aa/b": text.Draw(r, "blob"),
			"index/1": text.Draw(r, "index"), ".martlet-device": {1}, "containers/empty": {},
		}
		device(r, dir, before)
		areas := rapid.SampledFrom([][]string{{"log"}, {"blobs"}, {"log", "blobs", "accounts"}, Areas()}).Draw(r, "areas")
		n, seed := rapid.IntRange(1, 5).Draw(r, "bits"), rapid.Uint64().Draw(r, "seed")
		flips, err := Flips(dir, areas, n, rand.New(rand.NewPCG(seed, 0)))
		if err != nil || len(flips) != n {
			r.Fatalf("%d of %d flips, %v", len(flips), n, err)
		}
		for _, f := range flips {
			area, _, _ := bytes.Cut([]byte(f.File), []byte("/"))
			if !slices.Contains(areas, string(area)) || f.Offset >= int64(len(before[f.File])) || f.File == "log/1.seg" && f.Offset >= 3000+look {
				r.Errorf("flipped %+v, of %d bytes, asked for %v", f, len(before[f.File]), areas)
			}
			before[f.File][f.Offset] ^= 1 << f.Bit // what it is to be now
		}
		for name, want := range before {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, want) {
				r.Errorf("%s is not what it was with the bits changed that were told of: %v", name, err)
			}
		}
	})
}

// A log is mostly room for what is to come: the little that is there is found.
func TestFlipsInLittle(t *testing.T) {
	dir := t.TempDir()
	image := make([]byte, 16<<20)
	copy(image[9<<20:], "a record")
	device(t, dir, map[string][]byte{"log/1.seg": image})
	for seed := range uint64(3) {
		flips, err := Flips(dir, Areas(), 2, rand.New(rand.NewPCG(seed, 0)))
		if err != nil || len(flips) != 2 {
			t.Fatalf("%v, %v", flips, err)
		}
		for _, f := range flips {
			if f.Offset < 9<<20 || f.Offset >= 9<<20+look {
				t.Errorf("flipped %+v, where nothing is", f)
			}
		}
	}
}

func TestFlipsOfNothing(t *testing.T) {
	dir := t.TempDir()
	device(t, dir, map[string][]byte{"log/1.seg": make([]byte, 4096), "log/.spare": {1}, "index/1": {1}})
	if _, err := Flips(dir, Areas(), 1, rand.New(rand.NewPCG(1, 2))); !errors.Is(err, ErrNothing) {
		t.Errorf("flips where nothing is stored: %v, want %v", err, ErrNothing)
	}
}

// The same seed has the same bits changed.
func TestFlipsAgain(t *testing.T) {
	var all [2][]Flip
	for i := range all {
		dir := t.TempDir()
		device(t, dir, map[string][]byte{"blobs/a": bytes.Repeat([]byte("a"), 5000), "log/b": bytes.Repeat([]byte("b"), 5000)})
		var err error
		if all[i], err = Flips(dir, Areas(), 20, rand.New(rand.NewPCG(7, 0))); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(all[0], all[1]) {
		t.Errorf("%v\nand\n%v", all[0], all[1])
	}
}

func TestFreeWhatIsNotFull(t *testing.T) {
	if err := Free(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := Free(filepath.Join(t.TempDir(), "gone")); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
