package name

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/timestamp"
)

// TestFragmentAsDescribed: the hash is where data is, so it is the same for ever.
func TestFragmentAsDescribed(t *testing.T) {
	h := Hash{0: 0x12, 7: 0x34, 8: 0x56, 15: 0x78}
	const want = "120000000000003423bdd2e43b29a579"
	if got := h.Fragment(timestamp.FromTicks(170_000_000_000_000).WithOffset(3), 5).String(); got != want {
		t.Errorf("Fragment = %s, want %s", got, want)
	}
}

func TestFragmentsLieTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Hash(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "hash"))
		at := func(label string) timestamp.T {
			return timestamp.FromTicks(rapid.Int64Range(1, 1<<50).Draw(t, label)).WithOffset(rapid.Uint64Range(0, 3).Draw(t, label+" offset"))
		}
		a, b := at("a"), at("b")
		i, j := rapid.IntRange(0, 27).Draw(t, "i"), rapid.IntRange(0, 27).Draw(t, "j")
		x, y := h.Fragment(a, i), h.Fragment(b, j)
		if (x == y) != (a == b && i == j) {
			t.Fatalf("%v of %v and %d of %v: %v and %v", i, a, j, b, x, y)
		}
		r := h.FragmentRange()
		first, last := r.First(), r.Last()
		if !r.Valid() || bytes.Compare(x[:], first[:]) < 0 || bytes.Compare(x[:], last[:]) > 0 {
			t.Fatalf("%v is not in %v to %v", x, first, last)
		}
		if !bytes.Equal(x[:8], h[:8]) {
			t.Fatalf("%v is elsewhere than %v", x, h)
		}
	})
}
