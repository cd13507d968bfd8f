package index

import (
	"context"
	"iter"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
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
	const op errs.Op = "index.range"
	return func(yield func(Item, error) bool) {
		fail := func(err error) {
			yield(Item{}, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err))
		}
		snap, err := ix.snapshot(hashes(p, from, to), nil)
		if err != nil {
			fail(err)
			return
		}
		defer snap.release()
		all, err := newMerged(snap.sources)
		for err == nil {
			var r record
			var more bool
			if r, more, err = all.next(); err != nil || !more {
				break
			}
			if r.dropped() {
				continue
			}
			item := Item{Key: r.key.key()}
			if err = item.Entry.parse(r.value); err != nil {
				err = damaged("%s: %w", item.Key.Hash, err)
				break
			}
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			fail(err)
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

// snapshot takes one; also is called at the same moment, and has all of each run be
// checked.
func (ix *Index) snapshot(keys span, also func()) (*snapshot, error) {
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
	whole, one := also != nil, keys.from.hash() == keys.to.hash()
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
func (ix *Index) Digest(s Set, power int, partition uint32) (d Digest, err error) {
	const op errs.Op = "index.digest"
	if power < 0 || power > 32 || uint64(partition)>>power != 0 {
		return d, errs.E(op, errs.Invalid, "there is no such partition")
	}
	if depth := ix.cfg.Depth; power <= depth {
		ix.mu.RLock()
		defer ix.mu.RUnlock()
		n := uint32(1) << (depth - power)
		return ix.buckets.sum(s, partition*n, n), nil
	}
	from, to := Partition(power, partition)
	for item, err := range ix.Range(s.Policy, from, to) {
		if err != nil {
			return Digest{}, errs.E(op, err)
		}
		if item.Key.Part == s.Part {
			d = d.Add(DigestOf(item.Key, &item.Entry))
		}
	}
	return d, nil
}

// Digests yields the digests of all partitions of which there is something, in order, of
// a ring with 2^power partitions; power is not more than the depth. Each is that of a
// moment, not all of the same.
func (ix *Index) Digests(s Set, power int) iter.Seq2[uint32, Digest] {
	depth := ix.cfg.Depth
	return func(yield func(uint32, Digest) bool) {
		if power < 0 || power > depth {
			return
		}
		each := uint32(1) << (depth - power) // buckets in a partition
		together := max(1, 1<<12/each)       // partitions for which the lock is held
		digests := make([]Digest, 0, together)
		for first := uint32(0); first < 1<<power; first += together {
			digests = digests[:0]
			ix.mu.RLock()
			for p := first; p < min(first+together, 1<<power); p++ {
				digests = append(digests, ix.buckets.sum(s, p*each, each))
			}
			ix.mu.RUnlock()
			for i, d := range digests {
				if !d.IsZero() && !yield(first+uint32(i), d) {
					return
				}
			}
		}
	}
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
	snap, err := ix.snapshot(everything(), func() {
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
	for n := 0; ; n++ {
		if n&0xfff == 0 {
			if err := stopped(ctx); err != nil {
				return err
			}
		}
		r, more, err := all.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		var e Entry
		if err := e.parse(r.value); err != nil {
			return damaged("%s: %w", r.key.hash(), err)
		}
		if d := digestOf(&r.key, &e); !d.IsZero() {
			got.add(r.key.set(), r.key.prefix(ix.cfg.Depth), d)
		}
	}
	if !want.equal(got) {
		return damaged("digests are not those of the entries")
	}
	return nil
}
