package metadb

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/seglog"
)

// When what waits is merged. Bytes are those that it takes in memory, about.
const (
	mergeAge   = 15 * time.Second // nothing waits for much longer
	mergeRows  = 4096             // updates of one database that are merged together, with no need to wait
	mergeSoon  = 24 << 20         // bytes of a disk at which the databases with most are merged, until there are half
	mergeLimit = 4 * mergeSoon    // bytes of a disk beyond which nobody may add more
	mergeStep  = 1000             // updates in one transaction at most
	mergeTick  = time.Second
	mergeRest  = 50 * time.Millisecond // between two passes
	mergeRetry = 10 * time.Second      // after a failure
	mergers    = 4                     // databases of a disk that are merged at the same time
	together   = 256                   // and small ones, which share transactions
	roomWait   = 10 * time.Second      // how long somebody waits to add more
)

// keepMerging merges what waits on a disk until that is let go of.
func (s *Store) keepMerging(d *disk) {
	j := d.journal
	tick, rest := time.NewTicker(mergeTick), time.NewTicker(mergeRest)
	defer tick.Stop()
	defer rest.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.wake:
		case <-tick.C:
		}
		s.openAnew(d)
		s.mergeDue(d, time.Now())
		select {
		case <-j.stop:
			return
		case <-rest.C:
		}
	}
}

// openAnew opens the journal again if it is gone, also where nobody needs it now: whoever
// keeps the log is to know what is merged.
func (s *Store) openAnew(d *disk) {
	j := d.journal
	j.mu.Lock()
	log := j.log
	j.mu.Unlock()
	if log == nil || !log.Gone() {
		return
	}
	j.lost(log)
	if _, err := s.attach(context.Background(), d); err != nil {
		s.log.Warn("the journal is gone", "device", d.Name(), "err", err)
	}
}

// due is a database that has something waiting.
type due struct {
	*resident
	n    int64
	when time.Time // that the oldest has come
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
	for _, r := range d.residents.withWaiting() {
		if oldest, ok := r.oldest(); ok {
			list = append(list, due{r, r.waits.Load(), oldest.when})
		} else {
			d.residents.release(r)
		}
	}
	// Those with most first: most is had for each sync.
	slices.SortFunc(list, func(a, b due) int { return cmp.Compare(b.n, a.n) })
	soon := waiting >= mergeSoon
	owns, shares := make(chan struct{}, mergers), make(chan struct{}, together)
	var wg sync.WaitGroup
	for _, r := range list {
		wanted := all || r.n >= mergeRows || now.Sub(r.when) >= mergeAge || soon && j.bytes() > mergeSoon/2
		if !wanted || !all && now.Before(r.retry) {
			d.residents.release(r.resident)
			continue
		}
		turns := owns
		if s.isSmall(d, r.resident) {
			turns = shares
		}
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

// isSmall reports whether a database is one that shares a file, as far as is known.
func (s *Store) isSmall(d *disk, r *resident) bool {
	if home := r.home.Load(); home != homeUnknown {
		return home == homeShared
	}
	_, err := d.fs.Stat(pathOf(d.Device, s.schema, r.hash))
	return errors.Is(err, fs.ErrNotExist)
}

// bytes returns how much waits.
func (j *journaled) bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting
}

// mergeOne merges what waits of a database. Of one that is gone it is given up; of one that
// can't be read it waits until that can be again, or is in quarantine.
func (s *Store) mergeOne(d *disk, r *resident, now time.Time) {
	select {
	case <-d.journal.stop:
		return
	default:
	}
	err := s.mergeNow(d, r)
	if errs.Is(err, errs.NotFound) && d.Check() == nil {
		// Nobody adds more, or makes it anew, before it is clear that it is still so.
		r.gate.Lock()
		if err = s.mergeNow(d, r); errs.Is(err, errs.NotFound) && d.Check() == nil {
			r.forget()
			n, bytes := r.discard()
			s.log.Error("updates in the journal are given up with their database; replication brings them back with it",
				"device", d.Name(), "hash", r.hash, "updates", n, "err", err)
			d.fewer(r, n, bytes)
			err = nil
		}
		r.gate.Unlock()
	}
	r.retry = time.Time{}
	if err != nil {
		r.retry = now.Add(mergeRetry)
		s.log.Error("a database could not be brought up to date from the journal", "device", d.Name(), "hash", r.hash, "err", err)
	}
}

func (s *Store) mergeNow(d *disk, r *resident) error {
	loc := Location{d.Device, r.hash}
	return s.withOn(context.Background(), d, loc, s.open, func(_ *disk, e *entry) error { return e.db.merge() })
}

// fewer notes that updates of a resident do not wait any more.
func (d *disk) fewer(r *resident, n int, bytes int64) {
	d.residents.fewer(r, n)
	j := d.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting -= bytes
	if j.room != nil && j.waiting < mergeLimit {
		close(j.room)
		j.room = nil
	}
}

// makeRoom waits while too much waits to be merged, for a while.
func (s *Store) makeRoom(ctx context.Context, d *disk) error {
	j := d.journal
	if j.bytes() < mergeLimit {
		return nil
	}
	timer := time.NewTimer(roomWait)
	defer timer.Stop()
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
			return j.still()
		case <-timer.C:
			return errs.E(errs.Unavailable, "too much waits in the journal")
		case <-ctx.Done():
			return errs.E(errs.Aborted, ctx.Err())
		}
	}
}

// settledUpTo tells the journal up to where all is merged. It needs pass.
func (d *disk) settledUpTo() {
	j := d.journal
	j.mu.Lock()
	log, order, last := j.log, len(j.order), j.last
	known := j.through
	j.mu.Unlock()
	if log == nil || !known.Less(last) {
		return
	}
	// What is in order so far was among what waits before: who still waits is seen here.
	var least seglog.Position
	for _, r := range d.residents.withWaiting() {
		if oldest, ok := r.oldest(); ok && (least == seglog.Position{} || oldest.at.Less(least)) {
			least = oldest.at
		}
		d.residents.release(r)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n, through := order, last
	if least != (seglog.Position{}) {
		n, _ = slices.BinarySearchFunc(j.order[:order], least, func(p, q seglog.Position) int {
			return cmp.Or(cmp.Compare(p.Segment, q.Segment), cmp.Compare(p.Offset, q.Offset))
		})
		if through = j.through; n > 0 && through.Less(j.order[n-1]) {
			through = j.order[n-1]
		}
	}
	j.order = slices.Delete(j.order, 0, n)
	if !j.through.Less(through) {
		return
	}
	j.through = through
	if j.over == nil { // else there is somebody else who works with the log
		log.Merged(j.through)
	}
}

// letGo ends what goes on with the journal of a disk, because of why. What waits stays in
// the log.
func (j *journaled) letGo(why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over == nil {
		j.over = why
		close(j.stop)
	}
}
