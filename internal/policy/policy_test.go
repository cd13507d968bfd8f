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
		"index too great":    {[]Policy{{Index: MaxIndex + 1, Name: "a"}}, "", "more than 32767"},
		"no parity":          {[]Policy{{Name: "a", Data: 4}}, "", "4+0 fragments"},
		"coded":              {[]Policy{{Name: "a", Data: 4, Parity: 2}}, "a", ""},
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

func TestIndexOfFragments(t *testing.T) {
	for _, i := range []Index{0, 1, MaxIndex} {
		f := i.Fragments()
		if i.IsFragments() || !f.IsFragments() || f.Objects() != i || i.Objects() != i || f == i {
			t.Errorf("index %d, of its fragments %d", i, f)
		}
	}
}

// TestCounts: whatever Parity devices are lost, one that has a commit is left, and where a
// write stands there are fragments enough with one lost.
func TestCounts(t *testing.T) {
	for k := 1; k <= 20; k++ {
		for m := 1; m <= 8; m++ {
			p := Policy{Data: k, Parity: m}
			if p.Quorum() <= m || p.Quorum() > p.Replicas() || p.Replicas() > p.Fragments() {
				t.Errorf("%d+%d: a quorum of %d of %d replicas", k, m, p.Quorum(), p.Replicas())
			}
			if p.FragmentQuorum() <= k || p.FragmentQuorum() > p.Fragments() {
				t.Errorf("%d+%d: %d fragments of %d", k, m, p.FragmentQuorum(), p.Fragments())
			}
			// Two writes of one time can't both find a quorum.
			if 2*p.Quorum() <= p.Replicas() {
				t.Errorf("%d+%d: two quorums in %d replicas", k, m, p.Replicas())
			}
		}
	}
}
