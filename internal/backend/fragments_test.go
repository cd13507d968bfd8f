package backend

import (
	"slices"
	"strings"
	"testing"

	"martlet/internal/errs"
)

const fragmentText = "1700000000.00000_0000000000000001#27/000102030405060708090a0b0c0d0e0f"

func TestFragmentIDs(t *testing.T) {
	one, err := ParseFragmentID(fragmentText)
	if err != nil || one.Index != 27 || one.Write[15] != 15 || one.Time.Offset() != 1 || one.String() != fragmentText {
		t.Fatalf("ParseFragmentID = %+v, %v", one, err)
	}
	other := one
	other.Index, other.Time = 0, one.Time.WithOffset(0)
	list := []FragmentID{one, other}
	text := JoinFragmentIDs(list)
	if got, err := ParseFragmentIDs(text); err != nil || !slices.Equal(got, list) {
		t.Errorf("ParseFragmentIDs(%q) = %v, %v", text, got, err)
	}
	if got, err := ParseFragmentIDs(""); err != nil || got != nil || JoinFragmentIDs(nil) != "" {
		t.Errorf("of none: %v, %v", got, err)
	}
	for name, bad := range map[string]string{
		"no index":      strings.Replace(fragmentText, "#27", "", 1),
		"a large index": strings.Replace(fragmentText, "#27", "#256", 1),
		"another sign":  strings.Replace(fragmentText, "#27", "#+2", 1),
		"zeros":         strings.Replace(fragmentText, "#27", "#027", 1),
		"no time":       fragmentText[1:],
		"a short write": fragmentText[:len(fragmentText)-2],
		"upper case":    strings.ToUpper(fragmentText),
		"no write":      strings.Replace(fragmentText, "/", "", 1),
		"more behind":   fragmentText + "/",
	} {
		if f, err := ParseFragmentID(bad); !errs.Is(err, errs.Corrupt) || f != (FragmentID{}) {
			t.Errorf("%s: ParseFragmentID = %+v, %v", name, f, err)
		}
		if list, err := ParseFragmentIDs(fragmentText + "," + bad); !errs.Is(err, errs.Corrupt) || list != nil {
			t.Errorf("%s: ParseFragmentIDs = %+v, %v", name, list, err)
		}
	}
	for _, bad := range []string{"", "00", "zz0102030405060708090a0b0c0d0e0f"} {
		if _, err := ParseWrite(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("ParseWrite(%q): %v", bad, err)
		}
	}
}

func FuzzParseFragmentIDs(f *testing.F) {
	f.Add("")
	f.Add(fragmentText)
	f.Add(fragmentText + ",0000000001.00000#0/00000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		if list, err := ParseFragmentIDs(text); err == nil && JoinFragmentIDs(list) != text {
			t.Errorf("%q is read as %q", text, JoinFragmentIDs(list))
		}
	})
}
