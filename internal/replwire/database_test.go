package replwire

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/name"
)

func drawDatabases(t *rapid.T) (list []Database, b []byte, more bool) {
	b = Begin(nil, Containers)
	for i := range rapid.IntRange(0, 20).Draw(t, "n") {
		d := Database{Hash: name.Hash{3: byte(i + 1)}, Change: rapid.Uint64().Draw(t, "change")}
		copy(d.Incarnation[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "incarnation"))
		copy(d.Digest[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest"))
		list = append(list, d)
		b = AppendDatabase(b, &d)
	}
	more = len(list) > 0 && rapid.Bool().Draw(t, "more")
	return list, End(b, len(list), more), more
}

func TestDatabasesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, b, more := drawDatabases(t)
		got, gotMore, err := ParseDatabases(b, Containers, lowest, highest)
		if err != nil || gotMore != more || !slices.Equal(got, want) {
			t.Fatalf("%+v came back as %+v, %v, %v", want, got, gotMore, err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		garbled := slices.Clone(b)
		garbled[i] ^= byte(1 + rapid.IntRange(0, 254).Draw(t, "by"))
		for _, broken := range [][]byte{b[:i], append(slices.Clone(b), 0), garbled} {
			if _, _, err := ParseDatabases(broken, Containers, lowest, highest); !errors.Is(err, ErrList) {
				t.Fatalf("a broken list is taken: %v", err)
			}
		}
		if _, _, err := ParseDatabases(b, Accounts, lowest, highest); !errors.Is(err, ErrList) {
			t.Fatalf("a list of another kind is taken: %v", err)
		}
	})
}

func TestDatabasesOutOfPlace(t *testing.T) {
	d := func(hashes ...byte) (b []byte) {
		for _, h := range hashes {
			b = AppendDatabase(b, &Database{Hash: name.Hash{h}})
		}
		return b
	}
	from, to := name.Hash{2}, name.Hash{5}
	for what, b := range map[string][]byte{
		"before the range": End(append(Begin(nil, Accounts), d(1, 3)...), 2, false),
		"behind the range": End(append(Begin(nil, Accounts), d(3, 6)...), 2, false),
		"out of order":     End(append(Begin(nil, Accounts), d(4, 3)...), 2, false),
		"twice":            End(append(Begin(nil, Accounts), d(3, 3)...), 2, false),
		"fewer":            End(append(Begin(nil, Accounts), d(3, 4)...), 3, false),
		"more":             End(append(Begin(nil, Accounts), d(3, 4)...), 1, false),
		"half a record":    End(append(Begin(nil, Accounts), d(3, 4)[:databaseSize+1]...), 1, false),
	} {
		if list, _, err := ParseDatabases(b, Accounts, from, to); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v, %v", what, list, err)
		}
	}
}

func FuzzParseDatabases(f *testing.F) {
	good := AppendDatabase(Begin(nil, Accounts), &Database{Hash: name.Hash{1}, Change: 7})
	f.Add(End(slices.Clone(good), 1, true), uint8(0))
	f.Add(good[headSize:], uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, count uint8) {
		if count > 0 { // records alone, so that they come past the checksum
			b = End(append(Begin(nil, Accounts), b...), int(count), false)
		}
		list, more, err := ParseDatabases(b, Accounts, lowest, highest)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		again := Begin(nil, Accounts)
		for i := range list {
			again = AppendDatabase(again, &list[i])
		}
		if again = End(again, len(list), more); !slices.Equal(again, b) {
			t.Fatalf("%x means the same as %x", b, again)
		}
	})
}
