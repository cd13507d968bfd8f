package object

import (
	"context"
	"crypto/md5" // the ETag of the API
	"strconv"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// Versions. Where a write is to be a version of its object (backend.NewVersion), what
// comes is kept as an object of its own, under the name that name.Path.Version gives it,
// in the same place. The object itself becomes a link: no data, and a field that says
// which version is current; of a DELETE a tombstone is left there, as of any. Both are
// written together, the version first (engine.Writer.CommitBeside), and the rows of both
// are told together. Where something newer is in the object's place the version is kept
// all the same, as one of those that came before, and whoever writes is told of both: by a
// 409 with its ID.
//
// Whoever reads the object gets the version that its link names, from the same device.
// Where that is not there yet, which may be for a moment after the link came from another
// replica, another one is to be asked. Metadata that is changed is the version's.
//
// Data that was there before there were versions is not replaced by a link: whoever
// writes is told of it (backend.Unversioned), keeps it as a version, and says so.

// linkOf returns to which version an object is a link, if it is one.
func linkOf(s *engine.State) (backend.Link, bool) {
	if s.Kind != engine.Live || s.Length != 0 {
		return backend.Link{}, false
	}
	text := s.System.Get(backend.VersionLink)
	if text == "" {
		return backend.Link{}, false
	}
	l, err := backend.ParseLink(text)
	return l, err == nil
}

// linked is the error for an object that is a link.
type linked struct {
	backend.Link
	state engine.State
}

func (l *linked) Error() string { return "it is a link to the version " + l.ID.Normal() }

// isPlain returns why an object is not itself what its metadata is about.
func isPlain(s *engine.State) error {
	if l, ok := linkOf(s); ok {
		return errs.E(errs.Op("object.post"), errs.Conflict, &linked{l, *s})
	}
	return nil
}

// linkRow appends what the listing says of an object that is a link: what its version
// is like. It counts nothing there; the version's own row does.
func linkRow(h backend.Header, l backend.Link, s *engine.State) backend.Header {
	h.Add("X-Size", "0")
	h.Add("X-Content-Type", backend.WithListedBytes(s.ContentType, l.Bytes))
	h.Add("X-Etag", l.Listed())
	return h
}

// unversioned is the error for data that a link would replace and that is kept in no
// version.
type unversioned struct{ at timestamp.T }

func (e *unversioned) Error() string { return "data of " + e.at.String() + " is no version yet" }

// versionAt returns where a version of the object is.
func (c *call) versionAt(id timestamp.T) engine.Location {
	return engine.Location{Policy: c.at.Policy, Hash: c.hasher.Hash(c.target.Path.Version(id))}
}

// parseNew reads whether a write is to be a version.
func (c *call) parseNew() (err error) {
	c.newVersion = truth(c.Header.Get(backend.NewVersion)) && !c.replication
	if text := c.Header.Get(backend.Preserved); c.newVersion && text != "" {
		if c.preserved, err = timestamp.Parse(text); err != nil {
			return errs.E(errs.Invalid, errs.Public(backend.Preserved+" is not a timestamp"), err)
		}
	}
	return nil
}

// keepable returns why a link can't take the place of what is there.
func (c *call) keepable(s *engine.State) error {
	if _, isLink := linkOf(s); isLink || s.Kind != engine.Live || c.gone(s) || !s.Time.After(c.preserved) {
		return nil
	}
	return errs.E(errs.Op("object.put"), errs.Conflict, &unversioned{s.Time})
}

// putVersion stores data as a version, and a link to it. When it returns 201 both are on
// stable storage, in one sync, and the listings of both have been told or the telling is
// durably queued. With a 409 that has the version's ID that is so of the version alone, and with one that has
// its stamp and no ID the version was here before: it may be somebody else's. A crash before that leaves nothing, or the version alone, which nobody
// was told of, or both.
func (s *Server) putVersion(ctx context.Context, c *call, w *engine.Writer, v engine.Version, check func(engine.State) error) (*backend.Response, error) {
	link := engine.Version{Time: v.Time, Name: c.target.Path, MD5: md5.Sum(nil)}
	size, etag := c.written(w, &v)
	l := backend.Link{ID: v.Time, Bytes: size, ETag: etag}
	var listed int64
	if link.ContentType, listed = backend.CutListedBytes(v.ContentType); listed >= 0 {
		l.Bytes = listed
	}
	if etag := v.System.Get(overridePrefix + "Etag"); etag != "" {
		l.ETag = etag
	}
	if size, err := strconv.ParseInt(v.System.Get(overridePrefix+"Size"), 10, 64); err == nil {
		l.Bytes = size
	}
	link.System = backend.Header{{Name: backend.VersionLink, Value: l.String()}}
	if at := v.Meta.Get(hdrDeleteAt); at != "" { // the object ends, the version does not
		link.Meta = backend.Header{{Name: hdrDeleteAt, Value: at}}
		v.Meta.Del(hdrDeleteAt)
	}
	return s.commitVersion(ctx, c, w, v, engine.Beside{At: c.at, Version: link, Check: check}, 201)
}

// deleteVersion stores the version that says that the object was deleted, and a tombstone
// in the object's place. What is durable when it returns 204, 404 or 409 is as in putVersion.
func (s *Server) deleteVersion(ctx context.Context, c *call, ts timestamp.T) (*backend.Response, error) {
	if err := c.parseNew(); err != nil {
		return nil, err
	}
	w, err := c.store.Create(ctx, c.versionAt(ts), 0)
	if err != nil {
		return nil, err
	}
	defer w.Close() //nolint:errcheck // nothing is kept by it: the commit has said what was
	path := c.target.Path
	marker := engine.Version{Time: ts, Name: path.Version(ts), MD5: md5.Sum(nil), ContentType: backend.DeleteMarker}
	return s.commitVersion(ctx, c, w, marker, engine.Beside{
		At: c.at, Version: engine.Version{Time: ts, Name: path}, Tombstone: true,
		Check: func(s engine.State) error { return c.keepable(&s) },
	}, 204)
}

func (s *Server) commitVersion(ctx context.Context, c *call, w *engine.Writer, v engine.Version, b engine.Beside, status int) (*backend.Response, error) {
	b.Yields = true
	o, object, err := w.CommitBeside(v, engine.Terms{}, b)
	if err != nil {
		return nil, err
	}
	_ = w.Close() // its buffer is not to wait for the container; the commit has synced the file
	method := "PUT"
	if b.Tombstone {
		method = "DELETE"
	}
	tell := []news{{"PUT", v.Name, c.versionAt(v.Time).Hash, &o.After}, c.own(method, &object.After)}
	before, stamp := &object.Before, v.Time
	switch {
	case object.After.Time.IsZero():
		tell, status, stamp = tell[:1], 409, before.Newest()
	case object.Already:
		status, stamp = 409, before.Newest()
	}
	if err := s.tellContainer(ctx, c, tell...); err != nil {
		return nil, err
	}
	if o.Already { // or who sent this, and fails, would take the version for his own, and delete it
		return nil, c.refuse(errs.Stale, o.After)
	}
	if status != 409 && b.Tombstone && (before.Kind == engine.Absent || before.Kind == engine.Deleted || c.gone(before)) {
		status = 404
	}
	resp := &backend.Response{Status: status, Header: backend.Header{
		{Name: backend.BackendStamp, Value: stamp.String()},
		{Name: backend.VersionID, Value: v.Time.Normal()},
	}}
	if !b.Tombstone {
		_, etag := c.written(w, &v)
		resp.Header.Add(backend.ETag, etag)
	}
	// Metadata alone replaces nothing, and a link says nothing of data from before: it may be of a
	// write that was done before anybody had told of that.
	if _, isLink := linkOf(before); !isLink && !before.Time.IsZero() {
		resp.Header.Add(backend.Superseded, before.Time.String())
	}
	return resp, nil
}

// follow returns to which version the object is a link, if it is one and the version is
// what is asked for. Where the answer is known already it returns that.
func (c *call) follow(s *engine.State) (l backend.Link, isLink bool, known *backend.Response) {
	l, isLink = linkOf(s)
	only := c.Header.Get(backend.Unversioned)
	if only == backend.AnyData && c.Method == "HEAD" {
		h, _ := describe(s, s.Newest())
		resp := &backend.Response{Status: 200, Header: h}
		if isLink {
			resp.Header.Add(backend.VersionID, l.ID.Normal())
		}
		return l, false, resp
	}
	if only != "" && (isLink || s.Time.String() != only) {
		return l, false, &backend.Response{Status: 404} // without stamps: it says nothing of whether that data is elsewhere
	}
	return l, isLink && !c.replication, nil
}

// onItsWay is for how long a version may be on its way to where its link is already, by
// replication, before it counts as one that a replica has not got. It may be less than a
// replica takes to be filled: all have to say so.
const onItsWay = 24 * time.Hour

// elsewhere is the answer where the version that the object is a link to can't be had
// here, of which state is what there is. One that was deleted is gone, and the link with
// it, as of the link's own time: a later link on another replica counts more. For one
// that is not here other replicas are to be asked, and that is no fault of the device.
//
// A version that was deleted is in the end forgotten, as any tombstone is, and looks then as
// if it had not come yet. So it is said of a link that is old: if no replica has the version
// of it, it is gone.
func (c *call) elsewhere(link, state *engine.State) *backend.Response {
	if state.Kind != engine.Deleted {
		resp := &backend.Response{Status: 503, Header: backend.Header{{Name: backend.RetryAfter, Value: "1"}}}
		if c.now.Sub(link.Time.Time()) > onItsWay {
			resp.Header.Add(backend.NoVersion, "true")
		}
		return resp
	}
	return &backend.Response{Status: 404, Header: backend.Header{
		{Name: backend.BackendStamp, Value: link.Newest().String()}, {Name: backend.DataStamp, Value: link.Time.String()},
	}}
}

// followed says in the answer to a read of a version that it came by a link: times are
// those of the later of the two where replicas are compared.
func followed(h *backend.Header, l backend.Link, link, version *engine.State) {
	h.Set(backend.BackendStamp, timestamp.Max(link.Newest(), version.Newest()).String())
	h.Set(backend.DataStamp, link.Time.String())
	h.Set(hdrDurable, link.Time.String())
	h.Add(backend.VersionID, l.ID.Normal())
	if version.System.Has(backend.CodedWrite) {
		h.Add(backend.FragmentTime, version.Time.String()) // which may have an offset, that of the link's has not
	}
}

// postVersion replaces the metadata of the version that the object is a link to. What the
// object has of its own, when it ends and what the listing says its type is, follows. When
// it returns 202 both are on stable storage, and both listings told, or that is queued;
// with another answer the version may have changed, and the object not, until the request
// is repeated.
func (s *Server) postVersion(ctx context.Context, c *call, to *linked, change engine.Change) (*backend.Response, error) {
	l := to.Link
	at := c.versionAt(l.ID)
	version, link := change, change
	version.Name, version.Meta, link.Meta = c.target.Path.Version(l.ID), nil, nil
	for _, f := range change.Meta {
		if sameField(f.Name, hdrDeleteAt) {
			link.Meta = append(link.Meta, f)
		} else {
			version.Meta = append(version.Meta, f)
		}
	}
	now, err := c.store.Stat(ctx, at)
	if err != nil {
		return nil, err
	}
	if now.Kind != engine.Live {
		return c.elsewhere(&to.state, &now), nil
	}
	of, err := c.store.Update(ctx, at, version, engine.Terms{})
	if err != nil {
		return nil, err
	}
	o, err := c.store.Update(ctx, c.at, link, engine.Terms{Check: func(s engine.State) error { return c.postable(s, change.MetaTime) }})
	if err != nil {
		return nil, err
	}
	if err := s.tellContainer(ctx, c, news{"PUT", version.Name, at.Hash, &of.After}, c.own("PUT", &o.After)); err != nil {
		return nil, err
	}
	return &backend.Response{Status: 202, Header: backend.Header{
		{Name: backend.BackendStamp, Value: o.After.Newest().String()},
		{Name: backend.DataStamp, Value: o.After.Time.String()},
		{Name: backend.VersionID, Value: l.ID.Normal()},
	}}, nil
}
