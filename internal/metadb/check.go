package metadb

import (
	"context"

	"martlet/internal/errs"
)

// Check reads all of a database: every value's checksum, every row, that rows
// and changes name each other, and that stats and digest are what the rows add up
// to. What does not agree is of kind errs.Corrupt. It needs memory for none of them, and
// holds up no writer for longer than a moment: see audit.
func (s *Store) Check(ctx context.Context, loc Location) error {
	const op errs.Op = "metadb.check"
	_, err := s.check(ctx, loc, nil)
	return s.wrap(op, loc, err)
}

// check is Check at a pace. It returns about how many bytes the rows and changes take.
func (s *Store) check(ctx context.Context, loc Location, pace Pace) (used int64, err error) {
	err = s.with(ctx, loc, s.open, func(d *disk, e *entry) (err error) {
		used, err = e.db.audit(ctx, pace, d.journal.stop)
		return err
	})
	return used, err
}
