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
	return func(yield func(Entry, error) bool) {
		var by finder
		defer by.close()
		for item, err := range s.items(ctx, "engine.walk", p, from, to) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if item.Entry.Kind == index.Gone {
				continue
			}
			// What the iteration knows is of its beginning: others rely on what is said here.
			at := Location{p, item.Key.Hash}
			state, err := s.statBy(ctx, at, &by)
			if err == nil && state.Kind == Absent && state.Newest().IsZero() {
				continue // gone since
			}
			if !yield(Entry{at, state}, err) {
				return
			}
		}
	}
}

// Present is Engine.Present.
func (s *store) Present(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[name.Hash, error] {
	return func(yield func(name.Hash, error) bool) {
		for item, err := range s.items(ctx, "engine.present", p, from, to) {
			if err != nil {
				yield(name.Hash{}, err)
				return
			}
			if item.Entry.Kind == index.Data && !yield(item.Key.Hash, nil) {
				return
			}
		}
	}
}

// items yields what the index has of some hashes. An error ends it.
func (s *store) items(ctx context.Context, op errs.Op, p policy.Index, from, to name.Hash) iter.Seq2[index.Item, error] {
	return func(yield func(index.Item, error) bool) {
		d, err := s.openFor(ctx, op, Location{Policy: p})
		if err != nil {
			yield(index.Item{}, err)
			return
		}
		for item, err := range d.index.Range(p, from, to) {
			if err != nil {
				if errs.Is(err, errs.Corrupt) {
					err = d.indexFailed(err)
				}
				yield(index.Item{}, s.wrap(op, Location{Policy: p}, err))
				return
			}
			if ctx.Err() != nil {
				yield(index.Item{}, errs.E(op, errs.Aborted, context.Cause(ctx))) // never a part for the whole
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}
