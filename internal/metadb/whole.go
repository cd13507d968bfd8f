package metadb

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
	"martlet/internal/name"
	"martlet/internal/replwire"
)

// A large database of which a device has nothing is made in tmp of the parts that a peer sends, one
// after another, and gets its name when the last has come. So nobody sees a listing of which a part is
// missing, and the parts share a few syncs: until then nothing of it counts, whatever crashes, and a peer that
// is cut off begins again. It is a database like any other that is made: with an incarnation and change
// numbers of its own, and nothing in it that did not go through a merge.
//
// What comes meanwhile for a database that is not there is refused, as always, and waits with who sent it.
// Where the database was made in the meantime by somebody else, the parts are thrown away.
const (
	mostWholes = 4               // of one device at the same time
	wholeSync  = 64              // parts after which what was written is synced, so that the last sync is not a long one
	wholeIdle  = 2 * time.Minute // after which a peer is not expected to go on, and another may begin
)

// errPresent is why a database is not taken as a whole: its parts are to be merged with what is there.
var errPresent = errs.Refuse(errs.Stale, "there is such a database, or it is another sending of it that is taken")

// errTaken is why a database is not taken as a whole now.
var errTaken = errs.Refuse(errs.Unavailable, "it is being brought by another node, or too many others are")

// whole is a database that is being made. It belongs to who has it from begin or next.
type whole struct {
	id    [16]byte
	hash  name.Hash
	next  uint32 // the part that is to come
	began time.Time
	tmp   string
	db    *database
	idle  *time.Timer // while nobody has it
}

// wholes are those of a disk.
type wholes struct {
	discard func(*whole)

	mu   sync.Mutex
	all  map[name.Hash]*whole // mu
	busy map[name.Hash]bool   // mu; which of them somebody has
	over error                // mu; why there are no more, once there are not
	had  sync.WaitGroup       // by those who have one
}

func newWholes(discard func(*whole)) *wholes {
	return &wholes{discard: discard, all: map[name.Hash]*whole{}, busy: map[name.Hash]bool{}}
}

// begin takes up a new one, in the place of one of which the same peer sends the first part again.
func (l *wholes) begin(hash name.Hash, id [16]byte) (*whole, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.all[hash]
	switch {
	case l.over != nil:
		return nil, l.over
	case l.busy[hash] || old != nil && old.id != id || old == nil && len(l.all) >= mostWholes:
		return nil, errTaken
	case old != nil:
		old.idle.Stop() // if it has fired, drop finds another one here
		l.discard(old)
	}
	w := &whole{id: id, hash: hash, began: time.Now()}
	l.take(w)
	return w, nil
}

// next takes up the one whose next part has come.
func (l *wholes) next(hash name.Hash, at replwire.Whole) (*whole, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.all[hash]
	switch {
	case l.over != nil:
		return nil, l.over
	case w == nil || w.id != at.ID || w.next != at.N || l.busy[hash] || !w.idle.Stop():
		return nil, errPresent
	}
	l.take(w)
	return w, nil
}

// take needs mu.
func (l *wholes) take(w *whole) {
	l.all[w.hash], l.busy[w.hash] = w, true
	l.had.Add(1)
}

// put gives one back, of which more is to come.
func (l *wholes) put(w *whole) {
	defer l.had.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, w.hash)
	if l.over != nil {
		delete(l.all, w.hash)
		l.discard(w)
		return
	}
	w.idle = time.AfterFunc(wholeIdle, func() { l.drop(w) })
}

// drop ends one that its peer has left.
func (l *wholes) drop(w *whole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[w.hash] == w && !l.busy[w.hash] {
		delete(l.all, w.hash)
		l.discard(w)
	}
}

// end ends one that somebody has, who has seen to its file.
func (l *wholes) end(w *whole) {
	defer l.had.Done()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, w.hash)
	delete(l.busy, w.hash)
}

// endAll ends all that nobody has; others end when they are put back.
func (l *wholes) endAll(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = why
	for hash, w := range l.all {
		if !l.busy[hash] {
			w.idle.Stop()
			delete(l.all, hash)
			l.discard(w)
		}
	}
}

