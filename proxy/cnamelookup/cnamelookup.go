// Package cnamelookup lets people use domains of their own: a host that is no part of
// the cluster's domains is looked up in the DNS, and where that has it as another name
// (CNAME) of one that is, the request is for that. The rules are Swift's.
//
// It stands in front of package domainremap, which finds accounts and containers in
// the hosts. The host that the client named stays that of the request; the URL gets the
// one that was found.
package cnamelookup

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/lru"
)

// Config is what an operator may set.
type Config struct {
	Domains     []string `toml:"storage_domain"` // that are the cluster's, such as "example.com"; none: off
	Depth       int      `toml:"lookup_depth"`   // how many CNAMEs are followed, one after the other
	Nameservers []string `toml:"nameservers"`    // addresses, with a port where that is not 53; none: those of /etc/resolv.conf
}

// Defaults returns Swift's, and no domains.
func Defaults() Config { return Config{Domains: []string{}, Depth: 1, Nameservers: []string{}} }

// maxDepth is how many CNAMEs may be followed: more than a sound DNS has.
const maxDepth = 20

// Validate checks the values. An error names the key.
func (c Config) Validate() error {
	for _, d := range c.Domains {
		if strings.Trim(d, ".") == "" || strings.ContainsAny(d, " :/") {
			return fmt.Errorf("key %q: value %q: it is no domain", "storage_domain", d)
		}
	}
	if c.Depth < 1 || c.Depth > maxDepth {
		return fmt.Errorf("key %q: value %d: it is not from 1 to %d", "lookup_depth", c.Depth, maxDepth)
	}
	for _, n := range c.Nameservers {
		if _, err := address(n); err != nil {
			return fmt.Errorf("key %q: value %q: it is no IP address, or one and a port", "nameservers", n)
		}
	}
	return nil
}

// Section is what /info says.
func (c Config) Section() map[string]any { return map[string]any{"lookup_depth": c.Depth} }

// address reads an address with or without a port.
func address(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(text)
}

// A Resolver asks the DNS.
type Resolver interface {
	// CNAME returns the name that a domain is another name of, without a dot at its
	// end, "" where it is none, and for how long that is so. An error says that it
	// can't be found out.
	CNAME(ctx context.Context, domain string) (target string, ttl time.Duration, err error)
}

// Handler returns a handler that calls next with the host that a request's is another
// name of, in its URL. What leads to none of the domains goes to refused, with what is
// to be said: a 400. Hosts of the domains, addresses, and /healthcheck are left as they
// are. Without domains it is next itself.
func Handler(cfg Config, resolver Resolver, next http.Handler, refused func(text string) http.Handler) http.Handler {
	if len(cfg.Domains) == 0 {
		return next
	}
	l := &lookup{cfg: cfg, resolver: resolver, known: lru.New[string, answer](maxKnown)}
	none, tooDeep := refused("CNAME lookup failed to resolve to a valid domain"), refused("CNAME lookup failed after "+strconv.Itoa(cfg.Depth)+" tries")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port := split(r.Host)
		if host == "" || isAddress(host) || l.ours(host) || r.URL.Path == "/healthcheck" {
			next.ServeHTTP(w, r)
			return
		}
		found, ok := l.follow(r.Context(), host)
		switch {
		case !ok && found == "":
			none.ServeHTTP(w, r)
		case !ok:
			tooDeep.ServeHTTP(w, r)
		default:
			u, mapped := *r.URL, *r
			u.Host, mapped.URL = found+port, &u
			next.ServeHTTP(w, &mapped)
		}
	})
}

// split takes a host apart: its name in lower case, without a dot at its end, and its
// port with the colon.
func split(host string) (domain, port string) {
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:at], host[at:]
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), port
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || net.ParseIP(host) != nil
}

// Bounds on what is remembered.
const (
	maxKnown = 10_000      // domains
	maxTTL   = time.Hour   // whatever the DNS says
	noneTTL  = time.Minute // that there is no CNAME
)

// lookup follows CNAMEs, and remembers them for as long as the DNS says. It is safe for
// concurrent use.
type lookup struct {
	cfg      Config
	resolver Resolver

	mu    sync.Mutex
	known *lru.Map[string, answer] // by domain; guarded by mu
}

// answer is what the DNS said.
type answer struct {
	target string // "": none
	until  time.Time
}

// ours reports whether a domain is one of the cluster's, or under one.
func (l *lookup) ours(domain string) bool {
	for _, d := range l.cfg.Domains {
		d = strings.ToLower(strings.Trim(d, "."))
		if rest, ok := strings.CutSuffix(domain, d); ok && (rest == "" || strings.HasSuffix(rest, ".")) {
			return true
		}
	}
	return false
}

// follow finds the domain of the cluster's that a domain is another name of. Where there is
// none it is false, with "" or, where there were more CNAMEs than are followed, the last.
func (l *lookup) follow(ctx context.Context, domain string) (string, bool) {
	for range l.cfg.Depth {
		target := l.cname(ctx, domain)
		if target == "" || target == domain {
			return "", false
		}
		if l.ours(target) {
			return target, true
		}
		domain = target
	}
	return domain, false
}

// cname is the name that a domain is another name of; "" where there is none, or the DNS
// doesn't say.
func (l *lookup) cname(ctx context.Context, domain string) string {
	now := time.Now()
	l.mu.Lock()
	said, ok := l.known.Get(domain)
	l.mu.Unlock()
	if ok && now.Before(said.until) {
		return said.target
	}
	target, ttl, err := l.resolver.CNAME(ctx, domain)
	if err != nil {
		return ""
	}
	target = strings.TrimSuffix(strings.ToLower(target), ".")
	if target == "" {
		ttl = noneTTL
	}
	if ttl > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.known.Put(domain, answer{target, now.Add(min(ttl, maxTTL))})
	}
	return target
}
