package seglog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"martlet/internal/vfs"
)

// goldenLog is a segment of three records and a seal, of a log whose identity is not
// random.
func goldenLog(t testing.TB) []byte {
	t.Helper()
	mem := vfs.NewMem()
	l := open(t, config(mem))
	l.id = ID{'g', 'o', 'l', 'd'}
	for _, r := range []*Record{
		{Kind: 1, Key: [16]byte{1, 2, 3}, Head: []byte("head"), Body: []byte("body")},
		{Kind: MaxKind, Key: [16]byte{0xff}},
		{Kind: 0, Head: bytes.Repeat([]byte{7}, 9), Body: bytes.Repeat([]byte("0123456789abcdef"), 500)},
	} {
		if _, err := l.Append(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := mem.Open(dir + "/" + segmentName(1))
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// storedLog is goldenLog as it was kept when a format was new.
func storedLog(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, firstRecord)
	copy(first, b[:headerSize])
	if string(b[:8]) == segmentMagic {
		copy(first[secondHeader:], b[:headerSize])
	}
	return slices.Concat(first, b[headerSize:])
}

// TestGolden: the format can't change without somebody noticing.
func TestGolden(t *testing.T) {
	got, want := goldenLog(t), storedLog(t, "testdata/segment.v2.hex")
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s%s\nwant\n%s%s", hex.Dump(got[:36]), hex.Dump(got[firstRecord:]), hex.Dump(want[:36]), hex.Dump(want[firstRecord:]))
	}
}

// TestFirstFormat: a segment of format 1 is read as ever, also where its first block is
// damaged, and what is appended is of the present one.
func TestFirstFormat(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		mem := vfs.NewMem()
		put(t, mem, 1, storedLog(t, "testdata/segment.v1.hex"))
		if damaged {
			put(t, mem, 1, make([]byte, 8))
		}
		l := open(t, config(mem))
		if _, err := l.Append(&Record{Kind: 9, Head: []byte("new")}, nil); err != nil {
			t.Fatal(err)
		}
		var heads []string
		for e, err := range l.Scan(Position{}) {
			if err != nil || e.Damage {
				t.Fatal(err, e)
			}
			heads = append(heads, string(e.Head))
		}
		if want := []string{"head", "", "\a\a\a\a\a\a\a\a\a", "new"}; !slices.Equal(heads, want) {
			t.Errorf("damaged %v: got %q, want %q", damaged, heads, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// put writes bytes where a segment's file begins.
func put(t *testing.T, mem *vfs.Mem, n uint64, b []byte) {
	t.Helper()
	if err := mem.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	f, err := mem.OpenFile(dir+"/"+segmentName(n), os.O_RDWR|os.O_CREATE)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBodyOfRecords: a body that looks like records of its segment is not taken for them
// where the head before it is damaged: nobody who has one stored knows the log.
func TestBodyOfRecords(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	forged := (&Record{Kind: 1, Head: []byte("forged")}).seal()
	var body []byte
	for _, o := range []origin{{segment: 1}, ID{}.of(1), ID{1}.of(1)} {
		place(forged, o, firstRecord)
		body = append(append(body, forged...), 0, 0)
	}
	at, err := l.Append(&Record{Kind: 1, Body: body}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(&Record{Kind: 2}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR)
	if err == nil {
		_, err = f.WriteAt([]byte{0xff}, at.Offset+9)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e, err := range l.Scan(Position{}) {
		if n++; err != nil || n == 1 && !e.Damage || n == 2 && e.Kind != 2 || n > 2 {
			t.Errorf("entry %d: %+v, %v", n, e, err)
		}
	}
	if n != 2 {
		t.Errorf("%d entries, want damage and a record", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLargeRecords: bodies around the size of a block, and of more than one.
func TestLargeRecords(t *testing.T) {
	c := config(vfs.NewMem())
	c.SegmentSize = 1 << 24
	l := open(t, c)
	for _, n := range []int{0, 1, BlockSize - 1, BlockSize, BlockSize + 1, 3*BlockSize + 5, 1 << 20} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		at, err := l.Append(&Record{Kind: 1, Body: body}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := l.Read(at, Size(0, n), nil)
		if err != nil || !bytes.Equal(r.Body, body) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzSegment has any bytes where a segment's are. Whatever they are the log can be
// opened or is refused, tells of records that can be read or are damaged, and takes
// new ones.
func FuzzSegment(f *testing.F) {
	golden := goldenLog(f)
	f.Add(golden[firstRecord:])
	f.Add(golden[firstRecord : len(golden)-56])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		mem := vfs.NewMem()
		if err := mem.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
		file, err := mem.OpenFile(dir+"/"+segmentName(1), os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(append(header(1, ID{1}), data...), 0); err != nil {
			t.Fatal(err)
		}
		l, err := Open(config(mem))
		if err != nil {
			t.Fatalf("a segment with a whole header: %v", err)
		}
		last := Position{1, firstRecord}
		for e, err := range l.Scan(Position{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.At != last {
				t.Fatalf("%v follows on %v", e.At, last)
			}
			if e.Damage {
				if !e.At.Less(e.To) {
					t.Fatalf("damage from %v to %v", e.At, e.To)
				}
				last = e.To
				continue
			}
			last = Position{1, e.At.Offset + e.Size()}
			_, _, _ = l.Read(e.At, e.Size(), nil) // a body may be damaged: no panic
		}
		at, err := l.Append(record(1), nil)
		if err != nil || at.Segment != 2 {
			t.Fatalf("appended at %v, %v", at, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
