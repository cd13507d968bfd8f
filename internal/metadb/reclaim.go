package metadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
)

// Reclaim forgets on a device what is dead and of which all is before the horizon: rows, with their
// changes, metadata that was deleted, and databases that were deleted, unless their owner has still to
// be told so. Each is gone durably; what is there when it returns nil came meanwhile, waits in the
// journal, or is of a database that was made or moved meanwhile. It is one pass over all databases, and
// may run beside requests: it reads in slices, as an audit does, and removes a few rows in one transaction;
// pace may be called by several at a time.
// A small database that has nothing to forget is read, but not opened; pace holds it back.
//
// One that can't be read, or changed, is left out, and named in the log, once as long as it is for the same reason. The error
// wraps ErrLeft where there are such ones and nothing else is wrong: the next call with the same horizon goes through those alone. Any other
// error is one of the device, or of many databases, and the next call begins anew.
func (s *Store) Reclaim(ctx context.Context, dev *device.Device, horizon timestamp.T, pace Pace) error {
	const op errs.Op = "metadb.reclaim"
	d, err := s.disk(ctx, Location{Device: dev})
	if err != nil {
		return errs.E(op, errs.Subject(dev.Name()), err)
	}
	p := &reclaimPass{
		Store: s, d: d, horizon: horizon, pace: pace, slots: make(chan struct{}, s.cfg.together), left: map[name.Hash]error{},
	}
	var failed []error // the first few
	for h, err := range d.reclaims(horizon, s.walkRange(ctx, dev, name.Hash{}, lastHash)) {
		if err == nil {
			p.begin(ctx, Location{dev, h})
		} else if len(failed) < 10 {
			failed = append(failed, err)
		}
		if ctx.Err() != nil || dev.Check() != nil {
			break
		}
	}
	p.under.Wait()
	if ctx.Err() != nil {
		return errs.E(op, errs.Subject(dev.Name()), errs.Aborted, context.Cause(ctx))
	}
	if err := dev.Check(); err != nil { // what can't be read then is nobody's fault but its own
		return errs.E(op, errs.Subject(dev.Name()), err)
	}
	return p.end(ctx, failed)
}

// ErrLeft is wrapped by what Reclaim returns where it has left databases out.
var ErrLeft = errors.New("databases were left out when what was deleted was forgotten")

// mostLeft is how many databases are remembered that were left out. More are the device's fault.
const mostLeft = 1000

// leftOut is what a pass has left out, and why.
type leftOut struct {
	horizon timestamp.T
	why     map[name.Hash]string
}

// reclaims yields what a pass has to go through: all, or what the one before has left out.
func (d *disk) reclaims(horizon timestamp.T, all iter.Seq2[name.Hash, error]) iter.Seq2[name.Hash, error] {
	d.mu.Lock()
	left := d.left
	d.mu.Unlock()
	if left == nil || left.horizon != horizon {
		return all
	}
	return func(yield func(name.Hash, error) bool) {
		for h := range left.why {
			if !yield(h, nil) {
				return
			}
		}
	}
}

// end remembers what a pass has left out, and says what is new of that. Others of the pass have failed as well.
func (p *reclaimPass) end(ctx context.Context, failed []error) error {
	now := &leftOut{horizon: p.horizon, why: make(map[name.Hash]string, len(p.left))}
	some := make([]error, 0, 10)
	for h, err := range p.left {
		if now.why[h] = err.Error(); len(some) < cap(some) {
			some = append(some, err)
		}
	}
	whole := len(failed) == 0 && len(now.why) <= mostLeft
	if !whole {
		now.horizon, now.why = timestamp.T{}, nil
	}
	p.d.mu.Lock()
	before := p.d.left
	if p.d.left = now; len(now.why) == 0 {
		p.d.left = nil
	}
	p.d.mu.Unlock()
	for h, why := range now.why {
		if before == nil || before.why[h] != why {
			p.log.LogAttrs(ctx, slog.LevelError, "a database is left out of what forgets what was deleted, until it can be read again",
				slog.String("device", p.d.Name()), slog.String("hash", h.String()), slog.String("err", why))
		}
	}
	switch {
	case !whole:
		return errors.Join(append(failed, some...)...)
	case len(some) > 0:
		return fmt.Errorf("%w: %d on %s: %w", ErrLeft, len(now.why), p.d.Name(), errors.Join(some...))
	}
	return nil
}

// reclaimTogether is how many small databases are reclaimed at a time: they share syncs.
const reclaimTogether = 64

// reclaimPass is one call of Reclaim.
type reclaimPass struct {
	*Store
	d       *disk
	horizon timestamp.T
	pace    Pace
	under   sync.WaitGroup
	slots   chan struct{}

	mu   sync.Mutex
	left map[name.Hash]error // mu; what could not be read or changed, and a few more than are remembered
}

func (p *reclaimPass) note(loc Location, err error) {
	const op errs.Op = "metadb.reclaim"
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && len(p.left) <= mostLeft {
		p.left[loc.Hash] = p.wrap(op, loc, err)
	}
}

// begin has a database reclaimed, beside others if it is small.
func (p *reclaimPass) begin(ctx context.Context, loc Location) {
	pay, old := p.mayHaveOld(p.d, loc, p.horizon)
	if err := p.pace.wait(ctx, pay); err != nil {
		p.note(loc, errs.E(errs.Aborted, err))
		return
	}
	if !old {
		return
	}
	if pay == perFile || cap(p.slots) == 1 {
		p.note(loc, p.reclaimOne(ctx, loc, p.horizon, p.pace))
		return
	}
	p.slots <- struct{}{}
	p.under.Go(func() {
		defer func() { <-p.slots }()
		p.note(loc, p.reclaimOne(ctx, loc, p.horizon, p.pace))
	})
}

