package object

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/engine/blob"
)

// put stores an object. When it returns 201 data, metadata and name are on
// stable storage (see engine.Writer.Commit), and the container's listing has been
// told or the telling is durably queued. What was there before is to be read until then. That is so as well
// where a replica that was sent the same write a moment earlier has brought it here meanwhile. So is
// it of a commit (see coded.go), which attests that its fragments are on stable storage,
// on other devices as well: whoever sent it has seen to that before.
func (s *Server) put(ctx context.Context, c *call) (*backend.Response, error) {
	ts, err := s.parseWrite(c)
	if err != nil {
		return nil, err
	}
	if c.Header.Get(backend.ContentType) == "" {
		return nil, errs.Refuse(errs.Invalid, "No content type")
	}
	if err := c.parseDeleteAt(); err != nil {
		return nil, err
	}
	if err := c.parseCoded(); err != nil {
		return nil, err
	}
	if err := c.parseNew(); err != nil {
		return nil, err
	}
	check, err := c.putCheck(ctx, ts)
	if err != nil {
		return nil, err
	}
	at, path := c.at, c.target.Path
	if c.newVersion {
		at, path = c.versionAt(ts), path.Version(ts)
	}
	w, err := c.create(ctx, at)
	if err != nil {
		return nil, err
	}
	defer w.Close() //nolint:errcheck // nothing is kept by it: Commit has said what was
	if err := c.receive(w); err != nil {
		return nil, err
	}
	v, err := c.version(w, ts, path)
	if err != nil {
		return nil, err
	}
	_, etag := c.written(w, &v)
	if c.newVersion {
		return s.putVersion(ctx, c, w, v, check)
	}
	o, err := w.Commit(v, engine.Terms{Check: check, Merge: c.replication})
	if err != nil {
		var old *engine.StateError
		if mustBeNew(c) && errors.As(err, &old) && old.State.Kind == engine.Live && old.State.Time == ts {
			return nil, c.refuse(errs.Precondition, old.State)
		}
		return nil, err
	}
	_ = w.Close() // its buffer is not to wait for the container; Commit has synced the file
	if err := s.tellContainer(ctx, c, c.own("PUT", &o.After)); err != nil {
		return nil, err
	}
	if o.Already && mustBeNew(c) { // it may be somebody else's of the same time, and one alone may be told that his was new
		return nil, c.refuse(errs.Precondition, o.After)
	}
	var resp struct { // one piece of memory
		backend.Response
		fields [2]backend.Field
	}
	resp.fields = [...]backend.Field{{Name: backend.ETag, Value: etag}, {Name: backend.BackendStamp, Value: c.stampText(ts)}}
	resp.Status, resp.Header = 201, resp.fields[:]
	return &resp.Response, nil
}

// smallBody is the length in bytes up to which a body is taken in before anyone
// looks whether it is wanted: Commit looks anyway.
const smallBody = 64 << 10

// mustBeNew reports whether a PUT is to replace nothing.
func mustBeNew(c *call) bool { return c.Header.Get("If-None-Match") == "*" }

// putCheck returns the precondition of a PUT, nil for none, which Commit asks again, and its
// error where it is known before the body that it does not hold.
func (c *call) putCheck(ctx context.Context, ts timestamp.T) (func(engine.State) error, error) {
	mustBeNew := mustBeNew(c)
	if text := c.Header.Get("If-None-Match"); text != "" && !mustBeNew {
		return nil, errs.Refuse(errs.Invalid, "If-None-Match only supports *")
	}
	var check func(engine.State) error
	if mustBeNew || c.newVersion { // else there is nothing to ask, so that what is replaced need not be read
		check = func(s engine.State) error { return c.replaceable(s, ts, mustBeNew) }
	}
	if !mustBeNew && c.Length >= 0 && c.Length <= smallBody {
		return check, nil
	}
	s, err := c.store.Stat(ctx, c.at)
	if err != nil {
		return nil, err
	}
	if !c.replication && !c.newVersion && s.Time.After(ts) { // a version is kept all the same; what is of its time may be itself
		return nil, c.refuse(errs.Stale, s)
	}
	if check != nil {
		err = check(s)
	}
	return check, err
}

// replaceable returns why a PUT of a time can't replace what there is.
func (c *call) replaceable(s engine.State, ts timestamp.T, mustBeNew bool) error {
	// What is of this write's own time may be it itself, brought by a replica that had it earlier: Commit knows, and the listing hears of it.
	if mustBeNew && s.Kind == engine.Live && s.Time != ts && !c.gone(&s) {
		return c.refuse(errs.Precondition, s)
	}
	if c.newVersion {
		return c.keepable(&s)
	}
	return nil
}

