package ec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
)

// Each archive is good, lost, or damaged, in every combination: while no more than m are
// bad the bytes come back, with one more there is an error.
func TestEveryChoiceOfLosses(t *testing.T) {
	const segment = 24
	for _, s := range []string{"1+1", "1+3", "2+1", "2+2", "3+2", "3+3", "4+2"} {
		t.Run(s, func(t *testing.T) {
			c := code(t, s, segment)
			n := c.Fragments()
			for _, size := range []int{0, 1, 5, segment, 2*segment + 7} {
				body := bytesOf(size, 1)
				w := write(1, size)
				good := archives(t, c, w, body, 1000)
				choices := 1
				for range n {
					choices *= 3
				}
				for choice := range choices {
					bad := 0
					var there [][]byte
					for i, rest := 0, choice; i < n; i, rest = i+1, rest/3 {
						switch rest % 3 {
						case 0:
							there = append(there, good[i])
						case 1:
							bad++
						case 2:
							bad++
							damaged := bytes.Clone(good[i])
							damaged[(choice*31+i*7)%len(damaged)] ^= byte(1 << (choice % 8))
							there = append(there, damaged)
						}
					}
					got, _, err := decoded(c, w, 0, -1, there...)
					switch {
					case bad <= c.Parity && (err != nil || !bytes.Equal(got, body)):
						t.Fatalf("%d bytes, choice %d, %d bad: got %d bytes, %v", size, choice, bad, len(got), err)
					case bad > c.Parity && err == nil && !bytes.Equal(got, body):
						t.Fatalf("%d bytes, choice %d, %d bad: wrong bytes", size, choice, bad)
					case size > 0 && len(there) < c.Data && (!errors.Is(err, ErrTooFew) || !errs.Is(err, errs.Unavailable)):
						t.Fatalf("%d bytes, choice %d, %d there: %v", size, choice, len(there), err)
					}
				}
			}
		})
	}
}

// Any shape, size, range and mixture of what can go wrong with archives.
func TestAnyLosses(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := Shape{rapid.IntRange(1, MaxData).Draw(r, "k"), rapid.IntRange(1, MaxParity).Draw(r, "m")}
		c, err := New(Layout{s, rapid.IntRange(1, 300).Draw(r, "segment")})
		if err != nil {
			r.Fatal(err)
		}
		size := rapid.IntRange(0, 5*c.Segment).Draw(r, "size")
		body := bytesOf(size, rapid.Uint64().Draw(r, "seed"))
		w := write(1, size)
		if rapid.Bool().Draw(r, "size is not known") {
			w.Size = UnknownSize
		}
		all := archives(t, c, w, body, rapid.IntRange(1, 400).Draw(r, "piece"))
		other := archives(t, c, write(2, size), bytesOf(size, 77), 1000)

		off := rapid.IntRange(0, max(0, size-1)).Draw(r, "off")
		n := rapid.IntRange(0, size-off).Draw(r, "n")
		order := rapid.Permutation(indexes(s.Fragments())).Draw(r, "order")
		bad := rapid.IntRange(0, s.Parity).Draw(r, "bad")
		var there [][]byte
		breaks := map[int]int64{}
		for i, index := range order {
			a := all[index]
			if i < bad {
				switch rapid.SampledFrom([]string{"lost", "damaged", "torn", "breaks", "foreign", "twice"}).Draw(r, "how") {
				case "damaged":
					a = bytes.Clone(a)
					a[rapid.IntRange(0, len(a)-1).Draw(r, "at")] ^= rapid.ByteRange(1, 255).Draw(r, "flip")
					there = append(there, a)
				case "torn":
					there = append(there, a[:rapid.IntRange(0, len(a)-1).Draw(r, "torn to")])
				case "breaks":
					breaks[len(there)] = rapid.Int64Range(0, int64(len(a))).Draw(r, "breaks after")
					there = append(there, a)
				case "foreign":
					there = append(there, other[index])
				case "twice":
					there = append(there, all[order[s.Fragments()-1]])
				}
				continue
			}
			there = append(there, a)
		}
		here := set(rapid.Uint32().Draw(r, "which are there"))
		got, faults, err := decodedFrom(c, w, int64(off), int64(n), func() *nodes {
			return &nodes{archives: there, here: here, wrap: func(i int, r io.Reader) io.Reader {
				if n, ok := breaks[i]; ok {
					return breaking(r, n)
				}
				return r
			}}
		})
		if err != nil || !bytes.Equal(got, body[off:off+n]) {
			r.Fatalf("got %d bytes, %v, %v, want %d", len(got), err, faults, n)
		}

		index := order[0]
		var b bytes.Buffer
		if length, _, err := c.Rebuild(&b, w, index, (&nodes{archives: there, here: here}).source); err != nil || length != int64(size) || !bytes.Equal(b.Bytes(), all[index]) {
			r.Fatalf("rebuilt %d bytes of an object of %d, %v", b.Len(), length, err)
		}
	})
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Every range of an object, from the parts of archives that hold it and nothing more.
func TestRanges(t *testing.T) {
	const segment = 10
	c := code(t, "3+2", segment)
	for _, size := range []int{0, 1, 10, 11, 35} {
		body := bytesOf(size, 3)
		w := write(1, size)
		all := archives(t, c, w, body, 7)
		for off := range int64(size + 1) {
			for n := range int64(size) - off + 1 {
				first, end := c.Span(off, n)
				start, stop := c.Part(int64(size), off, n)
				if want := (off+n+segment-1)/segment - off/segment; n > 0 && end-first != want {
					t.Fatalf("%d bytes from %d on: segments %d to %d", n, off, first, end)
				}
				parts := func() *nodes {
					return &nodes{archives: all[2:], wrap: func(_ int, r io.Reader) io.Reader {
						return breaking(r, stop-start)
					}}
				}
				if got, _, err := decodedFrom(c, w, off, n, parts); err != nil || !bytes.Equal(got, body[off:off+n]) {
					t.Fatalf("%d bytes from %d on of %d: got %x, %v, want %x", n, off, size, got, err, body[off:off+n])
				}
				if n == 0 {
					continue
				}
				nodes := from(all[1:]...)
				d, err := c.Decode(w, off, n, nodes.source)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, d); err != nil || slices.ContainsFunc(nodes.segments, func(s int64) bool { return s != first }) || len(nodes.segments) != 3 {
					t.Fatalf("%d bytes from %d on: archives were asked for from segments %v on, %v", n, off, nodes.segments, err)
				}
			}
		}
	}
}

