package engine

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/durable"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// store is an Engine over one disk as it was attached once. It opens log and index when
// they are first needed.
type store struct {
	cfg    Config
	root   string
	began  time.Time
	names  *durable.Names
	before *store // of the same disk, which has to be closed first; nil if there is none
	fresh  bool   // the index is to be made again
	reopen func(s *store, rebuild bool)

	ready atomic.Pointer[disk]
	gone  atomic.Bool // no call begins any more
	room  vfs.Room

	mu      sync.Mutex
	opening chan struct{} // mu; closed when an attempt has ended; nil while there is none
	why     error         // mu; of the last attempt
	closing bool          // mu

	closed chan struct{} // closed when nothing of it is open any more
}

// disk is a store that is open.
type disk struct {
	*store
	log   *seglog.Log
	index *index.Index
	usage usage

	segmentSize int64 // in bytes, of full segments
	threshold   int64 // in bytes; larger data has a file of its own

	locks   [shards]sync.Mutex // by hash; held by whoever changes what is under its name
	suspect atomic.Int32       // segments whose writing has failed, being looked at
	save    func() error       // checkpoint, to its end
	wake    chan struct{}      // there is something to checkpoint
	work    sync.WaitGroup     // what goes on in the background; Go under starting
	ended   bool               // starting; no more of that begins
	keeping sync.Mutex         // held by who checkpoints and merges

	starting sync.Mutex

	replayedMu sync.Mutex
	replayed   []Location // guarded by replayedMu; in the order of the log
	returned   int        // how many of them Replayed returned last; guarded by replayedMu

	owners [record.Owners]atomic.Pointer[Hooks] // of the journal

	compacting sync.Mutex
	stays      error    // compacting; why a segment could not be removed
	saidHeld   uint64   // compacting; the segment of which the log was last told that it holds others up
	undecided  sync.Map // paths of blobs whose record may or may not be in the log
}

// shards is how many locks there are for names.
const shards = 1 << 12

var errClosed = errors.New("the device is not in use any more")

func newStore(root string, cfg Config, names *durable.Names, before *store) *store {
	return &store{cfg: cfg, root: root, began: time.Now(), names: names, before: before, closed: make(chan struct{})}
}

// shard is which lock a hash has. Not its first bits: neighbours are worked on together.
func shard(h name.Hash) int { return int(h[14])<<4&(shards-1) | int(h[15])>>4 }

func (d *disk) lock(h name.Hash) *sync.Mutex {
	l := &d.locks[shard(h)]
	l.Lock()
	return l
}

// open returns the open disk, opening it if it must: an attempt is made for all who
// wait, and outlives them.
func (s *store) open(ctx context.Context) (*disk, error) {
	if s.gone.Load() {
		return nil, errs.E(errs.BadDevice, errClosed)
	}
	if d := s.ready.Load(); d != nil {
		return d, nil
	}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil, errs.E(errs.BadDevice, errClosed)
	}
	attempt := s.opening
	if attempt == nil {
		attempt = make(chan struct{})
		s.opening = attempt
		go s.attempt(attempt) //nolint:contextcheck // it is for all who wait, and outlives them
	}
	s.mu.Unlock()
	select {
	case <-attempt:
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
	if d := s.ready.Load(); d != nil {
		return d, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		return nil, errs.E(errs.BadDevice, errClosed)
	}
	return nil, s.why
}

// attempt tries to open the disk.
func (s *store) attempt(done chan struct{}) {
	defer close(done)
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		<-before.closed
	}
	d, err := s.openDisk()
	s.mu.Lock()
	if err != nil && !errors.Is(err, vfs.ErrDetached) && (s.why == nil || s.why.Error() != err.Error()) {
		s.cfg.Log.Error("store can't be opened", slog.String("device", s.root), slog.Any("err", err))
	}
	s.opening, s.why = nil, err
	s.before = nil
	closing := s.closing
	if err == nil && !closing {
		s.ready.Store(d)
	}
	s.mu.Unlock()
	if closing {
		if err == nil {
			_ = d.release() // it was never used
		}
		close(s.closed)
	}
}

// close closes what is open. A clean end has the index written, so that the next start has
// nothing to replay.
func (s *store) close(ctx context.Context, clean bool) error { return s.shut()(ctx, clean) }

// shut has calls refused that begin from now on; calls under way fail. What it returns
// closes what is open, which may take long.
func (s *store) shut() (finish func(ctx context.Context, clean bool) error) {
	s.gone.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return func(context.Context, bool) error {
			<-s.closed
			return nil
		}
	}
	s.closing = true
	d, opening, before := s.ready.Swap(nil), s.opening, s.before
	return func(ctx context.Context, clean bool) error {
		if opening != nil {
			<-opening // it closes what it opens
			return nil
		}
		defer close(s.closed)
		if d == nil {
			if before != nil {
				<-before.closed // who comes next has to wait for that one
			}
			return nil
		}
		var err error
		if clean && !d.untold() {
			err = d.checkpoint(ctx)
		}
		return errors.Join(err, d.release())
	}
}

