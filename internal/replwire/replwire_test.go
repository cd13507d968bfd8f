package replwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

var lowest, highest = name.Hash{}, name.Hash(bytes.Repeat([]byte{0xff}, 16))

func at(n int64) timestamp.T { return timestamp.FromTicks(n) }

// drawObject draws a state that does not contradict itself.
func drawObject(t *rapid.T) Object {
	base := rapid.Int64Range(1, 4).Draw(t, "time")
	o := Object{Kind: rapid.SampledFrom([]ObjectKind{Waiting, Data, Tombstone, Lost}).Draw(t, "kind")}
	if o.Kind != Waiting {
		o.Times.Data = at(base)
	}
	later := func(what string) timestamp.T {
		return at(o.Times.Data.Ticks() + rapid.Int64Range(0, 2).Draw(t, what))
	}
	o.Times.ContentType, o.Times.Meta = later("ctype"), later("meta")
	if o.Kind == Data {
		o.MD5[0] = rapid.ByteRange(0, 1).Draw(t, "md5")
		o.Length, o.CRC = rapid.Int64Range(0, 1<<40).Draw(t, "length"), rapid.Uint32().Draw(t, "crc")
	}
	o.SystemSum = 0
	if o.Kind == Data {
		o.SystemSum = rapid.Uint64Range(0, 1).Draw(t, "system")
	}
	if o.Kind != Lost { // of which no more is sent
		o.MetaSum, o.TypeSum = rapid.Uint64Range(0, 1).Draw(t, "metasum"), rapid.Uint64Range(0, 1).Draw(t, "typesum")
	}
	return o
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "n")
		more := n > 0 && rapid.Bool().Draw(t, "more")
		b := Begin(nil, Objects)
		var want []Object
		for i := range n {
			o := drawObject(t)
			o.Hash[3] = byte(i)
			want = append(want, o)
			b = AppendObject(b, &o)
		}
		b = End(b, n, more)
		got, gotMore, err := ParseObjects(b, lowest, highest)
		if err != nil || gotMore != more || !slices.Equal(got, want) {
			t.Fatalf("%+v came back as %+v, %v, %v", want, got, gotMore, err)
		}
		if n > 0 {
			// One byte less, more or other is no list.
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			garbled := slices.Clone(b)
			garbled[i] ^= byte(1 + rapid.IntRange(0, 254).Draw(t, "by"))
			for _, broken := range [][]byte{b[:i], append(slices.Clone(b), 0), garbled} {
				if _, _, err := ParseObjects(broken, lowest, highest); !errors.Is(err, ErrList) {
					t.Fatalf("a broken list is taken: %v", err)
				}
			}
		}
	})
}

// seal makes a list of records that are what they are.
func seal(kind byte, records []byte, count int, more bool) []byte {
	return End(append(Begin(nil, kind), records...), count, more)
}

