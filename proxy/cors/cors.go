// Package cors tells browsers which scripts may use a container: those from the
// origins that its owner, or the operator, has named.
//
// A browser asks first, without a token (a preflight, OPTIONS): the answer is 200
// for an origin and a method that are allowed, else 401. Then it sends the request
// itself, and shows the answer to the script if that says so. Neither allows
// anything that ACLs do not: who may do what is decided as always.
//
// Metadata of a container says which origins (X-Container-Meta-Access-Control-Allow-Origin,
// separated by blanks), for how long a browser may remember that (-Max-Age), and which
// header fields a script sees besides the usual ones (-Expose-Headers). The rules
// are Swift's.
package cors

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	AllowOrigin   []string `toml:"allow_origin"`   // origins that may use every container: "https://host:port", or "*"
	ExposeHeaders []string `toml:"expose_headers"` // fields that scripts see of every answer, besides the usual ones
	Strict        bool     `toml:"strict_mode"`    // scripts of other origins see no answers
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{AllowOrigin: []string{}, ExposeHeaders: []string{}, Strict: true}
}

// Rules are what the metadata of a container says, "" where it says nothing.
type Rules struct{ AllowOrigin, MaxAge, ExposeHeaders string }

// The metadata that has the rules.
const (
	MetaAllowOrigin   = "X-Container-Meta-Access-Control-Allow-Origin"
	MetaMaxAge        = "X-Container-Meta-Access-Control-Max-Age"
	MetaExposeHeaders = "X-Container-Meta-Access-Control-Expose-Headers"
)

// The header fields of answers.
const (
	hdrAllowOrigin   = "Access-Control-Allow-Origin"
	hdrAllowMethods  = "Access-Control-Allow-Methods"
	hdrAllowHeaders  = "Access-Control-Allow-Headers"
	hdrExposeHeaders = "Access-Control-Expose-Headers"
	hdrMaxAge        = "Access-Control-Max-Age"
	hdrAskedMethod   = "Access-Control-Request-Method"
	hdrAskedHeaders  = "Access-Control-Request-Headers"
)

// usual are the fields that scripts see of every answer.
var usual = []string{
	"cache-control", "content-language", "content-type", "expires", "last-modified", "pragma", "etag",
	"x-timestamp", "x-trans-id", "x-openstack-request-id",
}

// feature is the link.
type feature struct {
	cfg   Config
	rules Find
	next  chain.Handler
}

// Find finds what a container says; what it can't find says nothing. fresh asks
// again for what is known already.
type Find func(ctx context.Context, container name.Path, fresh bool) Rules

// Link returns the feature. It stands in front of all that may refuse a request, so that a
// script can read why.
func Link(cfg Config, rules Find) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, rules, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	asked := r.Header["Origin"]
	if asked == nil || asked[0] == "" || r.Path.Container == "" {
		return f.next.Serve(ctx, r)
	}
	origin, account := asked[0], r.Path.Account
	container := name.Path{Account: account, Container: r.Path.Container}
	rules := f.rules(ctx, container, false)
	if r.Method == http.MethodOptions {
		method, headers := first(r.Header[hdrAskedMethod]), strings.Join(r.Header[hdrAskedHeaders], ",")
		resp := f.next.Serve(ctx, r)
		if !resp.OK() {
			return resp
		}
		methods := resp.Get("Allow")
		if !f.allowed(rules, origin) {
			rules = f.rules(ctx, container, true) // before a browser is told that it may not, for a while
		}
		if !f.allowed(rules, origin) || !slices.Contains(csv(methods), method) {
			return refused(resp, account)
		}
		preflight(resp.Header, rules, origin, methods, csv(headers))
		return resp
	}
	resp := f.next.Serve(ctx, r)
	if !f.cfg.Strict || f.allowed(rules, origin) {
		f.actual(resp.Header, rules, origin)
	}
	return resp
}

// allowed reports whether scripts of an origin may use a container.
func (f *feature) allowed(rules Rules, origin string) bool {
	return slices.ContainsFunc([][]string{f.cfg.AllowOrigin, words(rules.AllowOrigin)}, func(list []string) bool {
		return slices.Contains(list, origin) || slices.Contains(list, "*")
	})
}

// refused is the answer to a preflight of what is not allowed.
func refused(resp *chain.Response, account string) *chain.Response {
	resp.Close()
	no := chain.Text(http.StatusUnauthorized, "")
	no.Header["Allow"] = resp.Header["Allow"]
	no.Header["Www-Authenticate"] = []string{auth.Challenge(account)}
	return no
}

// preflight says what a script may send.
func preflight(h http.Header, rules Rules, origin, methods string, headers []string) {
	allow(h, rules, origin)
	h[hdrAllowMethods] = []string{methods}
	if rules.MaxAge != "" {
		h[hdrMaxAge] = []string{rules.MaxAge}
	}
	if len(headers) > 0 {
		h[hdrAllowHeaders] = []string{strings.Join(headers, ", ")}
		vary(h, hdrAskedHeaders)
	}
}

// actual lets a script see an answer.
func (f *feature) actual(h http.Header, rules Rules, origin string) {
	list := slices.Concat(usual, lower(f.cfg.ExposeHeaders), lower(words(rules.ExposeHeaders)))
	for n := range h {
		if strings.HasPrefix(n, "X-Container-Meta-") || strings.HasPrefix(n, "X-Object-Meta-") {
			list = append(list, strings.ToLower(n))
		}
	}
	slices.Sort(list)
	h[hdrExposeHeaders] = []string{strings.Join(slices.Compact(list), ", ")}
	allow(h, rules, origin)
}

// allow names the origin: all, where the container says so, else the one that
// asks, whose answer is for no other then.
func allow(h http.Header, rules Rules, origin string) {
	if strings.TrimSpace(rules.AllowOrigin) == "*" {
		h[hdrAllowOrigin] = []string{"*"}
		return
	}
	h[hdrAllowOrigin] = []string{origin}
	vary(h, "Origin")
}

// vary says that an answer depends on a field of the request.
func vary(h http.Header, field string) {
	h["Vary"] = []string{strings.Join(append(slices.Clone(h["Vary"]), field), ", ")}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// words are the parts of a text between blanks.
func words(text string) []string {
	return slices.DeleteFunc(strings.Split(text, " "), func(s string) bool { return strings.TrimSpace(s) == "" })
}

// csv are the parts of a text between commas, each once.
func csv(text string) []string {
	seen := map[string]bool{}
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" && !seen[part] {
			seen[part] = true
			list = append(list, part)
		}
	}
	return list
}

func lower(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(strings.TrimSpace(s))
	}
	return out
}
