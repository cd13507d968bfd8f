package name

import (
	"strings"
	"testing"

	"martlet/internal/timestamp"
)

func stampOf(t testing.TB, text string) timestamp.T {
	t.Helper()
	s, err := timestamp.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVersions(t *testing.T) {
	o := Path{"a", "c", "o/p"}
	id := stampOf(t, "1700000000.00001")
	v := o.Version(id)
	if v.Account != "a" || v.Container != "\x00versions\x00c" || v.Object != "\x00o/p\x008299999999.99998" {
		t.Errorf("version: got %q", v)
	}
	if of, ok := v.Versioned(); !ok || of != o {
		t.Errorf("of which it is: got %q, %v", of, ok)
	}
	if name, back, ok := ParseVersion(v.Object); name != o.Object || back != id || !ok {
		t.Errorf("taken apart: got %q, %v, %v", name, back, ok)
	}
	if of, ok := v.Parent().Versioned(); !ok || of != o.Parent() {
		t.Errorf("of which container: got %q, %v", of, ok)
	}
	if later := o.Version(id.Next()); later.Object >= v.Object {
		t.Errorf("a later version %q does not come before %q", later.Object, v.Object)
	}
	for _, p := range []Path{
		{}, {Account: "a"}, {"a", "c", ""}, o, {"a", "\x00versions\x00", ""}, {"a", "\x00versions", "o"}, {"a", "\x00other\x00c", ""},
		{"a", "\x00versions\x00c", "o"}, {"a", "\x00versions\x00c", "\x00o"}, {"a", "\x00versions\x00c", "\x00\x008299999999.99998"},
		{"a", "\x00versions\x00c", "\x00o\x00829999999.99998"}, {"a", "\x00versions\x00c", "\x00o\x008299999999.99998_0000000000000001"},
		{"a", "c", v.Object},
	} {
		if of, ok := p.Versioned(); ok {
			t.Errorf("%q is taken for a version of %q", p, of)
		}
	}
}

// Where versions are is where their object is, and yet each has a hash of its own.
func TestVersionsArePlacedWithTheirObject(t *testing.T) {
	h, err := NewHasher("before", "after")
	if err != nil {
		t.Fatal(err)
	}
	o := Path{"a", "c", "o"}
	first := stampOf(t, "1700000000.00000")
	seen := map[Hash]bool{h.Hash(o): true}
	for id := first; id.Ticks() < first.Ticks()+100; id = id.Next() {
		got := h.Hash(o.Version(id))
		if [4]byte(got[:4]) != [4]byte(seenPlace(h, o)) {
			t.Fatalf("version %s is at %s, its object at %s", id, got, h.Hash(o))
		}
		if seen[got] {
			t.Fatalf("version %s has the hash of another", id)
		}
		seen[got] = true
	}
	c, v := h.Hash(o.Parent()), h.Hash(o.Versions())
	if [4]byte(c[:4]) != [4]byte(v[:4]) || c == v {
		t.Errorf("the container is at %s, that of its versions at %s", c, v)
	}
}

func seenPlace(h Hasher, p Path) []byte {
	at := h.Hash(p)
	return at[:4]
}

func FuzzParseVersion(f *testing.F) {
	f.Add("\x00o\x008299999999.99998")
	f.Add("\x00\x00\x00")
	f.Fuzz(func(t *testing.T, object string) {
		of, id, ok := ParseVersion(object)
		if !ok {
			return
		}
		if again := (Path{"a", "c", of}).Version(id).Object; again != object || of == "" || !strings.HasPrefix(object, Reserved) {
			t.Errorf("%q is version %s of %q, which is %q", object, id, of, again)
		}
	})
}
