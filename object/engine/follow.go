package engine

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/durable"
	"martlet/object/engine/blob"
	"martlet/object/index"
)

// An Engine is the store of one device. It is safe for concurrent use. A call
// works from its beginning to its end with the file system that the device had
// when it began.
type Engine struct {
	current atomic.Pointer[store]

	mu    sync.Mutex
	disks map[string]*store // the latest of each disk that was attached; guarded by mu
	disk  string            // which of them is; guarded by mu
	ended bool              // Close was called; guarded by mu
}

func (e *Engine) now() *store { return e.current.Load() }

// New returns the store in the folder of a device. It does nothing to the disk before it
// is needed.
func New(root string, cfg Config) *Engine {
	if cfg.Buffers == nil {
		cfg.Buffers = blob.NewBuffers(defaultBuffers)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{disks: map[string]*store{}}
	e.replace(newStore(root, cfg, durable.New(cfg.FS), nil), "")
	return e
}

// replace makes a store the one that is worked with. It needs mu, once there is one.
func (e *Engine) replace(s *store, disk string) {
	s.reopen = e.reopen
	e.disk, e.disks[disk] = disk, s
	e.current.Store(s)
}

// Follow is told what has become of the device: see device.Device.Follow. The store of
// before is closed, and the new one opened when it is first needed. What is in doubt
// since a sync failed is so of one disk, until that is mounted anew.
func (e *Engine) Follow(c device.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	now := e.now()
	finish := now.shut()
	go finish(toTheEnd, false) //nolint:errcheck // calls that fail say so
	names, before := durable.New(c.FS), e.disks[c.Disk]
	if before != nil && !c.Fresh {
		names = before.names.Over(c.FS) // calls may be under way there
	}
	cfg := now.cfg
	cfg.FS = c.FS
	e.replace(newStore(now.root, cfg, names, before), c.Disk)
}

// reopen has a store whose index has failed replaced by another one over the same disk.
func (e *Engine) reopen(s *store, rebuild bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended || e.now() != s {
		return
	}
	next := newStore(s.root, s.cfg, s.names, s)
	next.fresh = rebuild
	finish := s.shut()
	go finish(toTheEnd, false) //nolint:errcheck // calls that fail say so
	e.replace(next, e.disk)
}

// Close writes the index and closes what is open. Calls fail afterwards.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.ended = true
	s := e.now()
	e.mu.Unlock() // writing the index may find that it has failed
	return s.close(toTheEnd, true)
}

