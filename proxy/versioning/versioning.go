// Package versioning keeps what objects were: Swift's object versioning
// (X-Versions-Enabled), and its two older modes (X-Versions-Location and
// X-History-Location).
//
// Of a container with versioning every PUT and DELETE of an object is a version, in a
// hidden container beside it whose rows are those of the versions; the object itself says
// which one is current. How that is stored is the object servers' business (see
// DESIGN.md): this package says which writes are to be versions, answers requests about
// one version (?version-id), and lists them (?versions). With versioning suspended
// writes are as of any container, and versions stay.
//
// In the older modes what an object was is copied to another container of the client's
// choice before it is overwritten (see legacy.go).
package versioning

import (
	"context"
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// Config is what an operator may set. What is versioned already can be read whatever it
// says.
type Config struct {
	Allow       bool `toml:"allow_object_versioning"` // X-Versions-Enabled can be set
	AllowLegacy bool `toml:"allow_versioned_writes"`  // the older modes can be set, and are kept to
}

// Defaults allows all.
func Defaults() Config { return Config{Allow: true, AllowLegacy: true} }

// What containers and accounts keep of it.
const (
	// Sysmeta begins the names of what a container keeps of its versioning.
	Sysmeta = "X-Container-Sysmeta-Versions-"
	// Container is the name of the hidden container, percent-encoded; it is never taken
	// away from a container that had versions once.
	Container = Sysmeta + "Container"
	enabled   = Sysmeta + "Enabled"
	location  = Sysmeta + "Location"
	mode      = Sysmeta + "Mode"

	// account says that some container of the account has, or had, versions.
	account = "X-Account-Sysmeta-Versions"
)

// What clients send and see.
const (
	hdrEnabled = "X-Versions-Enabled"
	hdrStack   = "X-Versions-Location"
	hdrHistory = "X-History-Location"
	hdrID      = "X-Object-Version-Id"
	hdrCurrent = "X-Object-Current-Version-Id"
)

// Null is the ID of data that is no version.
const Null = "null"

// Facts is what is known of a container.
type Facts struct {
	Exists     bool
	Header     interface{ Get(name string) string } // of its HEAD
	Policy     string                               // the name of its policy; of one that does not exist the default
	Deprecated bool                                 // no container is made with that policy any more
}

func (f *Facts) get(field string) string {
	if f.Header == nil {
		return ""
	}
	return f.Header.Get(field)
}

// has reports whether the container has versions, or had.
func (f *Facts) has() bool { return f.get(Container) != "" }

// makes reports whether writes to the container make versions.
func (f *Facts) makes() bool { return f.has() && chain.Truth(f.get(enabled)) }

// Find finds what is known of a container; fresh asks again for what is known already.
type Find func(ctx context.Context, container name.Path, fresh bool) (Facts, error)

// feature is the link.
type feature struct {
	cfg    Config
	limits Limits
	find   Find
	next   chain.Handler
}

// Limits is how many entries one page of a listing has at most.
type Limits struct{ Objects, Containers int }

// Link returns the feature. It stands behind what makes large objects, so that it keeps
// their manifests as they are stored, and in front of nothing but what stores.
func Link(cfg Config, limits Limits, find Find) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, limits, find, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	switch p := r.Path; {
	case p.Account == "":
		return f.next.Serve(ctx, r)
	case p.Object != "":
		if r.Query != "" {
			if id, _ := r.Param("version-id"); id != "" {
				return f.oneVersion(ctx, r, id)
			}
		}
		return f.object(ctx, r)
	case p.Container != "":
		return f.container(ctx, r)
	}
	return f.account(ctx, r)
}

// object answers a request for an object as it is now.
func (f *feature) object(ctx context.Context, r *chain.Request) *chain.Response {
	switch r.Method {
	case http.MethodPut, http.MethodDelete:
		if r.Header[chain.OnlyAsk] != nil {
			return f.next.Serve(ctx, r)
		}
		known, err := f.find(ctx, r.Path.Parent(), false)
		switch {
		case err != nil:
			return chain.Fail(ctx, err)
		case known.makes():
			r.Header[backend.NewVersion] = []string{"true"}
		case f.cfg.AllowLegacy && known.get(location) != "":
			return f.archive(ctx, r, &known)
		}
	}
	resp := f.next.Serve(ctx, r)
	if id := resp.Get(backend.VersionID); id != "" {
		resp.Header[hdrID] = []string{id}
		if id != Null && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			resp.Header["Content-Location"] = []string{pathOf(r.Path, id)}
		}
	}
	return resp
}

// pathOf is the path of a version as clients ask for it.
func pathOf(object name.Path, id string) string {
	return "/v1" + object.Quoted() + "?version-id=" + id
}

// granted is a request of a client's sender about something that the client could not
// ask for: that it may be asked has been decided.
func granted(r *chain.Request, method string, p name.Path) *chain.Request {
	sub := r.Sub(method, p)
	sub.Grant = func(string, name.Path) bool { return true }
	return sub
}

// ask asks whether the sender of a write may make it.
func (f *feature) ask(ctx context.Context, r *chain.Request) *chain.Response {
	sub := r.Sub(r.Method, r.Path)
	sub.Header[chain.OnlyAsk] = []string{"true"}
	return f.next.Serve(ctx, sub)
}

// parseID reads the ID of a version.
func parseID(text string) (timestamp.T, error) {
	id, err := timestamp.Parse(text)
	if err != nil || id.Offset() != 0 {
		return id, errs.Refuse(errs.Invalid, "Invalid version parameter")
	}
	return id, nil
}
