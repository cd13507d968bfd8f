package small

import (
	"bytes"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/metadb/boltfile"
)

// A DamageError is something that can't be read. It is of kind errs.Corrupt.
type DamageError struct {
	Page bool   // no single value is damaged, but what leads to it
	In   Bucket // else the value is in this bucket,
	Key  []byte // under this key, which may be what is damaged
	Why  error
}

// Error implements error.
func (e *DamageError) Error() string {
	if e.Page {
		return fmt.Sprintf("a page is damaged: %v", e.Why)
	}
	return fmt.Sprintf("the value of %x is damaged: %v", e.Key, e.Why)
}

// Unwrap returns the reason, which has the kind.
func (e *DamageError) Unwrap() error { return corrupt(e.Why) }

var errOrder = errors.New("a key is where it does not belong")

// Get returns a copy of what a key has in a bucket, nil where that is nothing, and the turn
// in which that was so. It may be what a commit under way has written, or one of a process
// before this one; after Settle, and for whoever commits, it is durable.
func (f *Files) Get(in Bucket, key Key) (value []byte, turn uint64, err error) {
	q := f.of(key)
	err = q.view(func(tx *bolt.Tx) error {
		turn = q.turn.Load()
		value, err = get(tx.Bucket(buckets[in]).Cursor(), in, key[:])
		return err
	})
	if errors.Is(err, errAbsent) {
		return nil, q.turn.Load(), nil
	}
	return value, turn, err
}

// Has reports whether a key has anything in a bucket.
func (f *Files) Has(in Bucket, key Key) (bool, error) {
	v, _, err := f.Get(in, key)
	return v != nil, err
}

// view runs fn in a read transaction.
func (q *quarter) view(fn func(tx *bolt.Tx) error) error {
	return q.with(false, func(o *open) error {
		began := false
		err := boltfile.Guard(func() error {
			return o.DB.View(func(tx *bolt.Tx) error {
				began = true
				return fn(tx)
			})
		})
		if boltfile.Panicked(err) {
			if !began { // it holds locks that nobody will give back
				q.fail(o, err)
			}
			err = &DamageError{Page: true, Why: err}
		}
		if d, is := damage(err); is && (d.Page || d.In != Values) {
			q.damaged.Store(true)
			if !d.Page { // of these nothing is kept aside, one by one
				q.broken.Store(true)
			}
		}
		return boltfile.Classify(err)
	})
}

// get finds a value. Where there is none those on both sides are looked at: were the key, or
// what was compared with on the way to it, damaged, one of them would be.
func get(c *bolt.Cursor, in Bucket, key []byte) ([]byte, error) {
	k, v := c.Seek(key)
	if bytes.Equal(k, key) {
		raw, err := boltfile.Unseal(k, v)
		if err != nil {
			return nil, damagedValue(in, k, err)
		}
		return append(make([]byte, 0, len(raw)), raw...), nil
	}
	if err := beside(in, k, v, k == nil || bytes.Compare(key, k) < 0); err != nil {
		return nil, err
	}
	if k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	return nil, beside(in, k, v, k == nil || bytes.Compare(k, key) < 0)
}

// beside looks at the neighbour of a key that is not there.
func beside(in Bucket, k, v []byte, ordered bool) error {
	if k == nil {
		return nil
	}
	if _, err := boltfile.Unseal(k, v); err != nil {
		return damagedValue(in, k, err)
	}
	if !ordered || len(k) != len(Key{}) {
		return &DamageError{Page: true, Why: errOrder}
	}
	return nil
}

func damagedValue(in Bucket, k []byte, why error) error {
	return &DamageError{In: in, Key: bytes.Clone(k), Why: why}
}

// Raw returns a copy of what is stored under a key, which may be none of length 16, with no
// regard to its checksum; nil where there is nothing.
func (f *Files) Raw(q Quarter, in Bucket, key []byte) (stored []byte, err error) {
	err = f.quarters[q].view(func(tx *bolt.Tx) error {
		stored = bytes.Clone(tx.Bucket(buckets[in]).Get(key))
		return nil
	})
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return stored, err
}

// Walked reports whether the owner has said that of a quarter.
func (f *Files) Walked(q Quarter) (is bool, err error) {
	err = f.quarters[q].view(func(tx *bolt.Tx) error {
		_, bad := boltfile.Unseal(keyWalked, tx.Bucket(bucketInfo).Get(keyWalked))
		is = bad == nil
		return nil
	})
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return is, err
}

// damage returns the damage that an error is of, if it is.
func damage(err error) (d *DamageError, is bool) { return d, errors.As(err, &d) }

// Transactions returns how many a quarter's file has had; each but the first few was synced twice.
func (f *Files) Transactions(q Quarter) (n int, err error) {
	err = f.quarters[q].view(func(tx *bolt.Tx) error { n = tx.ID(); return nil })
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return n, err
}
