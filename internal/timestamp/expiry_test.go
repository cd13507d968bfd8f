package timestamp

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(text string) T {
	t, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestExpiry(t *testing.T) {
	data, meta := at("1700000000.00001"), at("1700000100.00000")
	due := time.Date(2026, 11, 29, 15, 0, 0, 0, time.UTC)
	e := Expiry(data, meta, due.Unix())
	if got, want := e.Happened().Time(), time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("it happened %v, want the end of the day, %v", got, want)
	}
	if got, want := e.Earliest().Time(), time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC); !got.Equal(want) || data.Earliest() != data {
		t.Errorf("it happened %v at the earliest, want the begin of the day, %v", got, want)
	}
	if back, err := Parse(e.String()); err != nil || back != e {
		t.Errorf("as text %s it comes back as %v, %v", e, back, err)
	}
	if p, err := ParsePacked(Packed{Data: e, ContentType: e, Meta: e}.String()); err != nil || p.Data != e {
		t.Errorf("in a row's time it comes back as %v, %v", p, err)
	}
	for _, tt := range []struct {
		what string
		meta T
		void bool
	}{
		{"none", data, false},
		{"the one before it", at("1700000099.99999"), false},
		{"its own", meta, false},
		{"a later one", at("1700000100.00001"), true},
	} {
		if got := e.Void(tt.meta); got != tt.void {
			t.Errorf("with metadata %s void is %v", tt.what, got)
		}
	}
	if !e.After(data) || !e.After(data.WithOffset(1<<62)) || !e.Before(data.Next()) {
		t.Error("it is not between its data and what comes next")
	}
	if own := Expiry(data, data, due.Unix()); own.Until() != own || !own.Void(data.Next()) || own.Void(own) {
		t.Error("an expiry that came with the data takes in something else")
	}
	if data.Until() != data || data.Happened() != data || data.Void(meta) {
		t.Error("a time that is no expiry is taken for one")
	}
	for _, second := range []int64{-1, 0, 9_999_999_999, 1 << 62} {
		if e := Expiry(data, meta, second); e.Until().Ticks() != meta.Ticks() || !e.IsExpiry() {
			t.Errorf("second %d: until %v", second, e.Until())
		}
	}
}

// drawState draws a state of few data, few times of metadata, and the expiry of any of them.
func drawState(r *rapid.T) Packed {
	data := FromTicks(rapid.Int64Range(100, 101).Draw(r, "data"))
	meta := Max(data, FromTicks(rapid.Int64Range(99, 104).Draw(r, "meta")))
	p := Packed{Data: data, ContentType: data, Meta: meta}
	if rapid.Bool().Draw(r, "expired") {
		of := Max(data, FromTicks(rapid.Int64Range(99, 104).Draw(r, "of")))
		p.Data = Expiry(data, of, 1)
		p.ContentType = p.Data
		if !meta.After(p.Data.Until()) {
			p.Meta = p.Data
		}
	}
	return p
}

// join is what two states come to.
func join(p, q Packed) Packed {
	j := p
	if p.CompareData(q) < 0 {
		j = q
	}
	if j.Meta = Max(p.Meta, q.Meta); !j.Meta.After(j.Data.Until()) {
		j.Meta = j.Data
	}
	j.ContentType = j.Data
	return j
}

// Replicas that tell each other what they have come to the same, whatever it was and in
// whatever order; and what one of them has that nobody knows an end of is not lost.
func TestExpiriesJoin(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(drawState), 2, 5).Draw(r, "states")
		best := all[0]
		for _, s := range all[1:] {
			if c := s.Data.ticks - best.Data.ticks; c > 0 || c == 0 && s.Meta.After(best.Meta) {
				best = s
			}
		}
		lives := !best.Data.IsExpiry()
		for _, s := range all {
			lives = lives && (s.Data.ticks < best.Data.ticks || !s.Data.IsExpiry() || s.Data.Void(best.Meta))
		}
		tell := func(from, to int) { all[to] = join(all[to], all[from]) }
		for range rapid.IntRange(0, 6).Draw(r, "first") {
			tell(rapid.IntRange(0, len(all)-1).Draw(r, "from"), rapid.IntRange(0, len(all)-1).Draw(r, "to"))
		}
		for range 3 {
			for from := range all {
				for to := range all {
					tell(from, to)
				}
			}
		}
		for _, s := range all {
			if s != all[0] {
				t.Fatalf("they end with %v", all)
			}
		}
		if lives && all[0].Data != best.Data {
			t.Fatalf("%v was lost: they end with %v", best, all[0])
		}
	})
}

func TestExpiryKeepsOlderDataAway(t *testing.T) {
	old, data := FromTicks(100), FromTicks(200)
	e := Expiry(data, FromTicks(300), 1)
	later := FromTicks(400)
	gone := Packed{Data: e, ContentType: e, Meta: later}
	if gone.CompareData(Packed{Data: old, ContentType: old, Meta: later}) <= 0 {
		t.Error("data that was overwritten comes back because an expiry is void")
	}
	if gone.CompareData(Packed{Data: data, ContentType: data, Meta: data}) >= 0 {
		t.Error("what was to live longer stays away")
	}
	if (Packed{Data: e, ContentType: e, Meta: e}).CompareData(Packed{Data: data, ContentType: data, Meta: later}) >= 0 {
		t.Error("an expiry ends what is known to live longer")
	}
}
