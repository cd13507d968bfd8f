package versioning

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// The two older modes. Before an object of a container with X-Versions-Location or
// X-History-Location is overwritten, what it was is copied to the container that the
// header names, as "<length of the name><name>/<time>". A DELETE in the first mode, a
// stack, takes the newest of those back; in the second it leaves all of them and a mark.
// Each step is durable before the next is begun, and the object itself is changed last:
// where one fails nothing is lost, and there may be a copy too many.

// The modes as a container keeps them.
const (
	stack   = "stack"
	history = "history"
)

// legacyHeaders turns what a client sets of the older modes into what a container keeps
// of it, and reports whether it sets one. The header changes.
func (f *feature) legacyHeaders(h http.Header) (sets bool, err error) {
	for _, n := range []string{"X-Remove-Versions-Location", "X-Remove-History-Location"} {
		if h.Get(n) != "" {
			h[location], h[mode] = []string{""}, []string{""}
		}
		delete(h, n)
	}
	var value, as string
	for _, kind := range []struct{ header, mode string }{{hdrStack, stack}, {hdrHistory, history}} {
		v, said := h[kind.header]
		delete(h, kind.header)
		switch text := strings.Join(v, ","); {
		case !said:
		case text == "":
			if value == "" {
				h[location], h[mode] = []string{""}, []string{""}
			}
		case value != "":
			return false, errs.Refuse(errs.Invalid, "Only one of %s or %s may be specified", hdrStack, hdrHistory)
		default:
			value, as = text, kind.mode
		}
	}
	if value == "" {
		return false, nil
	}
	if !f.cfg.AllowLegacy {
		return false, errs.Refuse(errs.Precondition, "Versioned Writes is disabled")
	}
	if _, err := archiveName(value); err != nil {
		return false, err
	}
	h[location], h[mode] = []string{value}, []string{as}
	return true, nil
}

// archiveName reads the name of the container that old versions go to.
func archiveName(value string) (string, error) {
	p, err := name.Parse("/a/" + value)
	if err != nil || p.Object != "" || strings.Contains(value, "/") || strings.Contains(p.Container, "/") {
		return "", errs.Refuse(errs.Precondition, "Container name cannot be empty or contain slashes")
	}
	return p.Container, nil
}

// archive answers a write to an object in one of the older modes.
func (f *feature) archive(ctx context.Context, r *chain.Request, known *Facts) *chain.Response {
	container, err := archiveName(known.get(location))
	if err != nil {
		return chain.Fail(ctx, err)
	}
	a := &archiving{next: f.next, r: r, in: name.Path{Account: r.Path.Account, Container: container}}
	if r.Header[chain.Stamp] != nil {
		switch late, err := a.late(ctx); {
		case err != nil:
			return chain.Fail(ctx, err)
		case late:
			return f.next.Serve(ctx, r)
		}
	}
	if r.Method == http.MethodDelete && known.get(mode) != history {
		return a.pop(ctx)
	}
	if resp := f.ask(ctx, r); !resp.OK() {
		return resp
	}
	if err := a.keep(ctx); err != nil {
		return chain.Fail(ctx, err)
	}
	if r.Method == http.MethodDelete {
		if err := a.mark(ctx); err != nil {
			return chain.Fail(ctx, err)
		}
	}
	return f.next.Serve(ctx, r)
}

// archiving is a write in one of the older modes, on its way.
type archiving struct {
	next chain.Handler
	r    *chain.Request
	in   name.Path // the container that has old versions
}

// prefix is what the names of the old versions of the object begin with.
func (a *archiving) prefix() string {
	return fmt.Sprintf("%03x%s/", len(a.r.Path.Object), a.r.Path.Object)
}

// at is the path of the old version of a time.
func (a *archiving) at(t string) name.Path {
	p := a.in
	p.Object = a.prefix() + t
	return p
}

// failed turns an answer that is no success into what a client is told: a refusal means
// that old versions have no place, or that it is not the account's.
func failed(resp *chain.Response) error {
	resp.Close()
	if resp.Status/100 == 4 {
		return errs.E(errs.Op("versioning.archive"), errs.Precondition)
	}
	return errs.E(errs.Op("versioning.archive"), errs.Unavailable, resp.Err)
}

// get reads the newest that there is of an object; nil where there is none.
func (a *archiving) get(ctx context.Context, p name.Path) (*chain.Response, error) {
	sub := granted(a.r, http.MethodGet, p)
	sub.Header["X-Newest"] = []string{"true"}
	got := a.next.Serve(ctx, sub)
	switch {
	case got.Status == http.StatusNotFound:
		got.Close()
		return nil, nil
	case !got.OK():
		return nil, failed(got)
	}
	return got, nil
}

// put stores what was read as another object, with all that is said of it.
func (a *archiving) put(ctx context.Context, p name.Path, got *chain.Response) error {
	defer got.Close()
	sub := granted(a.r, http.MethodPut, p)
	for n, v := range got.Header {
		switch n {
		case "X-Timestamp", "Last-Modified", "Accept-Ranges", "Content-Length", backend.BackendStamp, backend.VersionID:
		default:
			sub.Header[n] = v
		}
	}
	if size := got.Get(sloSize); size != "" {
		sub.Header[chain.ListedBytes] = []string{size}
	}
	if sub.Length, sub.Body = got.Length, got.Body; got.Body == nil {
		sub.Length, sub.Body = 0, strings.NewReader("")
	}
	done := a.next.Serve(ctx, sub)
	if !done.OK() {
		return failed(done)
	}
	done.Close()
	return nil
}

