// Package boltfile opens bbolt files of a device, and stands between them and whoever
// reads them: a damaged page, or one that the disk can't deliver, is an error and not
// the end of the process; a value is under a checksum of its own, since bbolt has none;
// and what a commit that failed has left is made durable before anybody builds on it.
//
// What is in a file is its owner's business.
package boltfile

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// lockWait is for the moment in which a process before this one lets go.
const lockWait = 2 * time.Second

// A File is one that is open. bbolt reads and writes it itself, on the real file system.
type File struct {
	DB *bolt.DB
	os *os.File // DB's own; closing it drops the lock when DB can't
}

// Open opens a file, which no other can have open, as flag says; with os.O_CREATE it is
// begun anew, and with os.O_RDONLY what is only needed for writing is not looked at. The error is of kind errs.NotFound where there is none, and errs.Corrupt
// where it is no file of bbolt.
func Open(disk vfs.FS, path string, flag int) (*File, error) {
	f := &File{}
	err := Guard(func() error {
		var err error
		f.DB, err = bolt.Open(path, 0o640, &bolt.Options{
			Timeout:  lockWait,
			ReadOnly: flag == os.O_RDONLY,
			// Each commit writes which pages are free, in order: the map sorts them each time, which in a
			// large file took a seventh of the merging of rows.
			FreelistType: bolt.FreelistArrayType,
			NoStatistics: true,
			NoSync:       DropSync(),
			NoGrowSync:   DropSync(),
			// bbolt would make what does not exist, and begin anew in an empty file:
			// only flag says so.
			OpenFile: func(path string, _ int, mode os.FileMode) (*os.File, error) {
				var err error
				f.os, err = openWhole(disk, path, flag, mode)
				return f.os, err
			},
		})
		return err
	})
	if err == nil {
		return f, nil
	}
	if Panicked(err) && f.os != nil {
		_ = f.abandon() // bbolt did not get as far as to close it
	}
	var sys syscall.Errno
	if err = Classify(err); errs.KindOf(err) == errs.Other && !errors.As(err, &sys) {
		err = Corrupt(err) // bbolt does not like what it read
	}
	return nil, err
}

func openWhole(disk vfs.FS, path string, flag int, mode os.FileMode) (*os.File, error) {
	open := os.OpenFile
	if on, ok := disk.(interface {
		OpenOS(string, int, os.FileMode) (*os.File, error)
	}); ok {
		open = on.OpenOS
	}
	f, err := open(path, flag, mode)
	if err != nil || flag&os.O_CREATE != 0 {
		return f, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = ErrShape
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// IsNamed fails where another file has come under the name of an open one, which can be while
// its lock is waited for: what is written to it would be in no file.
func (f *File) IsNamed(disk vfs.FS, path string) error {
	named, err := disk.Stat(path)
	if err != nil {
		return Classify(err)
	}
	opened, err := f.os.Stat()
	if err != nil {
		return Classify(err)
	}
	if sys, ok := opened.Sys().(*syscall.Stat_t); ok && sys.Ino != named.Ino {
		return errs.E(errs.Unavailable, "another file has come in its place")
	}
	return nil
}

// Close closes the file. Nobody may be using it. Failed is why it is of no more use; nil
// where it is.
func (f *File) Close(failed error) error {
	if Panicked(failed) {
		return Classify(f.abandon()) // bbolt may hold its own locks for ever
	}
	err := Guard(f.DB.Close)
	if Panicked(err) {
		err = errors.Join(err, f.abandon())
	}
	return Classify(err)
}

// abandon takes a file from a bbolt that lost its way. Its mapping stays, since
// nobody knows who reads it, and keeps the open file alive in the kernel: so the
// lock has to be given back by name.
func (f *File) abandon() error {
	return errors.Join(syscall.Flock(int(f.os.Fd()), syscall.LOCK_UN), f.os.Close())
}

// Mend makes a file durable whose latest commit failed. The commit may have reached the
// pages that name the latest state, and only its last sync failed: then the file is read
// as if it had succeeded, while no later sync writes those pages, which the kernel holds
// for clean. So they are written again. What they name was synced before they were.
func Mend(disk vfs.FS, path string) error {
	f, err := disk.OpenFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(rewrite(f, 2*os.Getpagesize()), f.Close())
}

// rewrite writes the first n bytes of a file as they are, and syncs it.
func rewrite(f vfs.File, n int) error {
	b := make([]byte, n)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := f.WriteAt(b[:n], 0); err != nil {
		return err
	}
	return f.Sync()
}
