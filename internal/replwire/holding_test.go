package replwire

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestHoldings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Holding
		next := uint32(rapid.IntRange(0, 9).Draw(t, "first"))
		from := next
		for range rapid.IntRange(0, 20).Draw(t, "count") {
			h := Holding{Partition: next, Objects: rapid.Int64Min(0).Draw(t, "objects"), Bytes: rapid.Int64Min(0).Draw(t, "bytes"), Lost: rapid.Int64Min(0).Draw(t, "lost")}
			copy(h.Sum[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "sum"))
			list = append(list, h)
			next += 1 + uint32(rapid.IntRange(0, 100).Draw(t, "gap"))
		}
		more := len(list) > 0 && rapid.Bool().Draw(t, "more")
		raw := AppendHoldings(nil, list, more)
		got, gotMore, err := ParseHoldings(raw, 12, from)
		if err != nil || gotMore != more || !slices.Equal(got, list) {
			t.Fatalf("%+v, %v came as %+v, %v, %v", list, more, got, gotMore, err)
		}
		i := rapid.IntRange(0, len(raw)-1).Draw(t, "flipped")
		raw[i] ^= 1
		if _, _, err := ParseHoldings(raw, 12, from); !errors.Is(err, ErrList) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	})
}

func TestBadHoldings(t *testing.T) {
	for what, list := range map[string][]Holding{
		"twice":            {{Partition: 3}, {Partition: 3}},
		"out of order":     {{Partition: 3}, {Partition: 2}},
		"before the first": {{Partition: 1}},
		"no partition":     {{Partition: 16}},
		"fewer than none":  {{Partition: 3, Objects: -1}},
		"less than none":   {{Partition: 3, Bytes: -1}},
		"lost too few":     {{Partition: 3, Lost: -1}},
	} {
		if got, _, err := ParseHoldings(AppendHoldings(nil, list, false), 4, 2); !errors.Is(err, ErrList) {
			t.Errorf("%s: %+v, %v, want an error", what, got, err)
		}
	}
}

func FuzzHoldings(f *testing.F) {
	f.Add(AppendHoldings(nil, []Holding{{Partition: 3, Objects: 1, Bytes: 5}}, true))
	f.Add(AppendHoldings(nil, nil, false))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, more, err := ParseHoldings(raw, 12, 0)
		if err != nil {
			return
		}
		if got := AppendHoldings(nil, list, more); string(got) != string(raw) {
			t.Errorf("what was read is %x, and was %x", got, raw)
		}
	})
}
