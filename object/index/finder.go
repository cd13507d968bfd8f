package index

import (
	"sync"

	"martlet/internal/errs"
)

// A Finder is Index.Get for many keys that are looked for in order, or nearly: a block of which one was found is not
// read, and checked, again for the next one. What it returns is of when it is asked. It must be closed, and
// is not safe for concurrent use.
type Finder struct {
	ix     *Index
	blocks *blocks
}

// Finder returns one.
func (ix *Index) Finder() *Finder { return &Finder{ix, blocksPool.Get().(*blocks)} }

// Get is Index.Get.
func (f *Finder) Get(key Key) (e Entry, err error) {
	const op errs.Op = "index.get"
	return f.ix.find(op, key, f.blocks)
}

// Close gives back what the finder holds.
func (f *Finder) Close() {
	if f.blocks == nil {
		return
	}
	for i := range f.blocks.of {
		f.blocks.of[i].run = nil // its file may be closed
	}
	blocksPool.Put(f.blocks)
	f.blocks = nil
}

var blocksPool = sync.Pool{New: func() any { return new(blocks) }}

// blocks are those that were read last, of each of a few runs one. Runs never change, so that what was read of
// one stays true as long as somebody asks about that run.
type blocks struct {
	of   [4]readBlock
	next int // that is given up for another run's
}

// readBlock is a block of a run that was read and found whole.
type readBlock struct {
	run  *run // nil for none
	at   int
	open block
	room [blockSize]byte
}

// block returns a block of a run.
func (b *blocks) block(r *run, at int) (block, error) {
	var x *readBlock
	for i := range b.of {
		if b.of[i].run == r {
			x = &b.of[i]
			break
		}
	}
	switch {
	case x == nil:
		x = &b.of[b.next]
		b.next = (b.next + 1) % len(b.of)
	case x.at == at:
		return x.open, nil
	}
	x.run = nil
	err := r.readBlocks(x.room[:], at)
	if err == nil {
		x.open, err = r.block(x.room[:], at)
	}
	if err != nil {
		return block{}, err
	}
	x.run, x.at = r, at
	return x.open, nil
}
