package index

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// Config is what an Index can be told.
type Config struct {
	FS     vfs.FS
	Folder string // made if it is not there; its parent must be

	// LogID is the identity of the log, as far as the caller knows one. An index of
	// another log is refused.
	LogID ID

	// Depth is how many bits of the hash choose a bucket of the digests that is kept in
	// memory, from 8 to 24: 32 bytes for each of which there is something. It is best no
	// less than the part power of the rings that are in use, and may be another one
	// each time, up to 20, or what the index was made with if that is more.
	Depth int

	// Extra returns what a checkpoint is to hold beside the changes, unless it is nil: up
	// to MaxExtra bytes, which nobody changes later. It is called at the moment that
	// decides what is in the checkpoint: what ApplyWith and Amend called before it goes with
	// the changes that are, and nothing else. It must not call the index, nor wait for
	// anybody who does.
	Extra func() []byte

	Log *slog.Logger // nil for none
}

// Defaults returns the configuration that fits most devices.
func Defaults() Config { return Config{FS: vfs.OS, Depth: 18} }

// MaxExtra bounds what Config.Extra returns, in bytes.
const MaxExtra = 2 << 20

// Index is an open index. It is safe for concurrent use; changes have to come from one
// goroutine at a time.
type Index struct {
	cfg   Config
	dir   folder
	id    ID
	depth int // of the buckets in files

	mu       sync.RWMutex
	active   *memory // mu
	frozen   *memory // mu; what a checkpoint writes, nil if there is none. Its contents don't change
	view     *view   // mu
	buckets  *buckets
	position seglog.Position // mu; as in the manifest
	extra    []byte          // mu; as in the manifest
	closed   bool            // mu

	// At most one of each is under way.
	checkpoint, merging sync.Mutex

	installing sync.Mutex
	manifest   manifest // installing; without runs, those are in the view
	broken     error    // installing; why nothing can be written any more

	next atomic.Uint64 // number for a run
}

// view is the runs of a moment, the newest first.
type view struct {
	runs []*run
	refs atomic.Int64
}

func newView(runs []*run) *view {
	v := &view{runs: runs}
	v.refs.Store(1)
	for _, r := range runs {
		r.refs.Add(1)
	}
	return v
}

func (v *view) release() {
	if v.refs.Add(-1) > 0 {
		return
	}
	for _, r := range v.runs {
		r.release()
	}
}

func (v *view) known() []known {
	list := make([]known, len(v.runs))
	for i, r := range v.runs {
		list[i] = r.known
	}
	return list
}

// ErrClosed is wrapped by errors of an index that was closed.
var ErrClosed = errors.New("index is closed")

// ErrBroken is wrapped by errors of an index whose state on the disk is not known.
var ErrBroken = errors.New("index can't be written before it is opened again")

