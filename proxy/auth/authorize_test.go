package auth

import (
	"net/http"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
)

const ok = errs.Kind(255) // no error at all

func kindOf(err error) errs.Kind {
	if err == nil {
		return ok
	}
	return errs.KindOf(err)
}

func TestAuthorize(t *testing.T) {
	rs, err := NewResellers([]string{"AUTH", "OTHER_"})
	if err != nil {
		t.Fatal(err)
	}
	us, err := NewUsers([]User{
		{Account: "test", Name: "admin", Key: "k", Groups: []string{RoleAdmin}},
		{Account: "test", Name: "plain", Key: "k"},
		{Account: "test2", Name: "admin", Key: "k", Groups: []string{RoleAdmin, "service"}},
		{Account: "re", Name: "all", Key: "k", Groups: []string{RoleResellerAdmin}},
		{Account: "re", Name: "read", Key: "k", Groups: []string{RoleResellerReader}},
		{Account: "far", Name: "admin", Key: "k", Groups: []string{RoleAdmin}, StorageURL: "https://h/v1/AUTH_away"},
		{Account: "sly", Name: "sly", Key: "k", Groups: []string{"AUTH_test"}},
	}, rs)
	if err != nil {
		t.Fatal(err)
	}
	const referer = "http://www.a.com/x"
	for _, tt := range []struct {
		user, method, path, acl, accountACL string
		want                                errs.Kind
		owner                               bool
	}{
		// Owners.
		{user: "test:admin", method: "GET", path: "/AUTH_test", want: ok, owner: true},
		{user: "test:admin", method: "POST", path: "/AUTH_test", want: ok, owner: true},
		{user: "test:admin", method: "PUT", path: "/AUTH_test", want: errs.Forbidden},
		{user: "test:admin", method: "DELETE", path: "/AUTH_test", want: errs.Forbidden},
		{user: "test:admin", method: "PUT", path: "/AUTH_test/c", want: ok, owner: true},
		{user: "test:admin", method: "DELETE", path: "/AUTH_test/c/o", want: ok, owner: true},
		{user: "test:admin", method: "GET", path: "/OTHER_test/c", want: ok, owner: true},
		{user: "test:admin", method: "GET", path: "/AUTH_test2/c", want: errs.Forbidden},
		{user: "test:admin", method: "GET", path: "/AUTH_test2", want: errs.Forbidden},
		{user: "test:admin", method: "GET", path: "/KEY_test", want: errs.Forbidden},
		{user: "test:admin", method: "GET", path: "/test", want: errs.Forbidden},
		{user: "far:admin", method: "PUT", path: "/AUTH_away/c", want: ok, owner: true},
		{user: "far:admin", method: "PUT", path: "/AUTH_far/c", want: ok, owner: true},
		{user: "sly:sly", method: "GET", path: "/AUTH_test", want: errs.Forbidden},
		// Resellers.
		{user: "re:all", method: "PUT", path: "/AUTH_new", want: ok, owner: true},
		{user: "re:all", method: "DELETE", path: "/AUTH_new", want: ok, owner: true},
		{user: "re:all", method: "PUT", path: "/AUTH_test/c/o", want: ok, owner: true},
		{user: "re:all", method: "GET", path: "/AUTH_", want: errs.Forbidden},
		{user: "re:all", method: "GET", path: "/AUTH_.internal", want: errs.Forbidden},
		{user: "re:all", method: "GET", path: "/.expiring_objects", want: errs.Forbidden},
		{user: "re:read", method: "GET", path: "/AUTH_test", want: ok},
		{user: "re:read", method: "HEAD", path: "/AUTH_test/c/o", want: ok},
		{user: "re:read", method: "PUT", path: "/AUTH_test/c/o", want: errs.Forbidden},
		{user: "re:read", method: "POST", path: "/AUTH_test", want: errs.Forbidden},
		{user: "re:read", method: "GET", path: "/AUTH_.internal", want: errs.Forbidden},
		// No role.
		{user: "test:plain", method: "GET", path: "/AUTH_test", want: errs.Forbidden},
		{user: "test:plain", method: "GET", path: "/AUTH_test/c/o", want: errs.Forbidden},
		{user: "test:plain", method: "PUT", path: "/AUTH_test/c", want: errs.Forbidden},
		{method: "GET", path: "/AUTH_test", want: errs.Unauthorized},
		{method: "PUT", path: "/AUTH_test/c/o", want: errs.Unauthorized},
		{method: "GET", path: "/KEY_test", acl: ".r:*", want: errs.Unauthorized},
		{method: "GET", path: "", want: errs.Unauthorized},
		{method: "OPTIONS", path: "/AUTH_test/c/o", want: ok},
		{method: "OPTIONS", path: "/KEY_test/c/o", want: errs.Unauthorized},
		// Container ACLs.
		{user: "test:plain", method: "GET", path: "/AUTH_test/c/o", acl: "test:plain", want: ok},
		{user: "test:plain", method: "GET", path: "/AUTH_test/c", acl: "test", want: ok},
		{user: "test:plain", method: "PUT", path: "/AUTH_test/c/o", acl: "test:other", want: errs.Forbidden},
		{user: "test2:admin", method: "PUT", path: "/AUTH_test/c/o", acl: "AUTH_test2", want: ok},
		{user: "test2:admin", method: "PUT", path: "/AUTH_test/c/o", acl: "x,service", want: ok},
		{user: "test:plain", method: "GET", path: "/AUTH_test2/c/o", acl: "*:*", want: errs.Forbidden},
		{method: "GET", path: "/AUTH_test/c/o", acl: ".r:*", want: ok},
		{method: "GET", path: "/AUTH_test/c", acl: ".r:*", want: errs.Unauthorized},
		{method: "GET", path: "/AUTH_test/c", acl: ".r:*,.rlistings", want: ok},
		{method: "GET", path: "/AUTH_test/c", acl: ".rlistings", want: errs.Unauthorized},
		{method: "GET", path: "/AUTH_test/c/o", acl: ".r:*,.r:-www.a.com", want: errs.Unauthorized},
		{user: "test:plain", method: "GET", path: "/AUTH_test/c/o", acl: ".r:*,.r:-.a.com,test:plain", want: ok},
		{user: "test:plain", method: "GET", path: "/AUTH_test2/c/o", acl: ".r:.a.com", want: ok},
		{method: "GET", path: "/AUTH_test/c/o", acl: "test", want: errs.Unauthorized},
		// Account ACLs.
		{user: "test2:admin", method: "GET", path: "/AUTH_test", accountACL: `{"admin":["test2:admin"]}`, want: ok, owner: true},
		{user: "test2:admin", method: "DELETE", path: "/AUTH_test/c", accountACL: `{"admin":["test2"]}`, want: ok, owner: true},
		{user: "test2:admin", method: "GET", path: "/AUTH_test", accountACL: `{"read-write":["test2"]}`, want: ok},
		{user: "test2:admin", method: "POST", path: "/AUTH_test", accountACL: `{"read-write":["test2"]}`, want: errs.Forbidden},
		{user: "test2:admin", method: "PUT", path: "/AUTH_test/c", accountACL: `{"read-write":["AUTH_test2"]}`, want: ok},
		{user: "test2:admin", method: "HEAD", path: "/AUTH_test/c/o", accountACL: `{"read-only":["service"]}`, want: ok},
		{user: "test2:admin", method: "PUT", path: "/AUTH_test/c/o", accountACL: `{"read-only":["test2"]}`, want: errs.Forbidden},
		{method: "GET", path: "/AUTH_test", accountACL: `{"read-only":[""]}`, want: errs.Unauthorized},
		{user: "test:plain", method: "GET", path: "/AUTH_test", accountACL: `{"read-only":[""]}`, want: errs.Forbidden},
		{user: "test:plain", method: "GET", path: "/AUTH_test", accountACL: `{"admin":["test:other"]}`, want: errs.Forbidden},
	} {
		var id *Identity
		if tt.user != "" {
			_, id, _ = us.Lookup(tt.user)
		}
		p, _ := name.Parse(tt.path) // "" is the empty path
		owner, err := rs.Authorize(id, Request{tt.method, p, referer, ParseACL(tt.acl), ParseAccountACL(tt.accountACL)})
		if kindOf(err) != tt.want || owner != tt.owner {
			t.Errorf("%+v: got owner %v, %v", tt, owner, err)
		}
	}
}

