package engine

import (
	"context"
	"iter"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/object/index"
)

// Entry is one name that Walk has met.
type Entry struct {
	Location
	State State
}

// Policies is Engine.Policies.
func (s *store) Policies(ctx context.Context) ([]policy.Index, error) {
	const op errs.Op = "engine.policies"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return nil, err
	}
	var all []policy.Index
	for _, set := range d.index.Sets() {
		if !slices.Contains(all, set.Policy) {
			all = append(all, set.Policy)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Walk is Engine.Walk.
func (s *store) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[Entry, error] {
	const op errs.Op = "engine.walk"
	return func(yield func(Entry, error) bool) {
		d, err := s.openFor(ctx, op, Location{Policy: p})
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for item, err := range d.index.Range(p, from, to) {
			if err != nil {
				if errs.Is(err, errs.Corrupt) {
					err = d.indexFailed(err)
				}
				yield(Entry{}, s.wrap(op, Location{Policy: p}, err))
				return
			}
			if ctx.Err() != nil {
				yield(Entry{}, errs.E(op, errs.Aborted, context.Cause(ctx))) // never a part for the whole
				return
			}
			if item.Entry.Kind == index.Gone {
				continue
			}
			// What the iteration knows is of its beginning: others rely on what is said here.
			at := Location{p, item.Key.Hash}
			state, err := s.Stat(ctx, at)
			if err == nil && state.Kind == Absent && state.Newest().IsZero() {
				continue // gone since
			}
			if !yield(Entry{at, state}, err) {
				return
			}
		}
	}
}
