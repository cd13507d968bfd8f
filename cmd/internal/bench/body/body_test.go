package body

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"martlet/cmd/internal/bench/size"
)

func sizes(t *testing.T, text string) size.Dist {
	t.Helper()
	d, err := size.ParseDist(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// whole is an object's bytes in one piece.
func whole(s Set, n, size int64) []byte {
	p := make([]byte, size)
	s.Fill(p, n, 0)
	return p
}

// However an object is read, it has the same bytes.
func TestReaderIsFill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Set{Seed: rapid.Uint64().Draw(t, "seed")}
		n := rapid.Int64Range(0, 1<<40).Draw(t, "number")
		size := rapid.Int64Range(0, 300).Draw(t, "size")
		want := whole(s, n, size)
		var r Reader
		r.Reset(s, n, size)
		var got []byte
		for int64(len(got)) < size {
			p := make([]byte, rapid.IntRange(1, 40).Draw(t, "piece"))
			m, err := r.Read(p)
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", len(got), size, err)
			}
			got = append(got, p[:m]...)
		}
		if m, err := r.Read(make([]byte, 1)); m != 0 || err != io.EOF {
			t.Fatalf("at its end: %d, %v", m, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read %x\nwant %x", got, want)
		}
	})
}

func TestReaderIsAReader(t *testing.T) {
	s := Set{Seed: 7}
	var r Reader
	r.Reset(s, 3, 1003)
	if err := iotest.TestReader(&r, whole(s, 3, 1003)); err != nil {
		t.Error(err)
	}
}

// Objects differ in name and bytes, and with the seed.
func TestObjectsDiffer(t *testing.T) {
	names, bodies := map[string]bool{}, map[string]bool{}
	for seed := range uint64(3) {
		s := Set{Seed: seed}
		for n := range int64(1000) {
			name, text := string(s.AppendName(nil, n)), string(whole(s, n, 16))
			if names[name] || bodies[text] {
				t.Fatalf("seed %d, object %d: %q or its bytes are another's", seed, n, name)
			}
			names[name], bodies[text] = true, true
		}
	}
}

func TestSizeFollows(t *testing.T) {
	s := Set{Seed: 5, Sizes: sizes(t, "1:50,1KiB-1MiB:50")}
	seen := map[int64]bool{}
	for n := range int64(100) {
		size := s.Size(n)
		if again := s.Size(n); again != size {
			t.Fatalf("object %d has %d bytes, and %d", n, size, again)
		}
		seen[size] = true
	}
	if len(seen) < 20 {
		t.Errorf("100 objects have only %d sizes", len(seen))
	}
}

// The checker finds any byte that is changed, missing or too many, however they come.
func TestChecker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Set{Seed: rapid.Uint64().Draw(t, "seed")}
		size := rapid.Int64Range(1, 10000).Draw(t, "size")
		text := whole(s, 9, size)
		damage := rapid.SampledFrom([]string{"none", "byte", "short", "long", "other"}).Draw(t, "damage")
		switch damage {
		case "byte":
			text[rapid.Int64Range(0, size-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case "short":
			text = text[:rapid.Int64Range(0, size-1).Draw(t, "length")]
		case "long":
			text = append(text, 0)
		case "other":
			text = whole(s, 8, size)
		}
		var c Checker
		c.Reset(s, 9, size)
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "piece")
			c.Add(text[:n])
			text = text[n:]
		}
		same := damage == "none" || damage == "other" && size == 1 // one byte may be alike by chance
		if wrong := c.Wrong(); (wrong == "") != same && !(size < 4 && damage == "other") {
			t.Fatalf("%s: the checker says %q", damage, wrong)
		}
	})
}

func BenchmarkFill4KiB(b *testing.B) {
	p := make([]byte, 4096)
	b.SetBytes(4096)
	for n := range int64(b.N) {
		Set{}.Fill(p, n, 0)
	}
}
