package metadb

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/timestamp"
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

	// Journal opens the journal of a device as it is attached now. Where it is nil rows
	// are written to their files at once.
	Journal func(ctx context.Context, dev *device.Device, hooks JournalHooks) (Journal, error)

	// Horizon returns the time before which what is dead may be forgotten: what a replica brings of
	// that is not taken. Nil is never.
	Horizon func() timestamp.T

	part     int // items in a part for a peer at most; 0 is partItems
	step     int // updates of the journal in one transaction at most; 0 is mergeStep
	together int // small databases that are reclaimed at a time; 0 is reclaimTogether

	small int // how large a database may be that shares a file; 0 is smallLimit, less is none
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
	log    *slog.Logger
	track  bool
	cfg    Config
	keep   int // unused databases of a device that stay open
	disks  map[*device.Device]*atomic.Pointer[disk]
	counts counts
}

// disk is what a store keeps for one device while that has one file system. A
// call works with the one that it found first.
type disk struct {
	*device.Device
	fs        vfs.FS
	id        string // of which disk that is: device.Change
	cache     *cache
	residents *residents
	journal   *journaled
	small     *small.Files
	wholes    *wholes
	*notes
	folders map[[4]byte]bool // made and synced by this process, by the first four digits; guarded by mu
	settled map[[4]byte]bool // so are the names of databases in them; guarded by mu
	turn    uint64           // how often a name in some of them was put in doubt; guarded by mu
	left    *leftOut         // of the last pass that forgot what was deleted; nil for nothing. Guarded by mu
}

// notes are what outlasts a file system's coming and going.
type notes struct {
	mu      sync.Mutex
	corrupt map[name.Hash]badFile   // guarded by mu
	doubt   map[doubtful]bool       // whose latest commit failed, see mend; guarded by mu
	dirs    map[unsynced]error      // directories whose sync failed, and how; guarded by mu
	changed map[name.Hash]struct{}  // guarded by mu
	suspect map[name.Hash]struct{}  // databases in which something was found corrupt; guarded by mu
	shared  map[string]*small.Doubt // what is in doubt of shared files, by disk; guarded by mu
}

// doubtful names a database on one disk of a device.
type doubtful struct {
	disk string
	hash name.Hash
}

// unsynced names a directory on one disk of a device.
type unsynced struct{ disk, dir string }

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
	if cfg.part <= 0 {
		cfg.part = partItems
	}
	if cfg.step <= 0 {
		cfg.step = mergeStep
	}
	if cfg.together <= 0 {
		cfg.together = reclaimTogether
	}
	if cfg.small == 0 {
		cfg.small = smallLimit
	}
	if cfg.FS == nil {
		cfg.FS = vfs.OS
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Store{schema: schema, cfg: cfg, log: cfg.Log, track: cfg.Track, keep: cfg.Open, disks: map[*device.Device]*atomic.Pointer[disk]{}}
	for dev := range devices.All() {
		n := &notes{corrupt: map[name.Hash]badFile{}, doubt: map[doubtful]bool{}, dirs: map[unsynced]error{}, changed: map[name.Hash]struct{}{}, suspect: map[name.Hash]struct{}{}, shared: map[string]*small.Doubt{}}
		d := s.newDisk(dev, cfg.FS, "", n)
		s.disks[dev] = &atomic.Pointer[disk]{}
		s.disks[dev].Store(d)
		dev.Follow(func(c device.Change) { s.follow(dev, c) })
		if s.now(dev) == d && dev.Check() == nil {
			s.sweep(d)
		}
	}
	return s
}

func (s *Store) newDisk(dev *device.Device, disks vfs.FS, id string, n *notes) *disk {
	d := &disk{Device: dev, fs: disks, id: id, notes: n, residents: newResidents(), journal: newJournaled(s.cfg), folders: map[[4]byte]bool{}, settled: map[[4]byte]bool{}}
	d.small = s.newShared(d)
	d.wholes = newWholes(func(w *whole) { s.discardWhole(d, w) })
	d.cache = newCache(s.keep, func(h name.Hash, db *database) { s.shut(d, h, db) })
	return d
}

