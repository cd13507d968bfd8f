package container

import (
	"context"

	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
)

// A row lies in the space of the policy that its object was written with. That may be another one than the
// container's: of two proxies who made the container while they could not see each other each had objects written by
// what it had chosen, and replicas that merge go by the older choice. Whoever moves those objects
// (package reconciler) finds the rows here.

// RowElsewhere implements metadb.SpaceWatcher.
func (s schema) RowElsewhere(path name.Path) {
	if s.misplaced != nil {
		s.misplaced.add(path)
	}
}

// Misplaced returns the containers that may have rows of another policy than their own, as far as
// that is known, in any order.
func (s *Server) Misplaced() []name.Path { return s.misplaced.all() }

// NotMisplaced says that there is nothing to be done about a container's rows of other policies. When that has been said
// again after a while it is taken off Misplaced, until such a row changes.
func (s *Server) NotMisplaced(p name.Path) { s.misplaced.not(p) }

// FindMisplaced looks at all containers of a device, so that Misplaced has those that were so
// before the start. wait is called before each.
func (s *Server) FindMisplaced(ctx context.Context, dev string, wait func(context.Context) error) error {
	return s.lookAtAll(ctx, dev, wait, func(tx *metadb.Tx) error {
		list, err := tx.Elsewhere(metadb.RowName{}, 1)
		if err == nil && len(list) > 0 {
			s.misplaced.add(tx.Info().Path)
		}
		return err
	})
}

// A MisplacedRow is a row of another policy than the container's.
type MisplacedRow struct {
	Policy policy.Index
	Name   string
	Hidden bool // it is no newer than a DELETE of the container
	Row
}

// MisplacedRows returns the policy of a container by what a replica says, and up to limit rows of other ones that come
// after a row, in order of policy and name, tombstones too. The error is of kind errs.NotFound where there is no replica.
func (s *Server) MisplacedRows(ctx context.Context, dev string, p name.Path, after metadb.RowName, limit int) (own policy.Index, rows []MisplacedRow, err error) {
	err = s.viewReplica(ctx, dev, p, func(tx *metadb.Tx) error {
		own = tx.Info().Policy
		list, err := tx.Elsewhere(after, limit)
		if err != nil {
			return err
		}
		rows = make([]MisplacedRow, len(list))
		for i, c := range list {
			row, err := DecodeRow(c.Row)
			if err != nil {
				return err // metadb knows whether that is damage
			}
			rows[i] = MisplacedRow{c.Space, c.Name, !row.Data.After(tx.Info().Delete), row}
		}
		return nil
	})
	return own, rows, err
}
