package metadb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// valueSuffix ends the name of what a shared file had of a damaged database, in quarantine.
const valueSuffix = ".value"

// inspectSmall is inspect where there is no file of a database's own.
func (s *Store) inspectSmall(ctx context.Context, d *disk, loc Location, pace Pace) (used int64, err error) {
	if used, err = s.check(ctx, loc, pace); errs.Is(err, errs.Corrupt) {
		// It may be another's finding, or of a moment: only what is found again counts.
		err = s.with(ctx, loc, s.open, func(_ *disk, e *entry) error {
			e.db.fail(errDropped)
			return nil
		})
		if err == nil {
			used, err = s.check(ctx, loc, pace)
		}
	}
	if used, damaged, why := s.checked(loc, used, err); !damaged {
		return used, why
	}
	var damage *small.DamageError
	if !errors.As(err, &damage) {
		damage = &small.DamageError{In: small.Values, Key: loc.Hash[:], Why: err}
	}
	q := small.Of(loc.Hash)
	if !damage.Page && damage.In == small.Values {
		gone, err := s.quarantineValue(ctx, d, q, damage)
		if gone || err != nil {
			return 0, err
		}
		d.small.Distrust(q)
	}
	return 0, s.salvage(ctx, d, q)
}

// quarantineValue moves what a shared file has of one database aside: it is written to a file of
// its own, durably, and then deleted. It reports whether it is gone then: it can be where it is not found
// to be deleted.
func (s *Store) quarantineValue(ctx context.Context, d *disk, q small.Quarter, damage *small.DamageError) (gone bool, err error) {
	hash := name.Hash{}
	if copy(hash[:], damage.Key) != len(hash) || len(damage.Key) != len(hash) || small.Of(hash) != q {
		return false, nil
	}
	loc := Location{d.Device, hash}
	there := func() (bool, error) {
		stored, err := d.small.Raw(q, small.Values, hash[:])
		gone = err == nil && stored == nil
		return stored != nil, err
	}
	err = s.whileNobodys(ctx, d, loc, damage, there, func() (string, error) {
		stored, err := d.small.Raw(q, small.Values, hash[:])
		if err != nil {
			return "", err
		}
		to, err := s.writeReason(d, hash.String(), d.small.Path(hash), damage)
		if err == nil {
			err = d.writeFile(to+valueSuffix, stored)
		}
		if err == nil {
			err = d.syncDir(filepath.Dir(to))
		}
		if err != nil {
			return "", err
		}
		if err := s.noLeftover(d, hash); err != nil {
			return "", err
		}
		err = d.small.Commit(
			small.Put{In: small.Values, Key: hash}, small.Put{In: small.Marks, Key: hash}, small.Put{In: small.Told, Key: hash},
		)
		if err != nil {
			return "", err
		}
		return to + valueSuffix, nil
	})
	if err != nil {
		return false, err
	}
	_, _, err = d.small.Get(small.Values, hash)
	var still *small.DamageError
	if errors.As(err, &still) {
		return still.Page || string(still.Key) != string(damage.Key), nil
	}
	return err == nil, err
}

// salvage puts what can be read of a shared file into a new one, and the damaged one into
// quarantine. What could not be read is not there any more, and replication brings it back.
func (s *Store) salvage(ctx context.Context, d *disk, q small.Quarter) error {
	const op errs.Op = "metadb.salvage"
	if off := d.Check(); off != nil {
		return errs.E(op, errs.Subject(d.Name()), off)
	}
	var into string
	found, err := d.small.Salvage(ctx, q, func(found small.Salvaged, damaged vfs.File) (err error) {
		d.residents.forgetWhere(func(h name.Hash) bool { return small.Of(h) == q })
		if found.Why == nil {
			found.Why = errors.New("it could not be written to")
		}
		why := fmt.Errorf("kept %d databases; damaged were %d, and there are %d places where an unknown number could not be read: %w",
			found.Kept, len(found.Wrong), found.Gaps, found.Why)
		into, err = s.writeReason(d, q.Name(), d.small.Path(q.First()), why)
		if err != nil {
			return err
		}
		to, err := d.fs.OpenFile(into+suffix, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if err != nil {
			return err
		}
		if err := errors.Join(small.Copy(ctx, to, damaged), to.Close()); err != nil {
			return err
		}
		for _, h := range found.Wrong { // which are known to be missing then
			if _, err := s.writeReason(d, name.Hash(h).String(), into+suffix, found.Why); err != nil {
				return err
			}
		}
		return d.syncDir(filepath.Dir(into))
	})
	if err != nil {
		return errs.E(op, errs.Subject(d.Name()), err)
	}
	if found.New {
		s.counts.quarantined.Add(1)
		s.log.Error("a damaged shared file is in quarantine; replicas will replace the databases that could not be read",
			"device", d.Name(), "file", d.small.Path(q.First()), "kept as", into+suffix,
			"kept", found.Kept, "damaged", len(found.Wrong), "unreadable places", found.Gaps, "err", found.Why)
	}
	return nil
}

// forgetWhere forgets what is known of some small databases. Those with files of their own stay
// open, and what is known of them is still so.
func (rs *residents) forgetWhere(is func(name.Hash) bool) {
	rs.mu.Lock()
	var list []*resident
	for h, r := range rs.all {
		if is(h) && r.home.Load() != homeOwn {
			list = append(list, r)
		}
	}
	rs.mu.Unlock()
	for _, r := range list {
		r.forget()
	}
}
