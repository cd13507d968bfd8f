package metadb

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/metadb/boltfile"
	"martlet/internal/planted"
)

// maxBatch bounds how many writers share a transaction, so that none waits
// long for a late one.
const maxBatch = 512

// database is one that is open: a file of its own, or what a shared one has of it.
type database struct {
	gone bool // it was dropped, durably; whoever leads may set and read it

	file   *boltfile.File // nil where it is small
	bolt   *bolt.DB       // file's
	small  *shared        // nil where it has a file of its own
	schema Schema
	told   *telling  // what its owner was told; nil where nobody is
	res    *resident // what is in memory of it, and not in the file; the database is a user of it

	// settle makes durable what the file holds when it is opened, and its name: a
	// process that was killed may have left either written and not synced. It is
	// nil once that is done. Only who leads may touch it.
	settle func() error

	step int   // updates that are merged in one transaction, unless others wait for it; belongs to who leads
	disk *disk // where it is

	auditing sync.Mutex            // held by who audits the database
	auditor  atomic.Pointer[audit] // is told of transactions

	mu      sync.Mutex
	waiting []*write // guarded by mu
	busy    bool     // someone leads; guarded by mu
	failed  error    // why it is of no more use, once it is; guarded by mu
}

// write is one change that waits for its transaction.
type write struct {
	fn     func(*Tx) error
	turn   chan bool // true: lead the next batch; false: done
	err    error
	report bool         // what is told to the owner of a listing may have changed
	alone  bool         // it shares its transaction with nobody
	apart  bool         // it is not for rows: what waits in the journal may go on waiting
	quiet  func() error // done instead of a transaction, while there is none
}

// failure returns why the database may not be used any more.
func (d *database) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil && d.small != nil && d.small.stale() {
		return errDropped // it is read again
	}
	return d.failed
}

// fail puts the database out of use. The first reason stays.
func (d *database) fail(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = why
	}
}

// look runs fn over the newest state of the file.
func (d *database) look(fn func(*Tx) error) error {
	return d.guarded(func() error {
		return d.newest(fn)
	})
}

// newest runs fn over the newest state that was committed.
func (d *database) newest(fn func(*Tx) error) error {
	if d.small != nil {
		t, err := beginImage(d.schema, d.small.image.Load())
		if err != nil {
			return err
		}
		t.told = d.told
		return fn(t)
	}
	return d.bolt.View(func(b *bolt.Tx) error {
		t, err := begin(d.schema, b)
		if err != nil {
			return err
		}
		t.told = d.told
		return fn(t)
	})
}

func (d *database) guarded(fn func() error) error {
	if err := d.failure(); err != nil {
		return err
	}
	err := guard(fn)
	if panicked(err) {
		d.fail(err)
	}
	return classify(err)
}

// merge puts all that waits in the journal into the file.
func (d *database) merge() error {
	w := &write{fn: func(*Tx) error { return nil }}
	d.run(w)
	return classify(w.err)
}

// update runs fn in a transaction that it may share with others, and returns
// once that is on stable storage. Whoever finds nobody leading leads: it takes
// all that wait, commits, answers them, and passes the lead on. So nobody waits
// for company, and no goroutine stands by. Report says whether what is told to
// the owner of the listing may have changed.
func (d *database) update(fn func(*Tx) error) (report bool, err error) {
	w := &write{fn: fn}
	d.run(w)
	return w.report, classify(w.err)
}

// apart is update for what is not for rows, and does not see those that wait.
func (d *database) apart(fn func(*Tx) error) (report bool, err error) {
	w := &write{fn: fn, apart: true}
	d.run(w)
	return w.report, classify(w.err)
}

// alone is update in a transaction that is not shared: nobody writes in it before
// fn, or after it.
func (d *database) alone(fn func(*Tx) error) error {
	w := &write{fn: fn, alone: true}
	d.run(w)
	return classify(w.err)
}

func (d *database) run(w *write) {
	w.turn = make(chan bool, 1)
	d.mu.Lock()
	d.waiting = append(d.waiting, w)
	lead := !d.busy
	d.busy = true
	d.mu.Unlock()
	if !lead {
		lead = <-w.turn
	}
	if lead {
		d.lead()
	}
}

