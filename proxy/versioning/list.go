package versioning

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/listings"
)

// versionsQuery turns a client's query for versions into that for the rows of the hidden
// container.
func versionsQuery(r *chain.Request) (q url.Values, err error) {
	q = url.Values{}
	for _, key := range []string{"limit", "delimiter", "reverse", "prefix"} {
		if v, ok := r.Param(key); ok {
			q.Set(key, v)
		}
	}
	if strings.ContainsAny(q.Get("delimiter"), "0123456789."+name.Reserved) {
		return nil, errs.Refuse(errs.Invalid, "invalid delimiter param")
	}
	if prefix, ok := r.Param("prefix"); ok {
		q.Set("prefix", name.Reserved+prefix)
	}
	marker, marked := r.Param("marker")
	version, asked := r.Param("version_marker")
	if asked && !marked {
		return nil, errs.Refuse(errs.Invalid, "version_marker param requires marker")
	}
	b := bounding{prefix: strings.TrimPrefix(q.Get("prefix"), name.Reserved), delimiter: q.Get("delimiter"), reverse: r.HasFlag("reverse")}
	from, err := b.from(marker, version, asked)
	if err != nil {
		return nil, err
	}
	if from != "" {
		q.Set("marker", from)
	}
	if end, _ := r.Param("end_marker"); end != "" {
		q.Set("end_marker", b.edge(end, b.reverse))
	}
	return q, nil
}

// A bounding turns the markers of a client into those for the rows of versions.
type bounding struct {
	prefix, delimiter string // the client's
	reverse           bool
}

// from returns behind what the rows of a page are, in the order of the listing.
func (b *bounding) from(marker, version string, asked bool) (string, error) {
	switch {
	case !asked:
	case version == Null: // which in either order stands in front of all versions
		if marker != "" {
			return b.edge(marker, b.reverse), nil
		}
	default:
		id, err := parseID(version)
		if err != nil {
			return "", errs.Refuse(errs.Invalid, "invalid version_marker param")
		}
		if marker != "" && !b.isSubdir(marker) {
			return name.Path{Object: marker}.Version(id).Object, nil
		}
	}
	if marker == "" {
		return "", nil
	}
	return b.edge(marker, !b.reverse), nil
}

// edge returns a marker that is before all versions of a name, or past them, in the order
// of names. That of a subdir is its own name in either way: what is asked for begins past
// all of it, or ends before it.
func (b *bounding) edge(of string, past bool) string {
	switch {
	case b.isSubdir(of):
		return name.Reserved + of
	case past:
		return name.VersionPrefix(of) + ":" // which is behind all digits
	}
	return name.VersionPrefix(of)
}

// isSubdir reports whether the listing has a subdir for all that begins with of. No
// version is listed by that name then.
func (b *bounding) isSubdir(of string) bool {
	tail, ok := strings.CutPrefix(of, b.prefix)
	if !ok || b.delimiter == "" {
		return false
	}
	at := strings.Index(tail, b.delimiter)
	return at >= 0 && at+len(b.delimiter) == len(tail)
}

// listVersions lists the versions of the objects of a container: the rows of the hidden
// one, and what the container itself has that is no version.
func (f *feature) listVersions(ctx context.Context, r *chain.Request) *chain.Response {
	if !acceptsJSON(r) {
		return chain.Fail(ctx, errs.E(errs.NotAcceptable))
	}
	query, err := versionsQuery(r)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	hidden := granted(r, http.MethodGet, r.Path.Versions())
	hidden.Query = query.Encode()
	hidden.Header[chain.AllowReserved] = []string{"true"}
	// Both at the same time: one alone takes as long as both.
	var versions *chain.Response
	over := make(chan error, 1)
	go func() { over <- chain.Survive(func() { versions = f.next.Serve(ctx, hidden) }) }()
	resp := f.next.Serve(ctx, r)
	if err := <-over; err != nil {
		panic(err)
	}
	defer versions.Close()
	switch {
	case !resp.OK() || resp.Rows == nil:
		return resp
	case !versions.OK() && versions.Status != http.StatusNotFound:
		return chain.Fail(ctx, errs.E(errs.Op("versioning.list"), errs.Unavailable, versions.Err))
	}
	f.show(ctx, r, resp)
	m := merging{reverse: r.HasFlag("reverse"), limit: limitOf(r, f.limits.Objects), latest: map[string]bool{}}
	if marker, ok := r.Param("marker"); ok {
		if _, ok := r.Param("version_marker"); ok && !m.reverse {
			m.latest[marker] = true // it was on the page before
		}
	}
	var rows []listing.Object
	if versions.Rows != nil {
		rows = versions.Rows.Objects
	}
	resp.Rows.Objects = m.merge(resp.Rows.Objects, rows)
	resp.Rows.OnlyJSON = true
	return resp
}

