package container

import (
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/metadb"
	"martlet/internal/timestamp"
)

func TestSwiftBytes(t *testing.T) {
	for in, want := range map[string]struct {
		rest  string
		bytes int64
	}{
		"text/plain":                                  {"text/plain", -1},
		"text/plain;swift_bytes=12":                   {"text/plain", 12},
		"text/plain; charset=utf-8; swift_bytes=12":   {"text/plain; charset=utf-8", 12},
		"text/plain;swift_bytes=12;charset=utf-8":     {"text/plain;charset=utf-8", 12},
		"text/plain;swift_bytes=x":                    {"text/plain;swift_bytes=x", -1},
		"text/plain;swift_bytes=-1;a=b":               {"text/plain;swift_bytes=-1;a=b", -1},
		"text/plain;swift_bytes=9223372036854775808;": {"text/plain;swift_bytes=9223372036854775808;", -1},
		";;": {";;", -1},
		"":   {"", -1},
	} {
		if rest, bytes := cutSwiftBytes(in); rest != want.rest || bytes != want.bytes {
			t.Errorf("%q is %q and %d, want %q and %d", in, rest, bytes, want.rest, want.bytes)
		}
	}
}

func rows() *rapid.Generator[Row] {
	return rapid.Custom(func(t *rapid.T) Row {
		stamp := func(what string) timestamp.T {
			return timestamp.FromTicks(rapid.Int64Range(1, 4).Draw(t, what)).WithOffset(rapid.Uint64Range(0, 1).Draw(t, what+" offset"))
		}
		data := stamp("data")
		if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
			return NewTombstone(data)
		}
		etag := rapid.SampledFrom([]string{"", "e", "d41d8cd98f00b204e9800998ecf8427e", "D41D8CD98F00B204E9800998ECF8427E"})
		ctype := rapid.SampledFrom([]string{"", "a/b", "a/c", "a/b;swift_bytes=0", "a/c;swift_bytes=7"})
		return NewRow(timestamp.Packed{Data: data, ContentType: stamp("type"), Meta: stamp("meta")},
			rapid.Int64Range(0, 2).Draw(t, "size"), etag.Draw(t, "etag"), ctype.Draw(t, "type text"))
	})
}

func TestJoinHasNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rows(), 2, 5).Draw(t, "rows")
		fold := func(list []Row) Row {
			out := list[0]
			for _, r := range list[1:] {
				out = out.Join(r)
			}
			return out
		}
		one := fold(list)
		order := rapid.Permutation(append(list, list[:rapid.IntRange(0, len(list)).Draw(t, "again")]...)).Draw(t, "order")
		if other := fold(order); other != one {
			t.Fatalf("%+v in the order\n%+v gives\n%+v, want\n%+v", list, order, other, one)
		}
		cut := rapid.IntRange(1, len(order)-1).Draw(t, "cut")
		left, right := fold(order[:cut]), fold(order[cut:])
		if other := left.Join(right); other != one {
			t.Fatalf("halves give %+v, want %+v", other, one)
		}
		if back, err := DecodeRow(one.Append(nil)); err != nil || back != one {
			t.Fatalf("%+v comes back as %+v, %v", one, back, err)
		}
	})
}

func TestTombstoneWinsAtEqualStamps(t *testing.T) {
	stamp := timestamp.FromTicks(7)
	data := NewRow(timestamp.Packed{Data: stamp, ContentType: stamp, Meta: stamp}, 3, "z", "a/b")
	dead := NewTombstone(stamp)
	if got := data.Join(dead); got != dead {
		t.Errorf("the join is %+v, want the tombstone", got)
	}
	later := NewRow(timestamp.Packed{Data: stamp.WithOffset(1)}, 3, "z", "a/b")
	if got := dead.Join(later); got != later {
		t.Errorf("the join is %+v, want the data with an offset", got)
	}
}

