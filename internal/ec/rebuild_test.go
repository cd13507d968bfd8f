package ec

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"testing"

	"martlet/internal/errs"
)

// Each archive comes out of the others as it was, with a damaged and a foreign one among them.
func TestRebuild(t *testing.T) {
	c := code(t, "3+3", 20)
	for _, size := range []int{0, 1, 20, 45} {
		body := bytesOf(size, 1)
		other := archives(t, c, write(9, size), body, 100)
		for _, w := range []Write{write(1, size), {Size: UnknownSize}} {
			all := archives(t, c, w, body, 100)
			for index := range all {
				damaged := bytes.Clone(all[(index+1)%6])
				damaged[len(damaged)-1] ^= 1
				nodes := from(damaged, other[index], all[(index+2)%6], all[(index+3)%6], all[(index+4)%6])
				var b bytes.Buffer
				n, faults, err := c.Rebuild(&b, w, index, nodes.source)
				if err != nil || n != int64(size) || !bytes.Equal(b.Bytes(), all[index]) || len(faults) != 2 || nodes.open != 0 {
					t.Fatalf("%d bytes, index %d: %d, %v, %v, %d open", size, index, n, faults, err, nodes.open)
				}
			}
		}
	}
}

func TestRebuildFails(t *testing.T) {
	c := code(t, "2+2", 20)
	w := write(1, 45)
	all := archives(t, c, w, bytesOf(45, 1), 100)
	for index := -1; index < 5; index += 5 {
		if _, _, err := c.Rebuild(io.Discard, w, index, from(all...).source); !errs.Is(err, errs.Invalid) {
			t.Errorf("index %d: %v", index, err)
		}
	}
	nodes := from(all[0], all[1][:c.FrameAt(2)])
	if _, faults, err := c.Rebuild(io.Discard, w, 3, nodes.source); !errors.Is(err, ErrTooFew) || !errs.Is(err, errs.Unavailable) || !errors.Is(err, ErrShort) || len(faults) != 1 || nodes.open != 0 {
		t.Errorf("of too few: %v, %v, %d open", faults, err, nodes.open)
	}
	for at := range 3 {
		nodes = from(all...)
		if _, _, err := c.Rebuild(&failingAfter{at}, w, 3, nodes.source); !errors.Is(err, errBroken) || nodes.open != 0 {
			t.Errorf("writing fails at segment %d: %v, %d open", at, err, nodes.open)
		}
	}
}

// failingAfter fails after so many writes.
type failingAfter struct{ left int }

func (w *failingAfter) Write(p []byte) (int, error) {
	if w.left == 0 {
		return 0, errBroken
	}
	w.left--
	return len(p), nil
}

// From any k others in memory each archive comes out as it was, behind what was there; from fewer, or where one of them is damaged
// anywhere, cut short, longer, of another write or there twice, none does.
func TestRebuildFrom(t *testing.T) {
	c := code(t, "3+2", 20)
	for _, size := range []int{0, 1, 20, 45} {
		body := bytesOf(size, 1)
		for _, w := range []Write{write(1, size), {Size: UnknownSize}} {
			all := archives(t, c, w, body, 100)
			foreign := archives(t, c, Write{ID: WriteID{7}, Size: w.Size}, body, 100)
			for index := range all {
				others := make([][]byte, 0, 4)
				for i := 1; i < 5; i++ {
					others = append(others, all[(index+i)%5])
				}
				out, n, err := c.RebuildFrom([]byte("front"), w, index, others)
				if want := append([]byte("front"), all[index]...); err != nil || n != int64(size) || !bytes.Equal(out, want) {
					t.Fatalf("%d bytes, index %d: %d, %v", size, index, n, err)
				}
				first := others[0]
				bad := map[string][]byte{"longer": append(bytes.Clone(first), 0), "foreign": foreign[(index+1)%5], "twice": others[1], "itself": all[index], "nothing": nil}
				for at := range first {
					bad["changed at "+strconv.Itoa(at)] = slices.Concat(first[:at], []byte{first[at] ^ 1}, first[at+1:])
					bad["cut at "+strconv.Itoa(at)] = first[:at]
				}
				for what, one := range bad {
					others[0] = one
					if out, _, err := c.RebuildFrom(nil, w, index, others); err == nil || len(out) > 0 {
						t.Fatalf("%d bytes, index %d: %s: %d bytes, %v", size, index, what, len(out), err)
					}
				}
				if _, _, err := c.RebuildFrom(nil, w, index, others[2:]); !errors.Is(err, ErrTooFew) || !errs.Is(err, errs.Unavailable) {
					t.Fatalf("of too few: %v", err)
				}
			}
		}
	}
}
