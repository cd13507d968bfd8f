// Package quotas refuses objects that are more than a container or an account is to
// hold. The rules are Swift's.
//
// Owners bound a container by X-Container-Meta-Quota-Bytes and -Quota-Count.
// Reseller admins bound an account by X-Account-Quota-Bytes (or, as older clients
// call it, X-Account-Meta-Quota-Bytes) and -Quota-Count, and what it holds in one
// policy by either name with -Policy-<policy> behind it; they themselves are not
// bound by it. Nobody else may set these; all who may read the account see them.
//
// What is counted is what HEAD of the container or the account says, the
// Content-Length of a PUT or the bytes that a copy would write, and one object. So:
//
//   - an object that takes the place of another counts in full beside it;
//   - a large object counts as its manifest where that is put, and its segments
//     where they are; the plain object that a copy makes of one counts in full;
//   - a body of unknown length counts as nothing: it is refused only where the
//     quota is exceeded already.
//
// It lags: counts are of a moment before, and of uploads under way nobody knows,
// so that what is sent at the same time may exceed a quota together. A container's
// count is as old as the proxy remembers it (proxy.info_cache), and older where
// replicas of an object could not tell it at once. An account's is what its
// containers have last reported besides (updater.interval). Before a refusal the
// storage nodes are asked again, so that room that was made counts as soon as it is
// known there. Quotas hold back, they do not protect: where the counts can't be had,
// or not within a second, nothing is refused.
package quotas

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Containers bool `toml:"containers"` // quotas of containers count
	Accounts   bool `toml:"accounts"`   // quotas of accounts count
}

// Defaults has both count.
func Defaults() Config { return Config{Containers: true, Accounts: true} }

// Facts is what is known of a container or an account.
type Facts struct {
	Header interface{ Get(name string) string } // of its HEAD
	Policy policy.Index                         // of a container
}

// Find finds the facts of a container or an account; false where there is none, or
// nothing is known of it. fresh asks again for what is known already.
type Find func(ctx context.Context, p name.Path, fresh bool) (Facts, bool)

// feature is the link.
type feature struct {
	cfg      Config
	policies policy.Set
	find     Find
	next     chain.Handler
}

// Link returns the feature. It stands behind what copies, so that it sees how large
// a copy is, and in front of what makes large objects.
func Link(cfg Config, policies policy.Set, find Find) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, policies, find, next} }
}

// What is said to a client.
const (
	exceeded       = "Upload exceeds quota."
	exceededPolicy = "Upload exceeds policy quota."
)

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	put := r.Method == http.MethodPut
	switch p := r.Path; {
	case p.Account == "":
	case p.Object != "":
		if put && f.over(ctx, r, false) != "" {
			if text := f.over(ctx, r, true); text != "" {
				return f.refuse(ctx, r, text)
			}
		}
	case p.Container != "":
		if f.cfg.Containers && (put || r.Method == http.MethodPost) {
			if err := checkContainer(r.Header); err != nil {
				return chain.Fail(ctx, err)
			}
		}
	case f.cfg.Accounts:
		return f.account(ctx, r, put || r.Method == http.MethodPost)
	}
	return f.next.Serve(ctx, r)
}

// A limit is the names of the header fields that say how much there may be of
// something, and how much there is.
type limit struct{ quota, used string }

// The limits of bytes and of objects, of a container and of an account.
var (
	containerBytes = limit{"X-Container-Meta-Quota-Bytes", "X-Container-Bytes-Used"}
	containerCount = limit{"X-Container-Meta-Quota-Count", "X-Container-Object-Count"}
	accountBytes   = limit{sysmeta + "Bytes", "X-Account-Bytes-Used"}
	accountCount   = limit{sysmeta + "Count", "X-Account-Object-Count"}
)

// ofPolicy are the limits of bytes and of objects of an account in one policy.
func ofPolicy(i policy.Index) (bytes, count limit) {
	known, ok := ofPolicies.Load(i)
	if !ok { // the names are the same for every PUT
		n := i.String()
		known, _ = ofPolicies.LoadOrStore(i, [2]limit{
			{sysmeta + "Bytes-Policy-" + n, "X-Backend-Policy-" + n + "-Bytes-Used"},
			{sysmeta + "Count-Policy-" + n, "X-Backend-Policy-" + n + "-Object-Count"},
		})
	}
	both := known.([2]limit) //nolint:forcetypeassert // the map holds nothing else
	return both[0], both[1]
}

// ofPolicies has what ofPolicy returns, by policy.Index: of as many policies as containers have been of.
var ofPolicies sync.Map

// exceeds reports whether so many more are too many. Without a quota, and where it
// is not known how much there is, they are not.
func (l limit) exceeds(of Facts, more int64) bool {
	most, ok := parse(of.Header.Get(l.quota))
	if !ok {
		return false
	}
	used := int64(0) // an account says nothing of a policy of which it has nothing
	if text := of.Header.Get(l.used); text != "" {
		if used, ok = parse(text); !ok {
			return false
		}
	}
	return used > most-more
}

// over says what a PUT of an object exceeds; "" is nothing.
func (f *feature) over(ctx context.Context, r *chain.Request, fresh bool) string {
	if !f.cfg.Containers && !f.cfg.Accounts {
		return ""
	}
	container, ok := f.find(ctx, name.Path{Account: r.Path.Account, Container: r.Path.Container}, fresh)
	if !ok {
		return "" // the core says what is wrong
	}
	size := max(r.Length, 0)
	if f.cfg.Containers && (containerBytes.exceeds(container, size) || containerCount.exceeds(container, 1)) {
		return exceeded
	}
	if !f.cfg.Accounts || reseller(r) {
		return ""
	}
	account, ok := f.find(ctx, name.Path{Account: r.Path.Account}, fresh)
	if !ok {
		return ""
	}
	if accountBytes.exceeds(account, size) || accountCount.exceeds(account, 1) {
		return exceeded
	}
	if bytes, count := ofPolicy(container.Policy); bytes.exceeds(account, size) || count.exceeds(account, 1) {
		return exceededPolicy
	}
	return ""
}

// refuse says 413 to who may put the object. To others it says what they are told
// anyway: quotas are not theirs to know of.
func (f *feature) refuse(ctx context.Context, r *chain.Request, text string) *chain.Response {
	ask := r.Sub(http.MethodPut, r.Path)
	ask.Header[chain.OnlyAsk] = []string{"true"}
	resp := f.next.Serve(ctx, ask)
	if !resp.OK() {
		return resp
	}
	resp.Close()
	return chain.Text(http.StatusRequestEntityTooLarge, text)
}

// checkContainer checks the quotas that a client sets of a container.
func checkContainer(h http.Header) error {
	if v := h[containerBytes.quota]; v != nil && !valid(strings.Join(v, ",")) {
		return errs.Refuse(errs.Invalid, "Invalid bytes quota.")
	}
	if v := h[containerCount.quota]; v != nil && !valid(strings.Join(v, ",")) {
		return errs.Refuse(errs.Invalid, "Invalid count quota.")
	}
	return nil
}

// valid reports whether a text sets a quota, or takes it away.
func valid(text string) bool {
	_, ok := parse(text)
	return ok || text == ""
}

// parse reads a number of digits and nothing else. One that is too large for any
// account is as large as there can be.
func parse(text string) (n int64, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	if text == "" {
		return 0, false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	return math.MaxInt64, true
}

// reseller reports whether a request is a reseller admin's.
func reseller(r *chain.Request) bool {
	return r.Grant == nil && r.Identity != nil && r.Identity.Reseller
}
