package replwire

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"martlet/internal/name"
)

func TestNames(t *testing.T) {
	many := make([]name.Hash, MaxNames+1)
	for i := range many {
		many[i] = name.Hash{byte(i >> 8), byte(i)}
	}
	for _, n := range []int{1, 2, MaxNames} {
		text := NamesText(many[:n])
		if got, err := ParseNames(text); err != nil || !slices.Equal(got, many[:n]) || len(text) > 32<<10 {
			t.Errorf("%d: %d bytes are read as %v, %v", n, len(text), got, err)
		}
	}
	good := NamesText(many[:2])
	for what, text := range map[string]string{
		"none":         "",
		"too many":     NamesText(many),
		"out of order": NamesText([]name.Hash{{2}, {1}}),
		"twice":        NamesText([]name.Hash{{2}, {2}}),
		"cut short":    good[:len(good)-3],
		"padded":       base64.URLEncoding.EncodeToString(make([]byte, 16)),
		"of no base":   strings.Repeat("!", len(good)),
		"with lines":   good[:4] + "\n" + good[4:],
	} {
		if got, err := ParseNames(text); !errors.Is(err, ErrList) {
			t.Errorf("%s: taken as %v, %v", what, got, err)
		}
	}
}

func FuzzParseNames(f *testing.F) {
	f.Add(NamesText([]name.Hash{{1}, {2}}))
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseNames(text)
		if err != nil {
			if !errors.Is(err, ErrList) {
				t.Fatal(err)
			}
			return
		}
		if again := NamesText(list); again != text {
			t.Errorf("%q is taken as %v, which is %q", text, list, again)
		}
	})
}
