package metadb

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

const (
	tmpDir  = "tmp"
	tmpName = "metadb-" // begins the names of files that are being made
	suffix  = ".db"

	// lockWait is for the moment in which a process before this one lets go.
	lockWait = 2 * time.Second
)

// path returns where a database lies.
func (s *Store) path(loc Location) string {
	hex := loc.Hash.String()
	return loc.Device.Dir(s.schema.Folder(), hex[:2], hex[2:4], hex+suffix)
}

// open opens a database that exists; the error is of kind errs.NotFound if it
// does not. A file that was found corrupt is not opened again until it has
// changed: each attempt may leave a mapping behind.
func (s *Store) open(dev *disk, loc Location) (*database, error) {
	path := s.path(loc)
	if err := dev.known(path, loc.Hash); err != nil {
		return nil, err
	}
	if err := dev.mend(path, loc.Hash); err != nil {
		return nil, classify(err)
	}
	d, err := s.openFile(dev.fs, path, os.O_RDWR)
	if err == nil {
		if err = d.isNamed(dev, path); err != nil {
			err = errors.Join(err, d.close())
		}
	}
	switch {
	case errs.Is(err, errs.Corrupt):
		s.remember(dev, loc.Hash, err)
	case err == nil:
		d.use(dev, loc.Hash)
		if !d.res.settled.Load() {
			d.settle = func() error { return errors.Join(syncDB(d.bolt), s.settleName(dev, loc)) }
		}
	}
	return d, err
}

// isNamed fails where another file has come under the name of an open one, which can be while
// its lock is waited for: what is written to it would be in no file.
func (d *database) isNamed(dev *disk, path string) error {
	named, err := dev.fs.Stat(path)
	if err != nil {
		return classify(err)
	}
	opened, err := d.file.Stat()
	if err != nil {
		return classify(err)
	}
	if sys, ok := opened.Sys().(*syscall.Stat_t); ok && sys.Ino != named.Ino {
		return errs.E(errs.Unavailable, "another file has come in its place")
	}
	return nil
}

// use has an open database have what is in memory of it.
func (d *database) use(dev *disk, hash name.Hash) {
	d.res, d.step, d.disk = dev.residents.acquire(hash), dev.journal.step, dev
}

// mend makes a file durable whose latest commit failed, and does nothing to
// others. The commit may have reached the pages that name the latest state, and
// only its last sync failed: then the file is read as if it had succeeded, while
// no later sync writes those pages, which the kernel holds for clean. So they are
// written again. What they name was synced before they were.
func (d *disk) mend(path string, hash name.Hash) error {
	d.mu.Lock()
	doubt := d.doubt[doubtful{d.id, hash}]
	d.mu.Unlock()
	if !doubt {
		return nil
	}
	f, err := d.fs.OpenFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	if err := errors.Join(rewrite(f, 2*os.Getpagesize()), f.Close()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.doubt, doubtful{d.id, hash})
	return nil
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

func (s *Store) openFile(disk vfs.FS, path string, flag int) (*database, error) {
	d := &database{schema: s.schema}
	err := guard(func() error {
		var err error
		d.bolt, err = bolt.Open(path, 0o640, &bolt.Options{
			Timeout:      lockWait,
			FreelistType: bolt.FreelistMapType,
			NoStatistics: true,
			NoSync:       dropSync,
			NoGrowSync:   dropSync,
			// bbolt would make what does not exist, and begin anew in an empty file:
			// only flag says so.
			OpenFile: func(path string, _ int, mode os.FileMode) (*os.File, error) {
				var err error
				d.file, err = openWhole(disk, path, flag, mode)
				return d.file, err
			},
		})
		return err
	})
	if err == nil {
		return d, nil
	}
	if panicked(err) && d.file != nil {
		_ = abandon(d.file) // bbolt did not get as far as to close it
	}
	var sys syscall.Errno
	if err = classify(err); errs.KindOf(err) == errs.Other && !errors.As(err, &sys) {
		err = corrupt(err) // bbolt does not like what it read
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
		err = errShape
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// abandon takes a file from a bbolt that lost its way. Its mapping stays, since
// nobody knows who reads it, and keeps the open file alive in the kernel: so the
// lock has to be given back by name.
func abandon(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// create makes a database with info in it and what fn adds. When it returns nil
// the file is complete, has its name, and all of that is on stable storage.
func (s *Store) create(dev *disk, loc Location, info Info, fn func(*Tx) error) (*database, error) {
	if _, err := rand.Read(info.Incarnation[:]); err != nil {
		return nil, err
	}
	if info.PolicyAt.IsZero() {
		info.PolicyAt = info.Created
	}
	tmp := filepath.Join(loc.Device.Dir(tmpDir), tmpName+s.schema.Folder()+"-"+info.Incarnation.String())
	// What is in tmp need not last, so its name need not either.
	if err := dev.fs.Mkdir(loc.Device.Dir(tmpDir)); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, classify(deviceGone(loc.Device.Path(), loc.Device, err))
	}
	d, err := s.openFile(dev.fs, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		if err = s.fill(d, info, fn); err == nil {
			err = s.place(dev, loc, tmp)
		}
		if err == nil {
			d.use(dev, loc.Hash)
			d.res.settled.Store(true)
		} else {
			d.fail(err)
			err = errors.Join(err, d.close())
		}
	}
	if err != nil {
		if rmErr := dev.fs.Remove(tmp); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			s.log.Warn("a temporary file stays until the next start", "file", tmp, "err", rmErr)
		}
		return nil, classify(err)
	}
	return d, nil
}

// fill writes the first state of a database and syncs it.
func (s *Store) fill(d *database, info Info, fn func(*Tx) error) error {
	// The one sync at the end does for all: nobody knows the file before.
	d.bolt.NoSync = true
	defer func() { d.bolt.NoSync = dropSync }()
	err := guard(func() error {
		return d.bolt.Update(func(b *bolt.Tx) error {
			for _, n := range [][]byte{bucketInfo, bucketMeta, bucketLive, bucketDead, bucketChanges, bucketStats} {
				if _, err := b.CreateBucket(n); err != nil {
					return err
				}
			}
			if err := b.Bucket(bucketInfo).Put(keyInfo, seal(keyInfo, appendInfo(nil, &info))); err != nil {
				return err
			}
			t, err := begin(d.schema, b)
			if err != nil {
				return err
			}
			t.made = true
			if err := fn(t); err != nil {
				return err
			}
			return t.finish()
		})
	})
	if err != nil {
		return err
	}
	return syncDB(d.bolt)
}

// place gives a complete file its name and makes the name durable.
func (s *Store) place(dev *disk, loc Location, tmp string) error {
	path := s.path(loc)
	if err := s.mkdir(dev, loc.Hash.String()); err != nil {
		return err
	}
	turn := dev.nowTurn()
	if err := dev.fs.Rename(tmp, path); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(tmp)} {
		if err := dev.syncDir(dir); err != nil {
			// The name may or may not last. Nobody has been told of it, so take it
			// back rather than leave what a caller believes is not there.
			return errors.Join(err, dev.fs.Remove(path))
		}
	}
	dev.isSettled([4]byte([]byte(loc.Hash.String())), turn)
	return nil
}

// mkdir makes the folders of a database, durably. The device's own folder is
// never made: it is a mount point, and nothing may be written where the disk is
// not mounted.
func (s *Store) mkdir(dev *disk, hex string) error {
	key := [4]byte([]byte(hex))
	dev.mu.Lock()
	done := dev.folders[key]
	dev.mu.Unlock()
	if done {
		return nil
	}
	path := dev.Path()
	for _, e := range []string{s.schema.Folder(), hex[:2], hex[2:4]} {
		parent := path
		path = filepath.Join(path, e)
		if err := dev.fs.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return deviceGone(parent, dev.Device, err)
		}
		// Also where it was there: whoever made it may not have synced it.
		if err := dev.syncDir(parent); err != nil {
			return err
		}
	}
	dev.mu.Lock()
	defer dev.mu.Unlock()
	dev.folders[key] = true
	return nil
}