// reclaimOne is Reclaim of one database.
func (s *Store) reclaimOne(ctx context.Context, loc Location, horizon timestamp.T, pace Pace) error {
	whole := false
	err := s.with(ctx, loc, s.open, func(d *disk, e *entry) error {
		r := &reclaiming{database: e.db, horizon: horizon, pace: pace, stop: d.journal.stop, step: leastStep}
		err := r.run(ctx)
		s.counts.forgotten.Add(r.rows)
		whole = r.whole
		return err
	})
	if err == nil && whole {
		err = s.reclaimWhole(ctx, loc, horizon)
	}
	if errs.Is(err, errs.NotFound) {
		return nil // it was dropped meanwhile
	}
	return err
}

// mayHaveOld reports whether a database may have something to forget, and how many bytes that is paid as.
// Of one that has a file of its own that is only known when it is opened, and of one that can't be read
// never.
func (s *Store) mayHaveOld(d *disk, loc Location, horizon timestamp.T) (pay int64, old bool) {
	value, _, err := d.small.Get(small.Values, loc.Hash)
	if err != nil || value == nil {
		return perFile, true
	}
	i, err := decodeImage(value)
	if err != nil {
		return perValue, true
	}
	t, err := beginImage(s.schema, i)
	if err == nil {
		old, err = t.hasOld(horizon)
	}
	return perValue, old || err != nil
}

// hasOld reports whether there is anything to forget.
func (t *Tx) hasOld(horizon timestamp.T) (bool, error) {
	if t.info.forgettable(horizon) {
		return true, nil
	}
	if has, err := t.hasOldFields(horizon); err != nil || has {
		return has, err
	}
	c := t.dead.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if is, err := t.isOld(k, v, horizon); err != nil || is {
			return is, err
		}
	}
	return false, nil
}

// reclaiming is one pass over an open database.
type reclaiming struct {
	*database
	horizon timestamp.T
	pace    Pace
	stop    <-chan struct{}

	fields bool   // there is metadata to forget
	at     []byte // the key of the last dead row that was looked at
	all    bool   // there are no more
	step   int    // rows that are removed in one transaction
	bytes  int64  // that were read and not paid for yet
	rows   int64  // that were removed
	whole  bool   // all of the database may be to be forgotten
}

// run removes rows and metadata. Audits, and who writes the file anew, are told of rows that change, and
// not of those that go: they wait, or it does.
func (r *reclaiming) run(ctx context.Context) error {
	r.auditing.Lock()
	defer r.auditing.Unlock()
	for !r.all {
		if err := r.wait(ctx); err != nil {
			return err
		}
		var keys [][]byte
		err := r.look(func(t *Tx) (err error) { keys, err = r.slice(t); return err })
		if err == nil && (len(keys) > 0 || r.fields) {
			err = r.remove(keys)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reclaiming) wait(ctx context.Context) error {
	select {
	case <-r.stop:
		return errs.E(errs.BadDevice, "the device was detached")
	default:
	}
	n := r.bytes
	r.bytes = 0
	err := r.pace.wait(ctx, n)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return errs.E(errs.Aborted, err)
	}
	return nil
}

// slice looks for rows to remove, as many as are removed in one transaction, for as long as a look may take.
func (r *reclaiming) slice(t *Tx) (keys [][]byte, err error) {
	if r.at == nil {
		r.whole = t.info.forgettable(r.horizon)
		if r.fields, err = t.hasOldFields(r.horizon); err != nil {
			return nil, err
		}
	}
	end := time.Now().Add(auditSlice)
	c := t.dead.Cursor()
	k, v := after(c, r.at)
	for n := 1; k != nil; n++ {
		is, err := t.isOld(k, v, r.horizon)
		if err != nil {
			return nil, err
		}
		r.bytes += int64(len(k) + len(v) + perItem)
		r.at = append(r.at[:0], k...)
		if is {
			keys = append(keys, bytes.Clone(k))
		}
		if len(keys) >= r.step || n%auditStep == 0 && !time.Now().Before(end) {
			return keys, nil
		}
		k, v = c.Next()
	}
	r.all = true
	return keys, nil
}

// remove removes those rows that are still to be, after what waits in the journal was merged.
func (r *reclaiming) remove(keys [][]byte) error {
	began := time.Now()
	var n int64
	_, err := r.update(func(t *Tx) error {
		n = 0
		if r.fields {
			if err := t.forgetFields(r.horizon); err != nil {
				return err
			}
		}
		for _, key := range keys {
			gone, err := t.forgetRow(key, r.horizon)
			if err != nil {
				return err
			}
			if gone {
				n++
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.rows += n
	r.fields = false
	r.step = nextStep(r.step, r.disk.journal.step, 2*time.Since(began)) // nobody waits for it, unlike for a merge
	return nil
}

// reclaimWhole removes a database that may be forgotten whole, if its owner knows that it was deleted.
func (s *Store) reclaimWhole(ctx context.Context, loc Location, horizon timestamp.T) error {
	var state replwire.Database
	is := false
	err := s.Update(ctx, loc, func(tx *Tx) (err error) {
		if is, err = tx.forgettable(horizon); err != nil || !is {
			return err
		}
		if tx.told != nil {
			news, err := tx.news()
			if is = !news; err != nil || news {
				s.MarkChanged(loc) // a crash may have taken what he was told, and the mark
				return err
			}
		}
		state, err = tx.state(loc.Hash)
		return err
	})
	if err != nil || !is {
		return err
	}
	gone, err := s.drop(ctx, loc, state)
	if gone {
		s.counts.dropped.Add(1)
	}
	return err
}