// follow is told what has become of a device. Its open databases are closed, those
// in use with their last user, and what is there now is opened afresh: also a file
// that was taken for corrupt while the disk failed.
func (s *Store) follow(dev *device.Device, c device.Change) {
	at := s.disks[dev]
	old := at.Load()
	old.mu.Lock()
	clear(old.corrupt)
	if c.Fresh {
		maps.DeleteFunc(old.dirs, func(at unsynced, _ error) bool { return at.disk == c.Disk })
	}
	old.mu.Unlock()
	d := s.newDisk(dev, c.FS, c.Disk, old.notes)
	if c.FS != vfs.Absent {
		s.sweep(d)
	}
	old.journal.letGo(errs.E(errs.BadDevice, "the device was detached")) // what it acknowledges no more is not among what the new one replays
	at.Store(d)
	old.wholes.endAll(errs.E(errs.BadDevice, "the device was detached"))
	old.cache.end(errs.E(errs.BadDevice, "the device was detached"))
	old.small.End(errs.E(errs.BadDevice, "the device was detached"))
}

// now returns what the store keeps for a device; nil for one that is not its.
func (s *Store) now(dev *device.Device) *disk {
	if at := s.disks[dev]; at != nil {
		return at.Load()
	}
	return nil
}

// Close closes every database, waiting for those in use. Calls after it are of
// kind errs.Unavailable.
func (s *Store) Close() {
	for _, at := range s.disks {
		j := at.Load().journal
		j.letGo(errs.E(errs.Unavailable, "the store is closed"))
		j.end.Wait()
	}
	for _, at := range s.disks {
		at.Load().wholes.endAll(errs.E(errs.Unavailable, "the store is closed"))
		at.Load().wholes.had.Wait()
		at.Load().cache.close()
		at.Load().small.End(errs.E(errs.Unavailable, "the store is closed"))
		at.Load().small.Wait()
	}
}

// shut closes a database that leaves the cache.
func (s *Store) shut(dev *disk, hash name.Hash, db *database) {
	why := db.failure()
	switch {
	case why == nil || errors.Is(why, errDropped):
	case db.small != nil:
		s.log.Error("a database failed and will be read anew", "device", dev.Name(), "hash", hash, "err", why)
	case errs.Is(why, errs.Corrupt):
		s.remember(dev, hash, why)
	default:
		s.log.Error("a database failed and will be read anew", "device", dev.Name(), "hash", hash, "err", why)
		dev.mu.Lock()
		dev.doubt[doubtful{dev.id, hash}] = true
		dev.mu.Unlock()
	}
	if err := db.close(); err != nil {
		s.log.Warn("a database did not close", "device", dev.Name(), "hash", hash, "err", err)
	}
	if why != nil {
		db.res.forget()
	}
	dev.residents.release(db.res)
}

// remember notes that a file is corrupt.
func (s *Store) remember(dev *disk, hash name.Hash, why error) {
	path := s.path(Location{dev.Device, hash})
	s.log.Error("a database is corrupt", "file", path, "err", why)
	info, err := dev.fs.Stat(path)
	if err != nil {
		return // gone, or the device is: nothing to remember it by
	}
	dev.mu.Lock()
	defer dev.mu.Unlock()
	dev.corrupt[hash] = badFile{info, why}
}

// known returns why a file was found corrupt, if it still is the same file.
func (d *disk) known(path string, hash name.Hash) error {
	d.mu.Lock()
	bad, ok := d.corrupt[hash]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	info, err := d.fs.Stat(path)
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
	d := s.now(loc.Device)
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
	return s.wrap(op, loc, s.with(ctx, loc, s.open, func(_ *disk, e *entry) error { return e.db.view(fn) }))
}

// look is View over what is in the file: rows that wait to be merged are not seen.
func (s *Store) look(ctx context.Context, loc Location, fn func(*Tx) error) error {
	const op errs.Op = "metadb.look"
	return s.wrap(op, loc, s.with(ctx, loc, s.open, func(_ *disk, e *entry) error { return e.db.look(fn) }))
}

