package index

import (
	"context"
	"iter"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// An Item is an entry with its key.
type Item struct {
	Key   Key
	Entry Entry
}

// Range yields what is there of a policy from one hash to another, both included, in
// order of hash, then version and part. It is what there was when the iteration began:
// what is applied meanwhile is not seen, and nothing waits for it. An error ends it; it
// is of kind errs.Corrupt where the index is damaged.
func (ix *Index) Range(p policy.Index, from, to name.Hash) iter.Seq2[Item, error] {
	return ix.items(hashes(p, from, to))
}

// All yields what is there of all policies, also what is Gone, as Range does.
func (ix *Index) All() iter.Seq2[Item, error] { return ix.items(everything()) }

func (ix *Index) items(keys span) iter.Seq2[Item, error] {
	const op errs.Op = "index.range"
	return func(yield func(Item, error) bool) {
		err := ix.each(keys, nil, func(i Item) bool { return yield(i, nil) })
		if err != nil {
			yield(Item{}, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err))
		}
	}
}

// each yields what is there in a span, until somebody has enough; also is called at the
// moment that decides what that is.
func (ix *Index) each(keys span, also func(), yield func(Item) bool) error {
	snap, err := ix.snapshot(keys, false, also)
	if err != nil {
		return err
	}
	defer snap.release()
	all, err := newMerged(snap.sources)
	if err != nil {
		return err
	}
	for {
		r, more, err := all.next()
		if err != nil || !more {
			return err
		}
		if r.dropped() {
			continue
		}
		item := Item{Key: r.key.key()}
		if err := item.Entry.parse(r.value); err != nil {
			return damaged("%s: %w", item.Key.Hash, err)
		}
		if !yield(item) {
			return nil
		}
	}
}

// Versions yields all that is there of one hash.
func (ix *Index) Versions(p policy.Index, hash name.Hash) iter.Seq2[Item, error] {
	return ix.Range(p, hash, hash)
}

// snapshot is what the index says of a span at a moment.
type snapshot struct {
	view    *view
	sources []source // the newest first
}

func (s *snapshot) release() { s.view.release() }

// snapshot takes one; also is called at the same moment. Whole has all of each run, and
// checks where it is.
func (ix *Index) snapshot(keys span, whole bool, also func()) (*snapshot, error) {
	const ahead = 16 // blocks
	ix.mu.RLock()
	if ix.closed {
		ix.mu.RUnlock()
		return nil, errs.E(errs.Unavailable, ErrClosed)
	}
	if also != nil {
		also()
	}
	recent := ix.active.copied(keys)
	s := &snapshot{view: ix.view}
	s.view.refs.Add(1)
	frozen := ix.frozen
	ix.mu.RUnlock()
	recent.sort()
	s.sources = []source{recent}
	if frozen != nil {
		s.sources = append(s.sources, &slotsOf{frozen, frozen.in(keys)})
	}
	one := keys.from.hash() == keys.to.hash()
	for _, r := range s.view.runs {
		if whole {
			all := r.everything(ahead)
			all.has = true
			s.sources = append(s.sources, all)
			continue
		}
		if one && !r.filter.has(&keys.from) {
			continue
		}
		s.sources = append(s.sources, r.in(keys, ahead))
	}
	return s, nil
}

// Digest returns the digest of a partition of a ring with 2^power partitions. No object
// is read, and where power is not more than the depth no entry either.
func (ix *Index) Digest(s Set, power int, partition uint32) (Digest, error) {
	return ix.digest(s, power, partition, nil)
}

// DigestBefore returns what Digest did, or would have, before there were changes to
// states of a time or later: so two devices agree on a partition that is being written to,
// though each has some of the last seconds' changes before the other. It knows what was
// there before a change only as long as the change is in memory, and before the first
// of several since a checkpoint began; else it takes what there is. So where digests
// differ, the states may still be the same. What was dropped stays so.
func (ix *Index) DigestBefore(s Set, power int, partition uint32, at timestamp.T) (Digest, error) {
	return ix.digest(s, power, partition, &at)
}

