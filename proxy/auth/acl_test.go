package auth

import (
	"slices"
	"strings"
	"testing"

	"martlet/internal/errs"
)

func TestCleanACL(t *testing.T) {
	const read, write = "X-Container-Read", "x-container-write"
	for _, tt := range []struct {
		header, in, want string
		refused          string // a part of the message
	}{
		{header: read},
		{header: read, in: " , ,,\t", want: ""},
		{header: read, in: "bob, sue", want: "bob,sue"},
		{header: write, in: "bob , sue", want: "bob,sue"},
		{header: read, in: "bob,,,sue", want: "bob,sue"},
		{header: read, in: ".referrer : *", want: ".r:*"},
		{header: read, in: ".ref:*.example.com", want: ".r:.example.com"},
		{header: read, in: ".referer: - * .example.com", want: ".r:-.example.com"},
		{header: read, in: ".r:*, .rlistings", want: ".r:*,.rlistings"},
		{header: read, in: ".r:*,.r:-.thief.com,bobs,sues:sue", want: ".r:*,.r:-.thief.com,bobs,sues:sue"},
		{header: read, in: ".r:-*", want: ".r:-*"},
		{header: read, in: ".r:--x", want: ".r:--x"},
		{header: read, in: ".r:a:b", want: ".r:a:b"},
		{header: write, in: ".rlistings", want: ".rlistings"},
		{header: read, in: "test : tester", want: "test : tester"},
		{header: read, in: ": x", want: ": x"},
		{header: read, in: "test:é, a%20b", want: "test:é,a%20b"},
		{header: read, in: "à", want: "à"}, // its last byte, 0xa0, is no space
		{header: write, in: "*:*", want: "*:*"},
		{header: read, in: ".r:", refused: "No host/domain value"},
		{header: read, in: ".r: - ", refused: "No host/domain value"},
		{header: read, in: ".r:.", refused: "No host/domain value"},
		{header: read, in: ".r:*.", refused: "No host/domain value"},
		{header: read, in: "ok,.ref", want: "ok,.ref"},
		{header: read, in: "ok,.x:y", refused: `Unknown designator ".x"`},
		{header: read, in: ".rlistings:x", refused: "Unknown designator"},
		{header: read, in: ".R:*", refused: "Unknown designator"},
		{header: write, in: "bob,.r:*", refused: "Referrers not allowed in write ACL"},
		{header: write, in: ".r:", refused: "Referrers not allowed in write ACL"},
		{header: read, in: ".r:**", refused: "after *"},
		{header: read, in: ".r:* *", refused: "after *"},
		{header: read, in: ".r:*-x", refused: "after *"},
	} {
		got, err := CleanACL(tt.header, tt.in)
		if got != tt.want || (err != nil) != (tt.refused != "") {
			t.Errorf("%s %q: got %q, %v; want %q, refused %q", tt.header, tt.in, got, err, tt.want, tt.refused)
		}
		if err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.PublicOf(err), tt.refused)) {
			t.Errorf("%s %q: got %v of kind %v, want %q of kind invalid", tt.header, tt.in, err, errs.KindOf(err), tt.refused)
		}
	}
}

