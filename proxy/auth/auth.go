// Package auth says who sends a request and what they may do.
//
// Who: an Authenticator turns what a request carries into an Identity. Several
// stand in a Chain, each for its own kind of credentials: the signed tokens here,
// tokens of Keystone and signatures of S3 elsewhere. What: Resellers.Authorize
// is a pure function of an Identity, the request and the ACLs that apply to it,
// and the same for all of them.
//
// The rules, the forms of the ACLs and the answers at /auth/ are those of Swift's
// tempauth. Where it differs on purpose: tokens are signed instead of stored, so
// that any proxy with the cluster's secret accepts them and none keeps anything;
// a group of a user never makes an owner of an account (only .admin does, of the
// user's own); an empty name in an account ACL matches nobody; a wrong key and an
// unknown user get the same answer.
//
// The package reads no account and no container: the proxy fetches the ACLs and
// chooses, with AccessFor, which of them speaks.
package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/internal/name"
)

// The groups that are roles. All other groups are names for ACLs.
const (
	RoleAdmin          = ".admin"           // owner of the user's own account
	RoleResellerAdmin  = ".reseller_admin"  // owner of every account
	RoleResellerReader = ".reseller_reader" // may read every account
)

// Identity is somebody who has been authenticated. It is shared between
// requests: nobody changes it.
type Identity struct {
	User     string   // "test:tester"; what the log shows
	Account  string   // "AUTH_test": the account that the user's storage URL leads to
	Groups   []string // every name that an ACL may grant to and that means this user
	Owns     []string // accounts of which the user is an owner
	Reseller bool     // may do all in every account
	Reader   bool     // may read all in every account
}

// Owner reports whether the identity owns the account: may do all in it but
// create or delete it. Nobody (nil) owns nothing.
func (id *Identity) Owner(account string) bool {
	return id != nil && slices.Contains(id.Owns, account)
}

// named reports whether one of the names means this identity.
func (id *Identity) named(names []string) bool {
	if id == nil {
		return false
	}
	for _, n := range names {
		if n != "" && slices.Contains(id.Groups, n) {
			return true
		}
	}
	return false
}

// With returns the identity of a request that carries a second one's token: that
// of a service which acts for a user. It may do what either may, and what only
// both may together.
func (id *Identity) With(service *Identity) *Identity {
	return &Identity{
		User: id.User, Account: id.Account,
		Groups: slices.Concat(id.Groups, service.Groups), Owns: slices.Concat(id.Owns, service.Owns),
		Reseller: id.Reseller || service.Reseller, Reader: id.Reader || service.Reader,
	}
}

// Credentials is what a request brings along to say who sends it.
type Credentials struct {
	// Token is X-Auth-Token, or X-Storage-Token where that is missing.
	Token string
	// Request is what signatures are computed over: method, target as it was
	// sent, Host and header. It is only read, and its body not even that. It may
	// be nil for authenticators of tokens.
	Request *http.Request
}

// CredentialsOf collects a request's credentials.
func CredentialsOf(r *http.Request) Credentials {
	c := Credentials{Request: r}
	for _, key := range [...]string{"X-Auth-Token", "X-Storage-Token"} {
		if values := r.Header[key]; len(values) > 0 {
			c.Token = values[0]
			break
		}
	}
	return c
}

// ServiceOf collects the credentials of a service that acts for the sender of a
// request. It is false where there is none.
func ServiceOf(r *http.Request) (Credentials, bool) {
	values := r.Header["X-Service-Token"]
	if len(values) == 0 || values[0] == "" {
		return Credentials{}, false
	}
	return Credentials{Token: values[0]}, true
}

// ErrNotMine is returned by an Authenticator that the credentials do not
// concern: there are none of its kind in the request.
var ErrNotMine = errors.New("credentials of another kind")

// errWrong is the one answer to credentials that do not hold. Why they do not is
// nothing that their sender should learn.
var errWrong = errs.E(errs.Op("auth.authenticate"), errs.Unauthorized)

// Authenticator tells who sends a request. Its answers are:
//
//   - an identity, and no error: the credentials are its kind and good;
//   - ErrNotMine (errors.Is): there are no credentials of its kind, somebody
//     else may know them;
//   - an error of kind errs.Unauthorized: they are its kind and wrong (forged,
//     expired, of a user who is gone). The request ends there: nobody else is
//     asked, and it is not treated as anonymous;
//   - any other error: it cannot tell now, such as errs.Unavailable when an
//     identity service is out of reach.
//
// It never returns nil and nil. It is used by many requests at once.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (*Identity, error)
}

// Chain asks several authenticators in order. The first that does not answer
// ErrNotMine decides.
type Chain []Authenticator

// Authenticate returns nil and nil where no authenticator knows the credentials:
// the request is anonymous, which may be enough for what is public.
func (c Chain) Authenticate(ctx context.Context, creds Credentials) (*Identity, error) {
	for _, a := range c {
		id, err := a.Authenticate(ctx, creds)
		switch {
		case err == nil:
			return id, nil
		case !errors.Is(err, ErrNotMine):
			return nil, err
		}
	}
	return nil, nil // nobody, and nothing wrong with that
}

// Challenge is the value of WWW-Authenticate that goes with a 401 about an
// account; "" is an unknown one.
func Challenge(account string) string {
	if account == "" {
		account = "unknown"
	}
	return `Swift realm="` + name.Quote(account) + `"`
}

// Config is the configuration of the built-in users and their tokens.
type Config struct {
	Users            []User            `toml:"users"`
	ResellerPrefixes []string          `toml:"reseller_prefixes"`  // "" is one that fits every account; the first is that of new users and tokens
	RequireGroup     map[string]string `toml:"require_group"`      // by prefix: what owners of its accounts must have besides, by themselves or by a service's token
	TokenLife        conf.Duration     `toml:"token_life"`         // at least a second
	AuthPrefix       string            `toml:"auth_prefix"`        // path under which tokens are handed out
	StorageURLScheme string            `toml:"storage_url_scheme"` // one of the Scheme constants
}

// Defaults returns the configuration that Swift has where nothing is said.
func Defaults() Config {
	return Config{
		ResellerPrefixes: []string{"AUTH"},
		TokenLife:        conf.Duration(24 * time.Hour),
		AuthPrefix:       "/auth/",
		StorageURLScheme: SchemeDefault,
	}
}

// Auth is the built-in users with all that serves them.
type Auth struct {
	Resellers Resellers
	Users     *Users
	Tokens    *Tokens
	Handler   *Handler
}

// New builds it from a configuration, the cluster's secrets (the first signs,
// all verify) and a clock.
func New(cfg Config, secrets []string, now func() time.Time) (*Auth, error) {
	rs, err := NewResellers(cfg.ResellerPrefixes)
	if err != nil {
		return nil, err
	}
	if rs, err = rs.Require(cfg.RequireGroup); err != nil {
		return nil, err
	}
	users, err := NewUsers(cfg.Users, rs)
	if err != nil {
		return nil, err
	}
	tokens, err := NewTokens(users, rs.First(), secrets, cfg.TokenLife.D(), now)
	if err != nil {
		return nil, err
	}
	h, err := NewHandler(users, tokens, cfg.AuthPrefix, cfg.StorageURLScheme)
	if err != nil {
		return nil, err
	}
	return &Auth{Resellers: rs, Users: users, Tokens: tokens, Handler: h}, nil
}
