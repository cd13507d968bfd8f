package engine

import (
	"context"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/index"
)

// DeleteAtField is the field of metadata that says in which second since 1970 an object
// ends.
const DeleteAtField = "X-Delete-At"

// DeleteAt returns in which second since 1970 an object ends, if it does.
func (s *State) DeleteAt() (second int64, ok bool) { return deleteAt(s.Meta) }

// DeleteAt returns in which second since 1970 an object ends of which nothing but this is known, if it does.
func (v *Version) DeleteAt() (second int64, ok bool) { return deleteAt(v.Meta) }

func deleteAt(meta backend.Header) (second int64, ok bool) {
	text := meta.Get(DeleteAtField)
	if text == "" {
		return 0, false
	}
	second, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return second, err == nil
}

// Expiry returns the time of the tombstone that an object with a time to end leaves then:
// the same wherever its state is this one (timestamp.Expiry).
func (s *State) Expiry() timestamp.T {
	second, _ := s.DeleteAt()
	return timestamp.Expiry(s.Time, s.MetaTime, second)
}

// expires returns when what metadata is of ends, as entries of the index say it.
func expires(meta backend.Header) uint32 {
	second, ok := deleteAt(meta)
	if !ok {
		return 0
	}
	return uint32(min(max(second, 1), math.MaxUint32))
}

// Expired yields the objects that have come to their end and that are wanted, each with its state
// when it is met; a want of nil is all. What comes or goes meanwhile may be there or not. It reads the heads of those
// alone, none of what is not wanted, and an object that stays is yielded by each call. An error that concerns one
// name is yielded with it, and what comes behind it may be yielded still; one that concerns
// more ends it.
func (e *Engine) Expired(ctx context.Context, now time.Time, want func(Location) bool) iter.Seq2[Entry, error] {
	return e.now().Expired(ctx, now, want)
}

// Expired is Engine.Expired.
func (s *store) Expired(ctx context.Context, now time.Time, want func(Location) bool) iter.Seq2[Entry, error] {
	const op errs.Op = "engine.expired"
	return func(yield func(Entry, error) bool) {
		d, err := s.openFor(ctx, op, Location{})
		if err != nil {
			yield(Entry{}, err)
			return
		}
		enough := false
		err = d.expired(ctx, now, func(item index.Item) bool {
			at := Location{item.Key.Policy, item.Key.Hash}
			if want != nil && !want(at) {
				return true
			}
			state, err := s.Stat(ctx, at)
			if second, ok := state.DeleteAt(); err == nil && (state.Kind != Live || !ok || second > now.Unix()) {
				return true // it has changed meanwhile
			}
			enough = !yield(Entry{at, state}, err)
			return !enough
		})
		if err != nil && !enough {
			yield(Entry{}, s.wrap(op, Location{}, err))
		}
	}
}

// Expire ends an object that has come to its end, as it was when Expired yielded it: a
// tombstone takes its place, whose time is State.Expiry. The error is of kind errs.Stale,
// with a *StateError, where the object is a later one by now, or has been given a longer life.
// What is durable when it returns is as with Delete.
func (e *Engine) Expire(ctx context.Context, was Entry) (Outcome, error) {
	return e.now().Delete(ctx, was.Location, was.State.Name, was.State.Expiry(), Terms{Merge: true})
}

// Due returns how many objects have come to their end and are wanted, from the index alone; a want of nil is all.
func (e *Engine) Due(ctx context.Context, now time.Time, want func(Location) bool) (int64, error) {
	return e.now().Due(ctx, now, want)
}

// Due is Engine.Due.
func (s *store) Due(ctx context.Context, now time.Time, want func(Location) bool) (n int64, err error) {
	const op errs.Op = "engine.due"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return 0, err
	}
	err = d.expired(ctx, now, func(item index.Item) bool {
		if want == nil || want(Location{item.Key.Policy, item.Key.Hash}) {
			n++
		}
		return true
	})
	return n, s.wrap(op, Location{}, err)
}

// expired yields the entries of objects that have come to their end.
func (d *disk) expired(ctx context.Context, now time.Time, yield func(index.Item) bool) error {
	for item, err := range d.index.Due(ctx, uint32(min(max(now.Unix(), 0), math.MaxUint32))) {
		if errs.Is(err, errs.Corrupt) {
			err = d.indexFailed(err)
		}
		if err != nil {
			return err
		}
		if item.Key.Part == 0 && !yield(item) {
			return nil
		}
	}
	return nil
}