func TestReferrer(t *testing.T) {
	for _, tt := range []struct {
		acl, referer string
		want         bool
	}{
		{"", "", false},
		{"test", "http://a.com/", false},
		{".r:*", "", true},
		{".r:*", "nonsense", true},
		{".r:-*", "", false},
		{".r:*,.r:-*", "", true}, // "-*" is a host that nobody has
		{".r:unknown", "", true},
		{".r:*,.r:-unknown", "www.a.com", false}, // without "//" there is no host in it
		{".r:a.com", "http://a.com", true},
		{".r:a.com", "http://A.COM:8080/x", true},
		{".r:A.com", "http://A.com/", false}, // hosts are lowered, rules are not
		{".r:a.com", "http://b.a.com/", false},
		{".r:.a.com", "http://b.a.com/", true},
		{".r:.a.com", "http://a.com/", false},
		{".r:.a.com", "http://xa.com/", false},
		{".r:.a.com,.r:-b.a.com", "http://b.a.com/", false},
		{".r:-b.a.com,.r:.a.com", "http://b.a.com/", true}, // the last one wins
		{".r:*,.r:-.thief.com", "http://x.thief.com/", false},
		{".r:*,.r:-.thief.com", "http://thief.com/", true},
		{".r:a.com", "http://user:pw@a.com/", true},
		{".r:a.com", "http://a.com@evil.com/", false},
		{".r:a.com", "http://evil.com#@a.com", false},
		{".r:a.com", "http://evil.com?@a.com", false},
		{".r:a.com", "http://evil.com/@a.com", false},
		{".r:a.com", "//a.com/x", true},
		{".r:a.com", "ftp://a.com", true},
		{".r:a.com", "1http://a.com", false},
		{".r:a.com", "ht_tp://a.com", false},
		{".r:a.com", "http:/a.com", false},
		{".r:::1", "http://[::1]:80/", true},
		{".r:unknown", "http://[::1/", true},
		{".r:unknown", "http:///x", true},
		{".r:a.com", " \tht\ttp://a.com", true},
	} {
		if got := ParseACL(tt.acl).Referrer(tt.referer); got != tt.want {
			t.Errorf("ACL %q, Referer %q: got %v, want %v", tt.acl, tt.referer, got, tt.want)
		}
	}
}

func TestParseACL(t *testing.T) {
	a := ParseACL(".r:*,test%3Atester,50%,%zz,.rlistings,AUTH_x")
	for group, want := range map[string]bool{
		"test:tester": true, "50%": true, "%zz": true, ".rlistings": true, "AUTH_x": true, ".r:*": false, "test": false, "": false,
	} {
		if got := a.Grants([]string{"other", group}); got != want {
			t.Errorf("group %q: got %v, want %v", group, got, want)
		}
	}
	if !a.Listings() || ParseACL(".r:*").Listings() {
		t.Errorf("listings: got %v with .rlistings and %v without", a.Listings(), ParseACL(".r:*").Listings())
	}
	if none := ParseACL(""); none != nil || none.Grants([]string{"x", ""}) || none.Listings() {
		t.Errorf("the empty ACL: got %+v, want nil", none)
	}
}

func FuzzACL(f *testing.F) {
	for _, s := range []string{"", "bob, sue", ".r:*,.rlistings", ".r:-.x.y", ".r:**", "%41%,é", ".ref : - *.a"} {
		f.Add(s, "http://x.y/")
	}
	f.Fuzz(func(t *testing.T, in, referer string) {
		clean, err := CleanACL("X-Container-Read", in)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%q: got kind %v, want invalid", in, errs.KindOf(err))
			}
			return
		}
		again, err := CleanACL("X-Container-Read", clean)
		if err != nil || again != clean {
			t.Fatalf("%q: cleaned %q, cleaned again %q, %v", in, clean, again, err)
		}
		a := ParseACL(clean)
		items := 0
		if a != nil {
			items = len(a.referrers) + len(a.groups)
		}
		if want := len(slices.DeleteFunc(strings.Split(clean, ","), func(s string) bool { return s == "" })); items != want {
			t.Fatalf("%q: parsed into %d items, want %d", clean, items, want)
		}
		if w, err := CleanACL("X-Container-Write", in); err == nil && ParseACL(w).Referrer(referer) {
			t.Fatalf("%q: a write ACL lets in a referrer", in)
		}
		if a.Referrer(referer) && !strings.Contains(clean, ".r:") {
			t.Fatalf("%q lets in %q without a rule about it", clean, referer)
		}
	})
}

