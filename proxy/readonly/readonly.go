// Package readonly keeps a cluster, or some of its accounts, as they are: what
// would change them is refused with 405. The rules are Swift's.
//
// What an account says (its system metadata X-Account-Sysmeta-Read-Only) counts
// more than what is said of the cluster. Administrators of all accounts set it with
// X-Account-Read-Only, also where the account is read-only; nobody else can.
package readonly

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Enabled      bool `toml:"enabled"`       // off: what accounts say means nothing, either
	ReadOnly     bool `toml:"read_only"`     // accounts that say nothing are read-only
	AllowDeletes bool `toml:"allow_deletes"` // what only takes away is let through
}

// Defaults returns Swift's.
func Defaults() Config { return Config{} }

// Validate checks the values. An error names the key.
func (c Config) Validate() error {
	for _, set := range []struct {
		key string
		on  bool
	}{{"read_only", c.ReadOnly}, {"allow_deletes", c.AllowDeletes}} {
		if set.on && !c.Enabled {
			return fmt.Errorf("key %q: value true: it has no effect unless enabled is true", set.key)
		}
	}
	return nil
}

// Meta is the system metadata of an account that says whether it is read-only.
const Meta = "X-Account-Sysmeta-Read-Only"

// Header is the header field of a POST of an account that sets Meta. Whoever lets
// it through to where it is stored holds it back from all but administrators, and
// refuses the request.
const Header = "X-Account-Read-Only"

// remove is the field that takes Meta away.
const remove = "X-Remove-Account-Read-Only"

// Find returns what Meta of an account says, "" where it says nothing and where
// there is no such account.
type Find func(ctx context.Context, account string) (string, error)

// Link returns the feature; nil where it is off. It stands in front of all that makes
// many requests of one, which is refused as a whole. What can't be found out is
// not let through.
func Link(cfg Config, find Find) chain.Link {
	if !cfg.Enabled {
		return nil
	}
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			account, err := cfg.changes(r)
			if account == "" && err == nil {
				return next.Serve(ctx, r)
			}
			if err == nil {
				err = cfg.check(ctx, account, find)
			}
			if err != nil {
				return chain.Fail(ctx, err)
			}
			return next.Serve(ctx, r)
		})
	}
}

// check refuses a change of an account that is read-only.
func (c Config) check(ctx context.Context, account string, find Find) error {
	said, err := find(ctx, account)
	if err != nil {
		return err
	}
	if said == "" && c.ReadOnly || chain.Truth(said) {
		return &chain.StatusError{Status: http.StatusMethodNotAllowed, Text: "Writes are disabled for this account."}
	}
	return nil
}

// changes returns the account that a request would change in a way that is not let
// through everywhere; "" is none.
func (c Config) changes(r *chain.Request) (account string, err error) {
	switch r.Method {
	case http.MethodPut:
	case http.MethodPost:
		if _, ok := r.Param("bulk-delete"); ok && c.AllowDeletes || sets(r) {
			return "", nil
		}
	case http.MethodDelete:
		if c.AllowDeletes {
			return "", nil
		}
	case "COPY":
		to := r.Header["Destination-Account"]
		if len(to) == 0 || to[0] == "" || r.Path.Account == "" {
			break
		}
		p, err := name.Parse("/" + to[0])
		if err != nil || p.Container != "" {
			bad := errors.New("destination account " + to[0])
			return "", errs.E(errs.Precondition, errs.Public("Destination-Account header is no name of an account"), bad)
		}
		return p.Account, nil
	default:
		return "", nil
	}
	return r.Path.Account, nil
}

// sets reports whether a POST sets Meta, and is nothing but one of an account.
func sets(r *chain.Request) bool {
	return r.Path.Container == "" && r.Query == "" && (r.Header[Header] != nil || r.Header[remove] != nil)
}
