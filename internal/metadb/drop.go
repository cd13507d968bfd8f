package metadb

import (
	"context"
	"errors"
	"path/filepath"

	"martlet/internal/errs"
	"martlet/internal/replwire"
)

// errDropped is why a database that was dropped is of no more use. Whoever meets
// it looks anew what is there.
var errDropped = errors.New("the database was dropped")

// drop removes a database that is in exactly that state, and reports whether it
// was. Writers come before it, and then it isn't, or after it, and find no
// database. When it returns true the file is gone durably.
func (s *Store) drop(ctx context.Context, loc Location, want replwire.Database) (dropped bool, err error) {
	d, err := s.disk(ctx, loc)
	if err == nil {
		_, err = s.attach(ctx, d)
	}
	if err != nil {
		return false, err
	}
	// The gate comes before the open database, as for those who append: they may open it.
	r := d.residents.acquire(loc.Hash)
	defer d.residents.release(r)
	r.gate.Lock()
	defer r.gate.Unlock()
	err = s.withOn(ctx, d, loc, s.open, func(d *disk, e *entry) error {
		defer r.known.Store(nil) // whoever comes next looks
		defer r.report.Store(nil)
		return e.db.alone(func(t *Tx) error {
			now, err := t.state(loc.Hash)
			if err != nil || now != want {
				return err
			}
			e.db.fail(errDropped) // whatever comes of it, the file is looked for again
			path := s.path(loc)
			if err := d.fs.Remove(path); err != nil {
				return err
			}
			dropped = true
			return d.syncDir(filepath.Dir(path))
		})
	})
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return dropped && err == nil, err
}

// state returns the database as peers compare it.
func (t *Tx) state(hash [16]byte) (replwire.Database, error) {
	d, err := t.Digest()
	return replwire.Database{Hash: hash, Incarnation: t.info.Incarnation, Change: t.LastChange(), Digest: d.Bytes()}, err
}