// acceptsJSON reports whether a client takes the one form that versions are listed in.
func acceptsJSON(r *chain.Request) bool {
	if format, said := r.Param("format"); said && format != "" {
		return strings.EqualFold(format, "json")
	}
	accept := strings.Join(r.Header["Accept"], ",")
	return strings.TrimSpace(accept) == "" || listings.Accepts(accept, "application/json")
}

// limitOf is how many entries of a listing the client wants at most.
func limitOf(r *chain.Request, most int) int {
	p, err := listing.Parse(r.Query, most)
	if err != nil {
		return most // the core says what is wrong
	}
	return p.Limit
}

// A merging makes one listing of two.
type merging struct {
	reverse bool
	limit   int
	latest  map[string]bool // names whose latest version has been told of
}

// merge returns the entries of the page: of each name first what is no version, then its
// versions in the order of the listing.
func (m *merging) merge(objects, versions []listing.Object) []listing.Object {
	out := make([]listing.Object, 0, len(objects)+len(versions))
	links := make(map[string]listing.Object, len(objects)) // by name: objects that say which version is current
	known := map[string]bool{}                             // names that have versions on the page
	subdirs := map[string]bool{}
	for _, o := range objects {
		if o.Subdir {
			subdirs[o.Name] = true
			continue
		}
		m.latest[o.Name], o.Latest = true, true
		if rest, id, ok := backend.CutListed(o.Hash); ok {
			o.Hash, o.VersionID = rest, id.Normal()
			links[o.Name] = o
			continue
		}
		o.VersionID = Null
		out = append(out, o)
	}
	first := len(out)
	for _, v := range versions {
		if v.Subdir {
			subdirs[strings.TrimPrefix(v.Name, name.Reserved)] = true
			continue
		}
		of, id, ok := name.ParseVersion(v.Name)
		if !ok {
			continue
		}
		v.Name, v.VersionID = of, id.Normal()
		known[of] = true
		if link, ok := links[of]; ok && link.VersionID == v.VersionID {
			v.Latest = true
			delete(links, of)
		}
		out = append(out, v)
	}
	m.markDeleted(out[first:])
	for s := range subdirs {
		out = append(out, listing.Object{Name: s, Subdir: true})
	}
	for _, o := range links { // of a version that is on another page, or not told of yet
		if !known[o.Name] {
			out = append(out, o)
		}
	}
	inOrder := func(a, b listing.Object) int {
		if m.reverse {
			a, b = b, a
		}
		return cmp.Compare(a.Name, b.Name)
	}
	if !slices.IsSortedFunc(out, inOrder) {
		slices.SortStableFunc(out, inOrder)
	}
	return out[:min(len(out), m.limit)]
}

// markDeleted marks the newest version of each name that says that the object was
// deleted, where nothing is current.
func (m *merging) markDeleted(versions []listing.Object) {
	at := func(i int) *listing.Object { return &versions[i] }
	if m.reverse { // the newest of a name is the last
		at = func(i int) *listing.Object { return &versions[len(versions)-1-i] }
		if n := len(versions); n > 0 && n >= m.limit {
			m.latest[versions[n-1].Name] = true // newer ones may be on the next page
		}
	}
	for i := range versions {
		v := at(i)
		if !m.latest[v.Name] {
			m.latest[v.Name] = true
			v.Latest = v.ContentType == backend.DeleteMarker
		}
	}
}