// What has the right checksum and is wrong all the same.
func TestRefuse(t *testing.T) {
	record := func(change func(*Object)) []byte {
		o := Object{Kind: Data, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}}
		o.Hash[0] = 0x40
		if change != nil {
			change(&o)
		}
		return AppendObject(nil, &o)
	}
	good := record(nil)
	other := record(func(o *Object) { o.Hash[0] = 0x41 })
	raw := func(offset int, n uint64) []byte {
		b := slices.Clone(good)
		binary.BigEndian.PutUint64(b[offset:], n)
		return b
	}
	middle, high := name.Hash{0x40}, name.Hash{0x80}
	if list, _, err := ParseObjects(seal(Objects, slices.Concat(good, other), 2, true), middle, high); err != nil || len(list) != 2 {
		t.Fatalf("a good list: %+v, %v", list, err)
	}
	for what, b := range map[string][]byte{
		"nothing":              nil,
		"short":                []byte("MRL"),
		"another kind":         seal(Accounts, good, 1, false),
		"count too low":        seal(Objects, slices.Concat(good, other), 1, false),
		"count too high":       seal(Objects, good, 2, false),
		"count out of reach":   seal(Objects, good, -1, false),
		"count of nothing":     seal(Objects, nil, 1, false),
		"records of no count":  seal(Objects, good, 0, false),
		"more after nothing":   seal(Objects, nil, 0, true),
		"a record and a half":  seal(Objects, slices.Concat(good, good[:50]), 1, false),
		"twice":                seal(Objects, slices.Concat(good, good), 2, false),
		"not in order":         seal(Objects, slices.Concat(other, good), 2, false),
		"below the range":      seal(Objects, record(func(o *Object) { o.Hash[0] = 0x3f }), 1, false),
		"above the range":      seal(Objects, record(func(o *Object) { o.Hash[0] = 0x81 }), 1, false),
		"no kind":              seal(Objects, record(func(o *Object) { o.Kind = 0 }), 1, false),
		"unknown kind":         seal(Objects, record(func(o *Object) { o.Kind = 9 }), 1, false),
		"data of no time":      seal(Objects, record(func(o *Object) { o.Times = timestamp.Packed{} }), 1, false),
		"waiting with data":    seal(Objects, record(func(o *Object) { o.Kind = Waiting }), 1, false),
		"tombstone with data":  seal(Objects, record(func(o *Object) { o.Kind, o.Length = Tombstone, 1 }), 1, false),
		"metadata before data": seal(Objects, record(func(o *Object) { o.Times.Meta = at(4) }), 1, false),
		"type before data":     seal(Objects, record(func(o *Object) { o.Times.ContentType = at(4) }), 1, false),
		"time out of range":    seal(Objects, raw(17, 1<<63), 1, false),
		"negative length":      seal(Objects, raw(81, 1<<63), 1, false),
		"more is 2":            moreIs2(good),
		"too long":             make([]byte, MaxList+1),
	} {
		if list, _, err := ParseObjects(b, middle, high); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %+v, %v", what, list, err)
		}
	}
	if _, err := Read(strings.NewReader(strings.Repeat("x", MaxList+1))); !errors.Is(err, ErrList) {
		t.Errorf("a body that is too long: %v", err)
	}
	if _, err := Read(nil); !errors.Is(err, ErrList) {
		t.Errorf("no body: %v", err)
	}
}

// moreIs2 is a list with a mark that means nothing.
func moreIs2(record []byte) []byte {
	b := seal(Objects, record, 1, true)
	b[len(b)-tailSize] = 2
	return binary.BigEndian.AppendUint32(b[:len(b)-4], crc32.Checksum(b[:len(b)-4], castagnoli))
}

// A list of what is under some names may end with one under which there is nothing, if it has more, and no other list may.
func TestNothingAtTheEnd(t *testing.T) {
	o := Object{Hash: name.Hash{0x40}, Kind: Tombstone, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}}
	there, nothing := AppendObject(nil, &o), AppendNothing(nil, name.Hash{0x41})
	timed := Object{Hash: name.Hash{0x41}, Times: o.Times}
	for what, tt := range map[string]struct {
		list []byte
		want int // -1 for an error
		end  name.Hash
		more bool
	}{
		"behind something":      {seal(Objects, slices.Concat(there, nothing), 2, true), 1, name.Hash{0x41}, true},
		"alone":                 {seal(Objects, nothing, 1, true), 0, name.Hash{0x41}, true},
		"not at all":            {seal(Objects, there, 1, true), 1, name.Hash{0x40}, true},
		"of nothing":            {seal(Objects, nil, 0, false), 0, name.Hash{}, false},
		"at the end of all":     {seal(Objects, slices.Concat(there, nothing), 2, false), -1, name.Hash{}, false},
		"in the middle":         {seal(Objects, slices.Concat(nothing, AppendNothing(nil, name.Hash{0x42})), 2, true), -1, name.Hash{}, false},
		"with times":            {seal(Objects, AppendObject(nil, &timed), 1, true), -1, name.Hash{}, false},
		"outside of the range":  {seal(Objects, AppendNothing(nil, name.Hash{0x81}), 1, true), -1, name.Hash{}, false},
		"before what is before": {seal(Objects, slices.Concat(AppendObject(nil, &Object{Hash: name.Hash{0x42}, Kind: Tombstone, Times: o.Times}), nothing), 2, true), -1, name.Hash{}, false},
	} {
		list, end, more, err := ParseNamed(tt.list, name.Hash{0x40}, name.Hash{0x80})
		if tt.want < 0 && !errors.Is(err, ErrList) || tt.want >= 0 && (err != nil || len(list) != tt.want || end != tt.end || more != tt.more) {
			t.Errorf("%s: %+v up to %s, %v, %v", what, list, end, more, err)
		}
		if _, _, err := ParseObjects(tt.list, name.Hash{0x40}, name.Hash{0x80}); bytes.Contains(tt.list, nothing) && !errors.Is(err, ErrList) {
			t.Errorf("%s: it is taken for a list of objects: %v", what, err)
		}
	}
}