// settleName makes the name of a database durable that is there, and those of the
// folders above it. What this process puts in a folder it syncs when it does: so
// once is enough for each.
func (s *Store) settleName(dev *disk, loc Location) error {
	hex := loc.Hash.String()
	key := [4]byte([]byte(hex))
	dev.mu.Lock()
	done, turn := dev.settled[key], dev.turn
	dev.mu.Unlock()
	if done {
		return nil
	}
	if err := s.mkdir(dev, hex); err != nil {
		return err
	}
	if err := dev.syncDir(filepath.Dir(s.path(loc))); err != nil {
		return err
	}
	dev.isSettled(key, turn)
	return nil
}

func (d *disk) nowTurn() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turn
}

// isSettled notes that all names of databases in a folder are durable, unless any may not be
// since the turn when that was seen to.
func (d *disk) isSettled(key [4]byte, turn uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if turn == d.turn {
		d.settled[key] = true
	}
}

// syncDir makes the names in a directory durable. After a failure nobody knows
// which of them are, and a later sync proves nothing of the earlier ones: it fails
// until the disk is mounted anew.
func (d *disk) syncDir(dir string) error {
	at := unsynced{d.id, dir}
	d.mu.Lock()
	err := d.dirs[at]
	d.mu.Unlock()
	if err != nil {
		return errs.E(errs.Subject(dir), errs.BadDevice, fmt.Errorf("an earlier sync failed: %w", err))
	}
	if err = d.fs.SyncDir(dir); err == nil || errors.Is(err, vfs.ErrDetached) {
		return err // a disk that was let go of was not asked
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirs[at] = err
	d.turn++
	clear(d.settled)
	return err
}

func deviceGone(parent string, dev *device.Device, err error) error {
	if parent == dev.Path() && errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.BadDevice, err)
	}
	return err
}

// sweep removes what a crash left of databases that were being made.
func (s *Store) sweep(d *disk) {
	if err := d.sweep(tmpName + s.schema.Folder() + "-"); err != nil {
		s.log.Warn("half-made databases could not be removed", "device", d.Name(), "err", err)
	}
}

func (d *disk) sweep(prefix string) error {
	dir := d.Dir(tmpDir)
	list, err := d.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range list {
		if err == nil && strings.HasPrefix(e.Name, prefix) && !e.Dir {
			err = d.fs.Remove(filepath.Join(dir, e.Name))
		}
	}
	return err
}

// parseName returns the hash of a database's file name.
func parseName(file string) (name.Hash, bool) {
	hex, ok := strings.CutSuffix(file, suffix)
	if !ok {
		return name.Hash{}, false
	}
	h, err := name.ParseHash(hex)
	return h, err == nil
}
