package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/errs"
)

var (
	secret    = strings.Repeat("s", 32)
	other     = strings.Repeat("o", 32)
	beginning = time.Date(2030, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
)

// clock is a time that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func testUsers(t testing.TB, list ...User) *Users {
	t.Helper()
	rs, err := NewResellers([]string{"AUTH"})
	if err != nil {
		t.Fatal(err)
	}
	if list == nil {
		list = []User{
			{Account: "test", Name: "tester", Key: "testing", Groups: []string{RoleAdmin}},
			{Account: "test", Name: "tester3", Key: "testing3"},
		}
	}
	us, err := NewUsers(list, rs)
	if err != nil {
		t.Fatal(err)
	}
	return us
}

func testTokens(t testing.TB, us *Users, c *clock, secrets ...string) *Tokens {
	t.Helper()
	tokens, err := NewTokens(us, "AUTH_", secrets, 24*time.Hour, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t testing.TB, tokens *Tokens, user string) string {
	t.Helper()
	token, _, err := tokens.Issue(user)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func use(tokens *Tokens, token string) (*Identity, error) {
	return tokens.Authenticate(context.Background(), Credentials{Token: token})
}

func TestToken(t *testing.T) {
	c := &clock{beginning}
	us := testUsers(t)
	tokens := testTokens(t, us, c, secret)
	token, expires, err := tokens.Issue("test:tester")
	if err != nil || !strings.HasPrefix(token, "AUTH_tk") || expires.Unix() != beginning.Unix()+86400 {
		t.Fatalf("got %q until %v, %v", token, expires, err)
	}
	if strings.ContainsAny(token, "=+/ ") {
		t.Errorf("token %q is not safe in a URL", token)
	}
	// Another process with the same configuration.
	elsewhere := testTokens(t, testUsers(t), c, secret)
	id, err := use(elsewhere, token)
	if err != nil || id.User != "test:tester" || !id.Owner("AUTH_test") {
		t.Fatalf("got %+v, %v, want test:tester, an owner", id, err)
	}
	for _, tt := range []struct {
		after time.Duration
		good  bool
	}{{0, true}, {86399 * time.Second, true}, {86400 * time.Second, false}, {1000 * time.Hour, false}} {
		later := testTokens(t, us, &clock{beginning.Add(tt.after)}, secret)
		if _, err := use(later, token); (err == nil) != tt.good || err != nil && !errs.Is(err, errs.Unauthorized) {
			t.Errorf("after %v: got %v, want good: %v", tt.after, err, tt.good)
		}
	}
	if _, _, err := tokens.Issue("test:nobody"); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("a token for nobody: got %v", err)
	}
}

func TestTokenEndsWithWhatItStandsOn(t *testing.T) {
	c := &clock{beginning}
	token := issue(t, testTokens(t, testUsers(t), c, secret), "test:tester")
	is := func(what string, tokens *Tokens, good bool) *Identity {
		t.Helper()
		id, err := use(tokens, token)
		if (err == nil) != good || err != nil && !errs.Is(err, errs.Unauthorized) {
			t.Errorf("%s: got %v, want good: %v", what, err, good)
		}
		return id
	}
	admin := User{Account: "test", Name: "tester", Key: "testing", Groups: []string{RoleAdmin}}
	changed, demoted := admin, admin
	changed.Key, demoted.Groups = "testing!", nil
	is("user removed", testTokens(t, testUsers(t, User{Account: "a", Name: "b", Key: "c"}), c, secret), false)
	is("key changed", testTokens(t, testUsers(t, changed), c, secret), false)
	if id := is("role taken away", testTokens(t, testUsers(t, demoted), c, secret), true); id.Owner("AUTH_test") {
		t.Errorf("role taken away: got %+v, an owner still", id)
	}
	is("another secret", testTokens(t, testUsers(t), c, other), false)
	is("a new secret before the old", testTokens(t, testUsers(t), c, other, secret), true)
	renewed := issue(t, testTokens(t, testUsers(t), c, other, secret), "test:tester")
	if _, err := use(testTokens(t, testUsers(t), c, other), renewed); err != nil {
		t.Errorf("the first secret is the one that signs: got %v", err)
	}
}

func TestTokenTampering(t *testing.T) {
	c := &clock{beginning}
	tokens := testTokens(t, testUsers(t), c, secret)
	token := issue(t, tokens, "test:tester")
	for i := range len(token) {
		if _, err := use(tokens, token[:i]); err == nil {
			t.Errorf("cut to %d characters: accepted", i)
		}
		for _, with := range []byte("A_-z~\n=\xff") {
			if with == token[i] {
				continue
			}
			if _, err := use(tokens, token[:i]+string(with)+token[i+1:]); err == nil {
				t.Errorf("character %d made %q: accepted", i, with)
			}
		}
	}
	for _, more := range []string{"A", "AAAA", "=", "\n", "\r", " "} {
		if _, err := use(tokens, token+more); !errs.Is(err, errs.Unauthorized) {
			t.Errorf("with %q behind it: got %v", more, err)
		}
	}
	for token, mine := range map[string]bool{
		"": false, "AUTH": false, "gAAAAA": false, "tkxyz": false, "AUTH_": true, "AUTH_tk": true, "AUTH_x": true,
		"AUTH_tk" + strings.Repeat("A", 1<<16): true,
	} {
		_, err := use(tokens, token)
		if errors.Is(err, ErrNotMine) == mine || mine && !errs.Is(err, errs.Unauthorized) {
			t.Errorf("%.20q: got %v, want ours: %v", token, err, mine)
		}
	}
}

func TestTokensWithoutPrefix(t *testing.T) {
	c := &clock{beginning}
	tokens, err := NewTokens(testUsers(t), "", []string{secret}, time.Hour, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := use(tokens, issue(t, tokens, "test:tester3")); err != nil || id.User != "test:tester3" {
		t.Errorf("got %+v, %v", id, err)
	}
	if _, err := use(tokens, "tkwhatever"); !errors.Is(err, ErrNotMine) {
		t.Errorf("a stranger's token: got %v, want ErrNotMine", err)
	}
}

func TestNewTokensRefuses(t *testing.T) {
	c := &clock{beginning}
	for name, tt := range map[string]struct {
		secrets []string
		life    time.Duration
		want    string
	}{
		"no secret":      {nil, time.Hour, "no secret"},
		"a short secret": {[]string{secret, "short"}, time.Hour, "secret 2 has 5 bytes"},
		"no life":        {[]string{secret}, 0, "token_life"},
	} {
		_, err := NewTokens(testUsers(t), "AUTH_", tt.secrets, tt.life, c.now)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "short\"") {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// Only what was issued is accepted, and only as who it was issued to.
func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		word := rapid.StringMatching(`[a-zé][a-z0-9.@é-]{0,300}`)
		u := User{Account: word.Draw(r, "account"), Name: word.Draw(r, "user"), Key: rapid.StringN(1, 40, -1).Draw(r, "key")}
		us := testUsers(t, u)
		tokens := testTokens(t, us, &clock{time.Unix(rapid.Int64Range(0, 1<<40).Draw(r, "now"), 0)}, secret)
		id, err := use(tokens, issue(t, tokens, u.String()))
		if err != nil || id.User != u.String() {
			r.Fatalf("user %q: got %+v, %v", u.String(), id, err)
		}
	})
}

func FuzzToken(f *testing.F) {
	c := &clock{beginning}
	tokens := testTokens(f, testUsers(f), c, secret)
	good := issue(f, tokens, "test:tester")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good + "\n")
	f.Add("AUTH_tk")
	f.Add("AUTH_tk" + tokenText.EncodeToString(make([]byte, tokenUser+tokenMAC+1)))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := use(tokens, token); (id == nil) == (err == nil) || err == nil && token != good {
			t.Fatalf("%q: got %+v, %v", token, id, err)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	tokens := testTokens(b, testUsers(b), &clock{beginning}, secret)
	token := issue(b, tokens, "test:tester")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := use(tokens, token); err != nil {
			b.Fatal(err)
		}
	}
}