// keep copies what the object is to the other container.
func (a *archiving) keep(ctx context.Context) error {
	got, err := a.get(ctx, a.r.Path)
	if err != nil || got == nil {
		return err
	}
	return a.put(ctx, a.at(got.Get("X-Timestamp")), got)
}

// mark notes in the other container that the object was deleted.
func (a *archiving) mark(ctx context.Context) error {
	sub := granted(a.r, http.MethodPut, a.at(timestamp.Now().String()))
	sub.Header[chain.DeleteMarker] = []string{"true"}
	sub.Length, sub.Body = 0, strings.NewReader("")
	done := a.next.Serve(ctx, sub)
	if !done.OK() {
		return failed(done)
	}
	done.Close()
	return nil
}

// remove deletes an old version.
func (a *archiving) remove(ctx context.Context, p name.Path) *chain.Response {
	return a.next.Serve(ctx, granted(a.r, http.MethodDelete, p))
}

// old yields the old versions of the object, the newest first, a page at a time.
func (a *archiving) old(ctx context.Context, yield func(listing.Object) (more bool, err error)) error {
	marker := ""
	for {
		sub := granted(a.r, http.MethodGet, a.in)
		sub.Query = url.Values{"prefix": {a.prefix()}, "marker": {marker}, "reverse": {"on"}}.Encode()
		page := a.next.Serve(ctx, sub)
		switch {
		case page.Status == http.StatusNotFound:
			page.Close()
			return nil
		case !page.OK():
			return failed(page)
		case page.Rows == nil || len(page.Rows.Objects) == 0:
			return nil
		}
		for _, o := range page.Rows.Objects {
			marker = o.Name
			// Of another object whose name begins alike, or the client's own.
			if _, err := timestamp.Parse(strings.TrimPrefix(o.Name, a.prefix())); err != nil {
				continue
			}
			if more, err := yield(o); err != nil || !more {
				return err
			}
		}
	}
}

// pop deletes the object and puts its newest old version in its place. The answer is
// that to the delete of what is gone in the end.
func (a *archiving) pop(ctx context.Context) *chain.Response {
	if resp := a.ask(ctx); !resp.OK() {
		return resp
	}
	var back name.Path // what was restored, and is to go
	marked := false    // the newest is a mark, and the object is not there
	err := a.old(ctx, func(o listing.Object) (bool, error) {
		p := a.in
		p.Object = o.Name
		if o.ContentType == backend.DeleteMarker {
			if marked {
				return false, nil // nothing to restore
			}
			there, err := a.exists(ctx)
			if err != nil || there {
				return false, err // it goes, to what was marked
			}
			marked, back = true, p
			return true, nil
		}
		got, err := a.get(ctx, p)
		if err != nil || got == nil {
			return true, err // it went meanwhile: the one before
		}
		if err := a.put(ctx, a.r.Path, got); err != nil {
			return false, err
		}
		if !marked {
			back = p
			return false, nil
		}
		if gone := a.remove(ctx, p); !gone.OK() && gone.Status != http.StatusNotFound {
			return false, failed(gone)
		}
		return false, nil
	})
	switch {
	case err != nil:
		return chain.Fail(ctx, err)
	case back.Object != "":
		return a.remove(ctx, back)
	}
	return a.next.Serve(ctx, a.r)
}

// ask asks whether the sender may delete the object.
func (a *archiving) ask(ctx context.Context) *chain.Response {
	return (&feature{next: a.next}).ask(ctx, a.r)
}

// exists reports whether the object is there.
func (a *archiving) exists(ctx context.Context) (bool, error) {
	resp, err := a.head(ctx)
	return err == nil && resp.OK(), err
}

// late reports whether a write that has its time from another cluster comes after one that is not
// older, so that it will change nothing: it is sent as often as there are replicas, and
// is not to move versions about each time.
func (a *archiving) late(ctx context.Context) (bool, error) {
	at := stampOf(a.r.Header[chain.Stamp][0])
	resp, err := a.head(ctx)
	if err != nil {
		return false, err
	}
	text := resp.Get(backend.BackendStamp)
	if text == "" {
		text = resp.Get("X-Timestamp")
	}
	return !stampOf(text).Before(at), nil // where it is no time the core says so
}

// stampOf reads a time; zero where there is none.
func stampOf(text string) timestamp.T {
	t, err := timestamp.Parse(text)
	if err != nil {
		return timestamp.T{}
	}
	return t
}

// head asks for what the object is now, which may be that there is none.
func (a *archiving) head(ctx context.Context) (*chain.Response, error) {
	sub := granted(a.r, http.MethodHead, a.r.Path)
	sub.Header["X-Newest"] = []string{"true"}
	resp := a.next.Serve(ctx, sub)
	if !resp.OK() && resp.Status != http.StatusNotFound {
		return nil, failed(resp)
	}
	resp.Close()
	return resp, nil
}
