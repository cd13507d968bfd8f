package proxy

import (
	"net/http"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/policy"
	"martlet/proxy/chain"
)

func TestChoosePolicy(t *testing.T) {
	set, err := policy.NewSet([]policy.Policy{
		{Index: 2, Name: "Gold", Aliases: []string{"au"}, Default: true}, {Name: "old", Deprecated: true}, {Index: 1, Name: "tin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{policies: set}
	const index, usual = backend.PolicyIndex, "X-Backend-Storage-Policy-Default"
	for what, tt := range map[string]struct {
		header      []string // pairs
		field, want string   // the field that nodes are sent; or the error
	}{
		"none":                       {nil, usual, "2"},
		"an empty one":               {[]string{"X-Storage-Policy", ""}, usual, "2"},
		"by name":                    {[]string{"X-Storage-Policy", "tin"}, index, "1"},
		"the default":                {[]string{"X-Storage-Policy", "Gold"}, index, "2"},
		"in another case":            {[]string{"X-Storage-Policy", "TIN"}, index, "1"},
		"by alias":                   {[]string{"X-Storage-Policy", "Au"}, index, "2"},
		"unknown":                    {[]string{"X-Storage-Policy", "silver"}, "", `Invalid X-Storage-Policy "silver"`},
		"by index":                   {[]string{"X-Storage-Policy", "1"}, "", `Invalid X-Storage-Policy "1"`},
		"with a space":               {[]string{"X-Storage-Policy", "tin "}, "", `Invalid X-Storage-Policy "tin "`},
		"deprecated":                 {[]string{"X-Storage-Policy", "OLD"}, "", `Storage Policy "old" is deprecated`},
		"deprecated, from a feature": {[]string{"X-Storage-Policy", "old", chain.AnyPolicy, "true"}, index, "0"},
		"unknown, from a feature":    {[]string{"X-Storage-Policy", "silver", chain.AnyPolicy, "true"}, "", "Invalid"},
	} {
		h := http.Header{}
		for i := 0; i < len(tt.header); i += 2 {
			h.Set(tt.header[i], tt.header[i+1])
		}
		got, err := s.choosePolicy(h)
		if tt.field == "" {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, %v, want an error with %q", what, got, err, tt.want)
			}
			continue
		}
		if err != nil || got.Name != tt.field || got.Value != tt.want {
			t.Errorf("%s: %v, %v, want %s: %s", what, got, err, tt.field, tt.want)
		}
	}
}