func TestEmptyResellerPrefix(t *testing.T) {
	rs, err := NewResellers(nil)
	if err != nil {
		t.Fatal(err)
	}
	us, err := NewUsers([]User{{Account: "test", Name: "a", Key: "k", Groups: []string{RoleAdmin}}, {Account: "r", Name: "r", Key: "k", Groups: []string{RoleResellerAdmin}}}, rs)
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ := us.Lookup("test:a")
	_, reseller, _ := us.Lookup("r:r")
	for _, tt := range []struct {
		id      *Identity
		account string
		want    errs.Kind
	}{
		{admin, "test", ok},
		{admin, "other", errs.Forbidden},
		{reseller, "other", ok},
		{reseller, ".internal", errs.Forbidden},
		{nil, "test", errs.Unauthorized},
	} {
		if _, err := rs.Authorize(tt.id, Request{Method: "GET", Path: name.Path{Account: tt.account}}); kindOf(err) != tt.want {
			t.Errorf("%+v on %q: got %v, want kind %v", tt.id, tt.account, err, tt.want)
		}
	}
}

func TestNewResellers(t *testing.T) {
	rs, err := NewResellers([]string{"AUTH", "SERVICE_", ""})
	if err != nil {
		t.Fatal(err)
	}
	for account, want := range map[string]string{"AUTH_x": "AUTH_", "SERVICE_x": "SERVICE_", "AUTHx": "", "x": "", "AUTH_": "AUTH_"} {
		if got, found := rs.Prefix(account); got != want || !found {
			t.Errorf("prefix of %q: got %q, %v, want %q", account, got, found, want)
		}
	}
	for _, bad := range [][]string{{"A/B"}, {"a b"}, {"AUTH", "AUTH_"}, {"", ""}, {"é"}, {"a,b"}} {
		if _, err := NewResellers(bad); err == nil {
			t.Errorf("prefixes %q: got no error", bad)
		}
	}
	if got, found := (Resellers{}).Prefix("AUTH_x"); found {
		t.Errorf("the zero value speaks for accounts: got prefix %q", got)
	}
}

