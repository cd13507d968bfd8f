package conf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type sample struct {
	Name string `toml:"name"`
	Port int    `toml:"port"`
	Sub  struct {
		Wait Duration `toml:"wait"`
		Max  Size     `toml:"max"`
	} `toml:"sub"`
	Of map[string]struct {
		Wait *Duration `toml:"wait"`
	} `toml:"of"`
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want string // in the error
	}{
		"good":                 {"name = \"x\"\nport = 3\n[sub]\nwait = \"1m30s\"\nmax = \"64KiB\"\n", ""},
		"unknown key":          {"name = \"x\"\nprot = 3\n", `f.toml:2: unknown key "prot"`},
		"unknown in table":     {"[sub]\nwait = \"1s\"\nmaxx = 3\n", `f.toml:3: unknown key "sub.maxx"`},
		"unknown table":        {"[other]\na = 1\n", `unknown key "other`},
		"two unknown":          {"a = 1\nb = 2\n", `f.toml:2: unknown key "b"`},
		"wrong type":           {"\nport = \"x\"\n", `f.toml:2:`},
		"bad duration":         {"[sub]\nwait = \"soon\"\n", `f.toml:2: key "sub.wait"`},
		"bare number of a map": {"[of.a]\nwait = \"1s\"\n[of.b]\nwait = 10\n", `f.toml: key "of.b.wait": value 10: it has no unit`},
		"unknown key of a map": {"[of.a]\nwhat = 1\n", `f.toml:2: unknown key "of.a.what"`},
		"bare number":          {"[sub]\nwait = 10\n", `f.toml: key "sub.wait": value 10: it has no unit`},
		"negative":             {"[sub]\nwait = \"-1s\"\n", "is negative"},
		"bad size":             {"[sub]\nmax = \"many\"\n", "is not a size"},
		"not TOML":             {"name = \n", "f.toml:1:"},
		"twice":                {"port = 1\nport = 2\n", "f.toml:2:"},
	} {
		v := sample{Port: 8}
		err := Parse("f.toml", tt.text, &v)
		if tt.want == "" {
			if err != nil || v.Name != "x" || v.Sub.Wait.D() != 90*time.Second || v.Sub.Max != 65536 {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, tt.want)
		}
	}
}

func TestDefaultsStay(t *testing.T) {
	v := sample{Port: 8}
	if err := Parse("f", "name = \"y\"", &v); err != nil || v.Port != 8 {
		t.Errorf("port is %d, %v, want the default 8", v.Port, err)
	}
}

func TestLoadSaysWhichFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	if err := Load(missing, &sample{}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
	large := filepath.Join(t.TempDir(), "large.toml")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Load(large, &sample{}); err == nil || !strings.Contains(err.Error(), large) {
		t.Errorf("large file: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "4096": 4096, "1KiB": 1024, "5GiB": 5 << 30, "100 MB": 1e8, "7B": 7} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q reads as %d, %v, want %d", text, s, err, want)
		}
		b, _ := s.MarshalText()
		var back Size
		if err := back.UnmarshalText(b); err != nil || back != s {
			t.Errorf("%d writes as %q, which reads as %d, %v", s, b, back, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5GiB", "9999999999GiB", "KiB", "1 KiB x"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q reads as %d, want an error", text, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("name = \"x\"\n[sub]\nwait = \"1s\"")
	f.Fuzz(func(_ *testing.T, text string) {
		var v sample
		_ = Parse("f.toml", text, &v)
	})
}

func TestQuoted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.String(), 1, 4).Draw(t, "strings")
		var got struct {
			One string   `toml:"one"`
			All []string `toml:"all"`
		}
		text := "one = " + Quote(want[0]) + "\nall = " + QuoteAll(want) + "\n"
		if err := Parse("quoted.toml", text, &got); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got.One != want[0] || !slices.Equal(got.All, want) {
			t.Fatalf("%q is read as %q", text, got)
		}
	})
}
