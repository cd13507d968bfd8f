package small

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
)

// quarter is one file. Whoever uses it does so within one transaction: so it can be closed and opened
// anew at any time, with a moment's wait.
type quarter struct {
	files *Files
	id    Quarter
	path  string

	turn    atomic.Uint64
	damaged atomic.Bool // something could not be read or written; until it was salvaged
	broken  atomic.Bool // that was a commit

	mu     sync.Mutex
	change sync.Cond // over mu
	file   *open     // mu; nil where it is not open
	busy   bool      // mu; somebody opens, closes or replaces it
	closed error     // mu; why it is opened no more

	commits queue
}

// open is a file that is open.
type open struct {
	*boltfile.File
	users  int   // the quarter's mu
	failed error // the quarter's mu; why it is of no more use

	settling sync.Mutex
	settled  bool // settling
}

func newQuarter(f *Files, id Quarter) *quarter {
	q := &quarter{files: f, id: id, path: f.path(id)}
	q.change.L = &q.mu
	return q
}

// with runs fn with the open file, which it makes where there is none, if create says so; else
// the error is errAbsent.
func (q *quarter) with(create bool, fn func(*open) error) error {
	o, err := q.acquire(create)
	if err != nil {
		return err
	}
	defer q.release(o)
	return fn(o)
}

func (q *quarter) acquire(create bool) (*open, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.closed != nil:
			if q.file != nil && q.file.users == 0 && !q.busy { // it was closed while it was opened
				q.close()
			}
			return nil, q.closed
		case !q.busy && q.file != nil && q.file.failed != nil && q.file.users == 0:
			q.close()
		case q.busy || q.file != nil && q.file.failed != nil:
			q.change.Wait()
		case q.file != nil:
			q.file.users++
			return q.file, nil
		default:
			if err := q.open(create); err != nil {
				return nil, err
			}
		}
	}
}

// alone runs fn while mu is not held, and nobody else uses the file, or opens it. It needs mu.
func (q *quarter) alone(fn func() error) error {
	q.busy = true
	q.mu.Unlock()
	err := fn()
	q.mu.Lock()
	q.busy = false
	q.change.Broadcast()
	return err
}

// open opens the file. It needs mu, and that nobody is busy.
func (q *quarter) open(create bool) error {
	return q.alone(func() error {
		o, err := q.openFile()
		if errs.Is(err, errs.NotFound) {
			if !create {
				return errAbsent
			}
			o, err = q.create()
		}
		if err != nil {
			if errs.Is(err, errs.Corrupt) {
				q.damaged.Store(true)
				q.broken.Store(true)
				err = &DamageError{Page: true, Why: err}
			}
			return err
		}
		q.mu.Lock()
		q.file = o
		q.mu.Unlock()
		return nil
	})
}

func (q *quarter) openFile() (*open, error) {
	fs := q.files.cfg.FS
	if err := q.mend(); err != nil {
		return nil, boltfile.Classify(err)
	}
	f, err := boltfile.Open(fs, q.path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err = f.IsNamed(fs, q.path); err == nil {
		err = boltfile.Guard(func() error { return f.DB.View(check) })
	}
	if err != nil {
		return nil, errors.Join(boltfile.Classify(err), f.Close(err))
	}
	return &open{File: f}, nil
}

// mend makes the file durable if its latest commit failed.
func (q *quarter) mend() error {
	d := q.files.cfg.Doubt
	d.mu.Lock()
	doubt := d.all[q.id]
	d.mu.Unlock()
	if !doubt {
		return nil
	}
	if err := boltfile.Mend(q.files.cfg.FS, q.path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[q.id] = false
	return nil
}

// check sees to it that the file is one of this version.
func check(tx *bolt.Tx) error {
	info := tx.Bucket(bucketInfo)
	if info == nil {
		return corrupt(boltfile.ErrShape)
	}
	raw, err := boltfile.Unseal(keyFormat, info.Get(keyFormat))
	if err != nil {
		return corrupt(err)
	}
	if len(raw) != 1 || raw[0] != version {
		return errs.E(errs.BadDevice, "the file is of another version")
	}
	for _, b := range buckets {
		if tx.Bucket(b) == nil {
			return corrupt(boltfile.ErrShape)
		}
	}
	return nil
}

// create makes the file, with nothing in it, and leaves it open.
func (q *quarter) create() (*open, error) {
	cfg := &q.files.cfg
	tmp, err := cfg.Temp()
	if err != nil {
		return nil, err
	}
	f, err := boltfile.Open(cfg.FS, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, boltfile.Classify(err)
	}
	each := f.DB.NoSync
	f.DB.NoSync = true // one sync does for all
	if err = f.DB.Update(shape); err == nil {
		err = f.Sync()
	}
	f.DB.NoSync = each
	if err == nil {
		err = q.place(tmp)
	}
	if err != nil {
		err = errors.Join(boltfile.Classify(err), f.Close(err))
		q.remove(tmp)
		return nil, err
	}
	return &open{File: f}, nil
}

func (q *quarter) remove(tmp string) {
	if err := q.files.cfg.FS.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		q.files.cfg.Log.Warn("a temporary file stays until the next start", "file", tmp, "err", err)
	}
}

// shape makes what every file has.
func shape(tx *bolt.Tx) error {
	info, err := tx.CreateBucket(bucketInfo)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		if _, err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	return info.Put(keyFormat, boltfile.Seal(keyFormat, []byte{version}))
}

// place gives a complete file its name, durably.
func (q *quarter) place(tmp string) error {
	cfg := &q.files.cfg
	err := cfg.Make()
	if err == nil {
		err = cfg.FS.Rename(tmp, q.path)
	}
	if err == nil {
		err = cfg.SyncDir(cfg.Folder)
	}
	if err == nil {
		err = cfg.SyncDir(filepath.Dir(tmp))
	}
	return err
}

// settle makes durable what the file holds, and its name.
func (q *quarter) settle(o *open) error {
	o.settling.Lock()
	defer o.settling.Unlock()
	if o.settled {
		return nil
	}
	cfg := &q.files.cfg
	err := o.Sync()
	if err == nil {
		err = cfg.SyncDir(cfg.Folder)
	}
	if err == nil {
		err = cfg.Settle()
	}
	o.settled = err == nil
	return boltfile.Classify(err)
}

// fail puts an open file out of use: what it holds is not known.
func (q *quarter) fail(o *open, why error) {
	d := q.files.cfg.Doubt
	d.mu.Lock()
	d.all[q.id] = true
	d.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.failed == nil {
		o.failed = why
		q.turn.Add(1)
	}
}

func (q *quarter) release(o *open) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if o.users--; o.users > 0 {
		return
	}
	if q.busy { // who replaces it waits for this
		q.change.Broadcast()
		return
	}
	if o.failed != nil || q.closed != nil {
		q.close()
	}
}

// close closes the file. It needs mu, and that nobody uses it or is busy.
func (q *quarter) close() {
	o := q.file
	if o == nil {
		return
	}
	err := q.alone(func() error { return o.Close(o.failed) })
	q.file = nil
	if err != nil {
		q.files.cfg.Log.Warn("a file did not close", "file", q.path, "err", err)
	}
	q.change.Broadcast()
}

func (q *quarter) end(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = why
	if q.file != nil && q.file.users == 0 && !q.busy {
		q.close()
	}
	q.change.Broadcast()
}

func (q *quarter) wait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.file != nil || q.busy {
		q.change.Wait()
	}
}