// Open opens the index in a folder, or begins one that is empty: then Position is zero,
// and all of the log is to be applied. It is as it was at Position, which is the last
// record that the newest durable checkpoint has. The error is of kind errs.Corrupt if
// the index is damaged, or of another log, or not as deep, so that it has to be made again
// (Remove); of others it is of the kind of what the file system said.
func Open(cfg Config) (*Index, error) {
	const op errs.Op = "index.open"
	if cfg.FS == nil || cfg.Folder == "" || cfg.Depth < minDepth || cfg.Depth > maxDepth {
		return nil, errs.E(op, errs.Invalid, fmt.Errorf("bad configuration %+v", cfg))
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ix := &Index{cfg: cfg, dir: folder{fs: cfg.FS, path: path.Clean(cfg.Folder)}, buckets: newBuckets(cfg.Depth)}
	if err := ix.open(); err != nil {
		return nil, errs.E(op, errs.Subject(cfg.Folder), kindOf(err), err)
	}
	return ix, nil
}

func (ix *Index) open() error {
	found, err := ix.dir.readManifest()
	if err != nil {
		return err
	}
	m := &ix.manifest
	if found == nil {
		*m = manifest{log: ix.cfg.LogID, depth: max(fileDepth, ix.cfg.Depth), next: 1}
		if _, err := rand.Read(m.id[:]); err != nil {
			return err
		}
	} else {
		*m = *found
	}
	if m.log != ix.cfg.LogID || m.depth < ix.cfg.Depth {
		return damaged("the index is of another log, or has digests less deep than %d", ix.cfg.Depth)
	}
	ix.depth = m.depth
	if found == nil {
		err = ix.dir.begin()
	} else {
		err = ix.dir.settle(m)
	}
	if err != nil {
		return err
	}
	ix.id = m.id
	ix.next.Store(m.next)
	var runs []*run
	defer func() {
		for _, r := range runs {
			r.release()
		}
	}()
	for _, k := range m.runs {
		r, err := openRun(&ix.dir, m.id, k, m.depth)
		if err != nil {
			return err
		}
		runs = append(runs, r)
		all := r.buckets()
		for {
			b, more, err := all.next()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			ix.buckets.add(b.set, b.prefix>>(m.depth-ix.cfg.Depth), b.digest)
		}
	}
	m.runs = nil
	ix.position, ix.extra = m.position, m.extra
	ix.view = newView(runs)
	ix.active = newMemory(m.position)
	return nil
}

// Close lets go of the files once nobody reads from them. What no checkpoint has
// written is forgotten: it is in the log. It waits for a checkpoint or a merge that is
// under way. Iterations may go on, also when the index is opened again.
func (ix *Index) Close() {
	ix.checkpoint.Lock() // no checkpoint or merge is under way
	defer ix.checkpoint.Unlock()
	ix.merging.Lock()
	defer ix.merging.Unlock()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if !ix.closed {
		ix.closed = true
		ix.dir.leave()
		ix.view.release()
	}
}

// A Change is what a record of the log does to a key.
type Change struct {
	Key Key

	// Old is what Get returned, and nobody changed it since: the digests are kept by
	// what it counted for. The zero value if there was nothing.
	Old Entry

	New Entry // the zero value if nothing is left
}

// Apply makes the changes of the log's record at a position, which must be durable in
// the log: the index must never know more than the log does. They are seen at once, all
// of them; nothing is made durable, and no file is touched. Records come in their order; one
// that is not behind the last that was applied has been applied, and changes nothing,
// so that it does no harm to replay what is known. It reports whether it was new. A
// record that changes nothing may be told of as well, so that Position moves on.
func (ix *Index) Apply(at seglog.Position, changes ...Change) bool {
	return ix.ApplyWith(at, nil, changes...)
}

// ApplyWith does what Apply does, and, where the record was new, calls also in the same
// moment: for who keeps something else beside the index, of which Config.Extra tells, so
// that a checkpoint has either both or neither. Also must not call the index.
func (ix *Index) ApplyWith(at seglog.Position, also func(), changes ...Change) bool {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if !ix.active.upTo.Less(at) {
		return false
	}
	ix.active.upTo = at
	ix.change(also, changes)
	return true
}

// Amend makes changes that are not those of a record, such as a lower Dead when a segment
// is about to be removed. They are seen at once, and go into the next checkpoint; until
// then a crash undoes them. Also is called as by ApplyWith, if it is not nil.
func (ix *Index) Amend(also func(), changes ...Change) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.change(also, changes)
}

// change needs mu.
func (ix *Index) change(also func(), changes []Change) {
	for i := range changes {
		ix.changeOne(&changes[i])
	}
	if also != nil {
		also()
	}
}

// changeOne needs mu.
func (ix *Index) changeOne(c *Change) {
	k := c.Key.raw()
	var before Digest
	if ix.active.get(&k) == nil {
		if s := ix.frozen.get(&k); s != nil {
			before = s.digest
		} else {
			before = digestOf(&k, &c.Old)
		}
	}
	if d := ix.active.put(&k, &c.New, before); !d.IsZero() {
		ix.buckets.add(k.set(), k.prefix(ix.cfg.Depth), d)
	}
}

// Get returns what is under a key, of kind Absent if there is nothing. The error is of
// kind errs.Corrupt where the index is damaged; it has to be made again then.
func (ix *Index) Get(key Key) (e Entry, err error) {
	const op errs.Op = "index.get"
	return ix.find(op, key, nil)
}

