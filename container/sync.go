package container

import (
	"context"

	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// The metadata of a container that is synced to another cluster, and of one that
// keeps versions.
const (
	fieldSyncTo   = "X-Container-Sync-To"
	fieldSyncKey  = "X-Container-Sync-Key"
	fieldVersions = "X-Container-Sysmeta-Versions-Enabled"
)

// FieldMerged implements metadb.FieldWatcher.
func (s schema) FieldMerged(path name.Path, field string) {
	if s.synced != nil && (field == fieldSyncTo || field == fieldSyncKey) {
		s.synced.add(path)
	}
}

// Synced returns the containers that may be synced to other clusters, as far as that
// is known, in any order.
func (s *Server) Synced() []name.Path { return s.synced.all() }

// NotSynced says that a container is not synced. When that has been said again after a while it
// is taken off Synced, until it is told anew where to sync to.
func (s *Server) NotSynced(p name.Path) { s.synced.not(p) }

// FindSynced looks at all containers of a device, so that Synced has those that were
// synced before the start. wait is called before each.
func (s *Server) FindSynced(ctx context.Context, dev string, wait func(context.Context) error) error {
	return s.lookAtAll(ctx, dev, wait, func(tx *metadb.Tx) error {
		is, err := syncOf(tx)
		if err == nil && is.To != "" && is.Key != "" {
			s.synced.add(is.Path)
		}
		return err
	})
}

// lookAtAll looks at all containers of a device. wait is called before each; its error ends it, that of one container
// does not.
func (s *Server) lookAtAll(ctx context.Context, dev string, wait func(context.Context) error, look func(*metadb.Tx) error) error {
	d, err := s.core.Devices.Lookup(dev)
	if err != nil {
		return err
	}
	var failed error
	for h, err := range s.core.Store.Walk(ctx, d) {
		if err == nil {
			if err := wait(ctx); err != nil {
				return err
			}
			err = s.core.Store.View(ctx, metadb.Location{Device: d, Hash: h}, look)
		}
		if err != nil && !errs.Is(err, errs.NotFound) {
			failed = err // the others may well be read; whoever audits tells of this one
		}
	}
	return failed
}

// Sync is what a replica says of how its container is synced.
type Sync struct {
	Path      name.Path
	To, Key   string // empty where it is not
	Policy    policy.Index
	Versioned bool

	// Incarnation is of the replica: numbers of changes are of this one alone.
	Incarnation [16]byte
}

// A ChangedRow is a row of a listing, and the number of its latest change.
type ChangedRow struct {
	Number uint64
	Policy policy.Index
	Name   string
	Row
}

// SyncOf returns what a replica says. The error is of kind errs.NotFound where there is
// none, or the container is deleted. A container that is synced as one says is not forgotten for what
// another replica of the node says.
func (s *Server) SyncOf(ctx context.Context, dev string, p name.Path) (is Sync, err error) {
	err = s.viewReplica(ctx, dev, p, func(tx *metadb.Tx) error {
		isGone, err := deleted(tx)
		if err == nil && isGone {
			err = errs.E(errs.NotFound)
		}
		if err == nil {
			is, err = syncOf(tx)
		}
		return err
	})
	if err == nil && is.To != "" && is.Key != "" {
		s.synced.add(p)
	}
	return is, err
}

func syncOf(tx *metadb.Tx) (Sync, error) {
	i := tx.Info()
	is := Sync{Path: i.Path, Policy: i.Policy, Incarnation: i.Incarnation}
	fields, err := tx.Fields()
	for _, f := range fields {
		switch f.Name {
		case fieldSyncTo:
			is.To = f.Value
		case fieldSyncKey:
			is.Key = f.Value
		case fieldVersions:
			is.Versioned = f.Value != ""
		}
	}
	return is, err
}

// SyncChanges returns up to limit rows of a replica that changed after a change number, in
// order. Numbers are of this replica alone.
func (s *Server) SyncChanges(ctx context.Context, dev string, p name.Path, since uint64, limit int) (list []ChangedRow, err error) {
	err = s.viewReplica(ctx, dev, p, func(tx *metadb.Tx) error {
		changes, err := tx.Changes(since, limit)
		if err != nil {
			return err
		}
		list = make([]ChangedRow, len(changes))
		for i, c := range changes {
			row, err := DecodeRow(c.Row)
			if err != nil {
				return err // metadb knows whether that is damage
			}
			list[i] = ChangedRow{c.Number, c.Space, c.Name, row}
		}
		return nil
	})
	return list, err
}

// SyncPoints returns what SetSyncPoints kept for a target, both 0 before: the other
// cluster has all rows up to the change number all, and up to next they were handed out.
func (s *Server) SyncPoints(ctx context.Context, dev string, p name.Path, target [16]byte) (all, next uint64, err error) {
	err = s.viewReplica(ctx, dev, p, func(tx *metadb.Tx) error {
		k, err := tx.Known(target) // the container there is a replica that is told in another way
		all, next = k.Ours, k.Theirs
		return err
	})
	return all, next, err
}

// SetSyncPoints keeps the points of a target with the replica, durably. They do not outlive it.
func (s *Server) SetSyncPoints(ctx context.Context, dev string, p name.Path, target [16]byte, all, next uint64) error {
	loc, err := s.replica(dev, p)
	if err != nil {
		return err
	}
	return s.core.Store.UpdateApart(ctx, loc, func(tx *metadb.Tx) error {
		return tx.SetKnown(target, metadb.Known{Ours: all, Theirs: next})
	})
}

func (s *Server) replica(dev string, p name.Path) (metadb.Location, error) {
	d, err := s.core.Devices.Lookup(dev)
	return metadb.Location{Device: d, Hash: s.core.Hasher.Hash(p)}, err
}

func (s *Server) viewReplica(ctx context.Context, dev string, p name.Path, look func(*metadb.Tx) error) error {
	loc, err := s.replica(dev, p)
	if err != nil {
		return err
	}
	return s.core.Store.View(ctx, loc, look)
}

// Newest is when an object last was changed, in any of its parts.
func (r *Row) Newest() timestamp.T { return timestamp.Max(r.Data, timestamp.Max(r.Type, r.Meta)) }

// Times returns the times of the row's parts, as of one that has what a tombstone has left out.
func (r *Row) Times() timestamp.Packed {
	return timestamp.Packed{Data: r.Data, ContentType: timestamp.Max(r.Type, r.Data), Meta: timestamp.Max(r.Meta, r.Data)}
}
