package versioning

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// container answers a request for a container.
func (f *feature) container(ctx context.Context, r *chain.Request) *chain.Response {
	switch r.Method {
	case http.MethodPut, http.MethodPost:
		return f.setUp(ctx, r)
	case http.MethodDelete:
		return f.deleteContainer(ctx, r)
	case http.MethodGet:
		if _, asked := r.Param("versions"); asked && r.Query != "" {
			return f.listVersions(ctx, r)
		}
		fallthrough
	case http.MethodHead:
		resp := f.next.Serve(ctx, r)
		if resp.OK() {
			f.show(ctx, r, resp)
			if resp.Rows != nil && resp.Get(Container) != "" {
				showLinks(r, resp.Rows.Objects)
			}
		}
		return resp
	}
	return f.next.Serve(ctx, r)
}

// show says to a client what the header of a container says of versions.
func (f *feature) show(ctx context.Context, r *chain.Request, resp *chain.Response) {
	h := resp.Header
	if on := resp.Get(enabled); on != "" {
		h[hdrEnabled] = []string{on}
	}
	if to := resp.Get(location); to != "" {
		as := hdrStack
		if resp.Get(mode) == history {
			as = hdrHistory
		}
		h[as] = []string{to}
	}
	if resp.Get(Container) == "" {
		return
	}
	if versions, ok := f.headVersions(ctx, r); ok {
		used, _ := strconv.ParseInt(resp.Get(bytesUsed), 10, 64) // the core's
		more, _ := strconv.ParseInt(versions.Get(bytesUsed), 10, 64)
		h[bytesUsed] = []string{strconv.FormatInt(used+more, 10)}
	}
}

// showLinks puts into the rows of objects that say which version is current what clients
// read of that.
func showLinks(r *chain.Request, rows []listing.Object) {
	for i := range rows {
		row := &rows[i]
		if rest, id, ok := backend.CutListed(row.Hash); ok {
			row.Hash, row.VersionLink = rest, true
			row.LinkPath = pathOf(name.Path{Account: r.Path.Account, Container: r.Path.Container, Object: row.Name}, id.Normal())
		}
	}
}

const (
	bytesUsed   = "X-Container-Bytes-Used"
	objectCount = "X-Container-Object-Count"
)

// headVersions returns the head of the hidden container, false where there is none.
func (f *feature) headVersions(ctx context.Context, r *chain.Request) (*chain.Response, bool) {
	resp := f.next.Serve(ctx, granted(r, http.MethodHead, r.Path.Versions()))
	resp.Close()
	return resp, resp.OK()
}

// setUp makes or changes a container. Versioning is one of three kinds, or none.
func (f *feature) setUp(ctx context.Context, r *chain.Request) *chain.Response {
	on, asked := r.Header[hdrEnabled]
	legacy, err := f.legacyHeaders(r.Header)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	syncs := r.Header.Get("X-Container-Sync-To") != ""
	if !asked && !legacy && !syncs {
		return f.next.Serve(ctx, r)
	}
	known, err := f.find(ctx, r.Path, true)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	switch {
	case asked && !f.cfg.Allow:
		return chain.Fail(ctx, errs.Refuse(errs.Precondition, "Object versioning is disabled"))
	case asked && (legacy || known.get(location) != "" && r.Header[location] == nil):
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Cannot enable object versioning on a container that is already using the legacy versioned writes feature."))
	case asked && (syncs || known.get("X-Container-Sync-To") != ""):
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Cannot enable object versioning on a container configured as source of container syncing."))
	case legacy && known.makes():
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Cannot enable legacy versioned writes on a container that has object versioning enabled."))
	case syncs && known.makes():
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Cannot enable container sync on a container with object versioning"))
	case !asked:
		return f.next.Serve(ctx, r)
	case !chain.Truth(strings.Join(on, ",")):
		r.Header[enabled] = []string{"False"}
		return f.next.Serve(ctx, r)
	}
	return f.enable(ctx, r, &known)
}

