package metadb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
)

// shared is what a small database has of a shared file, while it is open: all of it.
//
// It moves into a file of its own before it becomes larger than a small one may be: that is made
// of its image, synced, named, and its name is synced; then the value is deleted, durably, and that
// is what makes the other the database. Until then the value is: where a crash leaves both,
// the file is nobody's, since nothing was ever written to it, and is removed by who opens the
// database, durably, before anything else. So neither can come back after the other was used.
type shared struct {
	files *small.Files
	key   small.Key
	turn  uint64
	limit int
	image atomic.Pointer[image]
	move  func() error // into a file of its own
}

// stale reports whether the shared file may have another state than the image.
func (h *shared) stale() bool { return h.files.Turn(h.key) != h.turn }

// keep commits an image.
func (h *shared) keep(d *database, i *image, t *Tx) error {
	value, err := i.encode(h.limit)
	if err != nil {
		return err
	}
	if err := d.disk.sound(h.key, d.schema); err != nil {
		return err
	}
	puts := []small.Put{{In: small.Values, Key: h.key, Value: value}}
	mark, marked, err := d.told.markSmall(t)
	if err != nil {
		return err
	}
	if err := h.files.Commit(append(puts, mark...)...); err != nil {
		return err
	}
	if h.image.Store(i); d.told != nil {
		d.told.marked = marked
	}
	return nil
}

// latest reads the image anew.
func (h *shared) latest() (*image, error) {
	v, _, err := h.files.Get(small.Values, h.key)
	if err == nil && v == nil {
		err = errDropped
	}
	if err != nil {
		return nil, err
	}
	return decodeImage(v)
}

// sound fails where the names in the folder of a database's own file are in doubt: a file that was
// given one, and then taken back, might be there after a crash.
func (d *disk) sound(key small.Key, schema Schema) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.dirs) == 0 {
		return nil
	}
	dir := filepath.Dir(pathOf(d.Device, schema, key))
	if err := d.dirs[unsynced{d.id, dir}]; err != nil {
		return errs.E(errs.Subject(dir), errs.BadDevice, fmt.Errorf("an earlier sync failed: %w", err))
	}
	return nil
}

// grown has a database move into a file of its own if that is why a transaction came to nothing:
// then the error is errDropped, and it is tried again there.
func (d *database) grown(err error) error {
	if !errors.Is(err, errGrown) {
		return err
	}
	if err := d.small.move(); err != nil {
		return err
	}
	return errDropped
}

// openSmall opens a small database; it returns nil where there is none.
func (s *Store) openSmall(dev *disk, loc Location) (*database, error) {
	value, turn, err := dev.small.Get(small.Values, loc.Hash)
	if err == nil && value == nil {
		return nil, nil
	}
	path := s.path(loc)
	_, own := dev.fs.Stat(path)
	if err != nil {
		if own == nil && errs.Is(err, errs.Corrupt) {
			// The damage is not that of the file. It can't be told which of them is the database.
			err = errs.E(errs.Unavailable, fmt.Errorf("the shared file is damaged: %v", err)) //nolint:errorlint // it has another kind
		}
		return nil, err
	}
	i, err := decodeImage(value)
	if err != nil {
		return nil, err
	}
	if own == nil { // left by a crash while it moved
		if err := s.removeLeft(dev, path); err != nil {
			return nil, classify(err)
		}
	}
	d := s.useSmall(dev, loc, i, turn)
	if d.told != nil {
		if err = d.newest(func(t *Tx) (err error) { d.told.marked, err = t.news(); return err }); err != nil {
			dev.residents.release(d.res)
			return nil, classify(err)
		}
	}
	return d, nil
}

func (s *Store) removeLeft(dev *disk, path string) error {
	s.log.Info("a database that had not moved into a file of its own is where it was", "file", path)
	if err := dev.fs.Remove(path); err != nil {
		return err
	}
	return dev.syncDir(filepath.Dir(path))
}

