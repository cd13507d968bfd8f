package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"martlet/internal/errs"
	"martlet/internal/planted"
)

// Checkpoint makes durable what was applied before it was called, with what Config.Extra
// says. Position is at least what Applied was, when it returns nil. Get, Apply and all else go on meanwhile.
// After an error nothing has changed, and it may be tried again; unless the error wraps
// ErrBroken. One checkpoint is made at a time.
func (ix *Index) Checkpoint(ctx context.Context) error {
	const op errs.Op = "index.checkpoint"
	ix.checkpoint.Lock()
	defer ix.checkpoint.Unlock()
	for {
		again, err := ix.checkpointOnce(ctx)
		if err != nil {
			return errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err)
		}
		if !again {
			return nil
		}
	}
}

// checkpointOnce writes what an earlier checkpoint could not, or what there is now. It
// reports whether there was the former.
func (ix *Index) checkpointOnce(ctx context.Context) (again bool, err error) {
	m, again, err := ix.freeze()
	if m == nil || err != nil {
		return false, err
	}
	changes := m.changed(ix.depth)
	var added *run
	if m.count > 0 {
		added, err = ix.writeRun(int64(m.count), func(w *runWriter) error {
			add := w.add
			if planted.CheckpointLosesEntry { // breaks: a run has all that the position of the checkpoint says
				add = w.addMost
			}
			if err := forAll(ctx, &slotsOf{m, m.in(everything())}, add); err != nil {
				return err
			}
			if err := w.endEntries(); err != nil {
				return err
			}
			for i := range changes {
				if err := w.addBucket(&changes[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return again, ix.install(added, m, func(runs []*run) []*run {
		if added == nil {
			return runs
		}
		return append([]*run{added}, runs...)
	})
}

// freeze returns the table that is to be written, nil if nothing is: one that an earlier
// checkpoint has left, or that of now. It must be complete before anything can fail.
func (ix *Index) freeze() (m *memory, earlier bool, err error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return nil, false, errs.E(errs.Unavailable, ErrClosed)
	}
	if ix.frozen != nil {
		return ix.frozen, true, nil
	}
	var extra []byte
	if ix.cfg.Extra != nil {
		extra = ix.cfg.Extra()
	}
	if len(extra) > MaxExtra {
		return nil, false, errs.E(errs.Invalid, fmt.Errorf("there are %d bytes beside the changes, more than %d", len(extra), MaxExtra))
	}
	if m = ix.active; m.count == 0 && m.upTo == ix.position && bytes.Equal(extra, ix.extra) {
		return nil, false, nil
	}
	m.extra = extra
	ix.frozen, ix.active = m, newMemory(m.upTo)
	return m, false, nil
}

// writeRun makes a run, durable but for its name, which is gone again if nobody
// installs it.
func (ix *Index) writeRun(entries int64, write func(*runWriter) error) (r *run, err error) {
	if err := ix.whole(); err != nil {
		return nil, err
	}
	number := ix.next.Add(1) - 1
	file, err := ix.dir.fs.CreateUnnamed(ix.dir.path)
	if err != nil {
		return nil, err
	}
	w, err := newRunWriter(file, ix.id, number, ix.depth, entries)
	if err == nil {
		err = write(w)
	}
	var sum uint32
	if err == nil {
		sum, err = w.end()
	}
	if err == nil {
		err = ix.dir.fs.Link(file, ix.dir.run(number))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r = &run{
		known: known{number, w.foot.size(), w.foot.entries, sum},
		foot:  w.foot, dir: &ix.dir, file: file, fences: w.fences, dues: newDues(w.due, w.foot.blocks), filter: w.filter,
	}
	r.refs.Store(1)
	r.useless.Store(true)
	return r, nil
}

// Merge makes one of several runs, where there are too many, and reports whether it did.
// It is called until it reports false, after a checkpoint. What it writes changes nothing
// that anybody sees. Get, Apply and Checkpoint go on meanwhile; one merge is made at a
// time. After an error nothing has changed, and it may be tried again; unless the error
// wraps ErrBroken.
func (ix *Index) Merge(ctx context.Context) (bool, error) {
	return ix.merge(ctx, "index.merge", choose)
}

// MergeAll makes one of all runs.
func (ix *Index) MergeAll(ctx context.Context) error {
	_, err := ix.merge(ctx, "index.mergeall", func(entries []int64) int { return len(entries) })
	return err
}

func (ix *Index) merge(ctx context.Context, op errs.Op, choose func([]int64) int) (bool, error) {
	ix.merging.Lock()
	defer ix.merging.Unlock()
	ix.mu.RLock()
	if ix.closed {
		ix.mu.RUnlock()
		return false, errs.E(op, errs.Subject(ix.cfg.Folder), errs.Unavailable, ErrClosed)
	}
	v := ix.view
	v.refs.Add(1)
	ix.mu.RUnlock()
	defer v.release()

	entries := make([]int64, len(v.runs))
	for i, r := range v.runs {
		entries[i] = r.foot.entries
	}
	n := choose(entries)
	if n < 1 {
		return false, nil
	}
	if err := ix.mergeRuns(ctx, v.runs[:n], n == len(v.runs)); err != nil {
		return false, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err)
	}
	return true, nil
}

func (ix *Index) mergeRuns(ctx context.Context, runs []*run, oldest bool) error {
	var most int64
	for _, r := range runs {
		most += r.foot.entries
	}
	added, err := ix.writeRun(most, func(w *runWriter) error { return mergeRuns(ctx, w, runs, oldest) })
	if err != nil {
		return err
	}
	return ix.install(added, nil, func(now []*run) []*run {
		// Checkpoints have put newer ones before them.
		var list []*run
		for i, r := range now {
			if r == runs[0] {
				list = append(list, now[:i]...)
				list = append(list, added)
				return append(list, now[i+len(runs):]...)
			}
		}
		return now // not reached: only a merge takes runs away, and there is one at a time
	})
}
