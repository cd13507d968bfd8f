// Package domainremap finds accounts and containers in the host names of requests:
// container.account.example.com/object is /v1/account/container/object. The rules
// are Swift's.
//
// It stands in front of the router, which goes by paths, and so outside of the chain.
package domainremap

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Config is what an operator may set.
type Config struct {
	Domains  []string `toml:"storage_domain"`          // that accounts are under, such as "example.com"; none: off
	Root     string   `toml:"path_root"`               // the version that is put in front of paths
	Prefixes []string `toml:"reseller_prefixes"`       // of accounts that are found, in their true case; none: every one is
	Default  string   `toml:"default_reseller_prefix"` // that accounts without any of them get; "": they are not found
	Mangle   bool     `toml:"mangle_client_paths"`     // a path that begins with the version loses it
}

// Defaults returns Swift's.
func Defaults() Config { return Config{Domains: []string{}, Root: "v1", Prefixes: []string{"AUTH"}} }

// Validate checks the values; versions are those that there are. An error names the
// key.
func (c Config) Validate(versions []string) error {
	for _, d := range c.Domains {
		for label := range strings.SplitSeq(strings.TrimPrefix(d, "."), ".") {
			if !isLabel(label) {
				return fmt.Errorf("key %q: value %q: it is no domain", "storage_domain", d)
			}
		}
	}
	for _, p := range c.Prefixes {
		if !isLabel(p) {
			return fmt.Errorf("key %q: value %q: it can't begin a part of a domain", "reseller_prefixes", p)
		}
	}
	if c.Default != "" && !isLabel(c.Default) {
		return fmt.Errorf("key %q: value %q: it can't begin the name of an account", "default_reseller_prefix", c.Default)
	}
	for _, v := range versions {
		if strings.Trim(c.Root, "/") == v {
			return nil
		}
	}
	return fmt.Errorf("key %q: value %q: it is none of %s", "path_root", c.Root, strings.Join(versions, ", "))
}

// isLabel reports whether a text may be a part of the name of a host, between dots.
func isLabel(s string) bool {
	for _, c := range []byte(s) {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{"default_reseller_prefix": c.Default}
}

// Handler returns a handler that calls next with the path that host and path of a
// request stand for (the host of its URL, if that has one), and refused where the host is under a domain but names more than
// a container and an account. /healthcheck is the same on every host. Without
// domains it is next itself.
func Handler(cfg Config, next, refused http.Handler) http.Handler {
	if len(cfg.Domains) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if r.URL.Host != "" { // as the client has it, or as package cnamelookup does
			host = r.URL.Host
		}
		sub, ok := cfg.below(host)
		if !ok || r.URL.Path == "/healthcheck" {
			next.ServeHTTP(w, r)
			return
		}
		container, account, both := strings.Cut(sub, ".")
		if !both {
			container, account = "", sub
		}
		if both && !isLabel(container) || !isLabel(account) {
			refused.ServeHTTP(w, r)
			return
		}
		if account, ok = cfg.account(account); ok {
			mapped := *r
			mapped.URL = cfg.mapped(r.URL, account, container)
			r = &mapped
		}
		next.ServeHTTP(w, r)
	})
}

// below returns what stands before a domain in a host, which may have a port.
func (c Config) below(host string) (sub string, ok bool) {
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		host = host[:at]
	}
	for _, d := range c.Domains {
		d = strings.TrimPrefix(d, ".")
		if at := len(host) - len(d) - 1; at >= 0 && host[at] == '.' && strings.EqualFold(host[at+1:], d) {
			return host[:at], true
		}
	}
	return "", false
}

// account returns the account that a part of a host stands for: hosts have no case,
// and many have no underscore. It is false where there is no such account.
func (c Config) account(label string) (string, bool) {
	if len(c.Prefixes) == 0 {
		return label, true
	}
	if !strings.Contains(label, "_") {
		label = strings.Replace(label, "-", "_", 1)
	}
	prefix, rest, _ := strings.Cut(label, "_")
	for _, p := range c.Prefixes {
		if strings.EqualFold(prefix, strings.TrimSuffix(p, "_")) {
			return strings.TrimSuffix(p, "_") + "_" + rest, true
		}
	}
	return strings.TrimSuffix(c.Default, "_") + "_" + label, c.Default != ""
}

// mapped is a URL with the path that it stands for. What comes before has no
// character that would be encoded, so that it is the same in both forms of the path.
func (c Config) mapped(u *url.URL, account, container string) *url.URL {
	root := "/" + strings.Trim(c.Root, "/")
	before := root + "/" + account
	if container != "" {
		before += "/" + container
	}
	to := *u
	to.Path = before + c.client(u.Path, root)
	if u.RawPath != "" {
		to.RawPath = before + c.client(u.RawPath, root)
	}
	return &to
}

// client is the path of a client without the version, where that is to go.
func (c Config) client(path, root string) string {
	if rest, ok := strings.CutPrefix(path, root); c.Mangle && ok && (rest == "" || rest[0] == '/') {
		path = rest
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path
}
