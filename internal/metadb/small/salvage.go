package small

import (
	"context"
	"errors"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
	"martlet/internal/vfs"
)

// Salvaged is what came of it.
type Salvaged struct {
	New   bool  // there is a new file; else nothing was found damaged
	Kept  int   // values that are in it
	Gaps  int   // places where an unknown number could not be read
	Wrong []Key // whose values have a wrong checksum
	Why   error // what was first found
}

// Salvage puts all of a quarter that can be read into a new file, which takes the place of the
// damaged one. Before that aside is given the damaged one, to keep it: it is to be durable when that returns.
// Nobody can read or write the quarter meanwhile. Where no page is damaged, and nothing was amiss when it was
// written, nothing is done.
//
// What could not be read is absent after that. A crash leaves the old file or the new one.
func (f *Files) Salvage(ctx context.Context, n Quarter, aside func(s Salvaged, damaged vfs.File) error) (s Salvaged, err error) {
	q := f.quarters[n]
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.busy {
		q.change.Wait()
	}
	if q.closed != nil {
		return s, q.closed
	}
	err = q.alone(func() error {
		q.mu.Lock()
		for q.file != nil && q.file.users > 0 {
			q.change.Wait()
		}
		o := q.file
		q.file = nil
		q.mu.Unlock()
		q.turn.Add(1) // whatever comes of it, who keeps anything reads it again
		if o != nil {
			if err := o.Close(o.failed); err != nil {
				f.cfg.Log.Warn("a file did not close", "file", q.path, "err", err)
			}
		}
		s, err = q.salvage(ctx, aside)
		return err
	})
	if err == nil {
		q.damaged.Store(false)
		q.broken.Store(false)
	}
	return s, err
}

func (q *quarter) salvage(ctx context.Context, aside func(Salvaged, vfs.File) error) (s Salvaged, err error) {
	cfg := &q.files.cfg
	if err := q.mend(); err != nil {
		return s, boltfile.Classify(err)
	}
	tmp, err := cfg.Temp()
	if err != nil {
		return s, boltfile.Classify(err)
	}
	if s, err = q.copyTo(ctx, tmp); errs.Is(err, errs.NotFound) {
		err = nil // there is no file any more
	} else if err == nil && (s.Gaps > 0 || q.broken.Load()) {
		s.New = true
		err = q.keep(s, aside)
		if err == nil {
			err = q.place(tmp)
		}
	}
	if err != nil || !s.New {
		q.remove(tmp)
	}
	return s, boltfile.Classify(err)
}

// keep gives aside the damaged file.
func (q *quarter) keep(s Salvaged, aside func(Salvaged, vfs.File) error) error {
	f, err := q.files.cfg.FS.Open(q.path)
	if err != nil {
		return err
	}
	return errors.Join(aside(s, f), f.Close())
}

// copyTo makes a file of all that can be read.
func (q *quarter) copyTo(ctx context.Context, tmp string) (s Salvaged, err error) {
	fs := q.files.cfg.FS
	to, err := boltfile.Open(fs, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return s, err
	}
	to.DB.NoSync = true // one sync does for all
	c := &copying{to: to.DB, s: &s}
	err = to.DB.Update(shape)
	if err == nil {
		err = c.copyFrom(ctx, fs, q)
	}
	if err == nil {
		err = to.Sync()
	}
	return s, errors.Join(err, to.Close(nil))
}

// copying copies what can be read into another file.
type copying struct {
	to   *bolt.DB
	from *quarter // one of its own, which nobody else knows
	s    *Salvaged
}

func (c *copying) copyFrom(ctx context.Context, fs vfs.FS, q *quarter) error {
	from, err := boltfile.Open(fs, q.path, os.O_RDONLY)
	if errs.Is(err, errs.Corrupt) {
		c.gap(err)
		return nil // nothing can be read
	}
	if err != nil {
		return err
	}
	c.from = newQuarter(q.files, q.id)
	c.from.file = &open{File: from}
	for in := range buckets {
		if err == nil {
			err = c.copyBucket(ctx, Bucket(in), q.id.First(), q.id.Last())
		}
	}
	switch {
	case err != nil:
	case c.s.Gaps == 0:
		err = c.copyWalked()
	default:
		err = c.markAll(ctx)
	}
	return errors.Join(err, from.Close(nil))
}

