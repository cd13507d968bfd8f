package metadb

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
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
	if err != nil {
		return false, err
	}
	r := d.residents.acquire(loc.Hash)
	defer d.residents.release(r)
	r.gate.Lock() // before the database: who holds it open waits for nobody
	defer r.gate.Unlock()
	defer r.forget() // whoever comes next looks
	err = s.with(ctx, loc, s.open, func(d *disk, e *entry) error {
		return e.db.alone(func(t *Tx) error {
			now, err := t.state(loc.Hash)
			if err != nil || now != want {
				return err
			}
			if err := s.replaced(d, loc.Hash); err != nil {
				return err
			}
			e.db.fail(errDropped) // whatever comes of it, the file is looked for again
			if e.db.small == nil {
				path := s.path(loc)
				if err := d.fs.Remove(path); err != nil {
					return err
				}
				if err := d.syncDir(filepath.Dir(path)); err != nil {
					return err
				}
			}
			if err := s.unmark(d, e); err != nil { // last: a mark too many does no harm
				return err
			}
			dropped, e.db.gone = true, true
			return nil
		})
	})
	if errs.Is(err, errs.NotFound) {
		err = nil
	}
	return dropped && err == nil, err
}

// unmark removes what the shared file has of an open database: all of it, if it is small.
func (s *Store) unmark(d *disk, e *entry) error {
	if e.db.small != nil {
		if err := d.sound(e.hash, s.schema); err != nil {
			return err
		}
		if err := s.noLeftover(d, e.hash); err != nil {
			return err
		}
	} else if !s.track {
		return nil
	}
	puts := make([]small.Put, 0, 3)
	for _, in := range [...]small.Bucket{small.Values, small.Marks, small.Told} {
		puts = append(puts, small.Put{In: in, Key: e.hash})
	}
	return d.small.Commit(puts...)
}

// noLeftover makes it durable that a small database has no file of its own: one may have been
// removed by a process that was killed before that was synced, and would be the database once
// the value is gone.
func (s *Store) noLeftover(d *disk, hash name.Hash) error {
	dir := filepath.Dir(pathOf(d.Device, s.schema, hash))
	switch _, err := d.fs.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return errs.E(errs.BadDevice, err)
	}
	return d.syncDir(dir)
}

// state returns the database as peers compare it.
func (t *Tx) state(hash [16]byte) (replwire.Database, error) {
	d, err := t.Digest()
	return replwire.Database{Hash: hash, Incarnation: t.info.Incarnation, Change: t.LastChange(), Digest: d.Bytes()}, err
}
