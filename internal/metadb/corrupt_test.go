package metadb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"martlet/internal/errs"
)

// damage is a way to break the bytes of a file.
var damage = map[string]func(b []byte, r *rand.Rand) []byte{
	"emptied":       func(b []byte, _ *rand.Rand) []byte { return b[:0] },
	"cut short":     func(b []byte, r *rand.Rand) []byte { return b[:r.IntN(len(b))] },
	"no metas":      func(b []byte, _ *rand.Rand) []byte { clear(b[:8192]); return b },
	"not bbolt":     func(b []byte, _ *rand.Rand) []byte { return bytes.Repeat([]byte("no "), 9000) },
	"zeroed page":   func(b []byte, r *rand.Rand) []byte { p := page4k(b, r); clear(p); return b },
	"page of noise": func(b []byte, r *rand.Rand) []byte { fillNoise(page4k(b, r), r); return b },
	"pages swapped": func(b []byte, r *rand.Rand) []byte { copy(page4k(b, r), bytes.Clone(page4k(b, r))); return b },
	"noise in page": func(b []byte, r *rand.Rand) []byte { p := page4k(b, r); fillNoise(p[16+r.IntN(4000):], r); return b },
}

// page4k returns a page past the metas.
func page4k(b []byte, r *rand.Rand) []byte {
	n := 2 + r.IntN(len(b)/4096-2)
	return b[n*4096 : (n+1)*4096]
}

func fillNoise(b []byte, r *rand.Rand) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, own)
	loc := Location{dev, hashOf(1)}
	err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error {
		for i := range 300 {
			if _, err := tx.MergeRow(0, fmt.Sprintf("name-%03d-with-some-length-to-it", i), live(5, int64(i))); err != nil {
				return err
			}
		}
		return tx.MergeFields([]Field{{"A", "b", at(1)}})
	})
	if err != nil {
		t.Fatal(err)
	}
	path := s.path(loc)
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for what, hurt := range damage {
		for seed := range uint64(12) {
			bad := hurt(bytes.Clone(whole), rand.New(rand.NewPCG(seed, 7)))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, dev := open(t, dir, own)
			loc := Location{dev, loc.Hash}
			checked := s.Check(bg, loc)
			if checked != nil {
				found++
			}
			_, listed := page(s, loc, Query{Params: allParams})
			updated := s.Update(bg, loc, func(tx *Tx) error {
				_, err := tx.MergeRow(0, "name-150-new", live(9, 1))
				return err
			})
			for _, err := range []error{checked, listed, updated, s.View(bg, loc, nothing)} {
				if err != nil && !errs.Is(err, errs.Corrupt) {
					t.Errorf("%s, seed %d: got %v, want an error of kind corrupt or none", what, seed, err)
				}
			}
			s.Close()
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("%s, seed %d: the file is gone: %v", what, seed, err)
			}
		}
	}
	if found < 40 {
		t.Errorf("Check found %d damaged files of %d", found, 12*len(damage))
	}
}

func TestRepairedFileIsReadAgain(t *testing.T) {
	s, loc := one(t, own)
	path := s.path(loc)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(path, make([]byte, 65536), 0o600); err != nil {
		t.Fatal(err)
	}
	s, loc.Device = open(t, filepath.Dir(loc.Device.Path()), own)
	for range 3 {
		if err := s.View(bg, loc, nothing); !errs.Is(err, errs.Corrupt) {
			t.Fatalf("a file of zeros: got %v, want an error of kind corrupt", err)
		}
	}
	if err := s.Ensure(bg, loc, Info{}, nothing); !errs.Is(err, errs.Corrupt) {
		t.Errorf("Ensure over a corrupt file: got %v, want an error of kind corrupt", err)
	}
	if err := os.WriteFile(path+".new", whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if err := s.View(bg, loc, nothing); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}