// enable has a container make versions. The hidden container is there before anybody
// reads that: what is written in between is no version.
func (f *feature) enable(ctx context.Context, r *chain.Request, known *Facts) *chain.Response {
	if resp := f.ask(ctx, r); !resp.OK() {
		return resp
	}
	if !known.Exists && r.Method == http.MethodPost {
		return f.next.Serve(ctx, r) // which says that there is none
	}
	if known.Deprecated {
		return chain.Fail(ctx, errs.Refuse(errs.Invalid, "Cannot enable object versioning on a container that uses a deprecated storage policy."))
	}
	policy := known.Policy
	if wanted := r.Header.Get("X-Storage-Policy"); wanted != "" && !known.Exists {
		policy = wanted
	}
	hidden := granted(r, http.MethodPut, r.Path.Versions())
	hidden.Header["X-Storage-Policy"] = []string{policy}
	made := f.next.Serve(ctx, hidden)
	made.Close()
	switch {
	case made.Status == http.StatusBadRequest:
		return f.next.Serve(ctx, r) // which says what is wrong with the policy
	case made.Status == http.StatusConflict:
		if err := f.samePolicy(ctx, hidden.Path, policy); err != nil {
			return chain.Fail(ctx, err)
		}
	case !made.OK():
		return chain.Fail(ctx, errs.E(errs.Op("versioning.enable"), errs.Unavailable, made.Err))
	}
	if !known.Exists { // nor is it to be another where somebody else makes it meanwhile
		r.Header["X-Storage-Policy"] = []string{policy}
	}
	mark := granted(r, http.MethodPost, name.Path{Account: r.Path.Account})
	mark.Header[account] = []string{"true"}
	marked := f.next.Serve(ctx, mark)
	marked.Close()
	if !marked.OK() {
		return chain.Fail(ctx, errs.E(errs.Op("versioning.enable"), errs.Unavailable, marked.Err))
	}
	r.Header[Container] = []string{name.Quote(r.Path.Versions().Container)}
	r.Header[enabled] = []string{"True"}
	resp := f.next.Serve(ctx, r)
	// After a 5xx the container may say in the end that it makes versions.
	if resp.Status/100 == 4 && made.Status == http.StatusCreated {
		f.next.Serve(ctx, granted(r, http.MethodDelete, r.Path.Versions())).Close()
	}
	return resp
}

// samePolicy returns why a hidden container that is left of an earlier one can't be used
// again. Versions are stored by the policy of the visible container, and read by that of the
// hidden one: where the two are not the same none is found.
func (f *feature) samePolicy(ctx context.Context, hidden name.Path, policy string) error {
	left, err := f.find(ctx, hidden, true)
	switch {
	case err != nil:
		return err
	case !left.Exists:
		return errs.E(errs.Op("versioning.enable"), errs.Unavailable, "the hidden container is gone meanwhile")
	case left.Policy != policy:
		return errs.Refuse(errs.Conflict, "Cannot enable object versioning: the hidden container of an earlier container of this name has the storage policy %q. "+
			"Use that policy, or delete the earlier versions: enable versioning on a container of that policy and name, and delete it.", left.Policy)
	}
	return nil
}

// deleteContainer deletes a container, once it has no versions any more, and the hidden
// one before it.
func (f *feature) deleteContainer(ctx context.Context, r *chain.Request) *chain.Response {
	known, err := f.find(ctx, r.Path, true)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	if !known.has() {
		return f.next.Serve(ctx, r)
	}
	if resp := f.ask(ctx, r); !resp.OK() {
		return resp
	}
	if n, _ := strconv.ParseInt(known.get(objectCount), 10, 64); n > 0 {
		return f.next.Serve(ctx, r) // which refuses, and the hidden one stays
	}
	versions, ok := f.headVersions(ctx, r)
	switch {
	case ok && versions.Get(objectCount) != "0":
		return chain.Text(http.StatusConflict, "Delete all versions before deleting container.")
	case !ok && versions.Status != http.StatusNotFound:
		return chain.Fail(ctx, errs.E(errs.Op("versioning.delete"), errs.Unavailable, versions.Err))
	case ok:
		gone := f.next.Serve(ctx, granted(r, http.MethodDelete, r.Path.Versions()))
		gone.Close()
		switch {
		case gone.Status == http.StatusConflict:
			return chain.Text(http.StatusConflict, "Delete all versions before deleting container.")
		case !gone.OK() && gone.Status != http.StatusNotFound:
			return chain.Fail(ctx, errs.E(errs.Op("versioning.delete"), errs.Unavailable, gone.Err))
		}
	}
	resp := f.next.Serve(ctx, r)
	if ok && resp.Status == http.StatusConflict { // it got an object meanwhile, and goes on making versions
		again := granted(r, http.MethodPut, r.Path.Versions())
		again.Header["X-Storage-Policy"] = []string{known.Policy}
		again.Header[chain.AnyPolicy] = []string{"true"} // it may be deprecated since
		f.next.Serve(ctx, again).Close()
	}
	return resp
}
