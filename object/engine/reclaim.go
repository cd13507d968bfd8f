package engine

import (
	"context"
	"errors"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/index"
)

// Reclaim forgets tombstones, and metadata whose data never came, all of whose times are
// before the horizon: nothing is under such a name afterwards, and digests are without it.
// Such metadata goes whether or not it is good: of what was lost the time is known, and it would
// be worth nothing by now. Each is gone durably, as with Drop; those that are there when it returns nil came
// meanwhile. It reads the whole index and no objects but their heads, is one pass, and may
// run beside requests; pace holds it back.
func (e *Engine) Reclaim(ctx context.Context, horizon timestamp.T, pace Pace) error {
	return e.now().Reclaim(ctx, horizon, pace)
}

// reclaimTogether is how many names are reclaimed at a time: they share syncs.
const reclaimTogether = 64

// Reclaim is Engine.Reclaim.
func (s *store) Reclaim(ctx context.Context, horizon timestamp.T, pace Pace) error {
	const op errs.Op = "engine.reclaim"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return err
	}
	var some []Location
	for item, err := range d.index.All() {
		if err != nil {
			if errs.Is(err, errs.Corrupt) {
				err = d.indexFailed(err)
			}
			return s.wrap(op, Location{}, err)
		}
		if item.Key.Part != 0 || !reclaimable(&item.Entry, horizon) {
			continue
		}
		if some = append(some, Location{item.Key.Policy, item.Key.Hash}); len(some) == reclaimTogether {
			if err := s.reclaim(ctx, some, horizon, pace); err != nil {
				return s.wrap(op, Location{}, err)
			}
			some = some[:0]
		}
	}
	return s.wrap(op, Location{}, s.reclaim(ctx, some, horizon, pace))
}

// reclaimable reports whether an entry says nothing that counts after the horizon. A mark of lost metadata without a
// time stays: what it was of may be later.
func reclaimable(e *index.Entry, horizon timestamp.T) bool {
	if e.Kind != index.Tombstone && e.Kind != index.Waiting || e.Times.Newest().IsZero() {
		return false
	}
	return e.Times.Happened().Before(horizon)
}

// reclaim drops names that are still as Reclaim wants them.
func (s *store) reclaim(ctx context.Context, some []Location, horizon timestamp.T, pace Pace) error {
	const record = 200 // bytes, about
	if len(some) == 0 {
		return nil
	}
	if err := pace.wait(ctx, int64(len(some))*record); err != nil {
		return errs.E(errs.Aborted, err)
	}
	failed := make([]error, len(some))
	var all sync.WaitGroup
	for i, at := range some {
		all.Go(func() {
			_, failed[i] = s.Drop(ctx, at, func(now *State) bool {
				return (now.Kind == Deleted || now.Kind == Absent) && now.Packed().Happened().Before(horizon)
			})
		})
	}
	all.Wait()
	return errors.Join(failed...)
}
