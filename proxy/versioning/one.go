package versioning

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

// oneVersion answers a request about one version of an object.
func (f *feature) oneVersion(ctx context.Context, r *chain.Request, text string) *chain.Response {
	if r.Method == http.MethodPost {
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "POST to a specific version is not allowed"))
	}
	if text == Null {
		return f.null(ctx, r)
	}
	var known Facts
	for _, fresh := range []bool{false, true} {
		var err error
		if known, err = f.find(ctx, r.Path.Parent(), fresh); err != nil {
			return chain.Fail(ctx, err)
		}
		if known.has() {
			break
		}
		if fresh {
			return chain.Fail(ctx, errs.Refuse(errs.Invalid, "version-aware operations require that the container is versioned"))
		}
	}
	id, err := parseID(text)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return f.readVersion(ctx, r, id)
	case http.MethodPut:
		return f.makeCurrent(ctx, r, id, known.makes())
	case http.MethodDelete:
		return f.deleteVersion(ctx, r, id)
	}
	return f.next.Serve(ctx, r)
}

// null answers a request about the data that is no version.
func (f *feature) null(ctx context.Context, r *chain.Request) *chain.Response {
	switch r.Method {
	case http.MethodPut:
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Invalid version parameter"))
	case http.MethodDelete: // of the object as it is, whatever that is, and no version of it
		known, err := f.find(ctx, r.Path.Parent(), false)
		if err != nil {
			return chain.Fail(ctx, err)
		}
		if f.cfg.AllowLegacy && known.get(location) != "" {
			return f.archive(ctx, r, &known)
		}
		return f.next.Serve(ctx, r)
	case http.MethodGet, http.MethodHead:
	default:
		return f.next.Serve(ctx, r)
	}
	resp := f.next.Serve(ctx, r)
	switch {
	case !resp.OK():
		return resp
	case resp.Get(backend.VersionID) != "" && resp.Get(backend.VersionID) != Null:
		resp.Close()
		return chain.Fail(ctx, errs.E(errs.Op("versioning.null"), errs.NotFound))
	}
	resp.Header[hdrID] = []string{Null}
	return resp
}

// of turns a client's request into the same one about a version. Who signed it for the
// object may use the version; others must be allowed to use the hidden container, as
// only the account's owner is.
func of(r *chain.Request, id timestamp.T) *chain.Request {
	sub := *r
	sub.Path = r.Path.Version(id)
	if allowed := r.Grant; allowed != nil {
		visible := r.Path
		sub.Grant = func(method string, p name.Path) bool { return p == sub.Path && allowed(method, visible) }
	}
	return &sub
}

// readVersion sends a version. One that says that the object was deleted is not found.
func (f *feature) readVersion(ctx context.Context, r *chain.Request, id timestamp.T) *chain.Response {
	resp := f.next.Serve(ctx, of(r, id))
	if resp.Get("Content-Type") == backend.DeleteMarker && (resp.Status < 300 || resp.Status == http.StatusRequestedRangeNotSatisfiable) {
		resp.Close()
		resp = chain.Fail(ctx, errs.E(errs.Op("versioning.read"), errs.NotFound))
		resp.Header["Content-Type"] = []string{backend.DeleteMarker}
		resp.Header[hdrID] = []string{id.Normal()}
		return resp
	}
	if resp.Status < 400 || resp.Status == http.StatusRequestedRangeNotSatisfiable {
		resp.Header[hdrID] = []string{id.Normal()}
	}
	return resp
}

// current finds which version of an object is current, "" where none is, and the time
// of a DELETE that ends what says so, and no later write of the object, in whatever order
// the two come: that of the link, with an offset (timestamp.Expiry). It is not forgotten
// before its time although the link may be old.
func (f *feature) current(ctx context.Context, r *chain.Request) (id, end string, err error) {
	const op errs.Op = "versioning.current"
	sub := granted(r, http.MethodHead, r.Path)
	sub.Header["X-Newest"] = []string{"true"}
	resp := f.next.Serve(ctx, sub)
	resp.Close()
	switch {
	case resp.Status == http.StatusNotFound:
		return "", "", nil
	case !resp.OK():
		return "", "", errs.E(op, errs.Unavailable, resp.Err)
	}
	if id = resp.Get(backend.VersionID); id == "" || id == Null {
		return id, "", nil
	}
	link, err := timestamp.Parse(resp.Get(backend.DataStamp))
	newest, errNewest := timestamp.Parse(resp.Get(backend.BackendStamp))
	if err := errors.Join(err, errNewest); err != nil {
		return "", "", errs.E(op, errs.Unavailable, err)
	}
	now := timestamp.Now()
	return id, timestamp.Expiry(link, timestamp.Max(now, newest), now.Seconds()).String(), nil
}

