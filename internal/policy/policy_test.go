package policy

import (
	"strings"
	"testing"
)

func TestNewSet(t *testing.T) {
	for name, tt := range map[string]struct {
		list []Policy
		def  string // of the set that results
		err  string // or a part of the error
	}{
		"none named":         {nil, "Policy-0", ""},
		"one needs no mark":  {[]Policy{{Name: "gold"}}, "gold", ""},
		"two":                {[]Policy{{Index: 1, Name: "ec"}, {Name: "gold", Default: true}}, "gold", ""},
		"no default":         {[]Policy{{Index: 1, Name: "ec"}, {Name: "gold"}}, "", "no policy is the default"},
		"two defaults":       {[]Policy{{Index: 1, Name: "ec", Default: true}, {Name: "gold", Default: true}}, "", "both the default"},
		"index twice":        {[]Policy{{Name: "a", Default: true}, {Name: "b"}}, "", "index 0 is taken"},
		"name twice":         {[]Policy{{Name: "a", Default: true}, {Index: 1, Name: "A"}}, "", "is taken by policy 0"},
		"alias twice":        {[]Policy{{Name: "a", Default: true}, {Index: 1, Name: "b", Aliases: []string{"a"}}}, "", "is taken"},
		"bad letter":         {[]Policy{{Name: "a b"}}, "", "letters, digits and dashes"},
		"empty name":         {[]Policy{{}}, "", "empty name"},
		"deprecated default": {[]Policy{{Name: "a", Default: true, Deprecated: true}, {Index: 1, Name: "b"}}, "", "deprecated and the default"},
	} {
		s, err := NewSet(tt.list)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want an error with %q", name, err, tt.err)
			}
			continue
		}
		if err != nil || s.Default().Name != tt.def {
			t.Errorf("%s: default %q, %v, want %q", name, s.Default().Name, err, tt.def)
		}
	}
}

func TestLookups(t *testing.T) {
	s, err := NewSet([]Policy{{Index: 3, Name: "EC42", Aliases: []string{"cold"}}, {Name: "gold", Default: true}})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]Index{"gold": 0, "GOLD": 0, "ec42": 3, "Cold": 3} {
		if p, ok := s.ByName(n); !ok || p.Index != want {
			t.Errorf("ByName(%q) = %+v, %v, want index %d", n, p, ok, want)
		}
	}
	if p, ok := s.ByName("silver"); ok {
		t.Errorf("ByName(silver) = %+v", p)
	}
	if p, ok := s.ByIndex(3); !ok || p.Name != "EC42" {
		t.Errorf("ByIndex(3) = %+v, %v", p, ok)
	}
	if p, ok := s.ByIndex(1); ok {
		t.Errorf("ByIndex(1) = %+v", p)
	}
}