// release closes log and index. Nobody works with them afterwards.
func (d *disk) release() error {
	err := d.log.Close()
	d.starting.Lock()
	d.ended = true // who wrote last may still be about to tell of a failure
	d.starting.Unlock()
	d.work.Wait()
	d.index.Close()
	return err
}

// Folders of a device.
const (
	logFolder        = "/log"
	indexFolder      = "/index"
	blobFolder       = "/blobs"
	quarantineFolder = "/quarantined"
)

// openDisk opens log and index, and brings the one in step with the other.
func (s *store) openDisk() (_ *disk, err error) {
	if err := s.refuseOld(); err != nil {
		return nil, err
	}
	// Log and index make their folders, but can't know that a sync of what holds them
	// has failed before.
	for _, folder := range [...]string{logFolder, indexFolder} {
		if err := s.names.FolderOnce(s.root+folder, s.root); err != nil {
			return nil, err
		}
	}
	d := &disk{store: s, wake: make(chan struct{}, 1)}
	d.usage.clear()
	d.save = func() error { return d.checkpoint(toTheEnd) }
	if d.segmentSize, err = s.sizeOfSegments(); err != nil {
		return nil, err
	}
	d.threshold = min(s.cfg.Threshold, blob.SmallMax, d.segmentSize/8)
	d.log, err = seglog.Open(seglog.Config{
		FS: s.cfg.FS, Folder: s.root + logFolder, SegmentSize: d.segmentSize,
		BatchSize: seglog.Defaults().BatchSize, Zero: s.cfg.Zero, Ahead: min(seglog.Defaults().Ahead, d.segmentSize/64), Fault: d.fault, Log: s.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if s.fresh {
		err = index.Remove(s.cfg.FS, s.root+indexFolder)
	}
	if err == nil {
		err = d.openIndex()
	}
	if err == nil {
		err = d.replay()
	}
	if errs.Is(err, errs.Corrupt) && d.index != nil {
		// It is a cache: it is made again, once.
		err = d.rebuild(err)
	}
	if err != nil {
		if d.index != nil {
			d.index.Close()
		}
		return nil, errors.Join(err, d.log.Close())
	}
	return d, nil
}

// Of a device at most one in smallDevice bytes is reserved for a segment, unless that is
// less than leastSegment.
const (
	smallDevice  = 64
	leastSegment = 4 << 20
)

// sizeOfSegments is what full segments have on this device, in bytes.
func (s *store) sizeOfSegments() (int64, error) {
	u, err := s.cfg.FS.Usage(s.root)
	if err != nil {
		return 0, err
	}
	return min(s.cfg.SegmentSize, max(u.Total/smallDevice, leastSegment)) &^ 4095, nil
}

// refuseOld refuses a device that an earlier version has kept objects on: they would
// be taken for gone.
func (s *store) refuseOld() error {
	list, err := s.cfg.FS.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, entry := range list {
		if entry.Dir && (entry.Name == "objects" || strings.HasPrefix(entry.Name, "objects-")) {
			return errs.E(errs.BadDevice, errors.New(
				entry.Name+" was written by an earlier version, which kept a file for each object, and can't be read by this one"))
		}
	}
	return nil
}

func (d *disk) openIndex() (err error) {
	cfg := index.Config{
		FS: d.cfg.FS, Folder: d.root + indexFolder, LogID: index.ID(d.log.ID()), Depth: d.cfg.Depth,
		Extra: d.usage.encode, Log: d.cfg.Log,
	}
	if d.index, err = index.Open(cfg); errs.Is(err, errs.Corrupt) {
		d.cfg.Log.Error("index is made again from the log", slog.String("device", d.root), slog.Any("err", err))
		if err = index.Remove(d.cfg.FS, cfg.Folder); err == nil {
			d.index, err = index.Open(cfg)
		}
	}
	if err != nil {
		return err
	}
	return d.usage.decode(d.index.Extra())
}

// rebuild makes the index again from the log alone.
func (d *disk) rebuild(why error) error {
	d.cfg.Log.Error("index is made again from the log", slog.String("device", d.root), slog.Any("err", why))
	d.index.Close()
	d.index = nil
	if err := index.Remove(d.cfg.FS, d.root+indexFolder); err != nil {
		return err
	}
	d.usage.clear()
	if err := d.openIndex(); err != nil {
		return err
	}
	return d.replay()
}

// notThere reports whether a file is not there, on a device that is.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Usage is Engine.Usage.
func (s *store) Usage() (vfs.Usage, error) {
	u, err := s.cfg.FS.Usage(s.root)
	return u, s.wrap("engine.usage", Location{}, err)
}
