package engine

import (
	"context"
	"errors"
	"io"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// Terms say under which terms a write is taken.
type Terms struct {
	// Check, where not nil, is asked with the state that the write would replace,
	// while nothing else can change it. Its error is returned as it is, and
	// nothing is written. It must not call the engine.
	Check func(State) error

	// Merge says that the write comes from another replica: it is joined with
	// what is there, whatever the order. Without it a write must be newer than
	// what it replaces, and there must be an object to update.
	Merge bool
}

// Version is what Commit is told of the data it keeps.
type Version struct {
	Time        timestamp.T
	Name        name.Path
	MD5         [16]byte
	ContentType string
	System      backend.Header // fields that stay as long as the data
	Meta        backend.Header // fields that an update replaces
}

// Outcome is what a write has done: the state of the name before it and after.
// With an error only Before says anything, where it was known.
type Outcome struct {
	Before, After State
}

// A Writer takes the data of one object. Nobody sees it before Commit. It must
// be closed, and is not safe for concurrent use.
type Writer struct {
	engine *store
	at     Location
	blob   *blob.Writer
}

// Create is Engine.Create.
func (e *store) Create(ctx context.Context, at Location, size int64) (*Writer, error) {
	const op errs.Op = "engine.create"
	if err := e.reserve(max(size, 0)); err != nil {
		return nil, e.wrap(op, at, err)
	}
	if err := e.ensure(at); err != nil {
		return nil, e.wrap(op, at, err)
	}
	w, err := blob.Create(ctx, e.cfg.FS, e.folder(at), size, e.cfg.Buffers)
	if err != nil {
		return nil, e.wrap(op, at, err)
	}
	return &Writer{engine: e, at: at, blob: w}, nil
}

// reserve returns an error of kind errs.NoSpace if size bytes more would leave
// less than the reserve.
func (e *store) reserve(size int64) error {
	if e.cfg.Reserve <= 0 {
		return nil
	}
	u, err := e.cfg.FS.Usage(e.root)
	if err != nil {
		return err
	}
	if float64(u.Available-size) < e.cfg.Reserve*float64(u.Total) {
		return errs.E(errs.NoSpace, "what is left is the device's reserve")
	}
	return nil
}

// Write appends data.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.blob.Write(p)
	return n, w.engine.wrap("engine.write", w.at, err)
}

// looks is how many bytes come between two looks at the room on the device.
const looks = 256 << 20

// ReadFrom appends all that r has, straight into the buffer that goes to disk.
// An error of r is a *blob.ReadError of no kind but that of its cause.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for {
		part := io.LimitedReader{R: r, N: looks}
		n, err := w.blob.ReadFrom(&part)
		total += n
		if err != nil || part.N > 0 {
			return total, w.engine.wrap("engine.write", w.at, err)
		}
		if err := w.engine.reserve(0); err != nil {
			return total, w.engine.wrap("engine.write", w.at, err)
		}
	}
}

// Length returns how many bytes were written.
func (w *Writer) Length() int64 { return w.blob.Length() }

// CRC returns the CRC32C of what was written.
func (w *Writer) CRC() uint32 { return w.blob.CRC() }

// Commit makes the data the newest version of its name. The error is of kind errs.Stale, with a *StateError, where
// what is there is not older.
//
// When it returns nil, data and header have been synced (fdatasync), then the
// name was given, and the directory that holds it synced, like every directory
// above it that was made for it: the object survives any crash. When it returns
// an error, the name has the old version or, where the last sync failed, perhaps
// the new one, whole.
func (w *Writer) Commit(v Version, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.commit"
	e, at := w.engine, w.at
	h := blob.Header{
		Kind: blob.Data, Hash: at.Hash, Time: v.Time, MD5: v.MD5,
		Name: v.Name, ContentType: v.ContentType, System: v.System, Meta: v.Meta,
	}
	if err := w.blob.Seal(h); err != nil {
		return Outcome{}, e.wrap(op, at, err)
	}
	h.Length, h.CRC = w.blob.Length(), w.blob.CRC()
	o, err := e.replace(op, at, &h, terms, func() (linker, error) { return w.blob.Link, nil })
	return o, e.wrap(op, at, err)
}

// Close gives back what the writer holds. Data that was not committed is gone.
func (w *Writer) Close() error { return w.engine.wrap("engine.write", w.at, w.blob.Close()) }

// Delete is Engine.Delete.
func (e *store) Delete(ctx context.Context, at Location, path name.Path, ts timestamp.T, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.delete"
	if err := ctx.Err(); err != nil {
		return Outcome{}, errs.E(op, errs.Aborted, err)
	}
	if err := e.ensure(at); err != nil {
		return Outcome{}, e.wrap(op, at, err)
	}
	h := blob.Header{Kind: blob.Tombstone, Hash: at.Hash, Time: ts, Name: path}
	var file vfs.File
	o, err := e.replace(op, at, &h, terms, func() (l linker, err error) {
		file, l, err = e.put(at, h)
		return l, err
	})
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return o, e.wrap(op, at, err)
}

// linker gives a synced file a name.
type linker func(name string) error

// put writes and syncs a file without data.
func (e *store) put(at Location, h blob.Header) (vfs.File, linker, error) {
	f, err := blob.Put(e.cfg.FS, e.folder(at), h)
	if err != nil {
		return nil, nil, err
	}
	return f, func(name string) error { return e.cfg.FS.Link(f, name) }, nil
}