func TestGoldenRow(t *testing.T) {
	stamp := timestamp.FromTicks(140_246_467_704_188)
	plain := timestamp.Packed{Data: stamp, ContentType: stamp, Meta: stamp}
	for what, c := range map[string]struct {
		row  Row
		want string
	}{
		"plain":     {NewRow(plain, 1000, "d41d8cd98f00b204e9800998ecf8427e", "a/b"), "0108fcea8de7daf11f00e807d41d8cd98f00b204e9800998ecf8427e612f62"},
		"all parts": {NewRow(timestamp.Packed{Data: stamp.WithOffset(2), ContentType: stamp.Next(), Meta: stamp.Next().Next()}, 5, "E", "a/b;swift_bytes=300"), "0116fcea8de7daf11f02fdea8de7daf11f00feea8de7daf11f0005ac020145612f62"},
		"tombstone": {NewTombstone(stamp), "0107fcea8de7daf11f00000000000000"},
	} {
		if got := hex.EncodeToString(c.row.Append(nil)); got != c.want {
			t.Errorf("%s is %s, want %s", what, got, c.want)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	stamp := timestamp.FromTicks(140_246_467_704_188)
	for _, r := range []Row{
		NewRow(timestamp.Packed{Data: stamp}, 1000, "d41d8cd98f00b204e9800998ecf8427e", "a/b"),
		NewRow(timestamp.Packed{Data: stamp, ContentType: stamp.Next()}, 1000, "x", "a/b;swift_bytes=3"),
		NewTombstone(stamp),
	} {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRow(b)
		if err != nil {
			if !errors.Is(err, metadb.ErrDecode) {
				t.Fatal(err)
			}
			return
		}
		if got := r.Append(nil); string(got) != string(b) {
			t.Fatalf("%x reads as %+v, which is %x", b, r, got)
		}
	})
}

// A row may be forgotten once the newest of its parts may.
func TestNewest(t *testing.T) {
	s := func(n int64) timestamp.T { return timestamp.FromTicks(n) }
	for what, c := range map[string]struct {
		row  Row
		want int64
	}{
		"a tombstone":                {NewTombstone(s(3)), 3},
		"a tombstone, type later":    {Row{Data: s(3), Deleted: true, Type: s(5), ContentType: "a/b", Listed: -1}, 5},
		"a tombstone, meta later":    {Row{Data: s(3), Deleted: true, Meta: s(7), Listed: -1}, 7},
		"all of one time":            {NewRow(timestamp.Packed{Data: s(4), ContentType: s(4), Meta: s(4)}, 1, "e", "a/b"), 4},
		"a hidden row, changed last": {NewRow(timestamp.Packed{Data: s(4), ContentType: s(5), Meta: s(9)}, 1, "e", "a/b"), 9},
	} {
		if got, err := (schema{}).Newest(c.row.Append(nil)); err != nil || got != s(c.want) {
			t.Errorf("%s: got %s, %v, want %s", what, got, err, s(c.want))
		}
	}
	if _, err := (schema{}).Newest([]byte("no row")); err == nil {
		t.Error("what is no row has a newest part")
	}
}

// A replica that took an object for expired says so in the listing; where its longer life is
// known, or comes to be, the object stays listed.
func TestExpiryInAListing(t *testing.T) {
	at := timestamp.FromTicks
	object := func(data, meta int64) Row {
		return NewRow(timestamp.Packed{Data: at(data), ContentType: at(data), Meta: at(meta)}, 4, "e", "a/b")
	}
	ended := NewTombstone(timestamp.Expiry(at(10), at(12), 100))
	for what, tt := range map[string]struct {
		rows   []Row
		listed bool
	}{
		"it ends":                     {[]Row{object(10, 12), ended}, false},
		"it is told of late":          {[]Row{ended, object(10, 12)}, false},
		"its longer life is known":    {[]Row{object(10, 15), ended}, true},
		"its longer life is heard of": {[]Row{object(10, 12), ended, object(10, 15)}, true},
		"told again":                  {[]Row{ended, object(10, 15), ended}, true},
		"what it had replaced":        {[]Row{ended, object(9, 15)}, false},
		"a later object":              {[]Row{ended, object(11, 11)}, true},
		"a later end":                 {[]Row{object(10, 15), ended, NewTombstone(timestamp.Expiry(at(10), at(15), 200))}, false},
		"a delete":                    {[]Row{object(10, 15), ended, NewTombstone(at(16))}, false},
	} {
		row := tt.rows[0]
		for _, next := range tt.rows[1:] {
			row = row.Join(next)
			if back, err := DecodeRow(row.Append(nil)); err != nil || back != row {
				t.Errorf("%s: %+v is stored and read as %+v, %v", what, row, back, err)
			}
		}
		if row.Deleted == tt.listed {
			t.Errorf("%s: it comes to %+v", what, row)
		}
	}
}