// next returns how many of those that wait share the next transaction.
func next(waiting []*write) int {
	n := min(len(waiting), maxBatch)
	for i, w := range waiting[:n] {
		if w.alone || w.quiet != nil || w.apart != waiting[0].apart {
			return max(i, 1)
		}
	}
	return n
}

// lead commits what waits, the caller's own among it, and passes the lead on.
func (d *database) lead() {
	d.mu.Lock()
	batch := d.waiting[:next(d.waiting)]
	d.waiting = d.waiting[len(batch):]
	d.mu.Unlock()
	err := d.failure()
	if quiet := batch[0].quiet; quiet != nil && err == nil {
		batch[0].err = guard(quiet)
		d.passOn(batch)
		return
	}

	most := 0
	if err == nil && !batch[0].apart {
		err = d.grown(guard(func() (err error) { most, err = d.catchUp(); return err }))
		if err != nil {
			d.fail(err)
		}
	}
	if err == nil {
		d.commit(batch, most)
	} else {
		for _, w := range batch {
			w.err = err
		}
	}
	d.passOn(batch)
}

// passOn answers those whose turn it was, and has the next ones take theirs.
func (d *database) passOn(batch []*write) {
	d.mu.Lock()
	var first *write
	if len(d.waiting) > 0 {
		first = d.waiting[0]
	} else {
		d.waiting, d.busy = nil, false
	}
	d.mu.Unlock()
	for _, w := range batch[1:] { // the first is the caller
		w.turn <- false
	}
	if first != nil {
		first.turn <- true
	}
}

// catchUp merges what waits, as long as that is more than one transaction should, and returns how much of it is left
// for that of those who lead: what comes meanwhile is for later.
func (d *database) catchUp() (left int, err error) {
	for left = int(d.res.waits.Load()); left > d.step; {
		began := time.Now()
		if _, err := d.try(nil, d.step); err != nil {
			return left, err
		}
		left -= d.step
		d.step = nextStep(d.step, d.disk.journal.step, time.Since(began))
		d.letApart()
	}
	return max(left, 0), nil
}

// letApart commits, between two steps of a merge, what is not for rows.
func (d *database) letApart() {
	var batch []*write
	d.mu.Lock()
	d.waiting = slices.DeleteFunc(d.waiting, func(w *write) bool {
		if !w.apart || len(batch) == maxBatch {
			return false
		}
		batch = append(batch, w)
		return true
	})
	d.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	d.commit(batch, 0)
	for _, w := range batch {
		w.turn <- false
	}
}

// A transaction that merges holds up writers for about mergeTime.
const (
	mergeTime = 40 * time.Millisecond
	leastStep = 100
)

// nextStep is how many updates are merged in one transaction, at most most, after one with
// step of them took so long.
func nextStep(step, most int, took time.Duration) int {
	switch {
	case took > mergeTime:
		step /= 2
	case took < mergeTime/2:
		step *= 2
	}
	return min(max(step, leastStep), most)
}

// commit runs a batch in one transaction, in which so much of what waits is merged first. A write that fails after it changed
// something takes the transaction with it: the others run again without it.
func (d *database) commit(batch []*write, most int) {
	left := batch
	for len(left) > 0 {
		var bad *write
		err := guard(func() error {
			var err error
			bad, err = d.try(left, most)
			return err
		})
		if bad == nil {
			if err = d.grown(err); err != nil {
				d.fail(err) // what the file now holds is not known: read it anew
				for _, w := range left {
					w.err = err
				}
			}
			return
		}
		rest := make([]*write, 0, len(left)-1)
		for _, w := range left {
			if w != bad {
				rest = append(rest, w)
			}
		}
		left = rest
	}
}

