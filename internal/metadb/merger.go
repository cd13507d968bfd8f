package metadb

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/seglog"
)

// When what waits is merged. An update costs some 300 bytes of memory.
const (
	mergeAge   = 15 * time.Second // nothing waits for much longer
	mergeRows  = 4096             // updates of one database that are merged together, with no need to wait
	mergeSoon  = 50_000           // updates of a disk at which the databases with most are merged, until there are half
	mergeLimit = 4 * mergeSoon    // updates of a disk beyond which nobody may add more
	mergeStep  = 1000             // updates in one transaction at most
	mergeTick  = time.Second
	mergeRetry = 10 * time.Second // after a failure
	mergers    = 4                // databases of a disk that are merged at the same time
)

// keepMerging merges what waits on a disk until that is let go of.
func (s *Store) keepMerging(d *disk) {
	j := d.journal
	tick := time.NewTicker(mergeTick)
	defer tick.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.wake:
		case <-tick.C:
		}
		s.mergeDue(d, time.Now())
	}
}

// due is a database that has something waiting.
type due struct {
	*resident
	n      int
	oldest arrival
}

// mergeDue merges what is due at a time.
func (s *Store) mergeDue(d *disk, now time.Time) {
	j := d.journal
	j.pass.Lock()
	defer j.pass.Unlock()
	j.mu.Lock()
	all, waiting := j.hurry, j.waiting
	j.hurry = false
	j.mu.Unlock()
	var list []due
	for _, r := range d.residents.waiting() {
		if n, oldest := r.wait(); n > 0 {
			list = append(list, due{r, n, oldest})
		} else {
			d.residents.release(r)
		}
	}
	// Those with most first: most is had for each sync.
	slices.SortFunc(list, func(a, b due) int { return cmp.Compare(b.n, a.n) })
	less := 0 // how many fewer there will be
	turns := make(chan struct{}, mergers)
	var wg sync.WaitGroup
	for _, r := range list {
		wanted := all || r.n >= mergeRows || now.Sub(r.oldest.when) >= mergeAge || waiting >= mergeSoon && waiting-less > mergeSoon/2
		if !wanted || !all && now.Before(r.retry) {
			d.residents.release(r.resident)
			continue
		}
		less += r.n
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			s.mergeOne(d, r.resident, now)
			d.residents.release(r.resident)
		})
	}
	wg.Wait()
	d.settledUpTo()
}

// mergeOne merges what waits of a database.
func (s *Store) mergeOne(d *disk, r *resident, now time.Time) {
	select {
	case <-d.journal.stop:
		return
	default:
	}
	loc := Location{d.Device, r.hash}
	err := s.withOn(context.Background(), d, loc, s.open, func(_ *disk, e *entry) error { return e.db.merge() })
	r.retry = time.Time{}
	switch {
	case err == nil:
	case errs.Is(err, errs.NotFound):
		n := r.discard(s.schema)
		s.logGone(d, r.hash, n)
		d.fewer(n)
	default:
		r.retry = now.Add(mergeRetry)
		s.log.Error("a database could not be brought up to date from the journal", "device", d.Name(), "hash", r.hash, "err", err)
	}
}

// fewer notes that updates do not wait any more.
func (d *disk) fewer(n int) {
	j := d.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting -= n
	if j.room != nil && j.waiting < mergeLimit {
		close(j.room)
		j.room = nil
	}
}

// makeRoom waits while too much waits to be merged.
func (s *Store) makeRoom(ctx context.Context, d *disk) error {
	j := d.journal
	for {
		j.mu.Lock()
		if j.waiting < mergeLimit {
			j.mu.Unlock()
			return nil
		}
		if j.room == nil {
			j.room = make(chan struct{})
		}
		room := j.room
		j.mu.Unlock()
		d.wakeUp()
		select {
		case <-room:
		case <-j.stop:
			return errs.E(errs.BadDevice, "the device was detached")
		case <-ctx.Done():
			return errs.E(errs.Aborted, ctx.Err())
		}
	}
}

// settledUpTo tells the journal up to where all is merged. It needs pass.
func (d *disk) settledUpTo() {
	j := d.journal
	j.mu.Lock()
	log, order := j.log, len(j.order)
	j.mu.Unlock()
	if log == nil || order == 0 {
		return
	}
	// What is in order so far was among what waits before: who still waits is seen here.
	var least seglog.Position
	for _, r := range d.residents.waiting() {
		if n, oldest := r.wait(); n > 0 && (least == seglog.Position{} || oldest.at.Less(least)) {
			least = oldest.at
		}
		d.residents.release(r)
	}
	j.mu.Lock()
	n := order
	if least != (seglog.Position{}) {
		n, _ = slices.BinarySearchFunc(j.order[:order], least, func(p, q seglog.Position) int {
			return cmp.Or(cmp.Compare(p.Segment, q.Segment), cmp.Compare(p.Offset, q.Offset))
		})
	}
	if n > 0 {
		j.through = j.order[n-1]
		j.order = slices.Delete(j.order, 0, n)
	}
	j.mu.Unlock()
	if n > 0 {
		log.Merged(j.through)
	}
}

// letGo ends what goes on with the journal of a disk. What waits stays in the log.
func (j *journaled) letGo() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.over {
		j.over = true
		close(j.stop)
	}
}
