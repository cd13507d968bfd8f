package metadb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// counts is what audits and reclaims have done.
type counts struct{ checked, bytes, quarantined, rewritten, freed, forgotten, dropped atomic.Int64 }

// Counts is what Audit, Isolate and Reclaim have done since the store was made.
type Counts struct {
	Checked     int64 // databases that were found whole
	Bytes       int64 // of rows and changes that were read for that
	Quarantined int64 // databases that were moved aside
	Rewritten   int64 // databases whose files were made smaller
	Freed       int64 // bytes that those gave back
	Forgotten   int64 // dead rows that were removed
	Dropped     int64 // deleted databases that were
}

// Counts returns what was done so far.
func (s *Store) Counts() Counts {
	c := &s.counts
	return Counts{c.checked.Load(), c.bytes.Load(), c.quarantined.Load(), c.rewritten.Load(), c.freed.Load(), c.forgotten.Load(), c.dropped.Load()}
}

// SharedTransactions returns how many transactions the shared files of a device have had.
func (s *Store) SharedTransactions(dev *device.Device) (n int, err error) {
	d := s.now(dev)
	for _, q := range small.All() {
		if err == nil {
			var of int
			of, err = d.small.Transactions(q)
			n += of
		}
	}
	return n, err
}

// A round is one way through all databases of a device. It is kept there, in the file
// "audit" of the databases' folder, so that a restart does not begin anew.
type round struct {
	began time.Time
	at    name.Hash // it is the next one to be looked at
	done  bool
}

const (
	roundFile  = "audit"
	saveEvery  = 10 * time.Second
	perFile    = 32 << 10 // bytes that opening a database is paid as
	perValue   = 4 << 10  // and one that shares a file
	roundMagic = "martlet audit 1"
)

// Audit goes on with looking at every database of a device within so long, at a pace, and
// returns when that is done for now: one that is damaged is moved into quarantine, and one
// whose file is mostly empty is rewritten. One that can't be looked at is an error, and left
// for the next time.
func (s *Store) Audit(ctx context.Context, dev *device.Device, every time.Duration, pace Pace) error {
	const op errs.Op = "metadb.audit"
	d, err := s.disk(ctx, Location{Device: dev})
	if err != nil {
		return errs.E(op, errs.Subject(dev.Name()), err)
	}
	r, err := d.loadRound(s.schema.Folder())
	if err != nil {
		return errs.E(op, errs.Subject(dev.Name()), err)
	}
	now := time.Now()
	switch {
	case r.done && now.Sub(r.began) < every && !now.Before(r.began):
		return nil
	case r.done:
		r = round{began: now}
	}
	saved := now
	var failed []error
	for h, err := range s.walkRange(ctx, dev, r.at, lastHash) {
		if err == nil {
			r.at = h
			err = s.auditOne(ctx, d, Location{dev, h}, pace)
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil && len(failed) < 10 {
			failed = append(failed, err)
		}
		if now := time.Now(); now.Sub(saved) >= saveEvery {
			saved = now
			if err := d.saveRound(s.schema.Folder(), r); err != nil {
				return errs.E(op, errs.Subject(dev.Name()), err)
			}
		}
	}
	r.done = ctx.Err() == nil
	return errors.Join(append(failed, d.saveRound(s.schema.Folder(), r))...)
}

// auditOne looks at one database.
func (s *Store) auditOne(ctx context.Context, d *disk, loc Location, pace Pace) error {
	pay := int64(perFile)
	if _, err := d.fs.Stat(s.path(loc)); errors.Is(err, fs.ErrNotExist) {
		pay = perValue
	}
	if err := pace.wait(ctx, pay); err != nil {
		return err
	}
	used, err := s.inspect(ctx, loc, pace)
	if err != nil || used == 0 {
		return err
	}
	return s.vacuum(ctx, d, loc, used, pace)
}

// loadRound reads how far a round has come. What is missing, or can't be read, is a round
// that is to begin.
func (d *disk) loadRound(folder string) (round, error) {
	begin := round{done: true}
	f, err := d.fs.Open(filepath.Join(d.Dir(folder), roundFile))
	if errors.Is(err, fs.ErrNotExist) {
		return begin, nil
	}
	if err != nil {
		return begin, classify(err)
	}
	b := make([]byte, 256)
	n, _ := f.ReadAt(b, 0) // it ends before that
	if err := f.Close(); err != nil {
		return begin, classify(err)
	}
	var r round
	var began int64
	var at string
	if got, err := fmt.Sscanf(string(b[:n]), roundMagic+" %d %s %t\n", &began, &at, &r.done); err != nil || got != 3 {
		return begin, nil //nolint:nilerr // it begins
	}
	if r.at, err = name.ParseHash(at); err != nil {
		return begin, nil //nolint:nilerr // it begins
	}
	r.began = time.Unix(began, 0)
	return r, nil
}

// saveRound keeps how far a round has come. It need not be durable: what is looked at again
// takes no harm.
func (d *disk) saveRound(folder string, r round) error {
	if d.fs == vfs.Absent {
		return nil
	}
	path := filepath.Join(d.Dir(folder), roundFile)
	if _, err := d.fs.Stat(d.Dir(folder)); errors.Is(err, fs.ErrNotExist) {
		return nil // there are no databases
	}
	err := d.writeFile(path+".new", fmt.Appendf(nil, "%s %d %s %t\n", roundMagic, r.began.Unix(), r.at, r.done))
	if err == nil {
		err = d.fs.Rename(path+".new", path)
	}
	return classify(err)
}