// try merges what waits, at most that many updates, runs writes in the
// same transaction, and commits it, synced, if anything changed. It returns the write that
// has to be left out, if there is one, its error set and nothing done.
func (d *database) try(list []*write, most int) (bad *write, err error) {
	if d.settle != nil {
		if err := d.settle(); err != nil {
			return nil, err
		}
		d.settle = nil
	}
	c, t, err := d.begin()
	if err != nil {
		return nil, err
	}
	life := d.res.life.Load()
	if err := d.failure(); err != nil {
		return nil, c.rollback(err) // while it waited, another file has come in its place
	}
	d.res.isSettled(life) // it may have been forgotten with the file before this one
	t.res, t.audit = d.res, d.auditor.Load()
	var waiting *batch
	if most > 0 {
		if waiting, err = d.res.take(t, most); err != nil {
			return nil, c.rollback(err)
		}
	}
	if err := t.mergeBatch(waiting); err != nil {
		return nil, c.rollback(err)
	}
	touched := t.touch
	for _, w := range list {
		t.touch, t.unreported = false, false
		if w.err = w.fn(t); w.err != nil && t.touch {
			if c.isLarge() {
				return nil, c.rollback(errGrown)
			}
			return w, c.rollback(nil)
		}
		touched = touched || t.touch
		w.report = t.unreported
	}
	if d.gone { // nothing more is kept of it
		if waiting != nil {
			d.res.merged(waiting)
			d.disk.fewer(d.res, waiting.n, waiting.bytes)
		}
		return nil, c.rollback(nil)
	}
	if !touched {
		if waiting != nil { // all of it had been merged before
			d.res.merged(waiting)
			d.disk.fewer(d.res, waiting.n, waiting.bytes)
		}
		return nil, c.rollback(nil)
	}
	if err := t.finish(); err != nil {
		return nil, c.rollback(err)
	}
	k, err := t.known()
	if err != nil {
		return nil, c.rollback(err)
	}
	if err := d.keep(c, t); err != nil {
		return nil, err
	}
	d.res.learn(k, life)
	if waiting != nil {
		d.res.merged(waiting)
		d.disk.fewer(d.res, waiting.n, waiting.bytes)
	}
	return nil, nil
}

// change is a transaction of a file, or a copy of a small database.
type change struct {
	bolt  *bolt.Tx
	image *image
}

// begin begins a transaction that writes.
func (d *database) begin() (c change, t *Tx, err error) {
	if d.small != nil {
		c.image = d.small.image.Load().next()
		t, err = beginImage(d.schema, c.image)
	} else if c.bolt, err = d.bolt.Begin(true); err == nil {
		if t, err = begin(d.schema, c.bolt); err != nil {
			err = c.rollback(err)
		}
	}
	if err == nil {
		t.told = d.told
	}
	return c, t, err
}

// keep commits a transaction, durably, and sees to it that it is known before that whether the owner has
// something to be told.
func (d *database) keep(c change, t *Tx) error {
	if c.image != nil {
		return d.small.keep(d, c.image, t)
	}
	if err := d.told.mark(t); err != nil {
		return c.rollback(err)
	}
	t.tell()
	return c.bolt.Commit()
}

// isLarge reports whether what a transaction makes is too large for a small database.
func (c change) isLarge() bool { return c.image != nil && c.image.size > mostInMemory }

// rollback ends a transaction that changed nothing and returns err, or else
// why it could not be ended.
func (c change) rollback(err error) error {
	if c.bolt == nil {
		return err
	}
	return rollback(c.bolt, err)
}

// mergeBatch merges what waits, and says up to where that was.
func (t *Tx) mergeBatch(b *batch) error {
	if b == nil {
		return nil
	}
	before, err := t.merged()
	if err != nil {
		return err
	}
	for i, w := range b.rows {
		if before.has(b.through.log, b.last[i]) {
			continue // it was replayed
		}
		if planted.MergeLosesRow && w.key[len(w.key)-1]%8 == 0 { // breaks: what was merged, and may go from the journal, is in the file
			continue
		}
		if _, err := t.MergeRow(spaceOf(w.key), string(w.key[spaceLen:]), b.values[i]); err != nil {
			return err
		}
	}
	if before.has(b.through.log, b.through.at) {
		return nil
	}
	return t.setMerged(b.through)
}

// rollback ends a transaction that changed nothing and returns err, or else
// why it could not be ended.
func rollback(b *bolt.Tx, err error) error {
	if rbErr := b.Rollback(); err == nil {
		return rbErr
	}
	return err
}

// close closes the file. Nobody may be using it.
func (d *database) close() error {
	if d.small != nil {
		return nil
	}
	return d.file.Close(d.failure())
}
