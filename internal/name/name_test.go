package name

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for raw, tt := range map[string]struct {
		want Path
		err  error
	}{
		"/a":                    {Path{"a", "", ""}, nil},
		"/a/":                   {Path{"a", "", ""}, nil},
		"/a/c":                  {Path{"a", "c", ""}, nil},
		"/a/c/":                 {Path{"a", "c", ""}, nil},
		"/a/c/o":                {Path{"a", "c", "o"}, nil},
		"/a/c/o/":               {Path{"a", "c", "o/"}, nil},
		"/a/c//o//":             {Path{"a", "c", "/o//"}, nil},
		"/a/c/../o/./x":         {Path{"a", "c", "../o/./x"}, nil},
		"/a/c/%2Fo%2f":          {Path{"a", "c", "/o/"}, nil},
		"/a/c%2Fd/o":            {Path{"a", "c/d", "o"}, nil},
		"/a/c/a+b%20c%25":       {Path{"a", "c", "a+b c%"}, nil},
		"/a/c/%E2%98%83":        {Path{"a", "c", "\u2603"}, nil},
		"/a/c/raw\u2603":        {Path{"a", "c", "raw\u2603"}, nil},
		"":                      {Path{}, ErrShape},
		"a":                     {Path{}, ErrShape},
		"/":                     {Path{}, ErrShape},
		"//c":                   {Path{}, ErrShape},
		"/a//o":                 {Path{}, ErrShape},
		"/a/c/%":                {Path{}, ErrEncoding},
		"/a/c/%4":               {Path{}, ErrEncoding},
		"/a/c/%zz":              {Path{}, ErrEncoding},
		"/a/c/%00":              {Path{}, ErrText},
		"/a/c/%ff":              {Path{}, ErrText},
		"/a/c/%E2%98":           {Path{}, ErrText},
		"/a/%00c/o":             {Path{}, ErrText},
		"/a/c/%ED%A0%80":        {Path{}, ErrText}, // a lone surrogate
		"/.expiring/x/y":        {Path{".expiring", "x", "y"}, nil},
		"/a/c/o?not=the%20path": {Path{"a", "c", "o?not=the path"}, nil},
	} {
		got, err := Parse(raw)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Parse(%q) = %+v, %v, want %+v, %v", raw, got, err, tt.want, tt.err)
		}
	}
}

// The hashes that Swift gives for these names with this prefix and suffix.
func TestHashIsSwifts(t *testing.T) {
	h, err := NewHasher("", "endcap")
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[Path]string{
		{Account: "a"}:                              "1c84525acb02107ea475dcd3d09c2c58",
		{Account: "a", Container: "c"}:              "33379ecb053aa5c9e356c68997cbb59e",
		{Account: "a", Container: "c", Object: "o"}: "06fbf0b514e5199dfc4e00f42eb5ea83",
	} {
		if got := h.Hash(p).String(); got != want {
			t.Errorf("hash of %s is %s, want %s", p, got, want)
		}
		if back, err := ParseHash(want); err != nil || back != h.Hash(p) {
			t.Errorf("ParseHash(%s) = %v, %v", want, back, err)
		}
	}
	if _, err := NewHasher("", ""); !errors.Is(err, ErrNoSalt) {
		t.Errorf("no prefix and no suffix: %v, want %v", err, ErrNoSalt)
	}
}

func TestFingerprintTellsSplitsApart(t *testing.T) {
	a, _ := NewHasher("ab", "c")
	b, _ := NewHasher("a", "bc")
	if a.Fingerprint() == b.Fingerprint() {
		t.Error("two clusters have one fingerprint")
	}
}

func TestQuotedComesBack(t *testing.T) {
	part := rapid.StringMatching(`[^\x00]{1,20}`)
	rapid.Check(t, func(r *rapid.T) {
		p := Path{Account: part.Draw(r, "a")}
		if rapid.Bool().Draw(r, "has c") {
			p.Container = part.Draw(r, "c")
			p.Object = rapid.StringMatching(`[^\x00]{0,20}`).Draw(r, "o")
		}
		if got, err := Parse(p.Quoted()); err != nil || got != p {
			t.Fatalf("Parse(%q) = %+v, %v, want %+v", p.Quoted(), got, err, p)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/a/c/o", "/a/c/%2F", "/%", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := Parse(raw)
		if err != nil {
			return
		}
		if got, err := Parse(p.Quoted()); err != nil || got != p {
			t.Errorf("%q parses to %+v, whose quoted form parses to %+v, %v", raw, p, got, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	h, _ := NewHasher("prefix", "suffix")
	p := Path{"AUTH_test", "container", "some/object/name.txt"}
	b.ReportAllocs()
	for b.Loop() {
		h.Hash(p)
	}
}