func (c *copying) gap(why error) {
	c.s.Gaps++
	if c.s.Why == nil {
		c.s.Why = why
	}
}

func (c *copying) copyBucket(ctx context.Context, in Bucket, from, to Key) error {
	var batch []Key
	var err error
	flush := func() {
		if err == nil && len(batch) > 0 {
			err = c.copyBatch(in, batch)
		}
		batch = batch[:0]
	}
	c.from.keys(ctx, in, from, to, func(k Key, e error) bool {
		if _, is := damage(e); is {
			c.gap(e)
			return true
		}
		if e != nil {
			err = e
			return false
		}
		if batch = append(batch, k); len(batch) == scanBatch {
			flush()
		}
		return err == nil
	})
	flush()
	return err
}

func (c *copying) copyBatch(in Bucket, keys []Key) error {
	return c.to.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(buckets[in])
		b.FillPercent = 0.8
		for i := range keys {
			k := keys[i][:]
			var v []byte
			err := c.from.view(func(tx *bolt.Tx) (err error) {
				v, err = get(tx.Bucket(buckets[in]).Cursor(), in, k)
				return err
			})
			switch d, is := damage(err); {
			case is && !d.Page && in == Values:
				c.s.Wrong = append(c.s.Wrong, keys[i])
				if c.s.Why == nil {
					c.s.Why = err
				}
				continue
			case is:
				c.gap(err)
				continue
			case err != nil:
				return err
			case v == nil:
				c.gap(errOrder) // it was there a moment ago
				continue
			}
			if err := b.Put(k, boltfile.Seal(k, v)); err != nil {
				return err
			}
			if in == Values {
				c.s.Kept++
			}
		}
		return nil
	})
}

// markAll marks all that has a value: marks may be among what could not be read.
func (c *copying) markAll(ctx context.Context) error {
	to := newQuarter(c.from.files, c.from.id)
	to.file = &open{File: &boltfile.File{DB: c.to}}
	for at, more := c.from.id.First(), true; more; {
		if err := ctx.Err(); err != nil {
			return errs.E(errs.Aborted, err)
		}
		list, last, end, err := to.batch(Values, at, c.from.id.Last())
		if err != nil {
			return err
		}
		err = c.to.Update(func(tx *bolt.Tx) error {
			for i := range list {
				if err := put(tx, &Put{In: Marks, Key: list[i], Value: []byte{}}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || end || last == nil {
			return err
		}
		at, more = after(*last)
	}
	return nil
}

func (c *copying) copyWalked() error {
	var is bool
	err := c.from.view(func(tx *bolt.Tx) error {
		_, bad := boltfile.Unseal(keyWalked, tx.Bucket(bucketInfo).Get(keyWalked))
		is = bad == nil
		return nil
	})
	if err != nil || !is {
		return err
	}
	return c.to.Update(putWalked)
}

func putWalked(tx *bolt.Tx) error {
	return tx.Bucket(bucketInfo).Put(keyWalked, boltfile.Seal(keyWalked, []byte{1}))
}

// Copy writes all of a file that can be read to another, leaving holes where there is nothing
// or nothing can be read, and syncs that.
func Copy(ctx context.Context, to, from vfs.File) error {
	size, err := from.Size()
	if err != nil {
		return err
	}
	b := make([]byte, 64<<10)
	for at := int64(0); at < size; at += int64(len(b)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(b[:min(int64(len(b)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) || empty(b[:n]) {
			continue
		}
		if _, err := to.WriteAt(b[:n], at); err != nil {
			return err
		}
	}
	if err := to.Truncate(size); err != nil {
		return err
	}
	return to.Sync()
}

func empty(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
