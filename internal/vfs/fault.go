package vfs

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
)

// Faulty is an FS that fails one call on the FS behind it, or all from that one
// on. See FailAt.
type Faulty struct {
	fs    FS
	n     int64
	err   error
	gone  bool
	seed  uint64
	calls atomic.Int64
	fired atomic.Bool
}

// A FaultOption says how a Faulty fails.
type FaultOption func(*Faulty)

// FaultError makes the call fail with err, such as syscall.ENOSPC, instead of EIO.
func FaultError(err error) FaultOption { return func(f *Faulty) { f.err = err } }

// FaultForever makes all later calls fail as well: the disk is gone. They do
// nothing at all.
func FaultForever() FaultOption { return func(f *Faulty) { f.gone = true } }

// FaultSeed chooses how much of a failing write or sync happens nevertheless.
// By default n chooses.
func FaultSeed(seed uint64) FaultOption { return func(f *Faulty) { f.seed = seed } }

// FailAt returns fs with a fault in it: the call number n, counted from 0 over
// all calls on the FS and its files that touch the disk, fails. Not counted are
// Close, SetDirect, Align and DropCache, which never fail for it. A negative n
// never fails.
//
// A failing write has written any part of its bytes, from the start on, and
// says how many. A failing Sync or SyncDir on a Mem has made any part of what it
// should durable, and the rest will not become durable by another Sync, though
// calls may go on seeing it. Any other failing call has done nothing.
func FailAt(fs FS, n int, options ...FaultOption) *Faulty {
	f := &Faulty{fs: fs, n: int64(n), err: syscall.EIO, seed: uint64(n)}
	for _, o := range options {
		o(f)
	}
	return f
}

// Fired reports whether the fault has happened.
func (f *Faulty) Fired() bool { return f.fired.Load() }

// Calls returns how many calls were counted, failed ones included.
func (f *Faulty) Calls() int { return int(f.calls.Load()) }

// outcome is what is to become of one call.
type outcome int

const (
	pass outcome = iota
	fail         // this is the one
	dead         // the disk is gone
)

func (f *Faulty) next() outcome {
	switch i := f.calls.Add(1) - 1; {
	case i == f.n:
		f.fired.Store(true)
		return fail
	case f.gone && f.n >= 0 && i > f.n:
		return dead
	}
	return pass
}

// check counts a call that does nothing when it fails.
func (f *Faulty) check(op, name string) error {
	if f.next() == pass {
		return nil
	}
	return pathError(op, name, f.err)
}

// dice returns the source of chance for what a failing call does.
func (f *Faulty) dice() *rand.Rand { return rand.New(rand.NewPCG(f.seed, 0xfa17)) }

// A syncLoser is a File, and a dirSyncLoser an FS, that can leave things as a
// failed fsync does on Linux.
type (
	syncLoser    interface{ failSync(seed uint64) }
	dirSyncLoser interface {
		failSyncDir(name string, seed uint64)
	}
)

func loseSync(f File, seed uint64) {
	if l, ok := f.(syncLoser); ok {
		l.failSync(seed)
	}
}

func loseSyncDir(fs FS, name string, seed uint64) {
	if l, ok := fs.(dirSyncLoser); ok {
		l.failSyncDir(name, seed)
	}
}

func (f *Faulty) failSyncDir(name string, seed uint64) { loseSyncDir(f.fs, name, seed) }

func (f *Faulty) open(op, name string, open func() (File, error)) (File, error) {
	if err := f.check(op, name); err != nil {
		return nil, err
	}
	file, err := open()
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, name: name}, nil
}

// CreateUnnamed implements FS.
func (f *Faulty) CreateUnnamed(dir string) (File, error) {
	return f.open("create", dir, func() (File, error) { return f.fs.CreateUnnamed(dir) })
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) {
	return f.open("open", name, func() (File, error) { return f.fs.Open(name) })
}

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string, flag int) (File, error) {
	return f.open("open", name, func() (File, error) { return f.fs.OpenFile(name, flag) })
}

// Link implements FS.
func (f *Faulty) Link(file File, name string) error {
	inner, ok := file.(*faultyFile)
	if !ok || inner.fs != f {
		return pathError("link", name, syscall.EINVAL)
	}
	if err := f.check("link", name); err != nil {
		return err
	}
	return f.fs.Link(inner.File, name)
}

// Rename implements FS.
func (f *Faulty) Rename(oldName, newName string) error {
	if err := f.check("rename", oldName); err != nil {
		return err
	}
	return f.fs.Rename(oldName, newName)
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.check("remove", name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// Mkdir implements FS.
func (f *Faulty) Mkdir(name string) error {
	if err := f.check("mkdir", name); err != nil {
		return err
	}
	return f.fs.Mkdir(name)
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(name string) ([]Entry, error) {
	if err := f.check("readdir", name); err != nil {
		return nil, err
	}
	return f.fs.ReadDir(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(name string) error {
	switch f.next() {
	case pass:
		return f.fs.SyncDir(name)
	case fail:
		loseSyncDir(f.fs, name, f.dice().Uint64())
	}
	return pathError("syncdir", name, f.err)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (Info, error) {
	if err := f.check("stat", name); err != nil {
		return Info{}, err
	}
	return f.fs.Stat(name)
}

// Usage implements FS.
func (f *Faulty) Usage(name string) (Usage, error) {
	if err := f.check("statfs", name); err != nil {
		return Usage{}, err
	}
	return f.fs.Usage(name)
}

// faultyFile is a file of a Faulty. What it does not count it hands on.
type faultyFile struct {
	File
	fs     *Faulty
	name   string // of the call that opened it
	direct atomic.Bool
}

func (f *faultyFile) failSync(seed uint64) { loseSync(f.File, seed) }

func (f *faultyFile) SetDirect(on bool) error {
	err := f.File.SetDirect(on)
	if err == nil {
		f.direct.Store(on)
	}
	return err
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	switch f.fs.next() {
	case pass:
		return f.File.WriteAt(p, off)
	case fail:
		return f.tear(p, off)
	}
	return 0, pathError("write", f.name, f.fs.err)
}

func (f *faultyFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	switch f.fs.next() {
	case pass:
		return f.File.WriteVec(bufs, off)
	case fail:
		total := 0
		for _, b := range bufs {
			total += len(b)
		}
		align, _ := f.Align()
		joined := AlignedBuffer(total, align)[:0]
		for _, b := range bufs {
			joined = append(joined, b...)
		}
		return f.tear(joined, off)
	}
	return 0, pathError("write", f.name, f.fs.err)
}

// tear writes a part of p, in direct mode an aligned one, and fails.
func (f *faultyFile) tear(p []byte, off int64) (int, error) {
	cut := f.fs.dice().IntN(len(p) + 1)
	if f.direct.Load() {
		_, align := f.Align()
		cut -= cut % align
	}
	n, _ := f.File.WriteAt(p[:cut], off) // its error makes no difference: the write fails anyway
	return n, pathError("write", f.name, f.fs.err)
}

func (f *faultyFile) Sync() error {
	switch f.fs.next() {
	case pass:
		return f.File.Sync()
	case fail:
		loseSync(f.File, f.fs.dice().Uint64())
	}
	return pathError("sync", f.name, f.fs.err)
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.fs.check("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Preallocate(off, n int64) error {
	if err := f.fs.check("preallocate", f.name); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

func (f *faultyFile) Size() (int64, error) {
	if err := f.fs.check("stat", f.name); err != nil {
		return 0, err
	}
	return f.File.Size()
}
