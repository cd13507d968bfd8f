package replicator

import (
	"context"
	"sync"

	"martlet/internal/name"
	"martlet/ring"
)

// A Batch is what a device holds of a partition, or as much of it as is looked at
// at once, with the generation of the ring that says so.
type Batch[T any] struct {
	About
	Again bool // it is not the first of the partition
	Items []T  // in order of hash; never empty
}

// A Batcher puts what a walk meets, in order of hash, into batches by partition.
// It takes the ring in use anew for each of them, so that no batch that a long
// pass hands out late is made with a ring that is out of use.
type Batcher[T any] struct {
	Ring func() *ring.Ring   // the one in use
	Most int                 // items in a batch
	Hand func(Batch[T]) bool // gives a batch away and reports whether to go on

	now Batch[T]
}

// Add adds what is under a hash and reports whether to go on.
func (b *Batcher[T]) Add(h name.Hash, item T) bool {
	if len(b.now.Items) == b.Most || len(b.now.Items) > 0 && b.now.Ring.Partition(h) != b.now.Partition {
		if !b.Flush() {
			return false
		}
	}
	if len(b.now.Items) == 0 {
		last := b.now.About
		b.now.Ring = b.Ring()
		b.now.Partition = b.now.Ring.Partition(h)
		b.now.Again = b.now.About == last
	}
	b.now.Items = append(b.now.Items, item)
	return true
}

// Flush gives away what has not been, at the end of a walk, and reports whether to
// go on.
func (b *Batcher[T]) Flush() bool {
	if len(b.now.Items) == 0 {
		return true
	}
	full := b.now
	b.now.Items = nil
	return b.Hand(full)
}

// Spread has workers do what produce hands out, as many at one time as the pace lets be
// under way, or n where that is nil, and returns when all of it is done. hand waits until
// there may be one more, and reports false where ctx has ended before.
func Spread[T any](ctx context.Context, pace *DevicePace, n int, work func(context.Context, T), produce func(hand func(T) bool)) {
	if pace == nil {
		pace = &DevicePace{}
		pace.under.set(n)
	}
	var workers sync.WaitGroup
	produce(func(w T) bool {
		if pace.enter(ctx) != nil {
			return false
		}
		workers.Go(func() {
			defer pace.leave()
			work(ctx, w)
		})
		return true
	})
	workers.Wait()
}

// Whole is the range of all hashes.
func Whole() (first, last name.Hash) {
	for i := range last {
		last[i] = 0xff
	}
	return first, last
}
