package index

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

var update = flag.Bool("update", false, "write the golden files of the format in use")

func packed(data, ctype, meta timestamp.T) timestamp.Packed {
	return timestamp.Packed{Data: data, ContentType: ctype, Meta: meta}
}

// goldenEntries are of each kind and with each part.
var goldenEntries = []struct {
	name  string
	entry Entry
	hex   string
}{
	{"nothing", Entry{}, "00"},
	{
		"an object",
		Entry{
			Kind: Data, Times: packed(stamp(0x9ab123456789), stamp(0x9ab123456789), stamp(0x9ab123456789)),
			Tie: 0x0102030405060708, Length: 4096, Data: Place{7, 4096, 4336},
		},
		"0289674523b19a00" + "01" + "078020f021" + "0807060504030201" + "8020",
	},
	{
		"an object with later type and metadata, in a blob",
		Entry{
			Kind: Data, Times: packed(stamp(100), stamp(105), stamp(103).WithOffset(1)),
			Tie: 1, Length: 1 << 30, Data: Place{1, 8, 16}, Meta: Place{2, 24, 32}, Blob: true,
		},
		"f264000000000000" + "0a" + "03" + "000001" + "03" + "010810" + "021820" + "0100000000000000" + "8080808004",
	},
	{
		"metadata alone",
		Entry{Kind: Waiting, Times: packed(timestamp.T{}, timestamp.T{}, stamp(9)), Meta: Place{1, 2, 3}},
		"2100000000000000" + "12" + "02" + "010203" + "0000000000000000",
	},
	{
		"a tombstone",
		Entry{Kind: Tombstone, Times: packed(stamp(1), stamp(1), stamp(1)), Data: Place{1, 2, 3}},
		"0301000000000000" + "01" + "010203" + "0000000000000000",
	},
	{
		"lost",
		Entry{Kind: Lost, Times: packed(stamp(1), stamp(1), stamp(1)), Mark: Place{1, 2, 3}, MetaLost: true},
		"0401000000000000" + "0c" + "010203" + "0000000000000000",
	},
	{
		"a tombstone with records before it",
		Entry{Kind: Tombstone, Times: packed(stamp(1), stamp(1), stamp(1)), Data: Place{1, 2, 3}, Dead: 300},
		"0301000000000000" + "11" + "010203" + "ac02" + "0000000000000000",
	},
	{
		"gone, and all of its records are dead but one that says so",
		Entry{Kind: Gone, Mark: Place{1, 2, 3}, Dead: math.MaxUint32},
		"0500000000000000" + "14" + "010203" + "ffffffff0f" + "0000000000000000",
	},
	{
		"an object with later metadata, of which an offset counts, that expires",
		Entry{
			Kind: Data, Times: packed(stamp(100), stamp(100), stamp(103).WithOffset(1)), Expires: 0x6a0b0c0d,
			Tie: 2, Length: 5, Data: Place{1, 8, 16}, Meta: Place{2, 24, 32},
		},
		"6264000000000000" + "06" + "000001" + "23" + "0d0c0b6a" + "010810" + "021820" + "0200000000000000" + "05",
	},
}

func stamp(ticks int64) timestamp.T { return timestamp.FromTicks(ticks) }

func TestEntryGolden(t *testing.T) {
	for _, tt := range goldenEntries {
		if got := hex.EncodeToString(tt.entry.append(nil)); got != tt.hex {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.hex)
		}
		b, err := hex.DecodeString(tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		if err := e.parse(b); err != nil || e != tt.entry {
			t.Errorf("%s: read %v, %v, want %v", tt.name, e, err, tt.entry)
		}
		for n := range b {
			if err := e.parse(b[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are an entry", tt.name, n, len(b))
			}
		}
		if err := e.parse(append(b, 0)); err == nil {
			t.Errorf("%s: a byte more is an entry", tt.name)
		}
	}
}

// TestEntryRefuses has entries that nobody writes: each can be written in one way only.
func TestEntryRefuses(t *testing.T) {
	const tombstone, tie = "0301000000000000", "0000000000000000"
	for what, text := range map[string]string{
		"nothing, with more":           "0000",
		"a kind that is none":          "0601000000000000" + "00" + tie,
		"flags of another place":       "0b01000000000000" + "00" + tie,
		"places that are none":         tombstone + "40" + tie,
		"an expiry that is none":       tombstone + "20" + "00000000" + tie,
		"a place that is none":         tombstone + "01" + "000000" + tie,
		"a number in too many bytes":   tombstone + "01" + "818000" + "0203" + tie,
		"a later type that is not":     "1301000000000000" + "00" + "00" + tie,
		"offsets that are none":        "4301000000000000" + "000000" + "00" + tie,
		"a time that is none":          "03ffffffffffffff" + "00" + tie,
		"records before it, and none":  tombstone + "10" + "00" + tie,
		"more records than we count":   tombstone + "10" + "8080808010" + tie,
		"a length below zero":          "0201000000000000" + "00" + tie + "ffffffffffffffffff01",
		"a size of a place below zero": tombstone + "01" + "0102" + "ffffffffffffffffff01" + tie,
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		var e Entry
		if err := e.parse(b); err == nil {
			t.Errorf("%s: read as %v", what, e)
		}
	}
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genEntry.Draw(t, "entry")
		b := want.append(nil)
		var got Entry
		if err := got.parse(b); err != nil || got != want {
			t.Fatalf("read %v, %v, want %v", got, err, want)
		}
		if len(b) > maxValue {
			t.Fatalf("%d bytes, at most %d are said", len(b), maxValue)
		}
	})
}