func (s *Store) useSmall(dev *disk, loc Location, i *image, turn uint64) *database {
	h := &shared{files: dev.small, key: loc.Hash, turn: turn, limit: s.cfg.small}
	h.image.Store(i)
	d := &database{schema: s.schema, small: h}
	h.move = func() error { return s.moveOut(dev, loc, h) }
	if s.track {
		d.told = &telling{files: dev.small, key: loc.Hash}
	}
	d.use(dev, loc.Hash)
	d.res.home.Store(homeShared)
	if !d.res.settled.Load() {
		d.settle = func() error { return h.files.Settle(h.key) }
	}
	return d
}

// Where a database was found.
const (
	homeUnknown = iota
	homeShared
	homeOwn
)

// createSmall makes a small database. The error is errGrown where it would be none.
func (s *Store) createSmall(dev *disk, loc Location, info Info, fn func(*Tx) error) (*database, error) {
	if s.cfg.small < 0 {
		return nil, errGrown
	}
	i := newImage(&info)
	err := guard(func() error {
		t, err := beginImage(s.schema, i)
		if err != nil {
			return err
		}
		t.made = true
		if err := fn(t); err != nil {
			if (change{image: i}).isLarge() {
				err = errGrown
			}
			return err
		}
		return t.finish()
	})
	if err != nil {
		return nil, err
	}
	turn := dev.small.Turn(loc.Hash)
	d := s.useSmall(dev, loc, i, turn)
	t, err := beginImage(s.schema, i)
	if err == nil {
		err = d.small.keep(d, i, t)
	}
	if err != nil {
		dev.residents.release(d.res)
		return nil, err
	}
	d.res.settled.Store(true)
	d.settle = nil
	return d, nil
}

// moveOut makes a small database one with a file of its own.
func (s *Store) moveOut(dev *disk, loc Location, h *shared) error {
	tmp, err := s.temp(dev)
	if err != nil {
		return err
	}
	d, err := s.openFile(dev.fs, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		d.bolt.NoSync = true // one sync does for all: nobody knows the file before
		err = guard(func() error { return d.bolt.Update(h.image.Load().writeTo) })
		if err == nil {
			err = d.file.Sync()
		}
		err = errors.Join(err, d.close())
		if err == nil {
			err = s.place(dev, loc, tmp)
		}
		if err != nil {
			s.removeTemp(dev, tmp)
		}
	}
	if err != nil {
		return classify(err)
	}
	return h.files.Commit(
		small.Put{In: small.Values, Key: h.key},
		small.Put{In: small.Told, Key: h.key}, // what it says is in the file
	)
}

// writeTo writes all of a database into an empty file.
func (i *image) writeTo(tx *bolt.Tx) error {
	for n, m := range i.tables {
		b, err := tx.CreateBucket(buckets[n])
		if err != nil {
			return err
		}
		b.FillPercent = denseFill
		for k, key := range m.keys {
			if err := b.Put(key, m.values[k]); err != nil {
				return err
			}
		}
		if err := b.SetSequence(m.sequence); err != nil {
			return err
		}
	}
	return nil
}

// newShared returns the shared files of a disk.
func (s *Store) newShared(d *disk) *small.Files {
	folder := d.Dir(s.schema.Folder())
	return small.New(small.Config{
		FS: d.fs, Folder: folder, Log: s.log, Doubt: d.sharedDoubt(d.id),
		Make:    func() error { return s.mkdirs(d, s.schema.Folder()) },
		Temp:    func() (string, error) { return s.temp(d) },
		SyncDir: d.syncDir,
		Settle:  func() error { return d.syncDir(d.Path()) },
	})
}

// sharedDoubt returns what is in doubt of the shared files of one disk.
func (n *notes) sharedDoubt(id string) *small.Doubt {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.shared[id] == nil {
		n.shared[id] = &small.Doubt{}
	}
	return n.shared[id]
}

// asPair is the span of hashes of a quarter.
func asPair(q small.Quarter) (from, to name.Hash) { return q.First(), q.Last() }
