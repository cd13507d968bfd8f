package ec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/errs"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestShapes(t *testing.T) {
	for _, s := range []string{"1+1", "4+2", "20+8"} {
		if got, err := ParseShape(s); err != nil || got.String() != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "4", "4+", "+2", "0+1", "1+0", "21+8", "20+9", "-1+2", "+4+2", "04+2", "4+2 ", "4+2+1", "4-2"} {
		if got, err := ParseShape(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, l := range []Layout{{}, {Shape{4, 2}, 0}, {Shape{4, 2}, MaxSegment + 1}, {Shape{0, 2}, 10}} {
		if _, err := New(l); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", l, err)
		}
	}
}

func TestHeader(t *testing.T) {
	for _, want := range []Header{
		{Layout{Shape{4, 2}, Segment}, Write{WriteID{1, 15: 2}, 1 << 40}, 5},
		{Layout{Shape{20, 8}, MaxSegment}, Write{WriteID{}, UnknownSize}, 27},
		{Layout{Shape{1, 1}, 1}, Write{NewWriteID(), 0}, 0},
	} {
		b := want.Append([]byte("before"))
		if len(b) != 6+HeaderSize {
			t.Fatalf("%d bytes", len(b))
		}
		if got, err := ParseHeader(append(b[6:], "behind"...)); err != nil || got != want {
			t.Errorf("read back %+v, %v, want %+v", got, err, want)
		}
		for n := range HeaderSize {
			if _, err := ParseHeader(b[6 : 6+n]); !errors.Is(err, ErrHeader) || !errors.Is(err, ErrShort) || !errs.Is(err, errs.Corrupt) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
		for bit := range 8 * HeaderSize {
			damaged := bytes.Clone(b[6:])
			damaged[bit/8] ^= 1 << (bit % 8)
			if _, err := ParseHeader(damaged); !errors.Is(err, ErrHeader) || !errs.Is(err, errs.Corrupt) {
				t.Errorf("bit %d: %v", bit, err)
			}
		}
	}
}

// Headers whose checksum is right, and that are none.
func TestHeadersOfOthers(t *testing.T) {
	h := Header{Layout{Shape{4, 2}, Segment}, Write{WriteID{1}, 77}, 5}
	for name, change := range map[string]func(b []byte){
		"magic":          func(b []byte) { b[0] = 'M' },
		"version":        func(b []byte) { b[7] = 2 },
		"k of 0":         func(b []byte) { b[8] = 0 },
		"m of 0":         func(b []byte) { b[9] = 0 },
		"k of 21":        func(b []byte) { b[8] = 21 },
		"index":          func(b []byte) { b[10] = 6 },
		"code":           func(b []byte) { b[11] = 2 },
		"no segment":     func(b []byte) { copy(b[12:], make([]byte, 4)) },
		"a long segment": func(b []byte) { b[15] = 2 },
		"size of -2":     func(b []byte) { binary.LittleEndian.PutUint64(b[16:], ^uint64(1)) },
		"a large size":   func(b []byte) { binary.LittleEndian.PutUint64(b[16:], uint64(h.MaxSize()+1)) },
		"what is zero":   func(b []byte) { b[55] = 1 },
	} {
		b := h.Append(nil)
		change(b)
		reseal(b)
		if _, err := ParseHeader(b); !errors.Is(err, ErrHeader) || !errs.Is(err, errs.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// nvme is the checksum of the format, by way of the standard library.
var nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

func reseal(header []byte) {
	binary.LittleEndian.PutUint64(header[sumAt:], crc64.Checksum(header[:sumAt], nvme))
}

// The golden file is what version 1 has written; it must be read for ever.
func TestGolden(t *testing.T) {
	body := bytesOf(37, 9)
	c := code(t, "3+2", 16)
	var lines []string
	for _, w := range []Write{write(7, len(body)), {ID: WriteID{8}, Size: UnknownSize}} {
		for _, a := range archives(t, c, w, body, 100) {
			lines = append(lines, hex.EncodeToString(a))
		}
	}
	golden := filepath.Join("testdata", "v1.archives")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(strings.Join(lines, "\n")+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(stored))
	if len(want) != len(lines) {
		t.Fatalf("%d archives are stored, want %d", len(want), len(lines))
	}
	var all [][]byte
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("archive %d is\n%s, was\n%s", i, lines[i], want[i])
		}
		a, err := hex.DecodeString(want[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	h, err := ParseHeader(all[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := decoded(c, h.Write, 0, -1, all[2:5]...); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the golden file reads as %x, %v", got, err)
	}
}

// The archives are what the package's comment says, byte by byte, worked out in the
// plainest way.
func TestFormatAsDescribed(t *testing.T) {
	for _, s := range []string{"1+1", "2+1", "3+2", "4+2", "8+3", "20+8"} {
		c := code(t, s, 50) // one, so that buffers are not new
		for _, size := range []int{237, 100, 99, 50, 1, 0} {
			body := bytesOf(size, 10)
			w := write(3, size)
			got := archives(t, c, w, body, 1000)
			for index := range got {
				want := described(c.Layout, w, index, body)
				if !bytes.Equal(got[index], want) {
					t.Fatalf("%s, %d bytes, archive %d is\n%x, want\n%x", s, size, index, got[index], want)
				}
			}
		}
	}
}

func described(l Layout, w Write, index int, body []byte) []byte {
	le := binary.LittleEndian
	a := append([]byte("martfrg"), 1, byte(l.Data), byte(l.Parity), byte(index), 1)
	a = le.AppendUint32(a, uint32(l.Segment))
	a = le.AppendUint64(a, uint64(len(body)))
	a = append(a, w.ID[:]...)
	a = append(a, make([]byte, 16)...)
	front := bytes.Clone(a)
	a = le.AppendUint64(a, crc64.Checksum(front, nvme))
	row := describedRow(l.Shape, index)
	for number := 0; number == 0 || number*l.Segment < len(body); number++ {
		segment := body[number*l.Segment : min(len(body), (number+1)*l.Segment)]
		each := (len(segment) + l.Data - 1) / l.Data
		padded := append(bytes.Clone(segment), make([]byte, l.Data*each-len(segment))...)
		fragment := make([]byte, each)
		for j := range l.Data {
			for i := range fragment {
				fragment[i] ^= times(row[j], padded[j*each+i])
			}
		}
		word := uint32(len(segment))
		if (number+1)*l.Segment >= len(body) {
			word |= 1 << 31
		}
		head := le.AppendUint32(le.AppendUint32(nil, word), uint32(number))
		sum := crc64.Checksum(bytes.Join([][]byte{front, head, fragment}, nil), nvme)
		a = append(le.AppendUint64(append(a, head...), sum), fragment...)
	}
	return a
}

// times multiplies in GF(2^8) with 0x11d.
func times(a, b byte) byte {
	product := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			product ^= int(a) << i
		}
	}
	for i := 14; i >= 8; i-- {
		if product>>i&1 == 1 {
			product ^= 0x11d << (i - 8)
		}
	}
	return byte(product)
}

// describedRow returns a row of V×T⁻¹: r with r×T = the row of V.
func describedRow(s Shape, index int) []byte {
	power := func(i, j int) byte {
		p := byte(1)
		for range j {
			p = times(p, byte(i))
		}
		return p
	}
	// Columns of T are equations: the sum of r[i]×T[i][j] is V[index][j].
	k := s.Data
	m := make([][]byte, k)
	for j := range m {
		m[j] = make([]byte, k+1)
		for i := range k {
			m[j][i] = power(i, j)
		}
		m[j][k] = power(index, j)
	}
	for c := range k {
		p := c
		for m[p][c] == 0 {
			p++
		}
		m[c], m[p] = m[p], m[c]
		inverse := byte(1)
		for times(inverse, m[c][c]) != 1 {
			inverse++
		}
		for i := range m[c] {
			m[c][i] = times(m[c][i], inverse)
		}
		for other := range m {
			if factor := m[other][c]; other != c && factor != 0 {
				for i := range m[other] {
					m[other][i] ^= times(factor, m[c][i])
				}
			}
		}
	}
	row := make([]byte, k)
	for i := range row {
		row[i] = m[i][k]
	}
	return row
}

// Sizes as they are worked out, for the layouts that there really are.
func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		shape         string
		size, archive int64
	}{
		{"4+2", 0, 80},
		{"4+2", 1, 81},
		{"4+2", 4096, 80 + 1024},
		{"4+2", 1 << 20, 80 + 1<<18},
		{"4+2", 1<<20 + 1, 80 + 1<<18 + 17},
		{"3+2", 1 << 20, 80 + 349526},
		{"20+8", 1 << 30, 64 + 1024*(16+52429)},
		{"1+1", 1 << 52, 64 + 1<<32*(16+1<<20)},
	} {
		l := Of(shape(t, tt.shape))
		if got := l.ArchiveSize(tt.size); got != tt.archive {
			t.Errorf("%s, %d bytes: %d, want %d", tt.shape, tt.size, got, tt.archive)
		}
	}
	l := Of(shape(t, "4+2"))
	if from, to := l.Part(1<<30, 1<<29, 1); to-from != 16+1<<18 {
		t.Errorf("a byte in the middle of 1 GiB is in %d to %d", from, to)
	}
	if from, to := l.Part(1<<20+5, 1<<20, 5); fmt.Sprint(from, to) != fmt.Sprint(80+1<<18, 80+1<<18+18) {
		t.Errorf("the last bytes are in %d to %d", from, to)
	}
}
