package ec

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"martlet/internal/errs"
)

// All sizes around borders, however they come: the archives are the same, as long as
// they should be, whole, and read back.
func TestAllSizes(t *testing.T) {
	for _, s := range []string{"1+1", "3+2", "4+2", "20+8"} {
		const segment = 30
		c := code(t, s, segment)
		for size := range 3*segment + 2 {
			for _, w := range []Write{write(1, size), {ID: WriteID{2}, Size: UnknownSize}} {
				body := bytesOf(size, 1)
				all := archives(t, c, w, body, 1+size)
				for piece, read := range map[string]io.Reader{
					"7 bytes at a time":    nil,
					"read":                 bytes.NewReader(body),
					"read byte by byte":    iotest.OneByteReader(bytes.NewReader(body)),
					"read with EOF":        iotest.DataErrReader(bytes.NewReader(body)),
					"read by halves, EOFs": iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(body))),
				} {
					e, got := encoder(t, c, w)
					if read == nil {
						*got = archives(t, c, w, body, 7)
						e.Abort()
					} else {
						if n, err := e.ReadFrom(read); n != int64(size) || err != nil {
							t.Fatalf("%s, %d bytes, %s: read %d, %v", s, size, piece, n, err)
						}
						if err := e.Close(); err != nil {
							t.Fatal(err)
						}
					}
					for i := range all {
						if !bytes.Equal((*got)[i], all[i]) {
							t.Fatalf("%s, %d bytes, %s: archive %d differs", s, size, piece, i)
						}
					}
				}
				for i, a := range all {
					h, n, err := Verify(bytes.NewReader(a))
					if err != nil || n != int64(size) || h != (Header{c.Layout, w, i}) || int64(len(a)) != c.ArchiveSize(int64(size)) {
						t.Fatalf("%s, %d bytes: archive of %d is %+v of %d, %v", s, size, len(a), h, n, err)
					}
				}
				if got, _, err := decoded(c, w, 0, -1, all[c.Parity:]...); err != nil || !bytes.Equal(got, body) {
					t.Fatalf("%s, %d bytes: read back %d, %v", s, size, len(got), err)
				}
			}
		}
	}
}

// The same with segments as they are, around the borders of what has buffers of its own.
func TestSizesOfRealSegments(t *testing.T) {
	c, err := New(Of(Shape{3, 2}))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{
		smallSegment - 1, smallSegment, smallSegment + 1, 100_000, Segment - 1, Segment, Segment + 1, 2 * Segment, 2*Segment + 100_000,
	} {
		body := bytesOf(size, 1)
		var first [][]byte
		for _, w := range []Write{write(1, size), {ID: WriteID{1, 15: 0xff}, Size: UnknownSize}} {
			all := archives(t, c, w, body, 1<<16)
			if got, _, err := decoded(c, w, 0, -1, all[2:]...); err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%d bytes: read back %d, %v", size, len(got), err)
			}
			if first == nil {
				first = all
				continue
			}
			for i := range all {
				if n := frameHead; !bytes.Equal(first[i][HeaderSize+n:][:64], all[i][HeaderSize+n:][:64]) {
					t.Fatalf("%d bytes: fragment %d depends on whether the size is known", size, i)
				}
			}
		}
	}
}

func TestEncoderRefuses(t *testing.T) {
	c := code(t, "2+1", 10)
	for _, size := range []int64{-2, c.MaxSize() + 1} {
		if _, err := c.Encode(Write{Size: size}, nil); !errs.Is(err, errs.Invalid) {
			t.Errorf("a size of %d: %v", size, err)
		}
	}
	for _, tt := range []struct{ size, written int }{{0, 1}, {5, 4}, {5, 6}, {10, 9}, {10, 11}, {20, 10}, {20, 21}, {25, 0}} {
		for _, read := range []bool{false, true} {
			e, _ := encoder(t, c, write(1, tt.size))
			var err error
			if body := bytesOf(tt.written, 1); read {
				_, err = e.ReadFrom(bytes.NewReader(body))
			} else {
				_, err = e.Write(body)
			}
			if err == nil {
				err = e.Close()
			}
			if !errs.Is(err, errs.Mismatch) {
				t.Errorf("%d of %d bytes, read: %v: %v", tt.written, tt.size, read, err)
			}
			if _, again := e.Write([]byte("x")); !errs.Is(again, errs.Mismatch) || !errs.Is(e.Close(), errs.Mismatch) {
				t.Errorf("%d of %d bytes: then %v", tt.written, tt.size, again)
			}
		}
	}
	e, _ := encoder(t, c, write(1, 25))
	if n, err := e.ReadFrom(io.MultiReader(bytes.NewReader(make([]byte, 12)), failing{})); n != 12 || !errors.Is(err, errBroken) || !errors.Is(e.Close(), errBroken) {
		t.Errorf("a body that breaks: %d bytes, %v", n, err)
	}
	for _, close := range []func(*Encoder) error{(*Encoder).Close, func(e *Encoder) error { e.Abort(); return nil }} {
		e, _ = encoder(t, c, write(1, 0))
		if err := close(e); err != nil {
			t.Fatal(err)
		}
		e.Abort()
		if _, err := e.Write(nil); err == nil {
			t.Error("it is written to when it is closed")
		}
		if _, err := e.ReadFrom(bytes.NewReader(nil)); err == nil || e.Close() == nil {
			t.Error("it is read into when it is closed, or closed twice")
		}
	}
}

// What takes the archives may fail at any segment: nothing more is handed on.
func TestEmitFails(t *testing.T) {
	c := code(t, "2+1", 10)
	for at := range 3 {
		calls := 0
		e, err := c.Encode(write(1, 25), func([][]byte) error {
			calls++
			if calls > at {
				return errBroken
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Write(make([]byte, 25))
		if closed := e.Close(); !errors.Is(closed, errBroken) || err != nil && !errors.Is(err, errBroken) || calls != at+1 {
			t.Errorf("at segment %d: %v, %v, %d calls", at, err, closed, calls)
		}
	}
}