// digest returns a digest; before a time, if there is one.
func (ix *Index) digest(s Set, power int, partition uint32, before *timestamp.T) (d Digest, err error) {
	const op errs.Op = "index.digest"
	if power < 0 || power > 32 || uint64(partition)>>power != 0 {
		return d, errs.E(op, errs.Invalid, "there is no such partition")
	}
	from, to := Partition(power, partition)
	keys := hashes(s.Policy, from, to)
	undo := func() {
		if before != nil {
			d = d.Sub(ix.since(s, keys, *before))
		}
	}
	if depth := ix.cfg.Depth; power <= depth {
		ix.mu.RLock()
		defer ix.mu.RUnlock()
		n := uint32(1) << (depth - power)
		d = ix.buckets.sum(s, partition*n, n)
		undo()
		return d, nil
	}
	err = ix.each(keys, undo, func(i Item) bool {
		if i.Key.Part == s.Part {
			d = d.Add(DigestOf(i.Key, &i.Entry))
		}
		return true
	})
	if err != nil {
		return Digest{}, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err)
	}
	return d, nil
}

// since returns what changes of a span come to that are of a time or later. It needs mu.
func (ix *Index) since(s Set, keys span, at timestamp.T) (sum Digest) {
	ix.sinceEach(s, keys, at, func(_ *rawKey, d Digest) { sum = sum.Add(d) })
	return sum
}

// sinceEach calls add with what each change of a span comes to that is of a time or later;
// a time of zero is later than all. It needs mu.
func (ix *Index) sinceEach(s Set, keys span, at timestamp.T, add func(k *rawKey, d Digest)) {
	if at.IsZero() {
		return
	}
	ix.active.forSpan(keys, func(now *slot) {
		if now.key.set() != s || !ix.active.since(now, at) {
			return
		}
		before := now.before
		if f := ix.frozen.get(&now.key); f != nil && ix.frozen.since(f, at) {
			before = f.before
		}
		add(&now.key, now.digest.Sub(before))
	})
	ix.frozen.forSpan(keys, func(f *slot) {
		if f.key.set() == s && ix.active.get(&f.key) == nil && ix.frozen.since(f, at) {
			add(&f.key, f.digest.Sub(f.before))
		}
	})
}

// Sets returns what there are digests of.
func (ix *Index) Sets() []Set {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	list := make([]Set, 0, len(ix.buckets.sets))
	for s := range ix.buckets.sets {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Set) int {
		return (&bucket{set: a}).compare(&bucket{set: b})
	})
	return list
}

// Check computes all digests anew and compares. It reads all entries, checks all checksums
// and that each entry is where Get looks for it, and reads no objects. The error is of kind errs.Corrupt where something is not as
// it should be. Meanwhile it takes as much memory again as the digests have.
func (ix *Index) Check(ctx context.Context) error {
	const op errs.Op = "index.check"
	if err := ix.check(ctx); err != nil {
		return errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err)
	}
	return nil
}

func (ix *Index) check(ctx context.Context) error {
	want, got := newBuckets(ix.cfg.Depth), newBuckets(ix.cfg.Depth)
	snap, err := ix.snapshot(everything(), true, func() {
		for s, chunks := range ix.buckets.sets {
			copies := make([]*chunk, len(chunks))
			for i, c := range chunks {
				if c != nil {
					copies[i] = new(chunk)
					*copies[i] = *c
				}
			}
			want.sets[s] = copies
		}
	})
	if err != nil {
		return err
	}
	defer snap.release()
	all, err := newMerged(snap.sources)
	if err != nil {
		return err
	}
	err = forAll(ctx, all, func(r *record) error {
		var e Entry
		if err := e.parse(r.value); err != nil {
			return damaged("%s: %w", r.key.hash(), err)
		}
		if d := digestOf(&r.key, &e); !d.IsZero() {
			got.add(r.key.set(), r.key.prefix(ix.cfg.Depth), d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !want.equal(got) {
		return damaged("digests are not those of the entries")
	}
	return nil
}
