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

// blocks are those that were read last, of each of a few runs some. Runs never change, so that what was read of
// one stays true as long as somebody asks about that run.
type blocks struct {
	of   [fewRuns + 1]readBlocks // of more than that some are merged soon
	next int                     // that is given up for another run's
}

const (
	// near is by how many blocks what is asked for next lies behind what was asked for, so that more than it is read: one
	// read of many blocks costs less than a read for each block that is wanted.
	near = 4

	blocksAhead = 8 // that are read at once then
)

// readBlocks are blocks of a run that were read, of which one was found whole.
type readBlocks struct {
	run   *run // nil for none
	first int
	count int
	at    int // that is open; -1 for none
	open  block
	room  []byte
}

// block returns a block of a run.
func (b *blocks) block(r *run, at int) (block, error) {
	var x *readBlocks
	for i := range b.of {
		if b.of[i].run == r {
			x = &b.of[i]
			break
		}
	}
	if x == nil {
		x = &b.of[b.next]
		b.next = (b.next + 1) % len(b.of)
		x.run, x.count, x.at = r, 0, -1
	}
	if x.at == at {
		return x.open, nil
	}
	if at < x.first || at >= x.first+x.count {
		n := 1
		if x.at >= 0 && at > x.at && at-x.at <= near {
			n = min(blocksAhead, int(r.foot.blocks)-at)
		}
		x.at = -1
		if err := x.read(at, n); err != nil {
			return block{}, err
		}
	}
	x.at = -1
	open, err := r.block(x.room[(at-x.first)*blockSize:][:blockSize], at)
	if err != nil {
		return block{}, err
	}
	x.open, x.at = open, at
	return open, nil
}

// read reads blocks from one on.
func (x *readBlocks) read(at, n int) error {
	if len(x.room) < n*blockSize {
		x.room = make([]byte, n*blockSize)
	}
	x.first, x.count = at, 0
	if err := x.run.readBlocks(x.room[:n*blockSize], at); err != nil {
		return err
	}
	x.count = n
	return nil
}
