package quotas

import (
	"context"
	"net/http"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/proxy/chain"
)

const (
	// sysmeta begins the names under which the quotas of an account are kept: Bytes,
	// Count, and either with -Policy- and the index of a policy.
	sysmeta = "X-Account-Sysmeta-Quota-"
	// shown begins the names that clients know them by, with the name of the policy.
	shown = "X-Account-Quota-"
	// removing begins the names of what takes one away.
	removing = "X-Remove-Account-Quota-"

	byPolicy = "-Policy-"
)

// older are names of the quota of bytes that clients used before there were others,
// and what they mean.
var older = map[string]string{
	"X-Account-Meta-Quota-Bytes":        shown + "Bytes",
	"X-Remove-Account-Meta-Quota-Bytes": removing + "Bytes",
}

// account serves a request on an account: write is one that may set quotas.
func (f *feature) account(ctx context.Context, r *chain.Request, write bool) *chain.Response {
	if write {
		if err := f.set(r); err != nil {
			return chain.Fail(ctx, err)
		}
	}
	resp := f.next.Serve(ctx, r)
	f.show(resp.Header)
	return resp
}

// set puts the quotas that a request sets under the names that they are kept by.
func (f *feature) set(r *chain.Request) error {
	h := r.Header
	for old, now := range older {
		if v := h[old]; v != nil {
			delete(h, old)
			if h.Get(now) == "" {
				h[now] = v
			}
		}
	}
	var quotas map[string]string
	for n, values := range h {
		rest, set := strings.CutPrefix(n, shown)
		remove := false
		if !set {
			rest, remove = strings.CutPrefix(n, removing)
		}
		if !set && !remove {
			continue
		}
		key, err := f.key(rest)
		if err != nil {
			return err
		}
		if key == "" {
			continue
		}
		if !reseller(r) {
			return errs.E(errs.Op("quotas.set"), errs.Forbidden)
		}
		text := strings.Join(values, ",")
		switch _, removed := quotas[key]; { // what is taken away is so whatever else is said
		case remove:
			text = ""
		case removed:
			continue
		case !valid(text):
			return errs.Refuse(errs.Invalid, "%s must be a number.", n)
		}
		if quotas == nil {
			quotas = map[string]string{}
		}
		quotas[key] = text
	}
	for key, text := range quotas {
		h[key] = []string{text}
	}
	return nil
}

// key is the name that a quota is kept by, of what stands behind the beginning of
// the one that clients know; "" for what is no quota.
func (f *feature) key(rest string) (string, error) {
	kind, of, some := strings.Cut(rest, byPolicy)
	switch {
	case kind != "Bytes" && kind != "Count":
		return "", nil
	case !some:
		return sysmeta + kind, nil
	}
	p, ok := f.policies.ByName(of)
	if !ok || !strings.EqualFold(p.Name, of) {
		return "", errs.Refuse(errs.Invalid, "There is no policy %q that could have a quota.", of)
	}
	return sysmeta + kind + byPolicy + p.Index.String(), nil
}

// show puts the quotas of an account under the names that clients know.
func (f *feature) show(h http.Header) {
	delete(h, "X-Account-Meta-Quota-Bytes") // from before it was a quota, it is none
	for n, v := range h {
		rest, ok := strings.CutPrefix(n, sysmeta)
		if !ok {
			continue
		}
		kind, index, some := strings.Cut(rest, byPolicy)
		if !some {
			h[shown+kind] = v
			if kind == "Bytes" {
				h["X-Account-Meta-Quota-Bytes"] = v
			}
			continue
		}
		if i, err := policy.ParseIndex(index); err == nil {
			if p, ok := f.policies.ByIndex(i); ok {
				h[http.CanonicalHeaderKey(shown+kind+byPolicy+p.Name)] = v
			}
		}
	}
}
