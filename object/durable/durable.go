// Package durable gives names to files so that they last: directories made and
// synced with what holds them, files put in their place atomically and synced.
//
// It promises that a name survives a crash once the call which gave it has
// returned nil, and that after a sync has failed no later one is taken as proof
// of what the failed one should have kept. What is in a file is its caller's to
// sync, before.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// NewPrefix begins the names of files on their way to their place. One that is
// there after a crash means nothing and may be removed.
const NewPrefix = ".new-"

// Names gives names on one device. It is safe for concurrent use; two calls of
// Place for one name must not run at the same time.
type Names struct {
	fs     vfs.FS
	doubts *doubts

	mu   sync.Mutex // held while directories are made
	made map[string]bool
}

// doubts are the directories of one disk whose names may not be durable, and why.
type doubts struct {
	any atomic.Bool // whether there are any
	mu  sync.Mutex
	of  map[string]error // guarded by mu
}

func (d *doubts) add(dir string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of[dir] = errs.E(errs.Op("durable.sync"), errs.Subject(dir), errs.BadDevice, fmt.Errorf("an earlier sync failed: %w", err))
	d.any.Store(true)
}

func (d *doubts) get(dir string) error {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[dir]
}

// New returns names on a file system.
func New(fs vfs.FS) *Names {
	return &Names{fs: fs, made: map[string]bool{}, doubts: &doubts{of: map[string]error{}}}
}

// Over returns names on another view of the same disk. What is in doubt of one is
// in doubt of the other, also what a call that is under way finds out; what was
// known of directories is forgotten.
func (n *Names) Over(fs vfs.FS) *Names {
	next := New(fs)
	next.doubts = n.doubts
	return next
}

// Folder makes a directory durable below a parent that is. One that is there
// already may be so only in memory, left by a process that was killed: its
// parent is synced as well.
func (n *Names) Folder(dir, parent string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.folder(dir, parent)
}

// FolderOnce is Folder, but believes from the first success on that the
// directory stays. It is for few directories that are used all the time.
func (n *Names) FolderOnce(dir, parent string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made[dir] {
		return n.Trusted(dir)
	}
	err := n.folder(dir, parent)
	n.made[dir] = err == nil
	return err
}

func (n *Names) folder(dir, parent string) error {
	if err := n.Trusted(parent); err != nil {
		return err
	}
	if err := n.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return n.Sync(parent)
}

// Sync makes the names in a directory durable. After a failure nobody knows
// which of them are, and a later sync proves nothing of the earlier ones: the
// directory takes no more names until the disk is mounted anew. It is no such
// failure that the disk was let go of before it was asked (vfs.ErrDetached).
func (n *Names) Sync(dir string) error {
	err := n.fs.SyncDir(dir)
	if err != nil && !errors.Is(err, vfs.ErrDetached) {
		n.doubts.add(dir, err)
	}
	return err
}

// Settle makes the names in a directory durable that are there already, left by
// somebody who did not come to sync them, such as a process that was killed.
func (n *Names) Settle(dir string) error {
	if err := n.Trusted(dir); err != nil {
		return err
	}
	return n.Sync(dir)
}

// Trusted returns why the names in a directory may not be durable, of kind
// errs.BadDevice, or nil.
func (n *Names) Trusted(dir string) error { return n.doubts.get(dir) }

// Place gives a synced file its name in a directory, by link, and makes that
// durable. What has the name is replaced atomically: after a crash there is one
// or the other. taken says whether something probably has it.
func (n *Names) Place(dir, file string, taken bool, link func(path string) error) error {
	if err := n.Trusted(dir); err != nil {
		return err
	}
	if !taken {
		err := link(dir + "/" + file)
		if err == nil {
			return n.Sync(dir)
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	temp := dir + "/" + NewPrefix + file
	err := link(temp)
	if errors.Is(err, fs.ErrExist) { // left by a crash: nobody else is here
		if err = n.fs.Remove(temp); err == nil {
			err = link(temp)
		}
	}
	if err != nil {
		return err
	}
	if err := n.fs.Rename(temp, dir+"/"+file); err != nil {
		return errors.Join(err, n.fs.Remove(temp))
	}
	return n.Sync(dir)
}
