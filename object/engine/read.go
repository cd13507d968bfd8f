package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// damaged is the error of a part whose file is not whole.
type damaged struct {
	ext    string
	header blob.Header // what can be read of it
	err    error
}

func (d *damaged) Error() string { return d.ext + ": " + d.err.Error() }
func (d *damaged) Unwrap() error { return d.err }

// header reads one part. One that is not there is the zero Header.
func (e *store) header(at Location, ext string) (blob.Header, error) {
	f, err := e.cfg.FS.Open(e.file(at, ext))
	if errors.Is(err, fs.ErrNotExist) {
		return blob.Header{}, nil
	}
	if err != nil {
		return blob.Header{}, err
	}
	h, err := blob.ReadHeader(f)
	if err = checkHeader(at, ext, &h, err); err != nil {
		return h, errors.Join(err, f.Close())
	}
	return h, f.Close()
}

// checkHeader sees to it that a file is what its name says.
func checkHeader(at Location, ext string, h *blob.Header, err error) error {
	if err == nil {
		fits := h.Kind == blob.Lost && ext != extData
		switch ext {
		case extData:
			fits = h.Kind == blob.Data || h.Kind == blob.Tombstone
		case extMeta:
			fits = fits || h.Kind == blob.Meta
		}
		if h.Hash == at.Hash && fits {
			return nil
		}
		err = fmt.Errorf("%w: it belongs under another name", blob.ErrCorrupt)
		*h = blob.Header{}
	}
	if errors.Is(err, blob.ErrCorrupt) {
		return &damaged{ext, *h, err}
	}
	return err
}

// load reads the parts of a name. The metadata comes first: data removes the
// metadata that it supersedes, so that old metadata is never seen beside data
// which replaced what it was for.
func (e *store) load(at Location) (p parts, err error) {
	if p.meta, err = e.header(at, extMeta); err != nil {
		return p, err
	}
	// Between a look for the data and one for the mark both can change once.
	for range 2 {
		if p.data, err = e.header(at, extData); err != nil || p.data.Kind != 0 {
			return p, err
		}
		if p.lost, err = e.header(at, extLost); err != nil || p.lost.Kind != 0 {
			return p, err
		}
	}
	return p, nil
}

// loadLocked reads all parts for a writer who holds the lock. What is damaged
// goes to quarantine.
func (e *store) loadLocked(at Location) (p parts, err error) {
	for range 4 { // at most one damaged file of each name
		err = e.loadAll(at, &p)
		var bad *damaged
		if !errors.As(err, &bad) {
			return p, err
		}
		if err := e.isolate(at, bad); err != nil {
			return p, err
		}
	}
	return p, err
}

func (e *store) loadAll(at Location, p *parts) (err error) {
	if p.meta, err = e.header(at, extMeta); err != nil {
		return err
	}
	if p.data, err = e.header(at, extData); err != nil {
		return err
	}
	p.lost, err = e.header(at, extLost)
	return err
}

// Stat is Engine.Stat.
func (e *store) Stat(ctx context.Context, at Location) (State, error) {
	const op errs.Op = "engine.stat"
	for {
		if err := ctx.Err(); err != nil {
			return State{}, errs.E(op, errs.Aborted, err)
		}
		p, err := e.load(at)
		if err == nil {
			return p.state(), nil
		}
		var bad *damaged
		if !errors.As(err, &bad) {
			return State{}, e.wrap(op, at, err)
		}
		if err := e.quarantine(at, bad); err != nil {
			return State{}, e.wrap(op, at, errs.E(errs.Corrupt, errors.Join(bad, err)))
		}
	}
}

// A Reader reads the data of one version, also after it was superseded. It must
// be closed, and is not safe for concurrent use.
type Reader struct {
	engine  *store
	at      Location
	file    vfs.File
	blob    *blob.Reader
	header  blob.Header
	state   State
	dropped int64 // up to where the page cache has been told to forget
}

