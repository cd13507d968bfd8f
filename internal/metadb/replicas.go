package metadb

import (
	"context"
	"iter"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
)

// Replicas is a Store as its replication sees it: databases by the name of their
// device and their hash, what they hold as it travels.
type Replicas struct{ store *Store }

// Replicas returns the store as its replication sees it.
func (s *Store) Replicas() Replicas { return Replicas{s} }

func (r Replicas) at(dev string, h name.Hash) (Location, error) {
	for d := range r.store.disks {
		if d.Name() == dev {
			return Location{d, h}, nil
		}
	}
	return Location{}, errs.E(errs.Op("metadb.replicas"), errs.Subject(dev), errs.BadDevice, "not a device of this store")
}

// Walk yields the hashes of the databases on a device from `from` to `to`, both
// included, in order. A folder that can't be read is an error beside a zero hash,
// and the walk goes on.
func (r Replicas) Walk(ctx context.Context, dev string, from, to name.Hash) iter.Seq2[name.Hash, error] {
	at, err := r.at(dev, from)
	if err != nil {
		return func(yield func(name.Hash, error) bool) { yield(name.Hash{}, err) }
	}
	return r.store.walkRange(ctx, at.Device, from, to)
}

// State returns a database as peers compare it; all of that is on stable storage.
// The error is of kind errs.NotFound where there is none, or it may be forgotten (see
// Reclaim), and errs.Corrupt where it can't be read.
func (r Replicas) State(ctx context.Context, dev string, h name.Hash) (d replwire.Database, err error) {
	at, err := r.at(dev, h)
	if err != nil {
		return d, err
	}
	// A look would also see what is not durable yet: a commit under way, or one
	// that a process before this one did not sync.
	err = r.store.Update(ctx, at, func(tx *Tx) error {
		if d, err = tx.present(h, r.store.horizon()); err != nil {
			return err
		}
		if _, ok, err := tx.storedDigest(); err != nil || !ok {
			tx.touch = err == nil // let it be stored, and not be added up each time
		}
		return err
	})
	return d, err
}

// Part reads what of a database comes after a cursor, of bounded size. The error is as of
// State.
func (r Replicas) Part(ctx context.Context, dev string, h name.Hash, after replwire.Cursor) (p replwire.Part, err error) {
	at, err := r.at(dev, h)
	if err != nil {
		return p, err
	}
	err = r.store.look(ctx, at, func(tx *Tx) error {
		if p.Database, err = tx.present(h, r.store.horizon()); err != nil {
			return err
		}
		return tx.appendPart(&p, after, r.store.cfg.part)
	})
	return p, err
}

// Merge merges a part of another replica of the database of a path, in one
// transaction, and makes the database if there is none. It returns the state of
// the database after that; both are on stable storage then. A part that is not one
// of that database, or has anything in it that can't be read, is of kind
// errs.Invalid, and nothing of it is merged. Left out is what is dead, before the
// horizon, and has nothing here to end; where that is all, and there is no database, none is
// made, and the error is of kind errs.Gone.
func (r Replicas) Merge(ctx context.Context, dev string, path name.Path, h name.Hash, body []byte) (d replwire.Database, err error) {
	const op errs.Op = "metadb.merge"
	at, err := r.at(dev, h)
	if err != nil {
		return d, err
	}
	p, err := openPart(r.store.schema, body)
	if err == nil {
		err = p.fits(path)
	}
	if err != nil {
		return d, r.store.wrap(op, at, err)
	}
	err = r.store.Ensure(ctx, at, p.info, func(tx *Tx) error {
		if err := tx.merge(p, r.store.horizon()); err != nil {
			return err
		}
		d, err = tx.state(h)
		return err
	})
	return d, err
}

// Known returns what the replica of an incarnation is known to have: the rows of
// this database up to the change number ours, when its own latest was theirs. Both
// are 0 if nothing is known.
func (r Replicas) Known(ctx context.Context, dev string, h name.Hash, peer [16]byte) (ours, theirs uint64, err error) {
	at, err := r.at(dev, h)
	if err != nil {
		return 0, 0, err
	}
	var k Known
	err = r.store.look(ctx, at, func(tx *Tx) (err error) { k, err = tx.Known(peer); return err })
	return k.Ours, k.Theirs, err
}

// SetKnown remembers what Known is to return, in the database itself: what is
// known of it does not outlive it, nor stay where an older state of it is put back.
func (r Replicas) SetKnown(ctx context.Context, dev string, h name.Hash, peer [16]byte, ours, theirs uint64) error {
	at, err := r.at(dev, h)
	if err != nil {
		return err
	}
	return r.store.UpdateApart(ctx, at, func(tx *Tx) error {
		if ours > tx.LastChange() {
			return nil // said of what was here before
		}
		return tx.SetKnown(peer, Known{ours, theirs})
	})
}

// Told reports whether the owner of the listing was ever told by this replica what there is of a database.
func (r Replicas) Told(ctx context.Context, dev string, h name.Hash) (told bool, err error) {
	at, err := r.at(dev, h)
	if err != nil {
		return false, err
	}
	err = r.store.look(ctx, at, func(tx *Tx) error {
		was, err := tx.Reported()
		told = was != Report{}
		return err
	})
	return told, err
}

// Retell has the owner of the listing be told of a database as if it had never been, also after a start.
func (r Replicas) Retell(ctx context.Context, dev string, h name.Hash) error {
	at, err := r.at(dev, h)
	if err == nil {
		err = r.store.SetReported(ctx, at, Report{})
	}
	if err == nil {
		r.store.MarkChanged(at)
	}
	return err
}

// Drop removes a database that is in exactly that state and reports whether it
// was. It is gone durably then.
func (r Replicas) Drop(ctx context.Context, dev string, d replwire.Database) (bool, error) {
	const op errs.Op = "metadb.drop"
	at, err := r.at(dev, d.Hash)
	if err != nil {
		return false, err
	}
	dropped, err := r.store.drop(ctx, at, d)
	return dropped, r.store.wrap(op, at, err)
}
