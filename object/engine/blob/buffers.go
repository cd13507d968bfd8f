package blob

import (
	"context"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// SmallMax is the largest object, in bytes, that is gathered in memory and
// written through the page cache in one call.
const SmallMax = 256 << 10

const (
	tinyBuffer  = 16 << 10                       // for most of what most clusters hold
	smallBuffer = PageSize + SmallMax + PageSize // so that a byte too many is seen
	largeBuffer = 1 << 20
)

// Buffers hands out the memory that bodies move through, so that there is a
// bound on it however many requests there are. It keeps what comes back only as
// long as the garbage collector finds it in use now and then, large buffers for some
// seconds (slabKept). Safe for concurrent use; a process shares one.
type Buffers struct {
	tiny, small, large class
}

// NewBuffers returns buffers that use at most limit bytes at one time, and no
// less than what a single request needs. Half is for the buffers of 1 MiB of
// large uploads, a sixteenth for those of 16 KiB of what is known to be small, the rest for
// those of 264 KiB of everything else.
func NewBuffers(limit int64) *Buffers {
	return &Buffers{
		tiny:  newClass(tinyBuffer, limit/16, poolOf(tinyBuffer)),
		small: newClass(smallBuffer, limit/2-limit/16, poolOf(smallBuffer)),
		large: newClass(largeBuffer, limit/2, &slabs{}),
	}
}

// Take returns a buffer of n bytes at least, of any content; or, where n is more than SmallMax and two
// pages, of so many. It waits for one where all of that size are in use, and fails with errs.Unavailable where none
// comes back in time.
func (b *Buffers) Take(ctx context.Context, n int64) (*[]byte, error) {
	if n <= tinyBuffer {
		return b.tiny.take(ctx)
	}
	return b.small.take(ctx)
}

// Give gives back what Take returned.
func (b *Buffers) Give(buf *[]byte) {
	if len(*buf) == tinyBuffer {
		b.tiny.give(buf)
		return
	}
	b.small.give(buf)
}

// patience is how long a request waits for memory before it is turned away.
const patience = 5 * time.Second

type class struct {
	sem  chan struct{}
	pool store // of *[]byte
}

// store is where the memory of a class is while nobody has it.
type store interface {
	Get() any
	Put(any)
}

func newClass(size int, limit int64, pool store) class {
	return class{sem: make(chan struct{}, max(1, limit/int64(size))), pool: pool}
}

// poolOf has buffers of their own each.
func poolOf(size int) store {
	return &sync.Pool{New: func() any { b := vfs.AlignedBuffer(size, PageSize); return &b }}
}

// take returns a buffer whose content is anything. It waits for one, and fails
// with errs.Unavailable where none comes back in time.
func (c *class) take(ctx context.Context) (*[]byte, error) {
	select {
	case c.sem <- struct{}{}:
		return c.pool.Get().(*[]byte), nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c.sem <- struct{}{}:
		return c.pool.Get().(*[]byte), nil
	case <-ctx.Done():
		return nil, errs.E(errs.Op("blob.buffer"), errs.Aborted, context.Cause(ctx))
	case <-timer.C:
		return nil, errs.E(errs.Op("blob.buffer"), errs.Unavailable, "every buffer is in use")
	}
}

// spare returns a buffer for what can do without, nil where half of all are in use
// already: the others are for those who need one.
func (c *class) spare() *[]byte {
	if 2*len(c.sem) >= cap(c.sem) {
		return nil
	}
	select {
	case c.sem <- struct{}{}:
		return c.pool.Get().(*[]byte)
	default:
		return nil
	}
}

func (c *class) give(b *[]byte) {
	c.pool.Put(b)
	<-c.sem
}

// pages are for headers.
var pages = sync.Pool{New: func() any { b := vfs.AlignedBuffer(PageSize, PageSize); return &b }}