// create begins what the body is to be kept in. Where its length is not known it goes by what the sender says, which
// decides nothing: see engine.Engine.CreateAbout.
func (c *call) create(ctx context.Context, at engine.Location) (*engine.Writer, error) {
	if c.Length < 0 {
		if about, err := strconv.ParseInt(c.Header.Get(backend.Announced), 10, 64); err == nil {
			return c.store.CreateAbout(ctx, at, about)
		}
	}
	return c.store.Create(ctx, at, c.Length)
}

// receive takes in the body. One that breaks off, or is not as long as it was
// announced, is of kind errs.Aborted.
func (c *call) receive(w *engine.Writer) error {
	const op errs.Op = "object.put"
	if c.Body != nil {
		var from io.Reader = c.Body
		if planted.CutUploadKept { // breaks: what has no commit is not kept
			from = endsAnyway{c.Body}
		}
		if _, err := w.ReadFrom(from); err != nil {
			var read *blob.ReadError
			if errors.As(err, &read) && errs.KindOf(err) == errs.Other || errs.Is(err, errs.TooLarge) && c.Length >= 0 {
				return errs.E(op, errs.Aborted, err)
			}
			return err
		}
	}
	if c.Length >= 0 && w.Length() != c.Length {
		return errs.E(op, errs.Aborted, fmt.Errorf("body of %d bytes, %d announced: %w", w.Length(), c.Length, io.ErrUnexpectedEOF))
	}
	return nil
}

// endsAnyway is a body that ends where it breaks off: what planted.CutUploadKept makes of one.
type endsAnyway struct{ io.Reader }

func (r endsAnyway) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// version is what the object is to be. The commit, in the header or behind the
// body, must be there and name the bytes that came.
func (c *call) version(w *engine.Writer, ts timestamp.T, path name.Path) (engine.Version, error) {
	v := engine.Version{Time: ts, Name: path, ContentType: c.Header.Get(backend.ContentType)}
	etag := c.commit(backend.CommitETag)
	if planted.CutUploadKept && etag == "" { // as in receive
		v.System, v.Meta = c.fields()
		return v, nil
	}
	if etag == "" {
		return v, errNoCommit
	}
	if n, err := hex.Decode(v.MD5[:], []byte(etag[:min(len(etag), 32)])); err != nil || n != len(v.MD5) || len(etag) != 32 {
		return v, errs.Refuse(errs.Invalid, "%s is not an MD5", backend.CommitETag)
	}
	if err := c.sum(w); err != nil {
		return v, err
	}
	v.System, v.Meta = c.fields()
	return v, c.asCommit(&v, w.Length())
}

var errNoCommit = errs.Refuse(errs.Invalid, "the body has no commit")

// sum compares the checksum that the commit has with that of the bytes that came.
func (c *call) sum(w *engine.Writer) error {
	crc := c.commit(backend.CommitCRC)
	if crc == "" {
		return errNoCommit
	}
	sum, err := strconv.ParseUint(crc, 16, 32)
	if err != nil || len(crc) != 8 {
		return errs.Refuse(errs.Invalid, "%s is not a checksum", backend.CommitCRC)
	}
	if uint32(sum) != w.CRC() {
		return errs.E(errs.Op("object.put"), errs.Mismatch, fmt.Errorf("received %d bytes with checksum %08x, sent was %08x", w.Length(), w.CRC(), sum))
	}
	return nil
}

func (c *call) commit(name string) string {
	if v := c.Trailer.Get(name); v != "" {
		return v
	}
	return c.Header.Get(name)
}

