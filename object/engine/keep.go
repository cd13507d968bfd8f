package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/object/index"
)

// toTheEnd is the context of work that is done for all, whoever has begun it.
var toTheEnd = context.Background()

// checkpoint writes what the index has in memory, and merges what it has on disk.
func (d *disk) checkpoint(ctx context.Context) error {
	err := d.index.Checkpoint(ctx)
	for more := true; more && err == nil; {
		if more, err = d.index.Merge(ctx); errs.Is(err, errs.NoSpace) {
			// It can wait: all that was to be written is.
			d.cfg.Log.Warn("index has no room to merge what it has", slog.String("device", d.root), slog.Any("err", err))
			more, err = false, nil
		}
	}
	if errors.Is(err, index.ErrBroken) || errs.Is(err, errs.Corrupt) {
		return d.indexFailed(err)
	}
	return err
}

// How many times Config.Changes there may be in memory before a writer checkpoints
// himself, if nobody else does, and before he waits for whoever does.
const (
	overdue = 2
	tooMuch = 6
)

// due has a checkpoint made where one is due.
func (d *disk) due() {
	n := d.index.Stats().Changes / d.cfg.Changes
	switch {
	case n < 1:
		return
	case n < overdue:
		select {
		case d.wake <- struct{}{}:
		default:
		}
		return
	case n < tooMuch:
		if !d.keeping.TryLock() {
			return
		}
	default:
		d.keeping.Lock()
	}
	defer d.keeping.Unlock()
	if d.index.Stats().Changes/d.cfg.Changes < overdue {
		return
	}
	if err := d.save(); err != nil {
		d.cfg.Log.Error("index could not be written", slog.String("device", d.root), slog.Any("err", err))
	}
}

// keepEvery is how long changes stay in memory where there are few of them.
const keepEvery = time.Minute

// Keep is Engine.Keep for one disk, until it is closed.
func (s *store) Keep(ctx context.Context) error {
	d, err := s.open(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closed:
			return nil
		case <-d.wake:
		case <-tick.C:
			if d.untold() {
				continue // the log is to tell of it again, should the process end now
			}
		}
		d.keeping.Lock()
		err := d.checkpoint(ctx)
		d.keeping.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				d.cfg.Log.Error("index could not be written", slog.String("device", d.root), slog.Any("err", err))
			}
			return err
		}
	}
}

// indexFailed deals with an index that is damaged, or whose state on the disk is not
// known: the disk is opened again, and the index made again if it must. It returns the
// error for the call that has met it.
func (d *disk) indexFailed(err error) error {
	d.cfg.Log.Error("index has failed, and the store is opened again", slog.String("device", d.root), slog.Any("err", err))
	if d.reopen != nil {
		d.reopen(d.store, errs.Is(err, errs.Corrupt))
	}
	return errs.E(errs.BadDevice, err)
}

// fault is told that writing to a segment has failed: see seglog.Config. Until what was
// acknowledged in it has been read from the disk again nothing is written.
func (d *disk) fault(segment uint64, _ int64, why error) {
	d.suspect.Add(1)
	d.starting.Lock()
	defer d.starting.Unlock()
	if d.ended {
		return // who opens the log next reads what was not sealed
	}
	d.work.Go(func() {
		defer d.suspect.Add(-1)
		d.hurry() // what the journal has of it is needed no longer then
		d.cfg.Log.Error("writing to the log has failed; what was written before is read again",
			slog.String("device", d.root), slog.Uint64("segment", segment), slog.Any("err", why))
		if err := d.verify(toTheEnd, segment, nil); err != nil {
			d.cfg.Log.Error("what was written before a failure can't be read", slog.String("device", d.root), slog.Any("err", err))
		}
	})
}

// verify reads everything in a segment that is in force from the disk, and puts what is
// damaged into quarantine.
func (d *disk) verify(ctx context.Context, segment uint64, pace Pace) error {
	d.log.Forget(segment)
	var buf []byte
	for e, err := range d.log.Scan(seglog.Position{Segment: segment}) {
		if err != nil {
			return err
		}
		if e.At.Segment != segment {
			break
		}
		if e.Damage {
			if err := d.quarantineRegion(ctx, e.At, e.To); err != nil {
				return err
			}
			continue
		}
		if err := pace.wait(ctx, e.Size()); err != nil {
			return err
		}
		if buf, err = d.verifyRecord(&e, buf); err != nil {
			return err
		}
	}
	return nil
}
