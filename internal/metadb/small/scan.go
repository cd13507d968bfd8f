package small

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/big"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
)

const (
	// scanBatch is how many keys are read in one transaction.
	scanBatch = 1024

	// coarse is the logarithm of the distance at which keys behind damage are looked for first.
	// Of some 2^20 keys in a file the next one is at about 2^106.
	coarse = 100
)

// Keys yields the keys of a bucket from one to another, both included, in order, a batch in
// one transaction. What can't be read is an error beside a zero key, and it goes on behind
// that.
func (f *Files) Keys(ctx context.Context, in Bucket, from, to Key) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for n := Of(from); n <= Of(to); n++ {
			if !f.quarters[n].keys(ctx, in, later(from, n.First()), earlier(to, n.Last()), yield) {
				return
			}
		}
	}
}

func later(a, b Key) Key {
	if bytes.Compare(a[:], b[:]) > 0 {
		return a
	}
	return b
}

func earlier(a, b Key) Key {
	if bytes.Compare(a[:], b[:]) < 0 {
		return a
	}
	return b
}

func (q *quarter) keys(ctx context.Context, in Bucket, from, to Key, yield func(Key, error) bool) bool {
	at, more := from, true
	for more {
		if err := ctx.Err(); err != nil {
			yield(Key{}, errs.E(errs.Aborted, err))
			return false
		}
		list, last, end, err := q.batch(in, at, to)
		for _, k := range list {
			if !yield(k, nil) {
				return false
			}
		}
		if last != nil {
			at, more = after(*last)
		}
		switch {
		case errors.Is(err, errAbsent):
			return true
		case err != nil:
			if !yield(Key{}, err) {
				return false
			}
			if _, is := damage(err); !is {
				return true
			}
			at, more = q.behind(in, at, to)
		case end:
			return true
		}
	}
	return true
}

// after returns the next key.
func after(k Key) (next Key, ok bool) {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			return k, true
		}
	}
	return k, false
}

// batch reads keys until there are enough, or no more. Those of damaged values are among them, in order
// or not, since it may be the key that is damaged; last is the last of the others.
func (q *quarter) batch(in Bucket, from, to Key) (list []Key, last *Key, end bool, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		at, n := from, 0
		c := tx.Bucket(buckets[in]).Cursor()
		k, v := c.Seek(from[:])
		for ; k != nil && n < scanBatch; k, v = c.Next() {
			_, bad := boltfile.Unseal(k, v)
			switch {
			case bad != nil && (len(k) != len(Key{}) || bytes.Compare(k, at[:]) < 0 || bytes.Compare(k, to[:]) > 0):
				// Who looks for it finds that it is damaged.
			case bad != nil:
				list = append(list, Key(k))
			case bytes.Compare(k, to[:]) > 0:
				end = true
				return nil
			case len(k) != len(Key{}) || bytes.Compare(k, at[:]) < 0 || last != nil && bytes.Equal(k, at[:]):
				return &DamageError{Page: true, Why: errOrder}
			default:
				at = Key(k)
				last = &at
				list = append(list, at)
				n++
			}
		}
		end = k == nil
		return nil
	})
	return list, last, end, err
}

// behind returns the first place behind damage from which keys can be read: it is found by
// going further and further, and then back by halves.
func (q *quarter) behind(in Bucket, at, to Key) (next Key, ok bool) {
	from, end := new(big.Int).SetBytes(at[:]), new(big.Int).SetBytes(to[:])
	place := func(step *big.Int) (k Key, ok bool) {
		sum := new(big.Int).Add(from, step)
		if sum.Cmp(end) > 0 {
			return k, false
		}
		sum.FillBytes(k[:])
		return k, true
	}
	low, step := new(big.Int), new(big.Int).Lsh(big.NewInt(1), coarse)
	for {
		k, ok := place(step)
		if !ok {
			step.Sub(end, from) // up to the end: what comes last may be just before it
			if k, ok = place(step); !ok || !q.readable(in, k, to) {
				return to, false
			}
		}
		if q.readable(in, k, to) {
			break
		}
		low.Set(step)
		step.Lsh(step, 1)
	}
	for one := big.NewInt(1); ; {
		gap := new(big.Int).Sub(step, low)
		if gap.Cmp(one) <= 0 {
			return place(step)
		}
		middle := gap.Add(low, gap.Rsh(gap, 1))
		if k, _ := place(middle); q.readable(in, k, to) {
			step = middle
		} else {
			low = middle
		}
	}
}

// readable reports whether what comes first from a key on can be read.
func (q *quarter) readable(in Bucket, at, to Key) bool {
	err := q.view(func(tx *bolt.Tx) error {
		k, _ := tx.Bucket(buckets[in]).Cursor().Seek(at[:])
		if k != nil && (len(k) != len(Key{}) || bytes.Compare(k, at[:]) < 0) {
			return errOrder
		}
		return nil
	})
	return err == nil
}
