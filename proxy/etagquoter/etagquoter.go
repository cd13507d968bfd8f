// Package etagquoter puts the ETags of objects in quotes, as RFC 9110 has them, where
// a container, its account or the operator says so. The rules are Swift's.
//
// Accounts and containers say it with X-Account-Rfc-Compliant-Etags and
// X-Container-Rfc-Compliant-Etags; what a container says counts more. Conditions
// of requests are the same with and without quotes.
package etagquoter

import (
	"context"
	"strconv"
	"strings"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Enabled bool `toml:"enabled"`           // off: no quotes, and what accounts and containers say is not kept
	Always  bool `toml:"enable_by_default"` // quotes where neither of them says anything
}

// Defaults returns Swift's.
func Defaults() Config { return Config{} }

// Section is what /info says.
func (c Config) Section() map[string]any { return map[string]any{"enable_by_default": c.Always} }

// The header fields by which clients set and see what an account and a container
// say, and the names under which it is kept.
const (
	AccountHeader   = "X-Account-Rfc-Compliant-Etags"
	ContainerHeader = "X-Container-Rfc-Compliant-Etags"
	AccountMeta     = "X-Account-Sysmeta-Rfc-Compliant-Etags"
	ContainerMeta   = "X-Container-Sysmeta-Rfc-Compliant-Etags"
)

// Value is what is kept of what a client sets: "true" or "false", "" where it is to
// say nothing any more.
func Value(text string) string {
	if text == "" {
		return ""
	}
	return strconv.FormatBool(chain.Truth(text))
}

// Find returns what a container says, or its account where it says nothing; "" where
// neither does.
type Find func(ctx context.Context, container name.Path) (string, error)

// Link returns the feature; nil where it is off. It stands outside of all that goes by
// the ETags of what it reads. Where it can't be found out what is said there are no
// quotes.
func Link(cfg Config, find Find) chain.Link {
	if !cfg.Enabled {
		return nil
	}
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			container := r.Path.Parent() // before r is another's
			object := r.Path.Object != ""
			resp := next.Serve(ctx, r)
			etag := resp.Get("Etag")
			if !object || etag == "" || quoted(etag) {
				return resp
			}
			if said, err := find(ctx, container); err == nil && (chain.Truth(said) || said == "" && cfg.Always) {
				resp.Header["Etag"] = []string{`"` + etag + `"`}
			}
			return resp
		})
	}
}

// quoted reports whether an ETag has quotes, be it a weak one.
func quoted(etag string) bool {
	etag = strings.TrimPrefix(etag, "W/")
	return len(etag) > 1 && etag[0] == '"' && etag[len(etag)-1] == '"'
}