// Ranges that are not within the object.
func TestRangesBeyond(t *testing.T) {
	c := code(t, "2+1", 10)
	body := bytesOf(25, 4)
	for _, known := range []bool{true, false} {
		w := write(1, len(body))
		if !known {
			w.Size = UnknownSize
		}
		all := archives(t, c, w, body, 7)
		for _, tt := range []struct{ off, n int64 }{{-1, 2}, {26, -1}, {26, 0}, {20, 6}, {0, 26}, {24, 1 << 62}, {1 << 62, 1}} {
			if tt.n == 0 && !known {
				continue // nothing is read
			}
			got, _, err := decoded(c, w, tt.off, tt.n, all...)
			if !errs.Is(err, errs.Range) || len(got) > 20 || known && got != nil {
				t.Errorf("%d bytes from %d on, size known: %v: %d bytes, %v", tt.n, tt.off, known, len(got), err)
			}
		}
		for _, off := range []int64{0, 9, 10, 24, 25} {
			if got, _, err := decoded(c, w, off, -1, all...); err != nil || !bytes.Equal(got, body[off:]) {
				t.Errorf("from %d on, size known: %v: got %d bytes, %v", off, known, len(got), err)
			}
		}
	}
}

// What is of another write, layout or place is never read together with the others, nor
// is an index twice.
func TestForeign(t *testing.T) {
	const size = 45
	c := code(t, "3+2", 20)
	body := bytesOf(size, 5)
	w := write(1, size)
	all := archives(t, c, w, body, 100)
	unknown := w
	unknown.Size = UnknownSize
	swapped := bytes.Clone(all[4]) // frames of another place
	copy(swapped[c.FrameAt(0):c.FrameAt(1)], all[4][c.FrameAt(1):c.FrameAt(2)])
	inherited := append(bytes.Clone(all[4][:HeaderSize]), all[3][HeaderSize:]...) // frames of another index
	stolen := append(bytes.Clone(all[4][:HeaderSize]), archives(t, c, write(2, size), body, 100)[4][HeaderSize:]...)
	for name, foreign := range map[string][]byte{
		"another write of the same bytes": archives(t, c, write(2, size), body, 100)[4],
		"another size":                    archives(t, c, unknown, body, 100)[4],
		"another shape":                   archives(t, code(t, "3+3", 20), w, body, 100)[4],
		"other segments":                  archives(t, code(t, "3+2", 21), w, body, 100)[4],
		"frames at another's place":       swapped,
		"frames of another index":         inherited,
		"frames of another write":         stolen,
		"the same index":                  all[0],
	} {
		t.Run(name, func(t *testing.T) {
			got, faults, err := decoded(c, w, 0, -1, all[0], foreign, all[1])
			if !errors.Is(err, ErrTooFew) || len(got) > 0 || len(faults) != 1 {
				t.Fatalf("with no others: %d bytes, %v, faults %v", len(got), err, faults)
			}
			if err := faults[0].Err; !errors.Is(err, ErrForeign) && !errors.Is(err, ErrFrame) {
				t.Errorf("the fault is %v", err)
			}
			got, faults, err = decoded(c, w, 0, -1, all[0], foreign, all[1], all[2])
			if err != nil || !bytes.Equal(got, body) || len(faults) != 1 {
				t.Errorf("with another: %d bytes, %v, faults %v", len(got), err, faults)
			}
		})
	}
}

