package engine

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/durable"
)

// An Engine is the store of one device. It is safe for concurrent use. A call
// works from its beginning to its end with the file system that the device had
// when it began.
type Engine struct {
	current atomic.Pointer[store]

	mu    sync.Mutex
	disks map[string]*store // the latest of each disk that was attached; guarded by mu
}

func (e *Engine) now() *store { return e.current.Load() }

// Follow is told what has become of the device: see device.Device.Follow. What was
// known of its folders is forgotten. What is in doubt since a sync failed is so of
// one disk, until that is mounted anew.
func (e *Engine) Follow(c device.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	s := &store{cfg: now.cfg, root: now.root, began: time.Now(), locks: new([256]sync.Mutex), names: durable.New(c.FS)}
	s.cfg.FS = c.FS
	if old := e.disks[c.Disk]; old != nil && !c.Fresh {
		s.locks, s.names = old.locks, old.names.Over(c.FS) // calls may be under way there
	}
	e.disks[c.Disk] = s
	e.current.Store(s)
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

// Open returns a Reader of the newest version. The error is of kind
// errs.NotFound where there is no object and errs.Corrupt where it was lost, both
// with a *StateError. The first block has been read and checked.
func (e *Engine) Open(ctx context.Context, at Location) (*Reader, error) {
	return e.now().Open(ctx, at)
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
	return e.now().Policies()
}

// Walk yields the names of a policy whose hashes are from `from` to `to`, both
// included, in order of hash, each with its state at the time it is met. What
// comes or goes meanwhile may be there or not. An error that concerns one name is
// yielded with it, and the walk goes on if the consumer does; one that concerns a
// folder ends the walk. It holds the names of one folder in memory and no lock.
func (e *Engine) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[Entry, error] {
	return e.now().Walk(ctx, p, from, to)
}

// Sweep removes what writers that a crash ended have left in the folders of
// objects. It spares what this Engine's own writers are working on. It is one
// pass over all folders and may run beside requests.
func (e *Engine) Sweep(ctx context.Context) error {
	return e.now().Sweep(ctx)
}