// post replaces an object's metadata, and its content type if one is sent. When
// it returns 202 that is on stable storage, and the container's listing has been
// told or the telling is durably queued.
func (s *Server) post(ctx context.Context, c *call) (*backend.Response, error) {
	ts, err := s.parseWrite(c)
	if err != nil {
		return nil, err
	}
	if err := c.parseDeleteAt(); err != nil {
		return nil, err
	}
	change := engine.Change{Name: c.target.Path, MetaTime: ts, ContentType: c.Header.Get(backend.ContentType)}
	_, change.Meta = c.fields()
	if change.ContentType != "" {
		change.ContentTypeTime = ts
		if text := c.Header.Get(hdrTypeStamp); text != "" && c.replication {
			if change.ContentTypeTime, err = timestamp.Parse(text); err != nil {
				return nil, errs.E(errs.Invalid, errs.Public(hdrTypeStamp+" is not a timestamp"), err)
			}
		}
	}
	terms := engine.Terms{Merge: c.replication}
	if !c.replication {
		terms.Check = func(s engine.State) error { return cmp.Or(c.postable(s, ts), isPlain(&s)) }
	}
	o, err := c.store.Update(ctx, c.at, change, terms)
	var to *linked
	if errors.As(err, &to) {
		return s.postVersion(ctx, c, to, change)
	}
	if err != nil {
		return nil, err
	}
	if err := s.tellContainer(ctx, c, c.own("PUT", &o.After)); err != nil {
		return nil, err
	}
	h := append(make(backend.Header, 0, 2+len(o.After.System)),
		backend.Field{Name: backend.BackendStamp, Value: o.After.Newest().String()},
		backend.Field{Name: backend.DataStamp, Value: o.After.Time.String()},
	)
	// Only now is it known what the object is: who sent the request may have to tell
	// its client.
	return &backend.Response{Status: 202, Header: append(h, o.After.System...)}, nil
}

// postable returns why a client can't change the metadata of an object. One that had
// expired when the change was made is not there for it, also where this server's clock
// is behind: every replica judges by the same stamp.
func (c *call) postable(s engine.State, ts timestamp.T) error {
	if c.goneBy(&s, ts.Seconds()) {
		return c.refuse(errs.NotFound, s)
	}
	if err := c.visible(s); err != nil {
		return err
	}
	_, _, err := whole(&s)
	return err
}

// delete puts a tombstone in the place of an object, or of nothing. When it
// returns 204 or 404 that is on stable storage, and the container's listing has
// been told or the telling is durably queued.
func (s *Server) delete(ctx context.Context, c *call) (*backend.Response, error) {
	ts, err := s.parseWrite(c)
	if err != nil {
		return nil, err
	}
	if truth(c.Header.Get(backend.NewVersion)) && !c.replication {
		return s.deleteVersion(ctx, c, ts)
	}
	terms := engine.Terms{Merge: c.replication}
	if text := c.Header.Get(hdrIfDeleteAt); text != "" {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return nil, errs.Refuse(errs.Invalid, "Bad X-If-Delete-At header value")
		}
		c.expired = true // it is the expirer, who sees what is past its time
		terms.Check = func(s engine.State) error { return c.mustExpire(s, text, ts) }
	}
	if c.replication && ts.IsExpiry() {
		terms.Check = func(s engine.State) error { return c.due(s, ts) }
	}
	terms.Merge = terms.Merge || ts.IsExpiry() // metadata that it does not know of makes it void
	o, err := c.store.Delete(ctx, c.at, c.target.Path, ts, terms)
	if err != nil {
		return nil, err
	}
	if err := s.tellContainer(ctx, c, c.own("DELETE", &o.After)); err != nil {
		return nil, err
	}
	resp := &backend.Response{Status: 204, Header: backend.Header{{Name: backend.BackendStamp, Value: c.stampText(ts)}}}
	if b := &o.Before; !o.Already && (b.Kind == engine.Absent || b.Kind == engine.Deleted || c.gone(b)) {
		resp.Status = 404
	}
	return resp, nil
}

// due returns why another replica can't have ended an object yet: it is not due by this
// server's clock, so that of the other is wrong. Where this one holds another state than
// what was ended it goes by what the stamp says, in parseWrite.
func (c *call) due(s engine.State, ts timestamp.T) error {
	at, ok := s.DeleteAt()
	if s.Kind == engine.Live && ok && s.Expiry() == ts && c.ahead(time.Unix(at, 0)) {
		return errs.Refuse(errs.Invalid, "the object is to end more than %v ahead of this server's clock", c.skew)
	}
	return nil
}

// mustExpire returns why an object is not the one that is to expire at a time.
func (c *call) mustExpire(s engine.State, deleteAt string, ts timestamp.T) error {
	switch {
	case s.Kind == engine.Lost:
		return c.refuse(errs.Corrupt, s)
	case !s.Time.Before(ts):
		return c.refuse(errs.Stale, s)
	case s.Kind != engine.Live:
		return c.refuse(errs.NotFound, s)
	case strings.TrimSpace(s.Meta.Get(hdrDeleteAt)) != deleteAt:
		return c.refuse(errs.Precondition, s)
	}
	return nil
}
