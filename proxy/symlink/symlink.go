// Package symlink is objects that stand for other objects.
//
// A client puts an object without a body and with X-Symlink-Target:
// container/object, in another account with X-Symlink-Target-Account. GET and HEAD
// of it are answered by its target, with Content-Location saying where that is;
// DELETE and the metadata of a POST are about the link itself, and so is all with
// symlink=get. What a link points to need not be there. With X-Symlink-Target-Etag
// the link is a static one: it is to exactly that version, which must be there when
// the link is made, and is refused later where it is not the one.
//
// A link is an object of no bytes, with system metadata that says where it goes, in
// the form that Swift gives it; the container's row has it behind the ETag. So a
// request for a plain object costs one look at what it was answered with. Each step
// is a request of the same sender's, with all its conditions, and held to the rules
// of where it leads: a link gives nobody a right. No answer takes more than LoopMax
// steps, by the client's request or by each of those that a large object makes.
//
// The rules are Swift's.
package symlink

import (
	"context"
	"net/http"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	LoopMax int `toml:"symloop_max"` // links that are followed one after the other; at least 1
}

// Defaults returns Swift's.
func Defaults() Config { return Config{LoopMax: 2} }

// Validate says what can't be.
func (c Config) Validate() error {
	if c.LoopMax < 1 {
		return errs.Refuse(errs.Invalid, "symloop_max = %d: must be at least 1", c.LoopMax)
	}
	return nil
}

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{"symloop_max": c.LoopMax, "static_links": true}
}

// The headers of a link as clients know them, and as they are kept.
const (
	hdrTarget  = "X-Symlink-Target"
	hdrAccount = "X-Symlink-Target-Account"
	hdrETag    = "X-Symlink-Target-Etag"
	hdrBytes   = "X-Symlink-Target-Bytes"

	keptTarget  = "X-Object-Sysmeta-Symlink-Target"
	keptAccount = "X-Object-Sysmeta-Symlink-Target-Account"
	keptETag    = "X-Object-Sysmeta-Symlink-Target-Etag"
	keptBytes   = "X-Object-Sysmeta-Symlink-Target-Bytes"
)

// feature is the link of the chain.
type feature struct {
	cfg  Config
	next chain.Handler
}

// Link returns the feature. It stands right in front of the core, so that all
// others find what a link stands for.
func Link(cfg Config) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Path.Object == "" {
		if r.Path.Container != "" && r.Method == http.MethodGet {
			return f.list(ctx, r)
		}
		return f.next.Serve(ctx, r)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if r.Query != "" {
			if form, _ := r.Param("symlink"); form == "get" {
				resp := f.next.Serve(ctx, r)
				show(resp.Header)
				return resp
			}
		}
		return f.get(ctx, r)
	case http.MethodPut:
		if r.Header[hdrTarget] != nil {
			return f.put(ctx, r)
		}
	case http.MethodPost:
		if r.Header[hdrTarget] != nil {
			return refuse(http.StatusBadRequest, "A PUT request is required to set a symlink target", "")
		}
		return f.post(ctx, r)
	}
	return f.next.Serve(ctx, r)
}

// refuse is an answer of one line, which says where the way ended unless that is
// empty.
func refuse(code int, text, at string) *chain.Response {
	resp := chain.Plain(code, "text/plain", text)
	if at != "" {
		resp.Header["Content-Location"] = []string{at}
	}
	return resp
}

// show gives a link the names that clients know.
func show(h http.Header) {
	for _, n := range [...][2]string{{keptTarget, hdrTarget}, {keptAccount, hdrAccount}, {keptETag, hdrETag}, {keptBytes, hdrBytes}} {
		if v := h[n[0]]; v != nil {
			h[n[1]] = v
		}
	}
}

// get answers with what there is at the end of the way.
func (f *feature) get(ctx context.Context, r *chain.Request) *chain.Response {
	resp := f.next.Serve(ctx, r)
	if resp.Header[keptTarget] == nil {
		return resp
	}
	return f.follow(ctx, r, resp, way{})
}

// way is how far a request has come.
type way struct {
	at   string // where the last step led; "" is none yet
	etag string // that what is there must have; "" is any
	stay bool   // dynamic links are not followed from here
}

// follow goes on from an answer to r, which may be of a link, whatever its status:
// conditions and ranges are about the end of the way.
func (f *feature) follow(ctx context.Context, r *chain.Request, resp *chain.Response, w way) *chain.Response {
	home := r.Path.Account
	for steps := 0; ; steps++ {
		target, fixed := resp.Get(keptTarget), resp.Get(keptETag)
		link := target != "" && (fixed != "" || !w.stay)
		found := resp.Get("Etag")
		if link && fixed != "" {
			found = fixed
		}
		switch {
		case w.etag == "" || found == "" || found == w.etag:
		case link:
			resp.Close()
			return refuse(http.StatusConflict, "X-Symlink-Target-Etag headers do not match", w.at)
		default:
			resp.Close()
			return refuse(http.StatusConflict, "Object Etag '"+found+"' does not match X-Symlink-Target-Etag header '"+w.etag+"'", w.at)
		}
		if !link {
			if w.at != "" {
				resp.Header["Content-Location"] = []string{w.at}
			}
			if r.Path.Account != home {
				resp.Header[chain.FoundIn] = []string{r.Path.Account}
			}
			return resp
		}
		resp.Close()
		if steps >= f.cfg.LoopMax {
			return f.tooMany()
		}
		p, err := targetOf(r.Path, resp.Header)
		if err != nil {
			return chain.Fail(ctx, errs.E(errs.Op("symlink.follow"), errs.Subject(r.Path.String()), errs.Corrupt, err))
		}
		w = way{at: location(p), etag: fixed}
		step := *r
		step.Path, step.Query = p, ""
		r = &step
		resp = f.next.Serve(ctx, r)
	}
}

// targetOf is where a link at a path leads.
func targetOf(at name.Path, h http.Header) (name.Path, error) {
	account := name.Quote(at.Account)
	if v := h[keptAccount]; v != nil {
		account = v[0]
	}
	return name.Parse("/" + account + "/" + strings.TrimLeft(h[keptTarget][0], "/"))
}

// location is the path of a URL for an object.
func location(p name.Path) string {
	return "/v1/" + name.Quote(p.Account) + "/" + name.Quote(p.Container+"/"+p.Object)
}

// post changes the metadata of whatever there is. Of a link the client is told
// where to go to change that of its target.
func (f *feature) post(ctx context.Context, r *chain.Request) *chain.Response {
	at := r.Path
	resp := f.next.Serve(ctx, r)
	if !resp.OK() || resp.Header[keptTarget] == nil {
		return resp
	}
	p, err := targetOf(at, resp.Header)
	if err != nil {
		return resp // the metadata is changed, and that is what was asked for
	}
	resp.Close()
	told := refuse(http.StatusTemporaryRedirect,
		"The requested POST was applied to a symlink. POST directly to the target to apply requested metadata.", "")
	told.Header["Location"] = []string{location(p)}
	if v := resp.Header[keptETag]; v != nil {
		told.Header[hdrETag] = v
	}
	return told
}
