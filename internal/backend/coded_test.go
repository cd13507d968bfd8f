package backend

import (
	"strings"
	"testing"

	"martlet/internal/errs"
)

const codedText = "1/4+2/1048576/000102030405060708090a0b0c0d0e0f/70000001/sized/d41d8cd98f00b204e9800998ecf8427e"

func TestCoded(t *testing.T) {
	c, err := ParseCoded(codedText)
	want := Coded{Data: 4, Parity: 2, Segment: 1 << 20, Size: 70_000_001, Sized: true, ETag: "d41d8cd98f00b204e9800998ecf8427e"}
	for i := range want.Write {
		want.Write[i] = byte(i)
	}
	if err != nil || c != want {
		t.Fatalf("ParseCoded = %+v, %v; want %+v", c, err, want)
	}
	c.Sized = false
	if got := c.String(); got != strings.Replace(codedText, "sized", "streamed", 1) {
		t.Errorf("String = %q", got)
	}
	for name, bad := range map[string]string{
		"nothing":       "",
		"another form":  "2" + codedText[1:],
		"cut off":       codedText[:len(codedText)-1],
		"more behind":   codedText + "/",
		"no shape":      strings.Replace(codedText, "4+2", "42", 1),
		"no parity":     strings.Replace(codedText, "4+2", "4+0", 1),
		"negative":      strings.Replace(codedText, "/7000", "/-7000", 1),
		"another sign":  strings.Replace(codedText, "/7000", "/+7000", 1),
		"a short write": strings.Replace(codedText, "0e0f", "0e", 1),
		"a long write":  strings.Replace(codedText, "0e0f", "0e0f10", 1),
		"upper case":    strings.Replace(codedText, "0e0f", "0E0F", 1),
		"sized or not":  strings.Replace(codedText, "sized", "size", 1),
	} {
		if c, err := ParseCoded(bad); !errs.Is(err, errs.Corrupt) || c != (Coded{}) {
			t.Errorf("%s: ParseCoded = %+v, %v", name, c, err)
		}
	}
}

func FuzzParseCoded(f *testing.F) {
	f.Add(codedText)
	f.Add("1/1+1/1/00000000000000000000000000000000/0/streamed/d41d8cd98f00b204e9800998ecf8427e")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCoded(text); err == nil && c.String() != text {
			t.Errorf("%q is read as %q", text, c)
		}
	})
}
