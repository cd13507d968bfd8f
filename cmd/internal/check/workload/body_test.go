package workload

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// The bytes of a content are the same wherever they are read from, in whatever pieces; those of parts are pieces of the whole.
func TestBodies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBodies(rapid.Uint64().Draw(t, "seed"))
		c := content{id: 5, base: rapid.Int64Range(1, 9).Draw(t, "base"), from: rapid.Int64Range(0, 40).Draw(t, "from"), size: rapid.Int64Range(0, 300).Draw(t, "size")}
		all, err := io.ReadAll(iotest.OneByteReader(b.reader(c)))
		if err != nil || int64(len(all)) != c.size {
			t.Fatalf("%d bytes, %v", len(all), err)
		}
		at := rapid.Int64Range(0, c.size).Draw(t, "at")
		piece := make([]byte, rapid.Int64Range(0, c.size-at).Draw(t, "n"))
		b.fill(piece, c, at)
		if !bytes.Equal(piece, all[at:at+int64(len(piece))]) {
			t.Fatalf("from %d: %x, of %x", at, piece, all)
		}
		whole := make([]byte, c.from+c.size)
		b.fill(whole, content{base: c.base}, 0)
		if !bytes.Equal(whole[c.from:], all) {
			t.Fatalf("%x is not the end of %x", all, whole)
		}
		if wrong, err := b.compare(bytes.NewReader(piece), c, at, int64(len(piece))); wrong != "" || err != nil {
			t.Fatalf("%q, %v", wrong, err)
		}
		if len(piece) == 0 {
			return
		}
		flip := rapid.IntRange(0, len(piece)-1).Draw(t, "flip")
		piece[flip] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if wrong, _ := b.compare(iotest.HalfReader(bytes.NewReader(piece)), c, at, int64(len(piece))); wrong == "" {
			t.Fatal("a byte that was flipped has not been noticed")
		}
	})
}

func TestCompare(t *testing.T) {
	b := newBodies(1)
	c := content{id: 3, base: 3, size: 100_000}
	all, err := io.ReadAll(b.reader(c))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		from  io.Reader
		wrong string
		err   error
	}{
		"whole":         {bytes.NewReader(all), "", nil},
		"too short":     {bytes.NewReader(all[:99_999]), "", io.ErrUnexpectedEOF},
		"nothing":       {strings.NewReader(""), "", io.ErrUnexpectedEOF},
		"too long":      {io.MultiReader(bytes.NewReader(all), strings.NewReader("x")), "more bytes", nil},
		"broken off":    {io.MultiReader(bytes.NewReader(all[:70_000]), iotest.ErrReader(broken)), "", broken},
		"another's":     {b.reader(content{id: 4, base: 4, size: 100_000}), "not that of write 3: byte 0 ", nil},
		"wrong, broken": {io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), "byte 0", nil},
	} {
		wrong, err := b.compare(tt.from, c, 0, c.size)
		if !strings.Contains(wrong, tt.wrong) || (wrong == "") != (tt.wrong == "") || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, wrong, err, tt.wrong, tt.err)
		}
	}
}

func TestETags(t *testing.T) {
	b := newBodies(1)
	if _, ok := b.of(hex.EncodeToString(md5.New().Sum(nil))); !ok {
		t.Error("that of no bytes is not known")
	}
	for i := range int64(3 * keepRecent) {
		c := content{id: i + 1, base: i + 1, size: 10}
		sum := b.sum(c)
		etag := hex.EncodeToString(sum[:])
		if _, ok := b.of(etag); ok {
			t.Errorf("%s is known already", etag)
		}
		b.learn(sum, c)
		if got, ok := b.of(etag); !ok || got != c {
			t.Errorf("%s: %+v, %v", etag, got, ok)
		}
	}
	for _, etag := range []string{"", "x", strings.Repeat("0", 31), strings.Repeat("0", 32), strings.Repeat("0", 34)} {
		if c, ok := b.of(etag); ok {
			t.Errorf("%q is of %+v", etag, c)
		}
	}
	if len(b.recent) != keepRecent {
		t.Errorf("%d are kept for conditions", len(b.recent))
	}
}
