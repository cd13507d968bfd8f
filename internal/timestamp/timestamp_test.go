package timestamp

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"1402464677.04188":                   "1402464677.04188",
		"1402464677.04188_0000000000000000":  "1402464677.04188",
		"1402464677.04188_1":                 "1402464677.04188_0000000000000001",
		"1402464677.04188_00000000000000ff":  "1402464677.04188_00000000000000ff",
		"1402464677":                         "1402464677.00000",
		"1402464677.5":                       "1402464677.50000",
		"1402464677.041889999":               "1402464677.04188",
		"0":                                  "0000000000.00000",
		"9999999999.99999":                   "9999999999.99999",
		"":                                   "",
		".5":                                 "",
		"1.":                                 "",
		"-1":                                 "",
		"+1":                                 "",
		"1e5":                                "",
		"nan":                                "",
		" 1":                                 "",
		"12345678901":                        "",
		"1_":                                 "",
		"1_g":                                "",
		"1_-1":                               "",
		"1_00000000000000001":                "",
		"1402464677.04188_1_2":               "",
		"1." + strings.Repeat("1", 10_000):   "",
		"1_" + strings.Repeat("0", 1_000_00): "",
	} {
		got, err := Parse(in)
		if want == "" {
			if err == nil {
				t.Errorf("Parse(%.40q) = %v, want an error", in, got)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %v, %v, want %s", in, got, err, want)
		}
	}
}

func TestForms(t *testing.T) {
	ts, _ := Parse("1402464677.04188_2")
	if got, want := ts.Normal(), "1402464677.04188"; got != want {
		t.Errorf("Normal() = %s, want %s", got, want)
	}
	if got, want := ts.ISO(), "2014-06-11T05:31:17.041880"; got != want {
		t.Errorf("ISO() = %s, want %s", got, want)
	}
	if got, want := ts.CeilSecond().Unix(), int64(1402464678); got != want {
		t.Errorf("CeilSecond() = %d, want %d", got, want)
	}
	whole, _ := Parse("1402464677")
	if got, want := whole.CeilSecond().Unix(), int64(1402464677); got != want {
		t.Errorf("CeilSecond() of a whole second = %d, want %d", got, want)
	}
}

func drawT(r *rapid.T) T {
	t := FromTicks(rapid.Int64Range(0, maxTicks).Draw(r, "ticks"))
	return t.WithOffset(rapid.Uint64Range(0, 3).Draw(r, "offset"))
}

func TestTextOrderIsTimeOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		a, b := drawT(r), drawT(r)
		if got, want := strings.Compare(a.String(), b.String()), a.Compare(b); got != want {
			t.Fatalf("text order of %s and %s is %d, time order %d", a, b, got, want)
		}
		if back, err := Parse(a.String()); err != nil || back != a {
			t.Fatalf("Parse(%s) = %v, %v", a, back, err)
		}
	})
}

func TestPackedForms(t *testing.T) {
	at := func(s string) T { v, _ := Parse(s); return v }
	for want, p := range map[string]Packed{
		"1402464677.04188":                      {Data: at("1402464677.04188")},
		"1402464677.04188+1":                    {at("1402464677.04188"), at("1402464677.04189"), at("1402464677.04189")},
		"1402464677.04188+0+a":                  {at("1402464677.04188"), at("1402464677.04188"), at("1402464677.04198")},
		"1402464677.04188+a-5":                  {at("1402464677.04188"), at("1402464677.04198"), at("1402464677.04193")},
		"1402464677.04188_000000000000000a+1":   {at("1402464677.04188_a"), at("1402464677.04189"), at("1402464677.04189")},
		"1402464677.04188_000000000000000a+0+1": {at("1402464677.04188_a"), at("1402464677.04188_a"), at("1402464677.04189")},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v packs to %s, want %s", p, got, want)
		}
	}
	for _, bad := range []string{"", "+1", "1402464677+", "1402464677+1+2+3", "1402464677+x", "1402464677-ffffffffffffffff", "1+ffffffffffffffff"} {
		if p, err := ParsePacked(bad); err == nil {
			t.Errorf("ParsePacked(%q) = %v, want an error", bad, p)
		}
	}
}

func TestPackedRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		p := Packed{Data: drawT(r)}
		p.ContentType, p.Meta = p.Data, p.Data
		if rapid.Bool().Draw(r, "ctype") {
			p.ContentType = FromTicks(rapid.Int64Range(p.Data.ticks, maxTicks).Draw(r, "c"))
			if p.ContentType.ticks == p.Data.ticks {
				p.ContentType = p.Data
			}
			p.Meta = p.ContentType
		}
		if rapid.Bool().Draw(r, "meta") {
			m := FromTicks(rapid.Int64Range(p.Data.ticks, maxTicks).Draw(r, "m"))
			// The offset of the data is not that of others: one at its very time is not before it.
			if m.ticks != p.ContentType.ticks && m.ticks != p.Data.ticks {
				p.Meta = m
			}
		}
		got, err := ParsePacked(p.String())
		if err != nil || got != p {
			t.Fatalf("%s of %+v comes back as %+v, %v", p, p, got, err)
		}
	})
}

func TestSourceOnlyGoesForward(t *testing.T) {
	times := []int64{100, 100, 90, 200, 100}
	i := 0
	s := NewSource(func() time.Time { i++; return time.Unix(times[i-1], 0) })
	want := []int64{100 * perSecond, 100*perSecond + 1, 100*perSecond + 2, 200 * perSecond}
	for n, w := range want {
		if got := s.Next(); got.Ticks() != w {
			t.Errorf("stamp %d is %d, want %d", n, got.Ticks(), w)
		}
	}
	if got, floor := s.After(FromTicks(300*perSecond)), 300*perSecond+1; got.Ticks() != floor {
		t.Errorf("After gave %d, want %d", got.Ticks(), floor)
	}
}

// One name that has a time far ahead does not make that of all later writes.
func TestSourceIsNotLedAstray(t *testing.T) {
	now := time.Unix(100, 0)
	s := NewSource(func() time.Time { return now })
	far := FromTicks(100000 * perSecond)
	seen := map[T]bool{}
	for range 5 {
		if got := s.After(far); !got.After(far) || got.After(far.Add(time.Second)) {
			t.Errorf("After gave %v for %v", got, far)
		} else {
			seen[got] = true
		}
		if got := s.Next(); got.After(FromTime(now).Add(time.Second)) {
			t.Errorf("the next is %v, the clock says %v", got, now.Unix())
		}
	}
	if len(seen) == 1 {
		t.Errorf("all that is after %v is the same", far)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1402464677.04188", "1402464677.04188_1", "1+0+a", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ts, err := Parse(s); err == nil {
			if back, err := Parse(ts.String()); err != nil || back != ts {
				t.Errorf("%q parses to %s, which does not parse to itself: %v, %v", s, ts, back, err)
			}
		}
		if p, err := ParsePacked(s); err == nil {
			if back, err := ParsePacked(p.String()); err != nil || back.String() != p.String() {
				t.Errorf("%q parses to %s, which does not parse to itself: %v, %v", s, p, back, err)
			}
		}
	})
}

// The text of three stamps is one allocation: each row of a listing has one.
func TestTextAllocatesLittle(t *testing.T) {
	plain, err := Parse("1700000000.12345")
	if err != nil {
		t.Fatal(err)
	}
	packed := Packed{Data: plain, ContentType: plain.Add(time.Second), Meta: plain.Add(time.Minute)}
	if n := testing.AllocsPerRun(100, func() { _ = packed.String() }); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}