// replace puts data or a tombstone in its place if it wins.
func (e *store) replace(op errs.Op, at Location, h *blob.Header, terms Terms, file func() (linker, error)) (Outcome, error) {
	defer e.lock(at.Hash).Unlock()
	p, err := e.loadLocked(at)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Before: p.state()}
	if terms.Check != nil {
		if err := terms.Check(o.Before); err != nil {
			return o, err
		}
	}
	stale := !o.Before.Time.Before(h.Time)
	if terms.Merge {
		stale = p.data.Kind != 0 && compareData(h, &p.data) <= 0 || p.dataLost() && h.Time.Before(p.lost.Time)
	}
	if stale {
		return o, e.stale(op, at, o.Before)
	}
	link, err := file()
	if err != nil {
		return o, err
	}
	if err := e.place(at, extData, p.data.Kind != 0, link); err != nil {
		return o, err
	}
	e.forget(at, &p, h.Time)
	p.data = *h
	o.After = p.state()
	return o, nil
}

// stale is the answer to a write that lost: its sender relies on what won. That
// may be a name which somebody who was killed did not come to sync.
func (e *store) stale(op errs.Op, at Location, s State) error {
	if err := e.names.Settle(e.folder(at)); err != nil {
		return err
	}
	return refuse(op, at, errs.Stale, s)
}

// place gives the synced file of a part its name, durably and atomically.
func (e *store) place(at Location, ext string, taken bool, link linker) error {
	return e.names.Place(e.folder(at), at.Hash.String()+ext, taken, link)
}

// forget removes what data of a time has superseded and made durable. What
// can't be removed does no harm: the join leaves it out.
func (e *store) forget(at Location, p *parts, data timestamp.T) {
	newest := timestamp.Max(p.meta.MetaTime, p.meta.ContentTypeTime)
	for _, part := range []struct {
		ext  string
		dead bool
	}{
		{extLost, p.lost.Kind != 0},
		{extMeta, p.meta.Kind != 0 && !newest.After(data)},
	} {
		if !part.dead {
			continue
		}
		if err := e.cfg.FS.Remove(e.file(at, part.ext)); err != nil {
			e.cfg.Log.Warn("superseded file stays", "device", e.root, "object", at.String(), "part", part.ext, "err", err)
		}
	}
}

// Change is new metadata, a new content type, or both; the time of what is not
// given is zero.
type Change struct {
	Name            name.Path
	MetaTime        timestamp.T
	Meta            backend.Header
	ContentTypeTime timestamp.T
	ContentType     string
}

// Update is Engine.Update.
func (e *store) Update(ctx context.Context, at Location, c Change, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.update"
	if err := ctx.Err(); err != nil {
		return Outcome{}, errs.E(op, errs.Aborted, err)
	}
	if err := e.ensure(at); err != nil {
		return Outcome{}, e.wrap(op, at, err)
	}
	o, err := e.update(op, at, c, terms)
	return o, e.wrap(op, at, err)
}

func (e *store) update(op errs.Op, at Location, c Change, terms Terms) (Outcome, error) {
	defer e.lock(at.Hash).Unlock()
	p, err := e.loadLocked(at)
	if err != nil {
		return Outcome{}, err
	}
	o := Outcome{Before: p.state()}
	if terms.Check != nil {
		if err := terms.Check(o.Before); err != nil {
			return o, err
		}
	}
	if !terms.Merge {
		if err := updatable(op, at, o.Before, c); err != nil {
			return o, err
		}
	}
	h := blob.Header{
		Kind: blob.Meta, Hash: at.Hash, Name: c.Name,
		MetaTime: c.MetaTime, Meta: c.Meta, ContentTypeTime: c.ContentTypeTime, ContentType: c.ContentType,
	}
	old := p.meta
	if old.Kind == blob.Lost {
		if !repairs(&old, &h, p.data.Time) {
			return o, refuse(op, at, errs.Corrupt, o.Before)
		}
		old = blob.Header{}
	}
	next, changed := joinMeta(&old, &h, p.data.Time)
	if !changed {
		return o, e.stale(op, at, o.Before)
	}
	next.Hash, next.Name = at.Hash, c.Name
	file, link, err := e.put(at, next)
	if err != nil {
		return o, err
	}
	taken := p.meta.Kind != 0
	if err := errors.Join(e.place(at, extMeta, taken, link), file.Close()); err != nil {
		return o, err
	}
	p.meta = next
	o.After = p.state()
	return o, nil
}

// updatable returns why a client's update can't be taken.
func updatable(op errs.Op, at Location, s State, c Change) error {
	switch {
	case s.Kind == Lost:
		return refuse(op, at, errs.Corrupt, s)
	case s.Kind != Live:
		return refuse(op, at, errs.NotFound, s)
	case !s.Newest().Before(c.MetaTime):
		return refuse(op, at, errs.Stale, s)
	}
	return nil
}

// Drop is Engine.Drop.
func (e *store) Drop(ctx context.Context, at Location, still func(*State) bool) (bool, error) {
	const op errs.Op = "engine.drop"
	if err := ctx.Err(); err != nil {
		return false, errs.E(op, errs.Aborted, err)
	}
	defer e.lock(at.Hash).Unlock()
	p, err := e.loadLocked(at)
	if err != nil {
		return false, e.wrap(op, at, err)
	}
	now := p.state()
	if now.Kind == Absent && now.Newest().IsZero() || !still(&now) {
		return false, nil
	}
	dir := e.folder(at)
	if err := e.names.Trusted(dir); err != nil {
		return false, err
	}
	// The data goes first: metadata alone is nothing to a reader.
	for _, part := range []struct {
		ext string
		h   *blob.Header
	}{{extData, &p.data}, {extLost, &p.lost}, {extMeta, &p.meta}} {
		if part.h.Kind == 0 {
			continue
		}
		if err := e.cfg.FS.Remove(e.file(at, part.ext)); err != nil {
			return false, e.wrap(op, at, err)
		}
	}
	return true, e.wrap(op, at, e.names.Sync(dir))
}
