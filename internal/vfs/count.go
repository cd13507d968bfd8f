package vfs

import (
	"sync/atomic"
	"syscall"
)

// Counter is an FS that counts the calls on the FS behind it by kind, failed
// ones included. It is for tests and benchmarks: syncs per operation, say.
type Counter struct {
	fs FS

	opens, reads, bytesRead, writes, bytesWritten, syncs, dirSyncs, links, renames, removes atomic.Int64
}

// Counts is how often what was called, up to one moment.
type Counts struct {
	Opens        int64 // CreateUnnamed, Open, OpenFile
	Reads        int64 // ReadAt
	BytesRead    int64
	Writes       int64 // WriteAt, WriteVec
	BytesWritten int64
	Syncs        int64 // of files
	DirSyncs     int64
	Links        int64
	Renames      int64
	Removes      int64
}

// Sub returns what was counted since earlier.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		Opens:        c.Opens - earlier.Opens,
		Reads:        c.Reads - earlier.Reads,
		BytesRead:    c.BytesRead - earlier.BytesRead,
		Writes:       c.Writes - earlier.Writes,
		BytesWritten: c.BytesWritten - earlier.BytesWritten,
		Syncs:        c.Syncs - earlier.Syncs,
		DirSyncs:     c.DirSyncs - earlier.DirSyncs,
		Links:        c.Links - earlier.Links,
		Renames:      c.Renames - earlier.Renames,
		Removes:      c.Removes - earlier.Removes,
	}
}

// Count returns fs with its calls counted.
func Count(fs FS) *Counter { return &Counter{fs: fs} }

// Counts returns what was counted so far.
func (c *Counter) Counts() Counts {
	return Counts{
		Opens:        c.opens.Load(),
		Reads:        c.reads.Load(),
		BytesRead:    c.bytesRead.Load(),
		Writes:       c.writes.Load(),
		BytesWritten: c.bytesWritten.Load(),
		Syncs:        c.syncs.Load(),
		DirSyncs:     c.dirSyncs.Load(),
		Links:        c.links.Load(),
		Renames:      c.renames.Load(),
		Removes:      c.removes.Load(),
	}
}

func (c *Counter) failSyncDir(name string, seed uint64) { loseSyncDir(c.fs, name, seed) }

// opened wraps what an opening call returned.
func (c *Counter) opened(f File, err error) (File, error) {
	c.opens.Add(1)
	if err != nil {
		return nil, err
	}
	return &countedFile{f, c}, nil
}

// CreateUnnamed implements FS.
func (c *Counter) CreateUnnamed(dir string) (File, error) { return c.opened(c.fs.CreateUnnamed(dir)) }

// Open implements FS.
func (c *Counter) Open(name string) (File, error) { return c.opened(c.fs.Open(name)) }

// OpenFile implements FS.
func (c *Counter) OpenFile(name string, flag int) (File, error) {
	return c.opened(c.fs.OpenFile(name, flag))
}

// Link implements FS.
func (c *Counter) Link(f File, name string) error {
	inner, ok := f.(*countedFile)
	if !ok || inner.counter != c {
		return pathError("link", name, syscall.EINVAL)
	}
	c.links.Add(1)
	return c.fs.Link(inner.File, name)
}

// Rename implements FS.
func (c *Counter) Rename(oldName, newName string) error {
	c.renames.Add(1)
	return c.fs.Rename(oldName, newName)
}

// Remove implements FS.
func (c *Counter) Remove(name string) error {
	c.removes.Add(1)
	return c.fs.Remove(name)
}

// Mkdir implements FS.
func (c *Counter) Mkdir(name string) error { return c.fs.Mkdir(name) }

// ReadDir implements FS.
func (c *Counter) ReadDir(name string) ([]Entry, error) { return c.fs.ReadDir(name) }

// SyncDir implements FS.
func (c *Counter) SyncDir(name string) error {
	c.dirSyncs.Add(1)
	return c.fs.SyncDir(name)
}

// Stat implements FS.
func (c *Counter) Stat(name string) (Info, error) { return c.fs.Stat(name) }

// Usage implements FS.
func (c *Counter) Usage(name string) (Usage, error) { return c.fs.Usage(name) }

// countedFile is a file of a Counter. What it does not count it hands on.
type countedFile struct {
	File
	counter *Counter
}

func (f *countedFile) failSync(seed uint64) { loseSync(f.File, seed) }

func (f *countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.counter.reads.Add(1)
	f.counter.bytesRead.Add(int64(n))
	return n, err
}

func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.counter.writes.Add(1)
	f.counter.bytesWritten.Add(int64(n))
	return n, err
}

func (f *countedFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	n, err := f.File.WriteVec(bufs, off)
	f.counter.writes.Add(1)
	f.counter.bytesWritten.Add(int64(n))
	return n, err
}

func (f *countedFile) Sync() error {
	f.counter.syncs.Add(1)
	return f.File.Sync()
}
