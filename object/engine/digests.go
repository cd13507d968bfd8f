package engine

import (
	"context"
	"iter"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/index"
)

// Partitions is Engine.Partitions.
func (s *store) Partitions(ctx context.Context, p policy.Index, power int, before timestamp.T) iter.Seq2[index.Part, error] {
	return s.digests(ctx, p, func(d *disk) iter.Seq2[index.Part, error] {
		return d.index.Partitions(index.Set{Policy: p}, power, before)
	})
}

// Ranges is Engine.Ranges.
func (s *store) Ranges(ctx context.Context, p policy.Index, ranges []name.Range, before timestamp.T) iter.Seq2[index.Part, error] {
	return s.digests(ctx, p, func(d *disk) iter.Seq2[index.Part, error] {
		return d.index.Ranges(index.Set{Policy: p}, ranges, before)
	})
}

// digests yields what an index that is open says.
func (s *store) digests(ctx context.Context, p policy.Index, of func(*disk) iter.Seq2[index.Part, error]) iter.Seq2[index.Part, error] {
	const op errs.Op = "engine.digests"
	return func(yield func(index.Part, error) bool) {
		d, err := s.openFor(ctx, op, Location{Policy: p})
		if err != nil {
			yield(index.Part{}, err)
			return
		}
		for part, err := range of(d) {
			switch {
			case errs.Is(err, errs.Corrupt):
				err = s.wrap(op, Location{Policy: p}, d.indexFailed(err))
			case err != nil:
				err = s.wrap(op, Location{Policy: p}, err)
			case d.gone.Load():
				err = s.wrap(op, Location{Policy: p}, errClosed) // what is in memory says nothing of a disk that is away
			case ctx.Err() != nil:
				err = errs.E(op, errs.Aborted, context.Cause(ctx)) // never a part for the whole
			}
			if err != nil {
				yield(index.Part{}, err)
				return
			}
			if !yield(part, nil) {
				return
			}
		}
		if d.gone.Load() {
			yield(index.Part{}, s.wrap(op, Location{Policy: p}, errClosed)) // nothing is what a disk has that was there to its end
		}
	}
}

// Losses is Engine.Losses.
func (s *store) Losses(ctx context.Context, p policy.Index) iter.Seq2[name.Hash, error] {
	const op errs.Op = "engine.losses"
	return func(yield func(name.Hash, error) bool) {
		d, err := s.openFor(ctx, op, Location{Policy: p})
		if err != nil {
			yield(name.Hash{}, err)
			return
		}
		for item, err := range d.index.Range(p, name.Range{}.First(), name.Range{}.Last()) {
			switch {
			case errs.Is(err, errs.Corrupt):
				err = s.wrap(op, Location{Policy: p}, d.indexFailed(err))
			case err != nil:
				err = s.wrap(op, Location{Policy: p}, err)
			case ctx.Err() != nil:
				err = errs.E(op, errs.Aborted, context.Cause(ctx))
			case item.Entry.Kind != index.Lost && !item.Entry.MetaLost:
				continue
			}
			if !yield(item.Key.Hash, err) || err != nil {
				return
			}
		}
	}
}