func TestKeyOrder(t *testing.T) {
	k := Key{Policy: 0x0102, Hash: name.Hash{3, 15: 4}, Version: stamp(5).WithOffset(6), Part: 7}
	const want = "0102" + "03000000000000000000000000000004" + "00000000000000050000000000000006" + "07"
	r := k.raw()
	if got := hex.EncodeToString(r[:]); got != want || r.key() != k {
		t.Errorf("got %s, want %s; read %v", got, want, r.key())
	}
	if got := r.prefix(12); got != 0x030 {
		t.Errorf("the first 12 bits are %#x", got)
	}
}

func TestDigestGolden(t *testing.T) {
	// Two nodes of different versions compare these.
	o := replwire.Object{MD5: [16]byte{1, 2}, Length: 3, CRC: 4, SystemSum: 5, MetaSum: 6, TypeSum: 7}
	e := goldenEntries[1].entry
	e.Tie = Tie(o.MD5, o.Length, o.CRC, o.SystemSum, o.MetaSum, o.TypeSum)
	d := DigestOf(Key{Policy: 3, Hash: name.Hash{1, 15: 2}}, &e)
	if got := fmt.Sprintf("%016x %s %d %d", e.Tie, d.Sum, d.Objects, d.Bytes); got != goldenDigest {
		t.Errorf("got %s, want %s", got, goldenDigest)
	}
	for what, change := range map[string]func(*Key, *Entry){
		"hash":    func(k *Key, _ *Entry) { k.Hash[7] ^= 1 },
		"version": func(k *Key, _ *Entry) { k.Version = stamp(1) },
		"part":    func(k *Key, _ *Entry) { k.Part = 1 },
		"kind":    func(_ *Key, e *Entry) { e.Kind = Tombstone },
		"data":    func(_ *Key, e *Entry) { e.Times.Data = stamp(1) },
		"type":    func(_ *Key, e *Entry) { e.Times.ContentType = stamp(1) },
		"meta":    func(_ *Key, e *Entry) { e.Times.Meta = stamp(1) },
		"offset":  func(_ *Key, e *Entry) { e.Times.Data = e.Times.Data.WithOffset(1) },
		"tie":     func(_ *Key, e *Entry) { e.Tie++ },
	} {
		k, e := Key{Policy: 3, Hash: name.Hash{1, 15: 2}}, e
		change(&k, &e)
		if DigestOf(k, &e).Sum == d.Sum {
			t.Errorf("another %s has the same digest", what)
		}
	}
	k, other := Key{Policy: 4, Hash: name.Hash{1, 15: 2}}, e
	other.Data, other.Meta, other.Blob, other.Dead = Place{9, 9, 9}, Place{8, 8, 8}, true, 7
	if DigestOf(k, &other) != d {
		t.Error("where a state is kept changes its digest")
	}
}

// goldenIndex makes an index whose files are always the same.
func goldenIndex(t *testing.T) (*vfs.Mem, model) {
	t.Helper()
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	ix.cfg.Extra = func() []byte { return []byte(goldenExtra) }
	ix.id = ID{0xaa, 15: 0xbb}
	ix.manifest.id = ix.id
	var log []event
	for i := range goldenEntries {
		e := event{at(i), Key{Policy: 1, Hash: name.Hash{byte(i), 15: 0xff}}, goldenEntries[i].entry}
		if i == 5 {
			e.key.Version, e.key.Part = stamp(77), 2
		}
		log = append(log, e)
	}
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 200 {
		log = append(log, event{at(len(log)), Key{Hash: name.Hash{byte(i), byte(r.Uint32())}}, usual(r)})
	}
	if err := replay(ix, log, seglog.Position{}); err != nil {
		t.Fatal(err)
	}
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	return disk, modelOf(log)
}

