package realms

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/errs"
)

// The signature is the one that Swift makes of the same.
func TestSign(t *testing.T) {
	const want = "5a6eb486eb7b44ae1b1f014187a94529c3f9c8f9"
	if got := Sign("GET", "/some/path", "1387212345.67890", "my_nonce", "realm_key", "user_key"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for what, tt := range map[string]struct {
		r    Realm
		good bool
	}{
		"the key": {Realm{Key: "realm_key"}, true}, "the second": {Realm{Key: "new", Key2: "realm_key"}, true},
		"another": {Realm{Key: "x", Key2: "y"}, false}, "none": {Realm{}, false},
	} {
		if got := tt.r.Signed(want, "GET", "/some/path", "1387212345.67890", "my_nonce", "user_key"); got != tt.good {
			t.Errorf("%s: %v, want %v", what, got, tt.good)
		}
	}
	if (Realm{}).Signed(Sign("GET", "/", "0", "n", "", "k"), "GET", "/", "0", "n", "k") {
		t.Error("a realm without a key takes a signature without one")
	}
}

func TestParse(t *testing.T) {
	got, err := Parse(`# as Swift has it
[DEFAULT]
mtime_check_interval = 300
cluster_All = http://all/v1

[us]
key = 9ff3b71c849749dbaec4ccdd3cbab62b
key2: 1a0a5a0cbd66448084089304442d6776
cluster_dfw1 = http://dfw1.host/v1/
; and another
[UK]
KEY = a%%b=c
cluster_lon3 = https://lon3.host/v1
`)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]Realm{
		"US": {"9ff3b71c849749dbaec4ccdd3cbab62b", "1a0a5a0cbd66448084089304442d6776", map[string]string{"DFW1": "http://dfw1.host/v1/", "ALL": "http://all/v1"}},
		"UK": {"a%b=c", "", map[string]string{"LON3": "https://lon3.host/v1", "ALL": "http://all/v1"}},
	} {
		if r := got[n]; r.Key != want.Key || r.Key2 != want.Key2 || !maps.Equal(r.Clusters, want.Clusters) {
			t.Errorf("%s: got %v, want %v", n, r, want)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d realms, want 2", len(got))
	}
	for what, text := range map[string]string{
		"no section": "key = x\n", "an open section": "[us\n", "an empty section": "[]\n", "twice": "[us]\n[US]\n", "no value": "[us]\nkey\n",
		"no name": "[us]\n= x\n", "a value of two lines": "[us]\nkey = a\n  b\n", "a bad address": "[us]\ncluster_a = ftp://x\n", "a slash": "[u/s]\nkey = a\n",
	} {
		if _, err := Parse(text); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	if _, err := Parse("[us]\nkey = secret\n  more secret\n"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error is %v", err)
	}
}

func TestCheck(t *testing.T) {
	b, err := New(Config{AllowedHosts: []string{"h", "::1"}, Realms: map[string]Realm{
		"us": {Key: "k", Clusters: map[string]string{"a": "https://a:8080/v1/", "B": "http://b/swift/v1"}}, "keyless": {Clusters: map[string]string{"a": "http://a/v1"}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"//us/a/AUTH_x/c":         "https://a:8080/v1/AUTH_x/c",
		"//US/b/AUTH_x/c%20d/":    "http://b/swift/v1/AUTH_x/c%20d",
		"//Us/A/AUTH_x/c d":       "https://a:8080/v1/AUTH_x/c%20d",
		"http://h/v1/a/c":         "http://h/v1/a/c",
		"https://[::1]:80/v1/a/c": "https://[::1]:80/v1/a/c",
		"//us/a/x":                "", "//us/a/x/y/z": "", "//us/a//c": "", "//us/a/x/%zz": "", "//us/a/x/%00": "", "//none/a/x/y": "", "//keyless/a/x/y": "",
		"//us/c/x/y": "", "http://other/v1/a/c": "", "http://h": "", "ftp://h/v1/a/c": "", "h/v1/a/c": "", "http://u@h/v1/a/c": "", "http://u:p@h/v1/a/c": "",
		"http://h/v1/a/c?q": "", "http://h/v1/a/c#f": "", "http://h/v1/a/c;p": "", "http://other@h/v1": "", "http://h:x/v1": "", "\x00": "", "/": "",
	} {
		got, err := b.Check(value)
		if want == "" {
			if !errs.Is(err, errs.Invalid) || errs.PublicOf(err) == "" {
				t.Errorf("%q: %v, %v, want a refusal", value, got, err)
			}
			continue
		}
		if err != nil || got.Container.String() != want || (got.Realm == "US") != strings.HasPrefix(value, "//") {
			t.Errorf("%q: %v in %q, %v, want %s", value, got.Container, got.Realm, err, want)
		}
	}
}

// What is signed is the path as it is sent.
func TestTarget(t *testing.T) {
	b, err := New(Config{AllowedHosts: []string{"h"}, Realms: map[string]Realm{"us": {Key: "k", Clusters: map[string]string{"a": "http://a/v1"}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	to, err := b.Check("//us/a/x/c")
	if err != nil {
		t.Fatal(err)
	}
	u := to.Object("ä/../ //%3F")
	if want := "http://a/v1/x/c/%C3%A4/../%20//%253F"; u.String() != want {
		t.Errorf("got %s, want %s", u, want)
	}
	field, value := to.Header("PUT", u, "1.5", "n", "user")
	if want := "US n " + Sign("PUT", "/v1/x/c/%C3%A4/../%20//%253F", "1.5", "n", "k", "user"); field != "X-Container-Sync-Auth" || value != want {
		t.Errorf("got %s: %s, want %s", field, value, want)
	}
	other, err := b.Check("http://h/v1/x/c")
	if err != nil {
		t.Fatal(err)
	}
	if field, value := other.Header("PUT", u, "1.5", "n", "user"); field != "X-Container-Sync-Key" || value != "user" {
		t.Errorf("got %s: %s", field, value)
	}
	if to.ID() == other.ID() {
		t.Error("two targets are one")
	}
}

// A file that changes is read again; one that can't be read changes nothing.
func TestTheFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "realms")
	now := time.Unix(1e9, 0)
	b, err := New(Config{File: file, Realms: map[string]Realm{"own": {Key: "k"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.now = func() time.Time { return now }
	for _, step := range []struct {
		text  string
		after time.Duration
		want  []string
	}{
		{"", 0, []string{"OWN"}},
		{"[one]\nkey = a\n", time.Second, []string{"OWN"}},
		{"", recheck, []string{"ONE", "OWN"}},
		{"nonsense", recheck, []string{"ONE", "OWN"}},
		{"[three]\nkey = a\n[own]\nkey = x\n", recheck, []string{"OWN", "THREE"}},
		{"-", recheck, []string{"OWN", "THREE"}},
	} {
		switch step.text {
		case "":
		case "-":
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		default:
			if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(step.after)
		if got := b.Names(); !slices.Equal(got, step.want) {
			t.Errorf("%q: %v, want %v", step.text, got, step.want)
		}
	}
	if r, ok := b.Realm("own"); !ok || r.Key != "k" {
		t.Errorf("the configuration's own realm is %v, %v", r, ok)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestSection(t *testing.T) {
	b, err := New(Config{Realms: map[string]Realm{"us": {Key: "k", Clusters: map[string]string{"a": "http://a/v1", "b": "http://b/v1"}}, "empty": {Key: "k"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := b.Section("//us/b")["realms"].(map[string]any)
	us, _ := all["US"].(map[string]any)
	clusters, _ := us["clusters"].(map[string]any)
	one, _ := clusters["A"].(map[string]any)
	two, _ := clusters["B"].(map[string]any)
	if len(all) != 1 || len(clusters) != 2 || len(one) != 0 || two["current"] != true {
		t.Errorf("got %v", all)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[us]\nkey = a\ncluster_b = http://b/v1\n")
	f.Add("[DEFAULT]\nkey2: %%\n[a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse(text)
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("%v", err)
		}
		for n, r := range all {
			if n != strings.ToUpper(n) || r.Clusters == nil {
				t.Errorf("%q is %v", n, r)
			}
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("//us/a/AUTH_x/c")
	f.Add("http://h/v1/a/c")
	f.Fuzz(func(t *testing.T, value string) {
		b, err := New(Config{AllowedHosts: []string{"h"}, Realms: map[string]Realm{"us": {Key: "k", Clusters: map[string]string{"a": "http://a/v1"}}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		to, err := b.Check(value)
		switch {
		case err != nil && !errs.Is(err, errs.Invalid):
			t.Errorf("%q: %v", value, err)
		case err == nil && to.Container.Hostname() != "h" && to.Container.Hostname() != "a":
			t.Errorf("%q leads to %s", value, to.Container)
		case err == nil && to.Container.User != nil:
			t.Errorf("%q has a user", value)
		}
	})
}
