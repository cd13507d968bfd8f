package index

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sync/atomic"

	"martlet/internal/errs"
)

// dueSize is how many bytes of a run say when the first entry of a block expires.
const dueSize = 4

// dues says of each block of a run when the first of its entries expires that has not been
// looked at since: a second since 1970, 0 for never. It is nil where none ever does.
type dues []atomic.Uint32

// newDues returns those of a run of which that was found. What is short is 0.
func newDues(found []uint32, blocks int64) dues {
	if len(found) == 0 {
		return nil
	}
	d := make(dues, blocks)
	for i, at := range found {
		d[i].Store(at)
	}
	return d
}

// appendTo appends them as they are in a file.
func (d dues) appendTo(b []byte) []byte {
	for i := range d {
		b = binary.LittleEndian.AppendUint32(b, d[i].Load())
	}
	return b
}

func readDues(b []byte) dues {
	found := make([]uint32, len(b)/dueSize)
	for i := range found {
		found[i] = binary.LittleEndian.Uint32(b[i*dueSize:])
	}
	return newDues(found, int64(len(found)))
}

// noteDue notes when an entry expires of the block that is being filled.
func (w *runWriter) noteDue(at uint32) {
	if at == 0 {
		return
	}
	block := int(w.foot.blocks - 1)
	if n := 1 + block - len(w.due); n > 0 {
		w.due = append(w.due, make([]uint32, n)...)
	}
	w.due[block] = earlier(w.due[block], at)
}

// earlier returns the earlier of two seconds, of which 0 is never.
func earlier(a, b uint32) uint32 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Due yields the entries of kind Data that expire in a second since 1970 or before it, as
// they are now, in any order; what changes meanwhile may be there or not. Of runs it
// reads the blocks that have any, and of what was yielded and is not so any more when it is
// called again it remembers that: so a call costs what is due, and what was since the
// last one. One that ends early remembers as much as it has seen.
func (ix *Index) Due(ctx context.Context, second uint32) iter.Seq2[Item, error] {
	const op errs.Op = "index.due"
	return func(yield func(Item, error) bool) {
		if err := ix.due(ctx, second, func(i Item) bool { return yield(i, nil) }); err != nil {
			yield(Item{}, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err))
		}
	}
}

func (ix *Index) due(ctx context.Context, second uint32, yield func(Item) bool) error {
	recent, v, err := ix.recentlyDue(second)
	if err != nil {
		return err
	}
	defer v.release()
	for i := range recent {
		e, err := ix.Get(recent[i].key())
		if err != nil {
			return err
		}
		if e.due(second) && !yield(Item{recent[i].key(), e}) {
			return nil
		}
	}
	for _, r := range v.runs {
		for block := range r.dues {
			if at := r.dues[block].Load(); at == 0 || at > second {
				continue
			}
			if err := stopped(ctx); err != nil {
				return err
			}
			if more, err := ix.dueOf(r, block, second, yield); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// due reports whether an entry is of an object that expires by a second.
func (e *Entry) due(second uint32) bool {
	return e.Kind == Data && !e.MetaLost && e.Expires != 0 && e.Expires <= second
}

// recentlyDue returns the keys of what is in memory that is due, and the runs beside it.
func (ix *Index) recentlyDue(second uint32) (keys []rawKey, v *view, err error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if ix.closed {
		return nil, nil, errs.E(errs.Unavailable, ErrClosed)
	}
	for _, m := range []*memory{ix.active, ix.frozen} {
		m.forSpan(everything(), func(s *slot) {
			if at := expires(m.value(s)); at != 0 && at <= second {
				keys = append(keys, s.key)
			}
		})
	}
	slices.SortFunc(keys, func(a, b rawKey) int { return a.compare(&b) })
	v = ix.view
	v.refs.Add(1)
	return slices.Compact(keys), v, nil
}

// dueOf yields what is due of one block of a run, where nothing newer has taken its place,
// and notes when to look at it again.
func (ix *Index) dueOf(r *run, at int, second uint32, yield func(Item) bool) (more bool, err error) {
	var buf [blockSize]byte
	if err := r.readBlocks(buf[:], at); err != nil {
		return false, err
	}
	b, err := r.block(buf[:], at)
	if err != nil {
		return false, err
	}
	next := uint32(0)
	for {
		rec, more, err := b.next(nil)
		switch {
		case err != nil:
			return false, damaged("run %d: block %d: %w", r.number, 1+at, err)
		case !more:
			r.dues[at].Store(next)
			return true, nil
		}
		when := expires(rec.value)
		if when == 0 {
			continue
		}
		if when > second {
			next = earlier(next, when)
			continue
		}
		var now, then Entry
		if err := then.parse(rec.value); err != nil {
			return false, damaged("run %d: block %d: %w", r.number, 1+at, err)
		}
		if now, err = ix.Get(rec.key.key()); err != nil {
			return false, err
		}
		if now != then || !now.due(second) {
			continue // what has taken its place is found where that is
		}
		next = earlier(next, when)
		if !yield(Item{rec.key.key(), now}) {
			return false, nil
		}
	}
}
