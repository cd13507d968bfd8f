package replwire

import (
	"errors"
	"math"
	"testing"
)

func TestWhole(t *testing.T) {
	for _, w := range []Whole{{}, {ID: [16]byte{1, 15: 255}, N: 7}, {N: math.MaxUint32 - 1, Last: true}} {
		if got, err := ParseWhole(w.String()); got != w || err != nil {
			t.Errorf("%q is read as %+v, %v", w, got, err)
		}
	}
}

func FuzzParseWhole(f *testing.F) {
	for _, s := range []string{
		"", "-", "-last", "00000000000000000000000000000000-1", "00000000000000000000000000000000-01-last",
		"0000000000000000000000000000000A-1", "00000000000000000000000000000000-4294967295", "00000000000000000000000000000000-1-last-last",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWhole(s)
		if err == nil && w.String() != s || err != nil && (!errors.Is(err, ErrList) || w != Whole{}) {
			t.Errorf("%q is read as %+v, %v", s, w, err)
		}
	})
}