func TestAccessFor(t *testing.T) {
	a, c, o := name.Path{Account: "a"}, name.Path{Account: "a", Container: "c"}, name.Path{Account: "a", Container: "c", Object: "o"}
	for _, tt := range []struct {
		method string
		path   name.Path
		want   Access
	}{
		{"GET", a, AccessNone}, {"GET", c, AccessRead}, {"HEAD", c, AccessRead}, {"GET", o, AccessRead}, {"HEAD", o, AccessRead},
		{"PUT", o, AccessWrite}, {"POST", o, AccessWrite}, {"DELETE", o, AccessWrite},
		{"PUT", c, AccessNone}, {"POST", c, AccessNone}, {"DELETE", c, AccessNone}, {"POST", a, AccessNone},
		{"COPY", o, AccessNone}, {"OPTIONS", o, AccessNone}, {"", o, AccessNone},
	} {
		if got := AccessFor(tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: got %v, want %v", tt.method, tt.path, got, tt.want)
		}
	}
}

// What ACLs add never takes away from what is allowed without them, and the
// anonymous are never owners.
func TestACLsOnlyAdd(t *testing.T) {
	rs, err := NewResellers([]string{"AUTH"})
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"test", "test:u", "AUTH_test", "AUTH_x", ".r:*", ".r:-.a.com", ".rlistings", "", RoleResellerAdmin}
	rapid.Check(t, func(r *rapid.T) {
		var id *Identity
		if rapid.Bool().Draw(r, "known") {
			id = &Identity{
				User: "test:u", Groups: rapid.SliceOf(rapid.SampledFrom(words)).Draw(r, "groups"),
				Owns:     rapid.SliceOf(rapid.SampledFrom([]string{"AUTH_test", "AUTH_x"})).Draw(r, "owns"),
				Reseller: rapid.Bool().Draw(r, "reseller"), Reader: rapid.Bool().Draw(r, "reader"),
			}
		}
		rq := Request{
			Method: rapid.SampledFrom([]string{"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"}).Draw(r, "method"),
			Path: rapid.SampledFrom([]name.Path{
				{Account: "AUTH_test"}, {Account: "AUTH_x", Container: "c"}, {Account: "AUTH_test", Container: "c", Object: "o"}, {Account: "x"},
			}).Draw(r, "path"),
			Referer: rapid.SampledFrom([]string{"", "http://x.a.com/"}).Draw(r, "referer"),
		}
		owner, err := rs.Authorize(id, rq)
		list := rapid.SliceOf(rapid.SampledFrom(words))
		acl := ""
		for _, w := range list.Draw(r, "acl") {
			acl += w + ","
		}
		rq.ACL = ParseACL(acl)
		rq.AccountACL = &AccountACL{list.Draw(r, "admin"), list.Draw(r, "rw"), list.Draw(r, "ro")}
		more, moreErr := rs.Authorize(id, rq)
		if err == nil && (moreErr != nil || owner && !more) {
			r.Fatalf("%+v %+v: without ACLs owner %v, with them owner %v, %v", id, rq, owner, more, moreErr)
		}
		if moreErr != nil && more {
			r.Fatalf("%+v %+v: refused, and an owner", id, rq)
		}
		if id == nil && (more || moreErr == nil && rq.Method != http.MethodOptions && !slices.ContainsFunc(rq.ACL.referrers, func(x referrer) bool { return !x.deny })) {
			r.Fatalf("anonymous %+v: got owner %v, %v", rq, more, moreErr)
		}
	})
}

