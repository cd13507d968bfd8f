// Package containersync lets other clusters bring what containers hold: it knows
// their requests by a signature, and says which containers may be synced to where.
//
// A request with X-Container-Sync-Auth: realm nonce signature is another cluster's,
// where the signature is made with the realm's key and the container's own
// (X-Container-Sync-Key). It may read and write objects of that container, and
// nothing else; it need have no token. The query is not signed, and counts in reads alone. Its X-Timestamp is that of the object where it
// comes from, which counts here as it does there, so that each write of an object is
// the same one in both clusters, whichever way and however often it comes. What it
// brings need not be whole yet: the segments of a large object and the target of a
// static link may still be on their way. A signature that is not good is a 401, be
// the request allowed without it or not.
//
// X-Container-Sync-To of a container is refused with 400 where it leads nowhere that
// the operator has allowed (package realms). Who does the sending is
// replicator/containersync.
//
// The rules are Swift's.
package containersync

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/realms"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/gatekeeper"
)

// Config is what an operator may set.
type Config struct {
	realms.Config
	AllowFullURLs bool   `toml:"allow_full_urls"` // X-Container-Sync-To may name a host that is allowed, and not only a realm
	AcceptKeys    bool   `toml:"accept_keys"`     // requests with X-Container-Sync-Key, unsigned, are other clusters' too
	Current       string `toml:"current"`         // "//realm/cluster" that this one is, for /info
}

// Defaults allows no realm and no host.
func Defaults() Config { return Config{Config: realms.Defaults(), AllowFullURLs: true} }

// Facts is what is said of a container.
type Facts struct {
	Key       string // X-Container-Sync-Key
	Versioned bool   // it keeps versions of its objects
}

// Find finds the facts of a container. fresh asks again for what is known already.
type Find func(ctx context.Context, container name.Path, fresh bool) (Facts, error)

// The headers of the protocol.
const (
	hdrTo   = "X-Container-Sync-To"
	hdrKey  = "X-Container-Sync-Key"
	hdrAuth = "X-Container-Sync-Auth"
)

// feature is the link.
type feature struct {
	cfg  Config
	book *realms.Book
	find Find
	next chain.Handler
}

// Link returns the feature. It stands in front of authentication, which it takes the place of.
func Link(cfg Config, book *realms.Book, find Find) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, book, find, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Path.Container == "" {
		return f.next.Serve(ctx, r)
	}
	if v := r.Header[hdrAuth]; v != nil {
		return f.signed(ctx, r, v[0])
	}
	if f.cfg.AcceptKeys && r.Header[hdrKey] != nil && r.Path.Object != "" {
		return f.withKey(ctx, r, r.Header[hdrKey][0])
	}
	if r.Path.Object == "" && r.Header[hdrTo] != nil && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
		if refused := f.check(ctx, r); refused != nil {
			return refused
		}
	}
	return f.next.Serve(ctx, r)
}

// check refuses a container that is to be synced to where it can't be.
func (f *feature) check(ctx context.Context, r *chain.Request) *chain.Response {
	to := r.Header.Get(hdrTo)
	if strings.TrimRight(to, "/") == "" {
		return nil // it is taken back
	}
	facts, err := f.find(ctx, r.Path, false)
	switch {
	case err != nil && !errs.Is(err, errs.NotFound):
		return chain.Fail(ctx, err)
	case facts.Versioned:
		return chain.Text(http.StatusBadRequest, "Cannot configure container sync on a container with object versioning configured.")
	case !f.cfg.AllowFullURLs && !strings.HasPrefix(to, "//"):
		return chain.Text(http.StatusBadRequest, "Full URLs are not allowed for X-Container-Sync-To values. "+
			"Only realm values of the format //realm/cluster/account/container are allowed.\n")
	}
	if _, err := f.book.Check(to); err != nil {
		return chain.Plain(http.StatusBadRequest, "text/plain", errs.PublicOf(err))
	}
	return nil
}

// signed serves a request that says it is another cluster's.
func (f *feature) signed(ctx context.Context, r *chain.Request, said string) *chain.Response {
	parts := strings.Fields(said)
	if len(parts) != 3 {
		return invalid(r)
	}
	realm, ok := f.book.Realm(parts[0])
	if !ok {
		return invalid(r)
	}
	stamp := r.Header[gatekeeper.InboundTimestamp]
	text := "0"
	if stamp != nil {
		text = stamp[0]
	}
	return f.served(ctx, r, func(key string) bool {
		return realm.Signed(parts[2], r.Method, pathOf(r), text, parts[1], key)
	})
}

// withKey serves a request with a container's key. One whose key is another is like any
// other request.
func (f *feature) withKey(ctx context.Context, r *chain.Request, key string) *chain.Response {
	if r.Header[gatekeeper.InboundTimestamp] == nil {
		return f.next.Serve(ctx, r)
	}
	return f.served(ctx, r, func(of string) bool { return subtle.ConstantTimeCompare([]byte(key), []byte(of)) == 1 })
}

// served serves a request if it is good by the key of its container, which is asked for
// again before it is not.
func (f *feature) served(ctx context.Context, r *chain.Request, good func(key string) bool) *chain.Response {
	container := r.Path
	container.Object = ""
	for _, fresh := range []bool{false, true} {
		facts, err := f.find(ctx, container, fresh)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return chain.Fail(ctx, err)
		}
		if facts.Key != "" && good(facts.Key) {
			return f.serve(ctx, r)
		}
	}
	return invalid(r)
}

// serve serves a request of another cluster's.
func (f *feature) serve(ctx context.Context, r *chain.Request) *chain.Response {
	at := r.Path
	r.Identity = nil
	r.Grant = func(_ string, of name.Path) bool {
		return of.Account == at.Account && of.Container == at.Container && of.Object != ""
	}
	if stamp := r.Header[gatekeeper.InboundTimestamp]; stamp != nil {
		r.Header[chain.Stamp] = stamp
	}
	r.Header[chain.Replayed] = replayed
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		r.Query = "" // it is not signed, and might have more deleted than the object
	}
	return f.next.Serve(ctx, r)
}

// replayed is shared, and never changed.
var replayed = []string{"true"}

// pathOf is the path that is signed: that of the URL, encoded in one way.
func pathOf(r *chain.Request) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(r.Client.URL.Path, "/"), "/")
	return "/" + version + r.Path.Quoted()
}

// invalid is the answer to a signature that is not good; why is nothing that its sender should learn.
func invalid(r *chain.Request) *chain.Response {
	resp := chain.Plain(http.StatusUnauthorized, "text/plain",
		"X-Container-Sync-Auth header not valid; contact cluster operator for support.")
	_, realm, _ := strings.Cut(auth.Challenge(r.Path.Account), " ")
	resp.Header["Www-Authenticate"] = []string{"SwiftContainerSync " + realm}
	return resp
}