func TestAccountACL(t *testing.T) {
	for _, tt := range []struct {
		in, want, refused string
	}{
		{in: ""},
		{in: "{}"},
		{in: `{"admin":[]}`, want: `{"admin":[]}`},
		{in: `{"admin":["a"],"admin":["b"]}`, want: `{"admin":["b"]}`},
		{in: ` {"read-only":["b", "a"], "read-write":["c"] ,"admin" : ["x"]}`, want: `{"admin":["x"],"read-only":["b","a"],"read-write":["c"]}`},
		{in: `{"admin":["\u00e9\ud83d\ude00/<>&\"\\\n\t\u0001\u007f\b\f\r"]}`, want: `{"admin":["\u00e9\ud83d\ude00/<>&\"\\\n\t\u0001\u007f\b\f\r"]}`},
		{in: `{"admin":["é😀"]}`, want: `{"admin":["\u00e9\ud83d\ude00"]}`},
		{in: "[]", refused: "Syntax error"},
		{in: "null", refused: "Syntax error"},
		{in: "1", refused: "Syntax error"},
		{in: `{"admin":["a",]}`, refused: "Syntax error"},
		{in: `{"admin":["a"]} x`, refused: "Syntax error"},
		{in: "{\"admin\":[\"\xff\"]}", refused: "Syntax error"},
		{in: `{"Admin":["a"]}`, refused: `Key "Admin" not recognized`},
		{in: `{"foo":[]}`, refused: `Key "foo" not recognized`},
		{in: `{"admin":"x"}`, refused: `Value for key "admin" must be a list`},
		{in: `{"admin":null}`, refused: `Value for key "admin" must be a list`},
		{in: `{"read-only":{"a":1}}`, refused: `Value for key "read-only" must be a list`},
		{in: `{"admin":[1]}`, refused: `Elements of "admin" list must be strings`},
		{in: `{"admin":[null]}`, refused: `Elements of "admin" list must be strings`},
		{in: `{"admin":[["a"]]}`, refused: `Elements of "admin" list must be strings`},
	} {
		got, err := CleanAccountACL(tt.in)
		if got != tt.want || (err != nil) != (tt.refused != "") {
			t.Errorf("%q: got %q, %v; want %q, refused %q", tt.in, got, err, tt.want, tt.refused)
		}
		if err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(errs.PublicOf(err), tt.refused)) {
			t.Errorf("%q: got %v of kind %v, want %q of kind invalid", tt.in, err, errs.KindOf(err), tt.refused)
		}
	}
	for _, nothing := range []string{"", "{}", `{"admin":[]}`, "broken", `{"foo":["a"]}`} {
		if a := ParseAccountACL(nothing); a != nil {
			t.Errorf("stored ACL %q: got %+v, want nil", nothing, a)
		}
	}
}

func FuzzAccountACL(f *testing.F) {
	for _, s := range []string{"", "{}", `{"admin":["a","é"]}`, `{"read-only":[]}`, `{"x":1}`, "[", `{"admin":["\ud800"]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		clean, err := CleanAccountACL(in)
		if err != nil {
			if ParseAccountACL(in) != nil {
				t.Fatalf("%q: refused, and yet it allows something", in)
			}
			return
		}
		again, err := CleanAccountACL(clean)
		if err != nil || again != clean {
			t.Fatalf("%q: cleaned %q, cleaned again %q, %v", in, clean, again, err)
		}
		for _, c := range []byte(clean) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q: cleaned %q has byte %#x in it", in, clean, c)
			}
		}
		a, b := ParseAccountACL(in), ParseAccountACL(clean)
		if (a == nil) != (b == nil) || a != nil && !(slices.Equal(a.Admin, b.Admin) && slices.Equal(a.ReadWrite, b.ReadWrite) && slices.Equal(a.ReadOnly, b.ReadOnly)) {
			t.Fatalf("%q: means %+v, cleaned %q means %+v", in, a, clean, b)
		}
	})
}
