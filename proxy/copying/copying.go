// Package copying stores what one object holds as another, without the bytes
// passing through the client: the COPY method, and PUT with X-Copy-From.
//
// A copy is a GET of the source and a PUT of what came, both sent down the rest of
// the chain, so that it reads and writes whatever those can: the copy of a large
// object is one plain object with its bytes, unless the client asks for its
// manifest. It may go from and to other containers and accounts, where the sender
// may read the one and write the other.
package copying

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Link is the feature. It changes nothing but copies, and OPTIONS, which tell of
// the method.
func Link(next chain.Handler) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if r.Path.Object == "" {
			return next.Serve(ctx, r)
		}
		switch {
		case r.Method == "COPY":
			return serve(ctx, next, r, destination)
		case r.Method == http.MethodPut && r.Header["X-Copy-From"] != nil && r.Header.Get("X-Copy-From") != "":
			return serve(ctx, next, r, source)
		case r.Method == http.MethodOptions:
			resp := next.Serve(ctx, r)
			for _, n := range []string{"Allow", "Access-Control-Allow-Methods"} {
				if v := resp.Get(n); v != "" && resp.OK() {
					resp.Header[n] = []string{v + ", COPY"}
				}
			}
			return resp
		}
		return next.Serve(ctx, r)
	})
}

// ends is where a copy is from and to.
type ends struct{ from, to name.Path }

// destination reads the ends of a COPY: the object of the path, and the one that
// Destination names, in Destination-Account where that is given.
func destination(r *chain.Request) (ends, error) {
	h := r.Header
	to, err := parse("Destination", h.Get("Destination"), "Destination-Account", h.Get("Destination-Account"), r.Path.Account)
	return ends{r.Path, to}, err
}

// source reads the ends of a PUT: the object that X-Copy-From names, in
// X-Copy-From-Account where that is given, and the one of the path.
func source(r *chain.Request) (ends, error) {
	h := r.Header
	from, err := parse("X-Copy-From", h.Get("X-Copy-From"), "X-Copy-From-Account", h.Get("X-Copy-From-Account"), r.Path.Account)
	return ends{from, r.Path}, err
}

// parse reads "container/object", percent-encoded, a slash before it or not.
func parse(header, value, accountHeader, account, own string) (name.Path, error) {
	bad := errs.Refuse(errs.Precondition, "%s header must be of the form <container name>/<object name>", header)
	container, object, ok := strings.Cut(strings.TrimPrefix(value, "/"), "/")
	if !ok || container == "" || object == "" {
		return name.Path{}, bad
	}
	if account == "" {
		account = name.Quote(own)
	} else if strings.Contains(account, "/") {
		return name.Path{}, errs.Refuse(errs.Precondition, "%s header may not contain slashes", accountHeader)
	}
	p, err := name.Parse("/" + account + "/" + container + "/" + object)
	if err != nil {
		return name.Path{}, bad
	}
	return p, nil
}

func serve(ctx context.Context, next chain.Handler, r *chain.Request, read func(*chain.Request) (ends, error)) *chain.Response {
	e, err := read(r)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	if r.HasBody() {
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Copy requests require a zero byte body"))
	}
	manifest, _ := r.Param("multipart-manifest")
	raw := manifest == "get"
	got := next.Serve(ctx, get(r, e.from, raw))
	defer got.Close()
	switch {
	case !got.OK():
		resp := *got
		got.Body = nil // it is the answer's now
		return &resp
	case got.Length < 0:
		// A large object of more segments than fit a page of a listing: nobody
		// knows beforehand how long it is.
		return chain.Fail(ctx, errs.E(errs.TooLarge))
	}
	resp := next.Serve(ctx, put(r, e.to, got, raw))
	if resp.OK() {
		show(resp.Header, r, e.from, got)
	}
	return resp
}

// forSource are the headers of a copy that speak about its source.
var forSource = []string{"Range", "If-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"}

// get makes the request for the source: the newest version that there is, a part
// of it where the client's request has a Range.
func get(r *chain.Request, from name.Path, raw bool) *chain.Request {
	sub := r.Sub(http.MethodGet, from)
	for _, n := range forSource {
		if v := r.Header[n]; v != nil {
			sub.Header[n] = v
		}
	}
	sub.Header["X-Newest"] = []string{"true"}
	sub.Query = r.Query // it may ask for a part
	if raw {
		sub.Query += "&format=raw"
	}
	return sub
}

// kept are the headers, besides metadata, that a copy has from its source.
var kept = []string{
	"Content-Disposition", "Content-Encoding", "X-Delete-At", "Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

// ofLink are the headers by which a copy of a link is one.
var ofLink = []string{"X-Symlink-Target", "X-Symlink-Target-Account", "X-Symlink-Target-Etag"}

// ours are the headers of a copy that are not for what it writes.
var ours = append([]string{"X-Copy-From", "X-Copy-From-Account", "Destination", "Destination-Account", "X-Fresh-Metadata", "Etag", "Content-Length", "X-Newest"}, forSource...)

// put makes the request that writes the copy. The source's metadata comes along
// and the request's is put over it; with X-Fresh-Metadata only the request's
// counts.
func put(r *chain.Request, to name.Path, got *chain.Response, raw bool) *chain.Request {
	sub := r.Sub(http.MethodPut, to)
	sub.Length, sub.Body = got.Length, got.Body
	if !chain.Truth(r.Header.Get("X-Fresh-Metadata")) {
		for n, v := range got.Header {
			if strings.HasPrefix(n, "X-Object-Meta-") || slices.Contains(kept, n) {
				sub.Header[n] = v
			}
		}
	}
	for n, v := range r.Header {
		if !slices.Contains(ours, n) {
			sub.Header[n] = v
		}
	}
	if r.Header.Get("X-Delete-After") != "" {
		delete(sub.Header, "X-Delete-At")
	}
	if r.Header.Get("Content-Type") == "" {
		sub.Header["Content-Type"] = got.Header["Content-Type"]
	}
	for _, n := range ofLink { // there where the source is asked for as a link
		if v := got.Header[n]; v != nil && sub.Header[n] == nil {
			sub.Header[n] = v
		}
	}
	static, dynamic := got.Header["X-Static-Large-Object"] != nil, got.Header["X-Object-Manifest"] != nil
	switch {
	case raw && static:
		sub.Query = "multipart-manifest=put"
	case raw && dynamic:
		sub.Header["X-Object-Manifest"] = got.Header["X-Object-Manifest"]
		fallthrough
	case !static && !dynamic:
		if got.Status == http.StatusOK {
			sub.Header["Etag"] = got.Header["Etag"] // what arrives must be what is there
		}
	}
	return sub
}

// show tells the client what was copied, and which metadata of its own the copy
// has.
func show(to http.Header, r *chain.Request, from name.Path, got *chain.Response) {
	if !chain.Truth(r.Header.Get("X-Fresh-Metadata")) {
		showMeta(to, got.Header)
	}
	showMeta(to, r.Header)
	to["X-Copied-From"] = []string{name.Quote(from.Container + "/" + from.Object)}
	to["X-Copied-From-Account"] = []string{name.Quote(from.Account)}
	if v := got.Header["Last-Modified"]; v != nil {
		to["X-Copied-From-Last-Modified"] = v
	}
}

func showMeta(to, from http.Header) {
	for n, v := range from {
		if strings.HasPrefix(n, "X-Object-Meta-") {
			to[n] = v
		}
	}
}