// looks is how often it is looked which version of an object is current, where others write
// at the same time.
const looks = 4

// deleteVersion deletes a version for good, and where it is the current one the object
// as well: no other becomes current. The object goes first, so that it never says that a
// version is current which is gone. What others write meanwhile stays.
func (f *feature) deleteVersion(ctx context.Context, r *chain.Request, id timestamp.T) *chain.Response {
	now, end, err := f.current(ctx, r)
	for tries := 1; err == nil && now == id.Normal(); tries++ {
		resp := f.endLink(ctx, r, id, end)
		if resp.OK() {
			resp.Close()
			now = ""
			break
		}
		if resp.Status != http.StatusConflict || tries == looks {
			return resp
		}
		resp.Close()
		now, end, err = f.current(ctx, r)
	}
	if err != nil {
		return chain.Fail(ctx, err)
	}
	if now == "" {
		now = Null
	}
	resp := f.next.Serve(ctx, of(r, id))
	resp.Header[hdrID], resp.Header[hdrCurrent] = []string{id.Normal()}, []string{now}
	return resp
}

// endLink deletes an object that says which version is current, as of a time. With a 409
// it says something else by now.
func (f *feature) endLink(ctx context.Context, r *chain.Request, id timestamp.T, end string) *chain.Response {
	ask := of(r, id) // who may not delete the version is not to hide it
	ask.Header = r.Header.Clone()
	ask.Header[chain.OnlyAsk] = []string{"true"}
	if resp := f.next.Serve(ctx, ask); !resp.OK() {
		return resp
	}
	sub := *r
	sub.Query, sub.Header = "", r.Header.Clone()
	sub.Header[chain.Stamp] = []string{end}
	return f.next.Serve(ctx, &sub)
}

// makeCurrent has an object say that another version is current. Nothing is copied, but
// data that is no version: with keeps it becomes one.
func (f *feature) makeCurrent(ctx context.Context, r *chain.Request, id timestamp.T, keeps bool) *chain.Response {
	if r.Length < 0 && r.Body == nil {
		return chain.Fail(ctx, &chain.StatusError{Status: http.StatusLengthRequired})
	}
	if r.HasBody() {
		var one [1]byte
		if n, _ := r.Body.Read(one[:]); n > 0 || r.Length > 0 {
			return chain.Fail(ctx, errs.Refuse(errs.Invalid, "PUT version-id requests require a zero byte body"))
		}
	}
	if resp := f.ask(ctx, r); !resp.OK() {
		return resp
	}
	look := granted(r, http.MethodHead, r.Path.Version(id))
	look.Header["X-Newest"] = []string{"true"}
	version := f.next.Serve(ctx, look)
	version.Close()
	switch {
	case version.Status == http.StatusNotFound:
		return chain.Text(http.StatusNotFound, "The specified version does not exist")
	case !version.OK():
		return version
	}
	l := backend.Link{ID: id, Bytes: version.Length, ETag: version.Get("Etag")}
	if listed := version.Get(listedETag); listed != "" {
		l.ETag = listed
	}
	if size, err := strconv.ParseInt(version.Get(sloSize), 10, 64); err == nil {
		l.Bytes = size
	}
	put := granted(r, http.MethodPut, r.Path)
	put.Length = 0
	put.Header[backend.VersionLink] = []string{l.String()}
	if keeps {
		put.Header[backend.NewVersion] = []string{"true"}
	}
	put.Header["Content-Type"] = version.Header["Content-Type"]
	for _, n := range []string{"X-Delete-At", "X-Delete-After"} {
		if v := r.Header[n]; v != nil {
			put.Header[n] = v
		}
	}
	resp := f.next.Serve(ctx, put)
	if resp.OK() {
		resp.Header["Etag"], resp.Header[hdrID] = version.Header["Etag"], []string{id.Normal()}
	}
	return resp
}

// What the manifests of large objects say of the whole.
const (
	listedETag = "X-Object-Sysmeta-Container-Update-Override-Etag"
	sloSize    = "X-Object-Sysmeta-Slo-Size"
)
