package metadb

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

const (
	tmpDir  = "tmp"
	tmpName = "metadb-" // begins the names of files that are being made
	suffix  = ".db"
)

// path returns where a database lies.
func (s *Store) path(loc Location) string { return pathOf(loc.Device, s.schema, loc.Hash) }

func pathOf(dev *device.Device, schema Schema, hash name.Hash) string {
	hex := hash.String()
	return dev.Dir(schema.Folder(), hex[:2], hex[2:4], hex+suffix)
}

// open opens a database that exists; the error is of kind errs.NotFound if it
// does not. A file that was found corrupt is not opened again until it has
// changed: each attempt may leave a mapping behind.
func (s *Store) open(dev *disk, loc Location) (*database, error) {
	if d, err := s.openSmall(dev, loc); d != nil || err != nil {
		return d, err
	}
	path := s.path(loc)
	if err := dev.known(path, loc.Hash); err != nil {
		return nil, err
	}
	if err := dev.mend(path, loc.Hash); err != nil {
		return nil, classify(err)
	}
	d, err := s.openFile(dev.fs, path, os.O_RDWR)
	if err == nil {
		if err = d.file.IsNamed(dev.fs, path); err == nil {
			err = s.ask(dev, loc, d)
		}
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}
	switch {
	case errs.Is(err, errs.Corrupt):
		s.remember(dev, loc.Hash, err)
	case err == nil:
		d.use(dev, loc.Hash)
		d.res.home.Store(homeOwn)
		if !d.res.settled.Load() {
			d.settle = func() error { return errors.Join(settleShared(dev, loc), d.file.Sync(), s.settleName(dev, loc)) }
		}
	}
	return d, err
}

// ask finds out what the owner was told of a database with a file of its own.
func (s *Store) ask(dev *disk, loc Location, d *database) (err error) {
	if !s.track {
		return nil
	}
	d.told, err = openTelling(dev.small, loc.Hash)
	return elsewhere(err)
}

// settleShared makes it durable that the shared file has no value of a database, before
// anything is kept in a file of its own: a process that was killed may have deleted the value,
// and not synced that, and if it came back what is in the own file would be taken for a leftover.
func settleShared(dev *disk, loc Location) error {
	err := dev.small.Settle(loc.Hash)
	if errs.Is(err, errs.NotFound) {
		return nil // there is no such file
	}
	return elsewhere(err)
}

// elsewhere is the error of a shared file for a database with a file of its own, which is not
// damaged for that.
func elsewhere(err error) error {
	if errs.Is(err, errs.Corrupt) {
		err = errs.E(errs.Unavailable, fmt.Errorf("the shared file is damaged: %v", err)) //nolint:errorlint // it has another kind
	}
	return err
}

// use has an open database have what is in memory of it.
func (d *database) use(dev *disk, hash name.Hash) {
	d.res, d.step, d.disk = dev.residents.acquire(hash), dev.journal.step, dev
}

// mend makes a file durable whose latest commit failed, and does nothing to others.
func (d *disk) mend(path string, hash name.Hash) error {
	d.mu.Lock()
	doubt := d.doubt[doubtful{d.id, hash}]
	d.mu.Unlock()
	if !doubt {
		return nil
	}
	if err := boltfile.Mend(d.fs, path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.doubt, doubtful{d.id, hash})
	return nil
}

func (s *Store) openFile(disk vfs.FS, path string, flag int) (*database, error) {
	f, err := boltfile.Open(disk, path, flag)
	if err != nil {
		return nil, err
	}
	return &database{schema: s.schema, file: f, bolt: f.DB}, nil
}

// create makes a database with info in it and what fn adds, a small one if it is. When it returns nil
// it is complete, its file has its name, and all of that is on stable storage.
func (s *Store) create(dev *disk, loc Location, info Info, fn func(*Tx) error) (*database, error) {
	if _, err := rand.Read(info.Incarnation[:]); err != nil {
		return nil, err
	}
	if info.PolicyAt.IsZero() {
		info.PolicyAt = info.Created
	}
	if d, err := s.createSmall(dev, loc, info, fn); !errors.Is(err, errGrown) {
		return d, classify(err)
	}
	tmp, err := s.temp(dev)
	if err != nil {
		return nil, err
	}
	d, err := s.openFile(dev.fs, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		if err = s.fill(d, info, fn); err == nil {
			err = s.adopt(dev, loc, d, tmp)
		}
		if err != nil {
			d.fail(err)
			err = errors.Join(err, d.close())
		}
	}
	if err != nil {
		s.removeTemp(dev, tmp)
		return nil, classify(err)
	}
	return d, nil
}

// adopt has an open database whose file in tmp is complete and synced be that of a location, where there is
// none. When it returns nil that is on stable storage.
func (s *Store) adopt(dev *disk, loc Location, d *database, tmp string) error {
	if s.track {
		d.told = &telling{files: dev.small, key: loc.Hash, marked: true}
		err := dev.small.Commit(small.Put{In: small.Marks, Key: loc.Hash, Value: []byte{}}, small.Put{In: small.Told, Key: loc.Hash})
		if err != nil {
			return err
		}
	}
	if err := settleShared(dev, loc); err != nil {
		return err
	}
	if err := s.place(dev, loc, tmp); err != nil {
		return err
	}
	d.use(dev, loc.Hash)
	d.res.home.Store(homeOwn)
	d.res.settled.Store(true)
	return nil
}

// temp returns the name of a file that is to be made. What is in tmp need not last, so its
// name need not either.
func (s *Store) temp(dev *disk) (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	dir := dev.Dir(tmpDir)
	if err := dev.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", classify(deviceGone(dev.Path(), dev.Device, err))
	}
	return filepath.Join(dir, tmpName+s.schema.Folder()+"-"+hex.EncodeToString(id[:])), nil
}

func (s *Store) removeTemp(dev *disk, tmp string) {
	if err := dev.fs.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a temporary file stays until the next start", "file", tmp, "err", err)
	}
}

// fill writes the first state of a database and syncs it.
func (s *Store) fill(d *database, info Info, fn func(*Tx) error) error {
	// The one sync at the end does for all: nobody knows the file before.
	d.bolt.NoSync = true
	defer func() { d.bolt.NoSync = boltfile.DropSync() }()
	err := guard(func() error {
		return d.bolt.Update(func(b *bolt.Tx) error {
			for _, n := range buckets {
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
	return d.file.Sync()
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
	if err := s.mkdirs(dev, s.schema.Folder(), hex[:2], hex[2:4]); err != nil {
		return err
	}
	dev.mu.Lock()
	defer dev.mu.Unlock()
	dev.folders[key] = true
	return nil
}

// mkdirs makes folders, each in the one before it.
func (s *Store) mkdirs(dev *disk, folders ...string) error {
	path := dev.Path()
	for _, e := range folders {
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
