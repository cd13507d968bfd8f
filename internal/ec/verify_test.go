package ec

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"martlet/internal/errs"
)

// An archive that is torn anywhere, has a bit changed anywhere or something behind it, is
// told from a whole one, by who has it and by who reads it.
func TestDamage(t *testing.T) {
	c := code(t, "2+1", 20)
	body := bytesOf(45, 1)
	for _, w := range []Write{write(1, len(body)), {Size: UnknownSize}} {
		all := archives(t, c, w, body, 100)
		whole := all[1]
		for n := range whole {
			if _, _, err := Verify(bytes.NewReader(whole[:n])); !errors.Is(err, ErrShort) {
				t.Errorf("torn at %d: %v", n, err)
			}
			if got, _, err := decoded(c, w, 0, -1, whole[:n], all[0]); err == nil || len(got) >= len(body) {
				t.Errorf("torn at %d: read %d bytes, %v", n, len(got), err)
			}
			got, faults, err := decoded(c, w, 0, -1, whole[:n], all[0], all[2])
			if err != nil || !bytes.Equal(got, body) || len(faults) != 1 || !errors.Is(faults[0].Err, ErrShort) {
				t.Errorf("torn at %d, with another: read %d bytes, %v, %v", n, len(got), err, faults)
			}
		}
		for bit := range 8 * len(whole) {
			damaged := bytes.Clone(whole)
			damaged[bit/8] ^= 1 << (bit % 8)
			_, _, err := Verify(bytes.NewReader(damaged))
			longer := w.Size < 0 && errors.Is(err, ErrShort) // nothing but the last frame tells its length
			if !longer && (!errs.Is(err, errs.Corrupt) || !errors.Is(err, ErrHeader) && !errors.Is(err, ErrFrame)) {
				t.Errorf("bit %d: %v", bit, err)
			}
			if got, _, err := decoded(c, w, 0, -1, damaged, all[0]); !errors.Is(err, ErrTooFew) || len(got) >= len(body) {
				t.Errorf("bit %d: read %d bytes, %v", bit, len(got), err)
			}
		}
		if _, _, err := Verify(bytes.NewReader(append(bytes.Clone(whole), 0))); !errors.Is(err, ErrFrame) || !errs.Is(err, errs.Corrupt) {
			t.Errorf("with a byte behind it: %v", err)
		}
		// Who reads it doesn't look behind the end, unless that is still to be found.
		got, faults, err := decoded(c, w, 0, -1, append(bytes.Clone(all[0]), 0), all[1], all[2])
		if found := len(faults) == 1 && errors.Is(faults[0].Err, ErrFrame); err != nil || !bytes.Equal(got, body) || found != (w.Size < 0) {
			t.Errorf("with a byte behind it: read %d bytes, %v, %v", len(got), err, faults)
		}
		if _, _, err := Verify(io.MultiReader(bytes.NewReader(whole), failing{})); !errors.Is(err, errBroken) {
			t.Errorf("that breaks at its end: %v", err)
		}
	}
}
