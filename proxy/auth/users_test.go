package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"martlet/internal/conf"
	"martlet/internal/errs"
)

func TestNewUsersRefuses(t *testing.T) {
	good := User{Account: "test", Name: "tester", Key: "hush-hush"}
	with := func(change func(*User)) []User {
		u := good
		change(&u)
		return []User{u}
	}
	for name, tt := range map[string]struct {
		users []User
		want  string
	}{
		"no account":            {with(func(u *User) { u.Account = "" }), "name of the account is empty"},
		"no user":               {with(func(u *User) { u.Name = "" }), "name of the user is empty"},
		"no key":                {with(func(u *User) { u.Key = "" }), "the key is empty"},
		"colon in account":      {with(func(u *User) { u.Account = "a:b" }), `account "a:b" has ':' in it`},
		"slash in account":      {with(func(u *User) { u.Account = "a/b" }), `account "a/b" has '/' in it`},
		"comma in user":         {with(func(u *User) { u.Name = "a,b" }), `user "a,b" has ',' in it`},
		"space in user":         {with(func(u *User) { u.Name = "a b" }), `user "a b" has ' ' in it`},
		"control in user":       {with(func(u *User) { u.Name = "a\x00" }), `has '\x00' in it`},
		"not UTF-8":             {with(func(u *User) { u.Name = "\xff" }), "is not UTF-8"},
		"account like a role":   {with(func(u *User) { u.Account = ".reseller_admin" }), "begins with a dot"},
		"comma in group":        {with(func(u *User) { u.Groups = []string{"a,b"} }), `group "a,b" has ',' in it`},
		"empty group":           {with(func(u *User) { u.Groups = []string{""} }), "name of the group is empty"},
		"group twice":           {with(func(u *User) { u.Groups = []string{"a", "b", "a"} }), `group "a" is there twice`},
		"a word of ACLs":        {with(func(u *User) { u.Groups = []string{".rlistings"} }), "word of ACLs"},
		"user twice":            {[]User{good, {Account: "x", Name: "y", Key: "z"}, good}, `user 3, "test:tester": there is such a user already`},
		"URL of no form":        {with(func(u *User) { u.StorageURL = "AUTH_x" }), "storage_url"},
		"URL without account":   {with(func(u *User) { u.StorageURL = "http://h/v1/" }), "names no account"},
		"URL without path":      {with(func(u *User) { u.StorageURL = "http://h" }), "neither"},
		"URL without host":      {with(func(u *User) { u.StorageURL = "http:///v1/a" }), "neither"},
		"URL with a query":      {with(func(u *User) { u.StorageURL = "http://h/v1/a?b" }), "has '?' in it"},
		"URL with a line break": {with(func(u *User) { u.StorageURL = "http://h/v1/a\nb" }), `has '\n' in it`},
		"$HOST and a port":      {with(func(u *User) { u.StorageURL = "$HOST:80/v1/a" }), "names no account"},
		"URL badly encoded":     {with(func(u *User) { u.StorageURL = "$HOST/v1/%zz" }), "percent-encoding"},
	} {
		_, err := NewUsers(tt.users, Resellers{prefixes: []string{"AUTH_"}})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	rs := Resellers{prefixes: []string{"AUTH_", "OTHER_"}}
	us, err := NewUsers([]User{
		{Account: "test", Name: "admin", Key: "k", Groups: []string{"x", RoleAdmin}},
		{Account: "test", Name: "plain", Key: "k", Groups: []string{"service"}},
		{Account: "far", Name: "a", Key: "k", Groups: []string{RoleAdmin, RoleResellerReader}, StorageURL: "https://h:1/v1/AUTH_a%20b"},
		{Account: "r", Name: "r", Key: "k", Groups: []string{RoleResellerAdmin}},
		{Account: "é", Name: "ü", Key: "k"},
	}, rs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Identity{
		{User: "test:admin", Account: "AUTH_test", Groups: []string{"test", "test:admin", "x", "AUTH_test", "OTHER_test"}, Owns: []string{"AUTH_test", "OTHER_test"}},
		{User: "test:plain", Account: "AUTH_test", Groups: []string{"test", "test:plain", "service"}},
		{
			User: "far:a", Account: "AUTH_a b", Groups: []string{"far", "far:a", RoleResellerReader, "AUTH_far", "OTHER_far", "AUTH_a b"},
			Owns: []string{"AUTH_far", "OTHER_far", "AUTH_a b"}, Reader: true,
		},
		{User: "r:r", Account: "AUTH_r", Groups: []string{"r", "r:r", RoleResellerAdmin}, Reseller: true},
		{User: "é:ü", Account: "AUTH_é", Groups: []string{"é", "é:ü"}},
	} {
		u, got, found := us.Lookup(want.User)
		if !found || u.String() != want.User || u.Key != "k" || got.User != want.User || got.Account != want.Account ||
			!slices.Equal(got.Groups, want.Groups) || !slices.Equal(got.Owns, want.Owns) || got.Reseller != want.Reseller || got.Reader != want.Reader {
			t.Errorf("%s: got %+v, want %+v", want.User, got, want)
		}
	}
	if _, _, found := us.Lookup("test:nobody"); found || us.Len() != 5 {
		t.Errorf("got a user who does not exist, or %d users instead of 5", us.Len())
	}
	if (*Identity)(nil).Owner("AUTH_test") {
		t.Error("nobody is an owner")
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	u := User{Account: "a", Name: "b", Key: "hush"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, u); strings.Contains(got, "hush") {
			t.Errorf("%s: got %q", format, got)
		}
	}
}

// answers is an Authenticator that always gives the same answer.
type answers struct {
	id  *Identity
	err error
}

func (a answers) Authenticate(context.Context, Credentials) (*Identity, error) { return a.id, a.err }

func TestChain(t *testing.T) {
	me, you := &Identity{User: "me"}, &Identity{User: "you"}
	notMine := answers{err: fmt.Errorf("s3: %w", ErrNotMine)}
	wrong := answers{err: errs.E(errs.Unauthorized, "forged")}
	down := answers{err: errs.E(errs.Unavailable, "no keystone")}
	for name, tt := range map[string]struct {
		chain Chain
		id    *Identity
		kind  errs.Kind
	}{
		"empty":                    {nil, nil, ok},
		"nobody's":                 {Chain{notMine, notMine}, nil, ok},
		"the first that knows":     {Chain{notMine, answers{id: me}, answers{id: you}}, me, ok},
		"wrong ends it":            {Chain{notMine, wrong, answers{id: you}}, nil, errs.Unauthorized},
		"cannot tell ends it":      {Chain{down, answers{id: you}}, nil, errs.Unavailable},
		"good before what follows": {Chain{answers{id: me}, wrong}, me, ok},
	} {
		id, err := tt.chain.Authenticate(t.Context(), Credentials{})
		if id != tt.id || kindOf(err) != tt.kind {
			t.Errorf("%s: got %+v, %v, want %+v, kind %v", name, id, err, tt.id, tt.kind)
		}
	}
	if !errors.Is(notMine.err, ErrNotMine) {
		t.Error("wrapping hides ErrNotMine")
	}
}

func TestCredentialsOf(t *testing.T) {
	for _, tt := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{}, ""},
		{http.Header{"X-Auth-Token": {"a"}, "X-Storage-Token": {"s"}}, "a"},
		{http.Header{"X-Storage-Token": {"s"}}, "s"},
		{http.Header{"X-Auth-Token": {""}, "X-Storage-Token": {"s"}}, ""},
	} {
		r := &http.Request{Header: tt.header}
		if got := CredentialsOf(r); got.Token != tt.want || got.Request != r {
			t.Errorf("%v: got %q, want %q", tt.header, got.Token, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	cfg := Defaults()
	err := conf.Parse("proxy.toml", `
token_life = "1h"
reseller_prefixes = ["AUTH", "OTHER"]
[[users]]
account = "test"
user = "tester"
key = "testing"
groups = [".admin"]
storage_url = "$HOST/v1/AUTH_test"
`, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(cfg, []string{secret}, (&clock{beginning}).now)
	if err != nil || a.Users.Len() != 1 || a.Resellers.First() != "AUTH_" || a.Handler.Prefix() != "/auth/" {
		t.Fatalf("got %+v, %v", a, err)
	}
	for name, change := range map[string]func(*Config){
		"reseller_prefix":    func(c *Config) { c.ResellerPrefixes = []string{"reseller prefix?"} },
		"no key":             func(c *Config) { c.Users = []User{{Account: "a", Name: "no key", Key: ""}} },
		"token_life":         func(c *Config) { c.TokenLife = 1 },
		"auth_prefix":        func(c *Config) { c.AuthPrefix = "//" },
		"storage_url_scheme": func(c *Config) { c.StorageURLScheme = "gopher" },
	} {
		bad := cfg
		change(&bad)
		if _, err := New(bad, []string{secret}, (&clock{beginning}).now); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "reseller prefix", "reseller_prefix"), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
