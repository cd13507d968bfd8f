// Package namecheck refuses names of accounts, containers and objects that an
// operator does not want: with some characters, too long, or like a regular
// expression. The rules are Swift's, for reading as well as for writing.
package namecheck

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set. What is checked is the path of a request,
// decoded: "/v1/account/container/object".
type Config struct {
	Enabled   bool   `toml:"enabled"`          // off: every name is good
	Forbidden string `toml:"forbidden_chars"`  // characters, of which none may be in it
	MaxLength int    `toml:"maximum_length"`   // characters
	Pattern   string `toml:"forbidden_regexp"` // what may be in no part of it; "" is nothing
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{Forbidden: "'\"`<>", MaxLength: 255, Pattern: `/\./|/\.\./|/\.$|/\.\.$`}
}

// Validate checks the values. An error names the key.
func (c Config) Validate() error {
	switch _, err := regexp.Compile(c.Pattern); {
	case strings.ContainsRune(c.Forbidden, '/'):
		return fmt.Errorf("key %q: value %q: a slash is in every path", "forbidden_chars", c.Forbidden)
	case !utf8.ValidString(c.Forbidden):
		return fmt.Errorf("key %q: value %q: it is no UTF-8", "forbidden_chars", c.Forbidden)
	case c.MaxLength < len(version)+len("/a"):
		return fmt.Errorf("key %q: value %d: no path is that short", "maximum_length", c.MaxLength)
	case err != nil:
		return fmt.Errorf("key %q: value %q: it is no regular expression: %w", "forbidden_regexp", c.Pattern, err)
	}
	return nil
}

// version is what paths begin with here, whichever version a client says.
const version = "/v1"

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{"forbidden_chars": c.Forbidden, "maximum_length": c.MaxLength, "forbidden_regexp": c.Pattern}
}

// Link returns the feature; nil where it is off. It stands behind what makes
// requests about other names that a client gave, as of copies and in lists, so that
// they are checked as well. The configuration is one that Validate takes.
func Link(cfg Config) chain.Link {
	if !cfg.Enabled {
		return nil
	}
	c := checker{Config: cfg}
	if cfg.Pattern != "" {
		c.pattern = regexp.MustCompile(cfg.Pattern)
	}
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			if r.Path.Account != "" {
				if wrong := c.wrong(r.Path); wrong != "" {
					return chain.Text(http.StatusBadRequest, wrong)
				}
			}
			return next.Serve(ctx, r)
		})
	}
}

type checker struct {
	Config
	pattern *regexp.Regexp // nil: none
}

// wrong says what is wrong with a name; "" is nothing.
func (c *checker) wrong(p name.Path) string {
	const names = "Object/Container/Account name "
	text := version + p.String()
	switch {
	case strings.ContainsAny(text, c.Forbidden):
		return names + "contains forbidden chars from " + c.Forbidden
	case utf8.RuneCountInString(text) > c.MaxLength:
		return names + fmt.Sprintf("longer than the allowed maximum %d", c.MaxLength)
	case c.pattern != nil && c.pattern.MatchString(text):
		return names + "contains a forbidden substring from regular expression " + c.Pattern
	}
	return ""
}
