package node

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"martlet/internal/errs"
	"martlet/object"
	"martlet/object/engine"
	"martlet/object/pending"
	"martlet/replicator/updater"
)

// retell tells the listings once more of what was written in the minute before a process was cut off: between a write and its
// row being told, or queued, nothing on the device knows that it was not. A row that is there already stays as it is. It tells also
// what a write could neither tell nor queue, as on a device that was full or failed.
//
// A write of which a checkpoint of the index falls just between the two, and the end right behind that, is missed.
func retell(ctx context.Context, stores object.Stores, u *updater.Updater, log *slog.Logger) error {
	var all []error
	for device, s := range stores {
		e := s.Engine.Pinned()
		names := e.Replayed()
		if len(names) == 0 {
			continue
		}
		var failed []error
		err := u.Tell(ctx, s.Queue, retold(ctx, e, names, &failed))
		if err = errors.Join(append(failed, err)...); err != nil {
			all = append(all, err)
			continue // the next pass tells all of it
		}
		e.Told()
		log.LogAttrs(ctx, slog.LevelInfo, "listings were told again of what was written last", slog.String("device", device), slog.Int("objects", len(names)))
	}
	return errors.Join(all...)
}

// retold yields the updates of the newest states of some names, and adds to failed why there is none of one.
func retold(ctx context.Context, e *engine.Engine, names []engine.Location, failed *[]error) iter.Seq[pending.Update] {
	return func(yield func(pending.Update) bool) {
		for _, at := range names {
			state, err := e.Stat(ctx, at)
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Corrupt) {
				continue // dropped, or damaged: repair is another's work
			}
			if err != nil {
				*failed = append(*failed, err)
				return
			}
			if update, ok := object.Retold(at, &state); ok && !yield(update) {
				return
			}
		}
	}
}