func FuzzParseObjects(f *testing.F) {
	o := Object{Kind: Data, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(6)}, Length: 3}
	f.Add(seal(Objects, AppendObject(nil, &o), 1, true))
	f.Add(seal(Objects, nil, 0, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is put right, so that what is behind it is reached as well.
		if len(b) >= 4 {
			b = binary.BigEndian.AppendUint32(slices.Clone(b[:len(b)-4]), crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		list, more, err := ParseObjects(b, lowest, highest)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		again := Begin(nil, Objects)
		for i := range list {
			again = AppendObject(again, &list[i])
		}
		if again = End(again, len(list), more); !bytes.Equal(again, b) {
			t.Errorf("%x is taken as %+v, which is %x", b, list, again)
		}
		if named, _, _, err := ParseNamed(b, lowest, highest); err != nil || !slices.Equal(named, list) {
			t.Errorf("%+v is read as %+v, %v", list, named, err)
		}
	})
}

// Of two states at least one lacks something unless they are the same where it
// matters, and nobody lacks anything of himself.
func TestLacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawObject(t), drawObject(t)
		if a.Kind != Lost && a.Lacks(&a) != 0 {
			t.Fatalf("%+v lacks %b of itself", a, a.Lacks(&a))
		}
		if a.Kind != Lost && a.Lacks(nil) == 0 && !a.Newest().IsZero() {
			t.Fatalf("nothing lacks nothing of %+v", a)
		}
		if a.Kind == Lost || b.Kind == Lost {
			return
		}
		same := a.Times == b.Times && a.Kind == b.Kind && a.MD5 == b.MD5 && a.Length == b.Length && a.CRC == b.CRC
		if a.Lacks(&b) == 0 && b.Lacks(&a) == 0 && !same {
			t.Fatalf("%+v and %+v differ, and neither lacks anything", a, b)
		}
		if a.Times.Data != b.Times.Data && a.Lacks(&b)&LackData != 0 && b.Lacks(&a)&LackData != 0 {
			t.Fatalf("%+v and %+v each have the newer data", a, b)
		}
	})
	data := Object{Kind: Data, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(7)}, Length: 1}
	for what, tt := range map[string]struct {
		theirs Object
		want   Lack
	}{
		"lost at that time":   {Object{Kind: Lost, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}}, LackData | LackMeta},
		"lost when unknown":   {Object{Kind: Lost}, LackData | LackMeta},
		"lost what was newer": {Object{Kind: Lost, Times: timestamp.Packed{Data: at(9), ContentType: at(9), Meta: at(9)}}, 0},
		"tombstone":           {Object{Kind: Tombstone, Times: timestamp.Packed{Data: at(5), ContentType: at(5), Meta: at(5)}}, LackMeta},
		"older tombstone":     {Object{Kind: Tombstone, Times: timestamp.Packed{Data: at(4), ContentType: at(4), Meta: at(4)}}, LackData | LackMeta},
		"later tombstone":     {Object{Kind: Tombstone, Times: timestamp.Packed{Data: at(8), ContentType: at(8), Meta: at(8)}}, 0},
	} {
		if got := data.Lacks(&tt.theirs); got != tt.want {
			t.Errorf("%s lacks %b, want %b", what, got, tt.want)
		}
	}
}

func TestSum(t *testing.T) {
	a := backend.Header{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
	b := backend.Header{{Name: "B", Value: "2"}, {Name: "A", Value: "1"}}
	if Sum(a) != Sum(b) || Sum(a) == Sum(a[:1]) || Sum(nil) != 0 || Sum(backend.Header{{Name: "A1", Value: ""}}) == Sum(backend.Header{{Name: "A", Value: "1"}}) {
		t.Error("the sum depends on the order of fields, or not on what they say")
	}
}
