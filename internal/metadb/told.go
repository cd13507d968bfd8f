package metadb

import (
	"context"
	"iter"
	"sync/atomic"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
)

// What the owner of a listing was not told yet must be found again after a start, without a
// look at every database. So a database is marked, in a shared file, while there may be news of it: no change that
// is news is acknowledged before it is. A small one is in the transaction that changes it; one with a
// file of its own is before its file changes, and what was told of it is kept beside the marks,
// so that telling costs no transaction of the file. Rows that wait in the journal are there again
// after a start, and mark their databases in memory (Store.TakeChanged).
//
// A mark too many does no harm. Files of before there were marks are all marked once, a
// quarter at a time, which its shared file remembers (small.Files.Walked).

// telling is what is known of that of an open database. Who leads may change it.
type telling struct {
	files  *small.Files
	key    small.Key
	marked bool
	told   atomic.Pointer[Report] // nil where that is in the database
}

// latest returns what was told last, nil where that is in the database.
func (l *telling) latest() *Report {
	if l == nil {
		return nil
	}
	return l.told.Load()
}

// openTelling reads what there is of a database with a file of its own.
func openTelling(files *small.Files, key small.Key) (*telling, error) {
	l := &telling{files: files, key: key}
	var err error
	if l.marked, err = files.Has(small.Marks, key); err != nil {
		return nil, err
	}
	raw, _, err := files.Get(small.Told, key)
	if err != nil || raw == nil {
		return l, err
	}
	r, err := decodeReport(raw)
	l.told.Store(&r)
	return l, classify(err)
}

// news reports whether what a transaction makes is something that was not told.
func (t *Tx) news() (bool, error) {
	is, err := t.News()
	if err != nil {
		return false, err
	}
	was, err := t.Reported()
	return is != was, err
}

// mark marks the database of a transaction that is about to be committed, if it has news.
func (l *telling) mark(t *Tx) error {
	if l == nil {
		return nil
	}
	news, err := t.news()
	if err != nil || !news {
		return err
	}
	if l.marked {
		return nil
	}
	if err := l.files.Commit(small.Put{In: small.Marks, Key: l.key, Value: []byte{}}); err != nil {
		return elsewhere(err)
	}
	l.marked = true
	return nil
}

// markSmall returns what is to be committed with a small database.
func (l *telling) markSmall(t *Tx) (puts []small.Put, news bool, err error) {
	if l == nil {
		return nil, false, nil
	}
	if news, err = t.news(); err != nil || !news && !l.marked {
		return nil, news, err
	}
	p := small.Put{In: small.Marks, Key: l.key}
	if news {
		p.Value = []byte{}
	}
	return []small.Put{p}, news, nil
}

// SetReported remembers what the owner of the listing was told about a database, durably.
func (s *Store) SetReported(ctx context.Context, loc Location, r Report) error {
	const op errs.Op = "metadb.setreported"
	return s.wrap(op, loc, s.with(ctx, loc, s.open, func(_ *disk, e *entry) error { return e.db.setReported(r) }))
}

func (d *database) setReported(r Report) error {
	if d.small != nil || d.told == nil {
		_, err := d.update(func(t *Tx) error {
			was, err := t.Reported()
			if err != nil || was == r && d.told == nil {
				return err
			}
			if was == r { // a mark too many is taken back
				d.told.marked, err = d.told.files.Has(small.Marks, d.told.key)
				t.touch = t.touch || d.told.marked
				return err
			}
			return t.setReported(r)
		})
		return err
	}
	w := &write{quiet: func() error { return d.setTold(r) }}
	d.run(w)
	return classify(w.err)
}

// setTold notes what was told of a database with a file of its own. Nobody changes that meanwhile.
func (d *database) setTold(r Report) error {
	var is Report
	if err := d.newest(func(t *Tx) (err error) { is, err = t.News(); return err }); err != nil {
		return err
	}
	l := d.told
	unmark := l.marked && is == r
	if was := l.told.Load(); was != nil && *was == r && !unmark {
		return nil
	}
	puts := []small.Put{{In: small.Told, Key: l.key, Value: appendReport(nil, r)}}
	mark := !l.marked && r == Report{}
	switch {
	case unmark:
		puts = append(puts, small.Put{In: small.Marks, Key: l.key})
	case mark: // what was told is taken back
		puts = append(puts, small.Put{In: small.Marks, Key: l.key, Value: []byte{}})
	}
	if err := l.files.Commit(puts...); err != nil {
		d.fail(errDropped) // whether it is marked is not known: it is read anew
		return elsewhere(err)
	}
	l.told.Store(&r)
	l.marked = (l.marked || mark) && !unmark
	return nil
}

// Unreported yields the hashes of databases on a device about which the owner of the listing may
// have to be told something, in order: of those that were changed before a start. What can't be read is
// an error beside a zero hash, and it goes on.
func (s *Store) Unreported(ctx context.Context, dev *device.Device) iter.Seq2[name.Hash, error] {
	const op errs.Op = "metadb.unreported"
	return func(yield func(name.Hash, error) bool) {
		d, err := s.disk(ctx, Location{Device: dev})
		if err == nil {
			_, err = s.attach(ctx, d) // what is replayed is among what TakeChanged returns
		}
		if err != nil {
			yield(name.Hash{}, errs.E(op, errs.Subject(dev.Name()), err))
			return
		}
		for _, q := range small.All() {
			if err := s.markAll(ctx, d, q); err != nil && !yield(name.Hash{}, errs.E(op, errs.Subject(dev.Name()), err)) {
				return
			}
		}
		for h, err := range d.small.Keys(ctx, small.Marks, name.Hash{}, lastHash) {
			if err != nil {
				err = errs.E(op, errs.Subject(dev.Name()), err)
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

// markStep is how many databases are marked in one transaction.
const markStep = 512

// markAll marks all databases of a quarter that have files of their own, once: where they were not before
// they changed.
func (s *Store) markAll(ctx context.Context, d *disk, q small.Quarter) error {
	if walked, err := d.small.Walked(q); err != nil || walked {
		return err
	}
	var puts []small.Put
	var failed error
	some := false
	flush := func() {
		if failed == nil && len(puts) > 0 {
			failed = d.small.Commit(puts...)
		}
		puts = puts[:0]
	}
	from, to := asPair(q)
	d.walk(ctx, d.Dir(s.schema.Folder()), "", span{from.String(), to.String()}, func(h name.Hash, err error) bool {
		if err != nil {
			failed = err
			return false
		}
		some = true
		if puts = append(puts, small.Put{In: small.Marks, Key: h, Value: []byte{}}); len(puts) == markStep {
			flush()
		}
		return failed == nil
	})
	flush()
	if failed != nil || !some {
		return failed
	}
	return d.small.SetWalked(q)
}
