package metadb

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// DefaultOpen is how many databases per device stay open unless Config says
// otherwise.
const DefaultOpen = 256

// Config is what a Store needs beside its devices.
type Config struct {
	Open  int          // how many unused databases per device stay open; 0 is DefaultOpen
	Track bool         // remember which databases changed, for Store.TakeChanged
	FS    vfs.FS       // nil is vfs.OS; bbolt reads and writes the files themselves on the real one
	Log   *slog.Logger // nil is slog.Default
}

// Location says where a database is.
type Location struct {
	Device *device.Device
	Hash   name.Hash
}

// A Store is the databases of one kind on a node's devices. It is safe for
// concurrent use. The functions that View, Update and Ensure are given must not
// call the store for the same database, and must not wait for anything: others
// wait for them.
type Store struct {
	schema Schema
	fs     vfs.FS
	log    *slog.Logger
	track  bool
	disks  map[*device.Device]*disk
}

// disk is what a store keeps for one device.
type disk struct {
	*device.Device
	cache *cache

	mu      sync.Mutex
	folders map[[4]byte]bool       // made and synced by this process, by the first four digits; guarded by mu
	corrupt map[name.Hash]badFile  // guarded by mu
	doubt   map[name.Hash]bool     // whose latest commit failed, see mend; guarded by mu
	changed map[name.Hash]struct{} // guarded by mu
}

// badFile is a file that was found corrupt, and what it looked like.
type badFile struct {
	info vfs.Info
	err  error
}