// Keep writes the index now and then, as what is in memory grows, until ctx ends. Where
// nobody does that writers do, and wait for it.
func (e *Engine) Keep(ctx context.Context) error {
	for {
		s := e.now()
		err := s.Keep(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // that is how it ends
		case err == nil && e.now() != s:
			continue // another disk is attached, or the same one anew
		}
		timer := time.NewTimer(keepAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// keepAgain is how long Keep waits after a failure, or for a disk.
const keepAgain = time.Second

// Loading reports whether the store of what is attached has not been opened yet, be it that this is under way or that
// nobody has needed it, and why it can't be where an attempt has failed.
func (e *Engine) Loading() (loading bool, failed error) {
	s := e.now()
	if s.ready.Load() != nil {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready.Load() != nil {
		return false, nil // just now
	}
	return s.why == nil, s.why
}

// Checkpoint writes the index: what was written before it was called need not be replayed
// after a crash.
func (e *Engine) Checkpoint(ctx context.Context) error {
	s := e.now()
	d, err := s.open(ctx)
	if err == nil {
		err = d.checkpoint(ctx)
	}
	return s.wrap("engine.checkpoint", Location{}, err)
}

// Compact gives the room back that dead records take: what is in force of segments that
// are mostly dead is written again, and the segments are removed. Tombstones, and metadata
// whose data never came, are forgotten where all they say is before the horizon. It is one
// pass, and may run beside requests; pace holds it back. What it does is complete at
// every moment: a crash, or an error, costs repeating some of it.
func (e *Engine) Compact(ctx context.Context, horizon timestamp.T, pace Pace) error {
	return e.now().Compact(ctx, horizon, pace)
}

// Scrub reads from the disk what is in force and was not read since a time, and puts what
// is damaged into quarantine. What was read when is remembered, also if it does not come
// to its end and across restarts, so that calls now and then, with a time as long ago as
// the period within which everything is to be read, read everything within it. Pace
// holds it back. Nil says that all was read, not that all was whole: Config.Lost is told
// what was not.
func (e *Engine) Scrub(ctx context.Context, before time.Time, pace Pace) error {
	return e.now().Scrub(ctx, before, pace)
}

// Discard removes what has been in quarantine since before a time, with the reasons for it, and returns how many things that are; it is
// what no scrub finds any more. What belongs to a name of which data or metadata is still lost here stays, however old it is: it may be
// the only copy. Nothing of a name that can be read changes. What an error or a crash leaves of it is removed by the next call.
func (e *Engine) Discard(ctx context.Context, before time.Time) (n int, err error) {
	return e.now().Discard(ctx, before)
}

// Usage says how full the device is.
func (e *Engine) Usage() (vfs.Usage, error) {
	return e.now().Usage()
}

// Create begins an object of size bytes, -1 where that is not known. The error
// is of kind errs.NoSpace where the data would use the device's reserve.
func (e *Engine) Create(ctx context.Context, at Location, size int64) (*Writer, error) {
	return e.now().Create(ctx, at, size)
}

// CreateAbout is Create for data whose length is not known, of which somebody has said that it is going to be about so long.
// Nothing is refused for that: what comes is kept, or not, as if nobody had said anything, whether it is more or less. It
// spares a large object the way through memory, and has room reserved for it, little at a time.
func (e *Engine) CreateAbout(ctx context.Context, at Location, about int64) (*Writer, error) {
	return e.now().create(ctx, at, -1, about)
}

// Open returns a Reader of the newest version. The error is of kind
// errs.NotFound where there is no object and errs.Corrupt where it was lost, both
// with a *StateError. The first block has been read and checked.
func (e *Engine) Open(ctx context.Context, at Location) (*Reader, error) {
	return e.now().Open(ctx, at)
}

// OpenLeft is Open also of data that is good where later metadata of it was lost: for who keeps what is left. Of the Reader's State no more is good than what is of
// the data; its Version is all that was stored with it.
func (e *Engine) OpenLeft(ctx context.Context, at Location) (*Reader, error) {
	return e.now().openBy(ctx, at, nil, true)
}

// OpenAll opens many objects of a policy, one after the other, and yields of each what Open returns. In order of hash
// it reads less than that. Each has to be closed.
func (e *Engine) OpenAll(ctx context.Context, p policy.Index, hashes []name.Hash) iter.Seq2[*Reader, error] {
	return e.now().OpenAll(ctx, p, hashes)
}

// Stat returns the state of a name. That nothing is there, or a tombstone, or
// that it was lost, is a state and no error.
func (e *Engine) Stat(ctx context.Context, at Location) (State, error) {
	return e.now().Stat(ctx, at)
}

// Update gives an object new metadata, a new content type, or both. Without
// Merge the error is of kind errs.NotFound
// where there is no object, errs.Stale where anything there is not older; with
// Merge it is errs.Stale where the update changes nothing. Both have a
// *StateError. When it returns nil the update is on stable storage, its name and
// directory included; when it fails, the old one is there or the new one, whole.
func (e *Engine) Update(ctx context.Context, at Location, c Change, terms Terms) (Outcome, error) {
	return e.now().Update(ctx, at, c, terms)
}

// Delete puts a tombstone of a time in the place of what is there, or of
// nothing. The error is of kind errs.Stale, with a *StateError, where what is
// there is not older. What is durable when it returns is as with Commit.
func (e *Engine) Delete(ctx context.Context, at Location, path name.Path, ts timestamp.T, terms Terms) (Outcome, error) {
	return e.now().Delete(ctx, at, path, ts, terms)
}

// Drop removes a name if still is true of its state, for the sake of one who has
// seen to it that nobody needs just that state here any more, and reports whether
// it did. Nothing changes under the name from before still is called until it is
// gone, durably when Drop returns; still must not call the engine. A name of which
// nothing is left is not asked about.
func (e *Engine) Drop(ctx context.Context, at Location, still func(*State) bool) (bool, error) {
	return e.now().Drop(ctx, at, still)
}

// Pinned returns the engine of the device as it is attached now: one that does not
// follow it. When the device was taken out of use its calls fail, also when the
// device, or another disk in its place, is back in use. It is for those who do
// something because of what they have found here before.
func (e *Engine) Pinned() *Engine {
	p := &Engine{}
	p.current.Store(e.now())
	return p
}

// Quarantine takes the data of a version out of use because of what is wrong
// with it, if it is still the one under the name: the file is moved, with the
// reason beside it, and the name answers as lost until a version that is not
// older comes. All of that is durable when it returns nil.
func (e *Engine) Quarantine(ctx context.Context, at Location, s State, why error) error {
	return e.now().Quarantine(ctx, at, s, why)
}

// Policies returns the policies that have had an object here, in order.
func (e *Engine) Policies() ([]policy.Index, error) {
	return e.now().Policies(toTheEnd)
}

// Walk yields the names of a policy whose hashes are from `from` to `to`, both
// included, in order of hash, each with its state at the time it is met. What
// comes or goes meanwhile may be there or not. An error that concerns one name is
// yielded with it, and the walk goes on if the consumer does; one that concerns a
// folder ends the walk. It holds the names of one folder in memory and no lock.
func (e *Engine) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[Entry, error] {
	return e.now().Walk(ctx, p, from, to)
}

// Present yields the hashes from `from` to `to`, both included, under which there is data of a policy that
// is not known to be damaged, in their order, as it was when the iteration began. Nothing but the index is read. An error ends it.
func (e *Engine) Present(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[name.Hash, error] {
	return e.now().Present(ctx, p, from, to)
}

// Partitions yields what each partition of a ring with 2^power partitions comes to of which
// there is something of a policy, in order (index.Partitions). A time of before other than
// zero leaves out what is not before it, as far as memory tells it apart. No object is read. An error ends it.
func (e *Engine) Partitions(ctx context.Context, p policy.Index, power int, before timestamp.T) iter.Seq2[index.Part, error] {
	return e.now().Partitions(ctx, p, power, before)
}

// Ranges yields what each of some ranges of hashes comes to, of which each begins behind
// the one before it, likewise (index.Ranges).
func (e *Engine) Ranges(ctx context.Context, p policy.Index, ranges []name.Range, before timestamp.T) iter.Seq2[index.Part, error] {
	return e.now().Ranges(ctx, p, ranges, before)
}

// Losses yields the hashes of a policy under which anything was damaged and has not been
// replaced, in order, from the index alone. An error ends it.
func (e *Engine) Losses(ctx context.Context, p policy.Index) iter.Seq2[name.Hash, error] {
	return e.now().Losses(ctx, p)
}

// Sweep removes what writers that a crash ended have left in the folders of
// objects. It spares what this Engine's own writers are working on. It is one
// pass over all folders and may run beside requests.
func (e *Engine) Sweep(ctx context.Context) error {
	return e.now().Sweep(ctx)
}