func TestFilesGolden(t *testing.T) {
	disk, want := goldenIndex(t)
	old := vfs.NewMem()
	if err := old.Mkdir("/index"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{manifestName, runName(1)} {
		made := contents(t, disk, "/index/"+file)
		golden := filepath.Join("testdata", "v2-"+strings.TrimSuffix(file, extension)+".golden")
		if *update {
			if err := os.WriteFile(golden, made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(made, kept) {
			t.Errorf("%s is not what %s has", file, golden)
		}
		f, err := old.OpenFile("/index/"+file, os.O_CREATE|os.O_WRONLY)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(kept, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	ix := mustOpen(t, old)
	if err := same(ix, want); err != nil {
		t.Fatal(err)
	}
	if ix.Position() != at(len(goldenEntries)+199) || string(ix.Extra()) != goldenExtra {
		t.Errorf("opened at %v with %q, want %v with %q", ix.Position(), ix.Extra(), at(len(goldenEntries)+199), goldenExtra)
	}
}

func contents(t testing.TB, disk vfs.FS, file string) []byte {
	t.Helper()
	f, err := disk.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzEntry(f *testing.F) {
	for _, tt := range goldenEntries {
		f.Add(tt.entry.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if err := e.parse(b); err != nil {
			return
		}
		if again := e.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %v, which is written as %x", b, e, again)
		}
		if at := expires(b); at != e.Expires {
			t.Fatalf("%x says that it expires at %d, want %d", b, at, e.Expires)
		}
	})
}

func FuzzBlock(f *testing.F) {
	var b []byte
	for i, tt := range goldenEntries {
		v := tt.entry.append(nil)
		b = append(append(append(b, byte(len(v)), v[0]), make([]byte, 15)...), byte(i))
		b = append(b, v[1:]...)
	}
	f.Add(b, uint16(len(goldenEntries)))
	f.Fuzz(func(t *testing.T, b []byte, count uint16) {
		k := Key{}.raw()
		looking := block{count: int(count), rest: b}
		_, _ = looking.find(&k, nil) // ends, whatever it finds
		all := block{count: int(count), rest: b}
		for n := 0; ; n++ {
			r, more, err := all.next(nil)
			if err != nil || !more {
				return
			}
			if n > len(b) || len(r.value) == 0 {
				t.Fatalf("%d entries in %d bytes, the last of %d", n, len(b), len(r.value))
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := manifest{id: ID{1}, log: ID{2}, depth: 20, next: 4, position: seglog.Position{Segment: 1, Offset: 8}, runs: []known{{3, 5000, 7, 9}, {2, 1, 1, 1}}}
	f.Add(m.append(nil)[:manifestHead+2*manifestRun])
	m.extra = []byte(goldenExtra)
	f.Add(m.append(nil)[:manifestHead+2*manifestRun+len(m.extra)])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := checksum(b)
		b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		var m manifest
		if err := m.parse(b); err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatalf("%v is of kind %v", err, errs.KindOf(err))
			}
			return
		}
		if again := m.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x", b, again)
		}
	})
}

// FuzzFoot opens runs whose foot says what it likes.
func FuzzFoot(f *testing.F) {
	foot := foot{number: 1, blocks: 1, entries: 1, filter: 64, depth: 12}
	f.Add(foot.append(nil, ID{})[:footSize-4])
	// The rest of what fits into the file, all zeros, and more entries than can be.
	foot.entries, foot.filter, foot.buckets = 1<<60, 512, 91
	foot.fencesChecksum, foot.filterChecksum = checksum(make([]byte, keySize)), checksum(make([]byte, 512))
	f.Add(foot.append(nil, ID{})[:footSize-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != footSize-4 {
			return
		}
		disk := vfs.NewMem()
		file, err := disk.OpenFile("/"+runName(1), os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		const before = 3 * blockSize
		sum := checksum(b)
		b = append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		if _, err := file.WriteAt(append(appendHead(nil, ID{}, 1), make([]byte, before-blockSize)...), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, before); err != nil {
			t.Fatal(err)
		}
		r, err := openRun(&folder{fs: disk, path: "/"}, ID{}, known{1, before + footSize, int64(binary.LittleEndian.Uint64(b[40:])), sum}, 12)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatalf("%v is of kind %v", err, errs.KindOf(err))
			}
			return
		}
		if most := r.foot.blocks * blockSize / 18; r.foot.entries > most || r.foot.dropped > r.foot.entries || r.foot.dropped < 0 {
			t.Fatalf("%d entries, of which %d say dropped, in %d blocks", r.foot.entries, r.foot.dropped, r.foot.blocks)
		}
		r.release()
	})
}

const goldenExtra = "beside the index"

const goldenDigest = "c9d3b74c68e4265f 1e37776cc4508c0afc7869ddc5ab2f8a 1 4096"