// New returns the store of a schema's databases on the devices of a node, and
// removes what a crash left half made there. Close ends it.
func New(cfg Config, schema Schema, devices *device.Set) *Store {
	if cfg.Open <= 0 {
		cfg.Open = DefaultOpen
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Store{schema: schema, fs: cfg.FS, log: cfg.Log, track: cfg.Track, disks: map[*device.Device]*disk{}}
	for dev := range devices.All() {
		d := &disk{
			Device:  dev,
			folders: map[[4]byte]bool{},
			corrupt: map[name.Hash]badFile{},
			doubt:   map[name.Hash]bool{},
			changed: map[name.Hash]struct{}{},
		}
		d.cache = newCache(cfg.Open, func(h name.Hash, db *database) { s.shut(d, h, db) })
		s.disks[dev] = d
		if dev.Check() != nil {
			continue
		}
		if err := s.sweep(dev); err != nil {
			s.log.Warn("half-made databases could not be removed", "device", dev.Name(), "err", err)
		}
	}
	return s
}

// Close closes every database, waiting for those in use. Calls after it are of
// kind errs.Unavailable.
func (s *Store) Close() {
	for _, d := range s.disks {
		d.cache.close()
	}
}

// shut closes a database that leaves the cache.
func (s *Store) shut(dev *disk, hash name.Hash, db *database) {
	why := db.failure()
	if errs.Is(why, errs.Corrupt) {
		s.remember(dev, hash, why)
	} else if why != nil {
		s.log.Error("a database failed and will be read anew", "device", dev.Name(), "hash", hash, "err", why)
		dev.mu.Lock()
		dev.doubt[hash] = true
		dev.mu.Unlock()
	}
	if err := db.close(); err != nil {
		s.log.Warn("a database did not close", "device", dev.Name(), "hash", hash, "err", err)
	}
}

// remember notes that a file is corrupt.
func (s *Store) remember(dev *disk, hash name.Hash, why error) {
	path := s.path(Location{dev.Device, hash})
	s.log.Error("a database is corrupt", "file", path, "err", why)
	info, err := s.fs.Stat(path)
	if err != nil {
		return // gone, or the device is: nothing to remember it by
	}
	dev.mu.Lock()
	defer dev.mu.Unlock()
	dev.corrupt[hash] = badFile{info, why}
}

// known returns why a file was found corrupt, if it still is the same file.
func (d *disk) known(fs vfs.FS, path string, hash name.Hash) error {
	d.mu.Lock()
	bad, ok := d.corrupt[hash]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	info, err := fs.Stat(path)
	if err == nil && info.Ino == bad.info.Ino && info.Size == bad.info.Size && info.ModTime.Equal(bad.info.ModTime) {
		return bad.err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.corrupt, hash)
	return nil
}

// disk returns what belongs to a location's device.
func (s *Store) disk(ctx context.Context, loc Location) (*disk, error) {
	if err := ctx.Err(); err != nil {
		return nil, errs.E(errs.Aborted, err)
	}
	d := s.disks[loc.Device]
	if d == nil {
		return nil, errs.E(errs.BadDevice, "not a device of this store")
	}
	return d, nil
}

// wrap puts an operation and a database to an error.
func (s *Store) wrap(op errs.Op, loc Location, err error) error {
	if err == nil {
		return nil
	}
	return errs.E(op, errs.Subject(loc.Device.Name()+"/"+s.schema.Folder()+"/"+loc.Hash.String()), err)
}

// View runs fn over a database, which does not change meanwhile. The error is of
// kind errs.NotFound where there is none, errs.Corrupt where it can't be read,
// and else fn's own.
func (s *Store) View(ctx context.Context, loc Location, fn func(*Tx) error) error {
	const op errs.Op = "metadb.view"
	d, err := s.disk(ctx, loc)
	if err != nil {
		return s.wrap(op, loc, err)
	}
	e, err := d.cache.acquire(loc.Hash, func() (*database, error) { return s.open(d, loc) })
	if err != nil {
		return s.wrap(op, loc, err)
	}
	defer d.cache.release(e)
	return s.wrap(op, loc, e.db.view(fn))
}

// Update lets fn change a database. When it returns nil the change is on stable
// storage. When fn fails nothing of it is kept; fn may be called more than once,
// each time over a state without what it did before. The error is of kind
// errs.NotFound where there is no database. A context that ends while the
// commit is under way does not end it.
func (s *Store) Update(ctx context.Context, loc Location, fn func(*Tx) error) error {
	const op errs.Op = "metadb.update"
	d, err := s.disk(ctx, loc)
	if err != nil {
		return s.wrap(op, loc, err)
	}
	e, err := d.cache.acquire(loc.Hash, func() (*database, error) { return s.open(d, loc) })
	if err != nil {
		return s.wrap(op, loc, err)
	}
	defer d.cache.release(e)
	return s.wrap(op, loc, s.change(d, e, fn))
}

// Ensure is Update for a database that is made with info if there is none:
// then fn runs over it before anyone sees it (Tx.Made), and if fn fails it is not
// made. An incarnation is chosen for it.
func (s *Store) Ensure(ctx context.Context, loc Location, info Info, fn func(*Tx) error) error {
	const op errs.Op = "metadb.ensure"
	d, err := s.disk(ctx, loc)
	if err != nil {
		return s.wrap(op, loc, err)
	}
	made := false
	e, err := d.cache.acquire(loc.Hash, func() (*database, error) {
		db, err := s.open(d, loc)
		if errs.Is(err, errs.NotFound) {
			db, err = s.create(d, loc, info, fn)
			made = err == nil
		}
		return db, err
	})
	if err != nil {
		return s.wrap(op, loc, err)
	}
	defer d.cache.release(e)
	if made {
		s.mark(d, loc.Hash)
		return nil
	}
	return s.wrap(op, loc, s.change(d, e, fn))
}

func (s *Store) change(d *disk, e *entry, fn func(*Tx) error) error {
	report, err := e.db.update(fn)
	if report && err == nil {
		s.mark(d, e.hash)
	}
	return err
}

func (s *Store) mark(d *disk, hash name.Hash) {
	if !s.track {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed[hash] = struct{}{}
}

// MarkChanged puts a database among those that TakeChanged returns.
func (s *Store) MarkChanged(loc Location) {
	if d := s.disks[loc.Device]; d != nil {
		s.mark(d, loc.Hash)
	}
}

// TakeChanged returns the databases whose stamps, policy or stats may have
// changed since the last call, and forgets them. It is kept in memory only: after a start
// compare Tx.Reported over a Walk.
func (s *Store) TakeChanged() []Location {
	var all []Location
	for dev, d := range s.disks {
		d.mu.Lock()
		for hash := range d.changed {
			all = append(all, Location{dev, hash})
		}
		clear(d.changed)
		d.mu.Unlock()
	}
	return all
}

// Walk yields the hashes of the databases on a device, in order, reading one
// folder at a time. A folder that can't be read is an error beside a zero hash,
// and the walk goes on.
func (s *Store) Walk(ctx context.Context, dev *device.Device) iter.Seq2[name.Hash, error] {
	return func(yield func(name.Hash, error) bool) {
		s.walk(ctx, dev.Dir(s.schema.Folder()), 2, yield)
	}
}

// walk walks the folders so many levels deep and reports whether to go on.
func (s *Store) walk(ctx context.Context, dir string, depth int, yield func(name.Hash, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(name.Hash{}, errs.E(errs.Op("metadb.walk"), errs.Aborted, err))
		return false
	}
	list, err := s.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(name.Hash{}, errs.E(errs.Op("metadb.walk"), classify(err)))
	}
	for _, e := range list {
		if depth > 0 {
			if e.Dir && !s.walk(ctx, filepath.Join(dir, e.Name), depth-1, yield) {
				return false
			}
			continue
		}
		if h, ok := parseName(e.Name); ok && !yield(h, nil) {
			return false
		}
	}
	return true
}
