package signature

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"martlet/internal/name"
)

func sum(digest, key, text string) []byte {
	m := hmac.New(digests[digest], []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func TestParse(t *testing.T) {
	mac := func(digest string) []byte { return sum(digest, "k", "t") }
	all := Digests{"sha1", "sha256", "sha512"}
	for what, tt := range map[string]struct {
		text string
		of   Digests
		ok   bool
	}{
		"sha1":                   {hex.EncodeToString(mac("sha1")), all, true},
		"sha256":                 {hex.EncodeToString(mac("sha256")), all, true},
		"sha512":                 {hex.EncodeToString(mac("sha512")), all, true},
		"not allowed":            {hex.EncodeToString(mac("sha1")), Defaults(), false},
		"named":                  {"sha256:" + base64.StdEncoding.EncodeToString(mac("sha256")), Defaults(), true},
		"named, of URLs":         {"sha512:" + base64.RawURLEncoding.EncodeToString(mac("sha512")), Defaults(), true},
		"named, not allowed":     {"sha1:" + base64.RawURLEncoding.EncodeToString(mac("sha1")), Defaults(), false},
		"named, unknown":         {"md5:AAAA", Digests{"md5"}, false},
		"named, with a line end": {"sha256:AAAA\nAAAA", all, false},
		"named, no base64":       {"sha256:!", all, false},
		"no hex":                 {"xyz", all, false},
		"another length":         {"abcd", all, false},
		"nothing":                {"", all, false},
	} {
		if _, ok := tt.of.Parse(tt.text); ok != tt.ok {
			t.Errorf("%s: %q by %v: got %v, want %v", what, tt.text, tt.of, ok, tt.ok)
		}
	}
}

func TestOpens(t *testing.T) {
	p := name.Path{Account: "a", Container: "c", Object: "o"}
	broken := errors.New("no answer")
	for what, tt := range map[string]struct {
		key                         string
		err                         error
		opens, elsewhere, ofAnother bool
	}{
		"of the account":         {"first", nil, true, true, false},
		"the account's other":    {"second", nil, true, true, false},
		"of the container":       {"own", nil, true, false, false},
		"one that is new":        {"new", nil, true, false, false},
		"no key":                 {"other", nil, false, false, false},
		"keys that can't be had": {"first", broken, false, false, false},
	} {
		keys := func(_ context.Context, container name.Path, fresh bool) (account, own []string, err error) {
			if container != p.Parent() {
				t.Errorf("%s: asked for %v", what, container)
			}
			own = []string{"own"}
			if fresh {
				own = []string{"new"}
			}
			return []string{"first", "second"}, own, tt.err
		}
		s, ok := Defaults().Parse(hex.EncodeToString(sum("sha256", tt.key, "two")))
		if !ok {
			t.Fatal(what)
		}
		grant, err := s.Opens(t.Context(), keys, p, "one", "two")
		if !errors.Is(err, tt.err) || (grant != nil) != tt.opens {
			t.Errorf("%s: got %v, %v", what, grant != nil, err)
		}
		if grant == nil {
			continue
		}
		if grant("GET", p) != tt.opens || grant("GET", name.Path{Account: "a", Container: "d"}) != tt.elsewhere || grant("GET", name.Path{Account: "b", Container: "c"}) != tt.ofAnother {
			t.Errorf("%s: it opens other than what it should", what)
		}
	}
}

// What is read of a signature is the same in its other form.
func FuzzParse(f *testing.F) {
	f.Add("sha256:AAAA")
	f.Add("00ff")
	f.Add(hex.EncodeToString(sum("sha256", "k", "t")))
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := Defaults().Parse(text)
		if !ok {
			return
		}
		again, ok := Defaults().Parse(s.algorithm + ":" + base64.StdEncoding.EncodeToString(s.mac))
		if !ok || again.algorithm != s.algorithm || !hmac.Equal(again.mac, s.mac) {
			t.Errorf("%q is %v, and in its other form %v", text, s, again)
		}
	})
}
