package small

import (
	"sync"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
)

// A transaction is shared by so many who commit at most, and takes up to so many bytes, so that
// none waits long for a late one.
const (
	maxBatch = 1024
	maxBytes = 8 << 20
)

// A Put gives a key a value in a bucket; where the value is nil it has none any more.
type Put struct {
	In    Bucket
	Key   Key
	Value []byte
}

// queue is who waits to commit.
type queue struct {
	mu      sync.Mutex
	waiting []*write // mu
	busy    bool     // mu; someone leads
}

type write struct {
	puts []Put
	size int
	turn chan bool // true: lead the next transaction; false: done
	err  error
}

// Commit puts all that it is given, of keys of one quarter, or nothing of it. When it returns
// nil that is on stable storage. Those who come at the same time share a transaction: whoever
// finds nobody leading leads, commits for all who wait, and passes the lead on.
func (f *Files) Commit(puts ...Put) error {
	q := f.of(puts[0].Key)
	w := &write{puts: puts, turn: make(chan bool, 1)}
	for i := range puts {
		w.size += len(puts[i].Value)
	}
	q.commits.mu.Lock()
	q.commits.waiting = append(q.commits.waiting, w)
	lead := !q.commits.busy
	q.commits.busy = true
	q.commits.mu.Unlock()
	if !lead {
		lead = <-w.turn
	}
	if lead {
		q.lead()
	}
	return w.err
}

// take returns those who share the next transaction.
func (c *queue) take() []*write {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, size := 0, 0
	for n < len(c.waiting) && n < maxBatch && (n == 0 || size < maxBytes) {
		size += c.waiting[n].size
		n++
	}
	batch := c.waiting[:n:n]
	c.waiting = c.waiting[n:]
	return batch
}

// lead commits what waits, the caller's own among it, and passes the lead on.
func (q *quarter) lead() {
	batch := q.commits.take()
	err := boltfile.Classify(q.with(true, func(o *open) error { return q.commit(o, batch) }))
	for _, w := range batch {
		w.err = err
	}
	q.commits.mu.Lock()
	var first *write
	if len(q.commits.waiting) > 0 {
		first = q.commits.waiting[0]
	} else {
		q.commits.waiting, q.commits.busy = nil, false
	}
	q.commits.mu.Unlock()
	for _, w := range batch[1:] { // the first is the caller
		w.turn <- false
	}
	if first != nil {
		first.turn <- true
	}
}

func (q *quarter) commit(o *open, batch []*write) error {
	if q.broken.Load() {
		return &DamageError{Page: true, Why: errs.E(errs.Corrupt, "a page is damaged; nothing is written before what can be read is in a new file")}
	}
	if err := q.settle(o); err != nil {
		return err
	}
	err := boltfile.Guard(func() error {
		tx, err := o.DB.Begin(true)
		if err != nil {
			return err
		}
		for _, w := range batch {
			for i := range w.puts {
				if err := put(tx, &w.puts[i]); err != nil {
					_ = tx.Rollback() // it is read anew anyway
					return err
				}
			}
		}
		return tx.Commit()
	})
	if err == nil {
		return nil
	}
	q.fail(o, err)
	if boltfile.Panicked(err) {
		q.damaged.Store(true)
		q.broken.Store(true)
		return &DamageError{Page: true, Why: err}
	}
	return err
}

func put(tx *bolt.Tx, p *Put) error {
	b := tx.Bucket(buckets[p.In])
	key := p.Key[:]
	if p.Value == nil {
		return b.Delete(key)
	}
	return b.Put(key, boltfile.Seal(key, append(make([]byte, 0, len(p.Value)+boltfile.SealLen), p.Value...)))
}

// SetWalked has Walked be true of a quarter from now on, durably.
func (f *Files) SetWalked(n Quarter) error {
	q := f.quarters[n]
	return q.with(true, func(o *open) error {
		if err := q.settle(o); err != nil {
			return err
		}
		err := boltfile.Guard(func() error { return o.DB.Update(putWalked) })
		if err != nil {
			q.fail(o, err)
		}
		return boltfile.Classify(err)
	})
}