// Fragments with good checksums that say different things of the segment, which no writer of
// ours makes, are not read together: neither lengths that the header contradicts, nor those that
// contradict each other.
func TestFragmentsThatDisagree(t *testing.T) {
	c := code(t, "2+1", 16)
	body := bytesOf(37, 8)
	for _, w := range []Write{write(1, len(body)), {Size: UnknownSize}} {
		all := archives(t, c, w, body, 100)
		for name, change := range map[string]func(a []byte){
			"longer by a byte, in as many of a fragment": func(a []byte) { a[c.FrameAt(2)]++ },
			"ends before it does":                        func(a []byte) { a[c.FrameAt(1)+3] |= 0x80 },
			"does not end where it does":                 func(a []byte) { a[c.FrameAt(2)+3] &^= 0x80 },
		} {
			a := bytes.Clone(all[0])
			change(a)
			a = forge(Header{c.Layout, w, 0}, a)
			for _, there := range [][][]byte{{a, all[1]}, {all[1], a}} {
				if got, _, err := decoded(c, w, 0, -1, there...); !errors.Is(err, ErrTooFew) || !errors.Is(err, ErrFrame) || len(got) > 32 {
					t.Errorf("size %d, %s: %d bytes, %v", w.Size, name, len(got), err)
				}
				if got, _, err := decoded(c, w, 0, -1, append(there, all[2])...); w.Size >= 0 && (err != nil || !bytes.Equal(got, body)) {
					t.Errorf("size %d, %s, with another: %d bytes, %v", w.Size, name, len(got), err)
				}
			}
		}
	}
}

// Frames that no object has, in all archives of one.
func TestFramesOfNoObject(t *testing.T) {
	c := code(t, "2+1", 16)
	w := Write{Size: UnknownSize}
	for name, lengths := range map[string][]uint32{
		"a short one in the middle": {16, 6, 5 | lastFrame},
		"an empty one at the end":   {16, 0 | lastFrame},
		"one that is too long":      {17 | lastFrame},
	} {
		var all [][]byte
		for i := range c.Fragments() {
			h := Header{c.Layout, w, i}
			a := h.Append(nil)
			for number, length := range lengths {
				a = binary.LittleEndian.AppendUint32(a, length)
				a = binary.LittleEndian.AppendUint32(a, uint32(number))
				a = append(a, make([]byte, 8+c.fragment(int(length&^lastFrame)))...)
			}
			all = append(all, forge(h, a))
		}
		if got, faults, err := decoded(c, w, 0, -1, all...); err == nil || len(got) > 16 || len(faults) != 3 || !errors.Is(err, ErrFrame) && !errors.Is(err, ErrShort) {
			t.Errorf("%s: %d bytes, %v, %v", name, len(got), err, faults)
		}
		if _, _, err := Verify(bytes.NewReader(all[0])); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever fails in the middle is replaced there, and the place of an index that failed can be taken by
// another copy of it.
func TestReplacedInTheMiddle(t *testing.T) {
	const segment = 20
	c := code(t, "2+2", segment)
	body := bytesOf(5*segment, 6)
	w := write(1, len(body))
	all := archives(t, c, w, body, 100)
	there := [][]byte{all[0], all[1], all[1], all[3], all[0], all[2], all[1]}
	fails := map[int]int64{0: 1, 1: 2, 3: 3, 4: 4} // at which segment
	begin := []int64{0, 0, 1, 1, 2, 3, 4}
	sources := func() *nodes {
		return &nodes{archives: there, wrap: func(i int, r io.Reader) io.Reader {
			at, ok := fails[i]
			if !ok {
				return r
			}
			return breaking(r, c.FrameAt(at)-c.FrameAt(begin[i])+3)
		}}
	}
	// 0 fails at 1, and the archive of index 1 that is offered then is there already.
	got, faults, err := decodedFrom(c, w, 0, -1, sources)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %d bytes, %v, %v", len(got), err, faults)
	}
	nodes := sources()
	d, err := c.Decode(w, 0, -1, nodes.source)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := io.Copy(io.Discard, d); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(nodes.segments, begin) {
		t.Errorf("archives were asked for at %v, want %v: %v", nodes.segments, begin, faults)
	}
	broken := 0
	for _, f := range d.Faults() {
		if errors.Is(f.Err, errBroken) {
			broken++
		}
		if errs.Is(f.Err, errs.Corrupt) {
			t.Errorf("a broken connection says that an archive is damaged: %v", f.Err)
		}
	}
	if broken != 4 {
		t.Errorf("%d connections broke: %v", broken, d.Faults())
	}
}

func TestClosed(t *testing.T) {
	c := code(t, "2+1", 10)
	w := write(1, 25)
	nodes := from(archives(t, c, w, bytesOf(25, 7), 100)...)
	d, err := c.Decode(w, 0, -1, nodes.source)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Read(make([]byte, 3)); n != 3 || err != nil || nodes.open != 2 {
		t.Fatalf("read %d, %v, %d open", n, err, nodes.open)
	}
	if err := d.Close(); err != nil || nodes.open != 0 {
		t.Fatalf("%v, %d open", err, nodes.open)
	}
	if n, err := d.Read(make([]byte, 3)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("after Close: %d bytes, %v", n, err)
	}
}