// Open is Engine.Open.
func (e *store) Open(ctx context.Context, at Location) (*Reader, error) {
	const op errs.Op = "engine.open"
	for {
		r, err := e.open(ctx, at)
		if err == nil {
			return r, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, errs.E(op, errs.Aborted, err)
		}
		var bad *damaged
		if errors.As(err, &bad) {
			if err := e.quarantine(at, bad); err != nil {
				return nil, e.wrap(op, at, errs.E(errs.Corrupt, errors.Join(bad, err)))
			}
			continue
		}
		if !errors.Is(err, errNoData) {
			return nil, e.wrap(op, at, err)
		}
		s, err := e.Stat(ctx, at)
		switch {
		case err != nil:
			return nil, err
		case s.Kind == Lost:
			return nil, refuse(op, at, errs.Corrupt, s)
		case s.Kind != Live:
			return nil, refuse(op, at, errs.NotFound, s)
		}
		// An object has come meanwhile: look again.
	}
}

var errNoData = errors.New("no data to read")

// open opens the data file if that is all it takes.
func (e *store) open(ctx context.Context, at Location) (*Reader, error) {
	meta, err := e.header(at, extMeta) // before the data: see load
	if err != nil {
		return nil, err
	}
	f, err := e.cfg.FS.Open(e.file(at, extData))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoData
	}
	if err != nil {
		return nil, err
	}
	r, h, err := blob.Open(ctx, f, e.cfg.Buffers)
	if err = checkHeader(at, extData, &h, err); err == nil {
		p := parts{data: h, meta: meta}
		s := p.state()
		if s.Kind == Live {
			return &Reader{engine: e, at: at, file: f, blob: r, header: h, state: s}, nil
		}
		err = errNoData
	}
	if r != nil {
		r.Close()
	}
	return nil, errors.Join(err, f.Close())
}

// State returns what was under the name when it was opened.
func (r *Reader) State() *State { return &r.state }

// Version returns what was committed with the data: unlike in State nothing later
// has taken the place of any of it.
func (r *Reader) Version() Version {
	h := &r.header
	return Version{Time: h.Time, Name: h.Name, MD5: h.MD5, ContentType: h.ContentType, System: h.System, Meta: h.Meta}
}

// View returns checked bytes from off on: at least one, at most n, valid until
// the next call. At the end of the data it returns io.EOF. An error of kind
// errs.Corrupt means that the bytes there are damaged; the version is then in
// quarantine.
func (r *Reader) View(off, n int64) ([]byte, error) {
	b, err := r.blob.View(off, n)
	if err == nil {
		r.forget(off)
		return b, nil
	}
	if errors.Is(err, blob.ErrCorrupt) {
		if qErr := r.engine.quarantine(r.at, &damaged{extData, r.header, err}); qErr != nil {
			err = fmt.Errorf("%w; and it could not be put into quarantine: %w", err, qErr)
		}
		return nil, errs.E(errs.Op("engine.read"), errs.Subject(r.at.String()), errs.Corrupt, err)
	}
	return nil, eofOr(err, r.engine, r.at)
}

// forgetEvery is how many bytes are read between two words to the page cache.
const forgetEvery = 8 << 20

// forget tells the page cache that what came before off is not needed, where the
// object is one that it should not keep.
func (r *Reader) forget(off int64) {
	if r.state.Length <= r.engine.cfg.KeepCache || off-r.dropped < forgetEvery {
		return
	}
	_ = r.file.DropCache(blob.PageSize+r.dropped, off-r.dropped) // advice: nothing depends on it
	r.dropped = off
}

// Close gives back what the reader holds. It may be called again.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	if r.state.Length > r.engine.cfg.KeepCache {
		_ = r.file.DropCache(0, 0) // advice: nothing depends on it
	}
	r.blob.Close()
	f := r.file
	r.file = nil
	return r.engine.wrap("engine.read", r.at, f.Close())
}