// with runs fn with the open database of a location, which open opens if it is
// not. Where that was dropped meanwhile, it does so again with what is there then.
func (s *Store) with(ctx context.Context, loc Location, open func(*disk, Location) (*database, error), fn func(*disk, *entry) error) error {
	d, err := s.disk(ctx, loc)
	if err == nil {
		_, err = s.attach(ctx, d)
	}
	if err != nil {
		return err
	}
	return s.withOn(ctx, d, loc, open, fn)
}

// withOn is with on a disk whose journal need not be open.
func (s *Store) withOn(ctx context.Context, d *disk, loc Location, open func(*disk, Location) (*database, error), fn func(*disk, *entry) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return errs.E(errs.Aborted, err)
		}
		e, err := d.cache.acquire(loc.Hash, func() (*database, error) { return open(d, loc) })
		if err != nil {
			if kind := errs.KindOf(err); kind == errs.Corrupt || kind == errs.NotFound {
				d.residents.forget(loc.Hash)
			}
			d.suspects(loc.Hash, err)
			return err
		}
		err = fn(d, e)
		d.suspects(loc.Hash, err)
		d.cache.release(e)
		if !errors.Is(err, errDropped) {
			return err
		}
	}
}

// Update lets fn change a database. When it returns nil the change is on stable
// storage. When fn fails nothing of it is kept; fn may be called more than once,
// each time over a state without what it did before. The error is of kind
// errs.NotFound where there is no database. A context that ends while the
// commit is under way does not end it.
func (s *Store) Update(ctx context.Context, loc Location, fn func(*Tx) error) error {
	const op errs.Op = "metadb.update"
	return s.wrap(op, loc, s.with(ctx, loc, s.open, func(d *disk, e *entry) error { return s.change(d, e, fn) }))
}

// UpdateApart is Update for a change of what the database says of itself and of metadata, and not of rows: it does
// not wait until all that waits in the journal is merged, and fn does not see that, nor what it adds to stats.
func (s *Store) UpdateApart(ctx context.Context, loc Location, fn func(*Tx) error) error {
	const op errs.Op = "metadb.updateapart"
	return s.wrap(op, loc, s.with(ctx, loc, s.open, func(d *disk, e *entry) error {
		report, err := e.db.apart(fn)
		if report && err == nil {
			s.mark(d, e.hash)
		}
		return err
	}))
}

// Ensure is Update for a database that is made with info if there is none:
// then fn runs over it before anyone sees it (Tx.Made), and if fn fails it is not
// made. An incarnation is chosen for it.
func (s *Store) Ensure(ctx context.Context, loc Location, info Info, fn func(*Tx) error) error {
	const op errs.Op = "metadb.ensure"
	made := false
	open := func(d *disk, loc Location) (*database, error) {
		db, err := s.open(d, loc)
		if errs.Is(err, errs.NotFound) {
			db, err = s.create(d, loc, info, fn)
			made = err == nil
		}
		return db, err
	}
	return s.wrap(op, loc, s.with(ctx, loc, open, func(d *disk, e *entry) error {
		if made {
			s.mark(d, loc.Hash)
			return nil
		}
		return s.change(d, e, fn)
	}))
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
	if d := s.now(loc.Device); d != nil {
		s.mark(d, loc.Hash)
	}
}

// TakeChanged returns the databases whose stamps, policy or stats may have
// changed since the last call, and forgets them. It is kept in memory only: after a start
// there is Unreported.
func (s *Store) TakeChanged() []Location {
	var all []Location
	for dev, at := range s.disks {
		d := at.Load()
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
// folder, or so many of a shared file, at a time. What can't be read is an error beside a
// zero hash, and the walk goes on.
func (s *Store) Walk(ctx context.Context, dev *device.Device) iter.Seq2[name.Hash, error] {
	return s.walkRange(ctx, dev, name.Hash{}, lastHash)
}