func BenchmarkAuthorizeByACL(b *testing.B) {
	rs, err := NewResellers([]string{"AUTH"})
	if err != nil {
		b.Fatal(err)
	}
	id := &Identity{User: "test:u", Groups: []string{"test", "test:u"}}
	rq := Request{"GET", name.Path{Account: "AUTH_x", Container: "c", Object: "o"}, "http://www.a.com/", ParseACL(".r:.b.com,bob,sue:sue,test:u"), nil}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rs.Authorize(id, rq); err != nil {
			b.Fatal(err)
		}
	}
}

// Accounts of a service open to its users only together with it.
func TestServices(t *testing.T) {
	rs, err := NewResellers([]string{"AUTH", "SERVICE"})
	if err == nil {
		rs, err = rs.Require(map[string]string{"SERVICE": "service"})
	}
	if err != nil {
		t.Fatal(err)
	}
	us, err := NewUsers([]User{
		{Account: "test", Name: "admin", Key: "k", Groups: []string{RoleAdmin}},
		{Account: "test", Name: "plain", Key: "k"},
		{Account: "image", Name: "service", Key: "k", Groups: []string{"service"}},
		{Account: "image", Name: "other", Key: "k", Groups: []string{"servic"}},
		{Account: "re", Name: "all", Key: "k", Groups: []string{RoleResellerAdmin}},
	}, rs)
	if err != nil {
		t.Fatal(err)
	}
	who := func(user string) *Identity {
		_, id, _ := us.Lookup(user)
		return id
	}
	for _, tt := range []struct {
		user, service, method, path string
		want                        errs.Kind
	}{
		{"test:admin", "", "GET", "/SERVICE_test/c", errs.Forbidden},
		{"test:admin", "image:service", "GET", "/SERVICE_test/c", ok},
		{"test:admin", "image:service", "POST", "/SERVICE_test", ok},
		{"test:admin", "image:service", "DELETE", "/SERVICE_test", errs.Forbidden},
		{"test:admin", "image:other", "GET", "/SERVICE_test/c", errs.Forbidden},
		{"test:admin", "test:admin", "GET", "/SERVICE_test/c", errs.Forbidden},
		{"test:plain", "image:service", "GET", "/SERVICE_test/c", errs.Forbidden},
		{"image:service", "", "GET", "/SERVICE_test/c", errs.Forbidden},
		{"image:service", "test:admin", "GET", "/SERVICE_test/c", ok}, // either is as good as the other
		{"test:admin", "image:service", "GET", "/SERVICE_image/c", errs.Forbidden},
		{"test:admin", "", "PUT", "/AUTH_test/c", ok},
		{"test:admin", "image:service", "PUT", "/AUTH_test/c", ok},
		{"test:admin", "image:service", "PUT", "/AUTH_image/c", errs.Forbidden},
		{"re:all", "", "PUT", "/SERVICE_test/c", ok},
	} {
		id := who(tt.user)
		if tt.service != "" {
			id = id.With(who(tt.service))
		}
		p, err := name.Parse(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		owner, err := rs.Authorize(id, Request{Method: tt.method, Path: p})
		if kindOf(err) != tt.want || owner != (tt.want == ok) {
			t.Errorf("%s with %q, %s %s: %v, owner %v, want %v", tt.user, tt.service, tt.method, tt.path, err, owner, tt.want)
		}
	}
	for _, bad := range []map[string]string{{"OTHER": "g"}, {"AUTH": ""}, {"AUTH": "a,b"}} {
		if _, err := rs.Require(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
