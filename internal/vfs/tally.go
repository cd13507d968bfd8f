package vfs

import "sync/atomic"

// A Tally counts what is asked of a disk, failed calls included. The zero Tally has counted nothing. It is safe for concurrent
// use. A Counter counts more kinds of calls, for tests; a Tally is cheap enough for what runs.
type Tally struct {
	syncs, dirSyncs, written, read atomic.Int64
}

// Tallied is what was counted so far.
type Tallied struct {
	Syncs    int64 // of files
	DirSyncs int64
	Written  int64 // bytes
	Read     int64 // bytes
}

// Sum returns what was counted so far.
func (t *Tally) Sum() Tallied {
	return Tallied{Syncs: t.syncs.Load(), DirSyncs: t.dirSyncs.Load(), Written: t.written.Load(), Read: t.read.Load()}
}

// tally returns where the calls of a file system count; nil for nowhere.
func (o osFS) tally() *Tally {
	if o.anchor == nil {
		return nil
	}
	return o.anchor.tally
}

func (t *Tally) synced() {
	if t != nil {
		t.syncs.Add(1)
	}
}

func (t *Tally) syncedDir() {
	if t != nil {
		t.dirSyncs.Add(1)
	}
}

func (t *Tally) wrote(n int) {
	if t != nil {
		t.written.Add(int64(n))
	}
}

func (t *Tally) got(n int) {
	if t != nil {
		t.read.Add(int64(n))
	}
}
