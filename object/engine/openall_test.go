package engine

import (
	"bytes"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// Many are opened as one by one, whether the index has them in memory or in a file, also what is replaced or gone while it goes on.
func TestOpenAll(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		defer e.Close()
		const n = 40
		hashes := make([]name.Hash, n)
		body := func(i int, version int64) []byte { return bytes.Repeat([]byte{byte(i), byte(version)}, 100+i) }
		store := func(i int, version int64) {
			if err := put(e, Location{Policy: 1, Hash: hashes[i]}, ts(version), body(i, version), "a", Terms{}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			hashes[i] = name.Hash{byte(i)}
			if i%10 != 3 { // of those there is nothing
				store(i, 1)
			}
		}
		if err := e.Checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
		i := 0
		for r, err := range e.OpenAll(ctx, 1, hashes) {
			version := int64(1)
			switch {
			case i%10 == 3 || i == 25:
				if !errs.Is(err, errs.NotFound) {
					t.Fatalf("%d: %v, want an error of kind not found", i, err)
				}
				i++
				continue
			case err != nil:
				t.Fatal(err)
			case i == 8:
				version = 2
			}
			b, err := r.View(0, 1000)
			if want := body(i, version); err != nil || !bytes.Equal(b, want) || r.Location() != (Location{Policy: 1, Hash: hashes[i]}) {
				t.Errorf("%d, at %v: %d bytes, %v, want %d", i, r.Location(), len(b), err, len(want))
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if i++; i == 5 { // these are not there yet
				store(8, 2)
				if err := del(e, Location{Policy: 1, Hash: hashes[25]}, 2, Terms{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if i != n {
			t.Errorf("%d were opened of %d", i, n)
		}
		for r, err := range e.OpenAll(ctx, 1, hashes) { // who has enough gets no more
			if err != nil || r.Close() != nil {
				t.Fatal(err)
			}
			break
		}
	})
}