// find is Get, by way of blocks that were read before, if there are some.
func (ix *Index) find(op errs.Op, key Key, by *blocks) (e Entry, err error) {
	k := key.raw()
	var room [maxValue]byte
	value, err := ix.get(&k, room[:0], by)
	if err == nil && value != nil {
		if err = e.parse(value); err != nil {
			err = damaged("%s: %w", key.Hash, err)
		}
	}
	if err != nil {
		return Entry{}, errs.E(op, errs.Subject(ix.cfg.Folder), kindOf(err), err)
	}
	return e, nil
}

func (ix *Index) get(k *rawKey, value []byte, by *blocks) ([]byte, error) {
	ix.mu.RLock()
	if ix.closed {
		ix.mu.RUnlock()
		return nil, errs.E(errs.Unavailable, ErrClosed)
	}
	m := ix.active
	s := m.get(k)
	if s == nil {
		m = ix.frozen
		s = m.get(k)
	}
	if s != nil {
		value = append(value, m.value(s)...)
		ix.mu.RUnlock()
		return value, nil
	}
	v := ix.view
	v.refs.Add(1)
	ix.mu.RUnlock()
	defer v.release()
	for _, r := range v.runs {
		found, err := r.get(k, value, by)
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// Position returns that of the last record that is durable in the index: after a crash
// the log is replayed from there on.
func (ix *Index) Position() seglog.Position {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.position
}

// Extra returns what Config.Extra said for the newest durable checkpoint, that which
// Position is of; nothing if there was none.
func (ix *Index) Extra() []byte {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return slices.Clone(ix.extra)
}

// Applied returns the position of the last record that was applied.
func (ix *Index) Applied() seglog.Position {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.active.upTo
}

// Stats is what an index takes.
type Stats struct {
	Changes     int   // keys that changed since a checkpoint, and are in memory
	ChangeBytes int64 // about what they take there
	Runs        int
	Entries     int64 // in the runs; more than there are keys, until all are merged
	FileBytes   int64
	MemoryBytes int64 // of filters and fences
}

// Stats returns what the index takes.
func (ix *Index) Stats() (s Stats) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	for _, m := range [...]*memory{ix.active, ix.frozen} {
		if m != nil {
			s.Changes += m.count
			s.ChangeBytes += m.bytes()
		}
	}
	for _, r := range ix.view.runs {
		s.Runs++
		s.Entries += r.foot.entries
		s.FileBytes += r.size
		s.MemoryBytes += int64(len(r.fences) + len(r.filter))
	}
	return s
}

// whole returns why nothing can be written any more.
func (ix *Index) whole() error {
	ix.installing.Lock()
	defer ix.installing.Unlock()
	return ix.broken
}

// install makes a list of runs durable as what the index is. What was in its place
// is still there after an error that is not ErrBroken. It takes over the use of added.
//
// It comes from a checkpoint of a table in memory, or from a merge, with none.
func (ix *Index) install(added *run, of *memory, edit func([]*run) []*run) error {
	ix.installing.Lock()
	defer ix.installing.Unlock()
	if added != nil {
		defer added.release()
	}
	if ix.broken != nil {
		return ix.broken
	}
	// Nobody else changes the view.
	old := ix.view
	v := newView(edit(old.runs))
	m := ix.manifest
	m.next, m.runs = ix.next.Load(), v.known()
	if len(m.runs) > maxRuns {
		v.release()
		return errs.E(errs.Unavailable, fmt.Errorf("%d runs want to be merged first", len(old.runs)))
	}
	if of != nil {
		m.position, m.extra = of.upTo, of.extra
	}
	if err := ix.dir.prepare(&m); err != nil {
		v.release()
		return err
	}
	if err := ix.dir.replace(); err != nil {
		// Which files count is not known, so all of them stay.
		v.release()
		if added != nil {
			added.useless.Store(false)
		}
		ix.broken = errs.E(kindOf(err), errors.Join(ErrBroken, err))
		return ix.broken
	}
	m.runs = nil
	ix.manifest = m
	if added != nil {
		added.useless.Store(false)
	}
	for _, r := range old.runs {
		if !slices.Contains(v.runs, r) {
			r.useless.Store(true)
		}
	}
	ix.mu.Lock()
	ix.view = v
	ix.position, ix.extra = m.position, m.extra
	if of != nil {
		ix.frozen = nil
	}
	ix.mu.Unlock()
	old.release()
	return nil
}