// Build takes a part of another replica of the database of a path, of which nothing is here yet, and makes
// the database when it is the last: it returns its state then, on stable storage, and before that nothing.
// The parts are those of one sending, each once and in their order. The error is of kind errs.Stale where
// there is such a database, or the part is not the next one: then parts are to be merged one by one
// (Merge). It is of kind errs.Unavailable where another sending of it is under way, and else
// as of Merge. After an error nothing is left of the sending.
func (r Replicas) Build(ctx context.Context, dev string, path name.Path, h name.Hash, at replwire.Whole, body []byte) (d replwire.Database, err error) {
	const op errs.Op = "metadb.build"
	loc, err := r.at(dev, h)
	if err != nil {
		return d, err
	}
	p, err := openPart(r.store.schema, body)
	if err == nil {
		err = p.fits(path)
	}
	if err == nil {
		err = loc.Device.Room(4 * int64(len(body)))
	}
	if err == nil {
		d, err = r.store.build(ctx, loc, at, p)
	}
	return d, r.store.wrap(op, loc, err)
}

func (s *Store) build(ctx context.Context, loc Location, at replwire.Whole, p *part) (state replwire.Database, err error) {
	d, err := s.disk(ctx, loc)
	if err != nil {
		return state, err
	}
	var w *whole
	if at.N == 0 {
		if err = s.look(ctx, loc, func(*Tx) error { return nil }); err == nil {
			return state, errPresent
		}
		if !errs.Is(err, errs.NotFound) {
			return state, err
		}
		w, err = d.wholes.begin(loc.Hash, at.ID)
	} else {
		w, err = d.wholes.next(loc.Hash, at)
	}
	if err != nil {
		return state, err
	}
	if err = s.buildPart(d, w, p); err == nil && !at.Last {
		w.next++
		d.wholes.put(w)
		return state, nil
	}
	adopted := false
	if err == nil {
		state, adopted, err = s.finishWhole(ctx, d, loc, w)
	}
	if !adopted {
		s.discardWhole(d, w)
	}
	d.wholes.end(w)
	return state, err
}

// buildPart merges a part. None of it is durable.
func (s *Store) buildPart(d *disk, w *whole, p *part) error {
	if w.db == nil {
		return s.beginWhole(d, w, p)
	}
	err := guard(func() error {
		return w.db.bolt.Update(func(b *bolt.Tx) error {
			t, err := begin(s.schema, b)
			if err != nil {
				return err
			}
			if err := t.merge(p, s.horizon()); err != nil {
				return err
			}
			return t.finish()
		})
	})
	if err == nil && w.next%wholeSync == 0 {
		err = w.db.file.Sync()
	}
	if panicked(err) {
		w.db.fail(err)
	}
	return classify(err)
}

// beginWhole makes the file with the first part in it.
func (s *Store) beginWhole(d *disk, w *whole, p *part) error {
	info := p.info
	if _, err := rand.Read(info.Incarnation[:]); err != nil {
		return err
	}
	if info.PolicyAt.IsZero() {
		info.PolicyAt = info.Created
	}
	var err error
	if w.tmp, err = s.temp(d); err != nil {
		return err
	}
	if w.db, err = s.openFile(d.fs, w.tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL); err != nil {
		return classify(err)
	}
	err = s.fill(w.db, info, func(t *Tx) error { return t.merge(p, s.horizon()) })
	w.db.bolt.NoSync = true // until it is whole
	return classify(err)
}

// finishWhole gives the database its name, durably, if there still is none, and reports whether the file
// is that of the database then.
func (s *Store) finishWhole(ctx context.Context, d *disk, loc Location, w *whole) (state replwire.Database, adopted bool, err error) {
	if err := w.db.file.Sync(); err != nil {
		return state, false, classify(err)
	}
	w.db.bolt.NoSync = boltfile.DropSync()
	open := func(now *disk, loc Location) (*database, error) {
		db, err := s.open(now, loc)
		if !errs.Is(err, errs.NotFound) || now != d {
			return db, err
		}
		if err := s.adopt(d, loc, w.db, w.tmp); err != nil {
			return nil, classify(err)
		}
		adopted = true
		return w.db, nil
	}
	err = s.with(ctx, loc, open, func(now *disk, e *entry) error {
		if e.db != w.db {
			return errPresent
		}
		s.mark(now, loc.Hash)
		return e.db.look(func(t *Tx) (err error) { state, err = t.state(loc.Hash); return err })
	})
	if err == nil {
		s.log.Info("a database was made of all that a peer has of it", "device", d.Name(), "hash", loc.Hash,
			"parts", w.next+1, "changes", state.Change, "took", time.Since(w.began))
	}
	return state, adopted, err
}

// discardWhole removes what there is of a database that was to be made.
func (s *Store) discardWhole(d *disk, w *whole) {
	if w.db == nil {
		return
	}
	w.db.fail(errors.New("it was not made"))
	if err := w.db.close(); err != nil {
		s.log.Warn("a database that was not made did not close", "device", d.Name(), "hash", w.hash, "err", err)
	}
	s.removeTemp(d, w.tmp)
}
