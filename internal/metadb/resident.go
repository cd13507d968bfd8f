package metadb

import (
	"bytes"
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
)

// resident is what is in memory of one database, also while its file is closed: rows that
// are in the journal and not yet in the file, and what updates need to know of it.
type resident struct {
	hash name.Hash

	// gate is held for reading by who appends to the journal, and for writing by who
	// drops the database: no update is acknowledged that goes with it unseen.
	gate sync.RWMutex

	learning sync.Mutex    // held by who changes known or life
	life     atomic.Uint64 // how often all was forgotten

	known   atomic.Pointer[known] // nil where nothing is
	settled atomic.Bool           // the file, and its name, are durable as this process has found them
	home    atomic.Int32          // where it was last found

	waits atomic.Int64 // how many updates do; the residents' mu to make it more than none

	in       sync.Mutex
	incoming []arrival // in; not yet among the rows that wait
	latest   mark      // in; of the latest update there was

	// What waits. It changes under mu, held for writing.
	mu     sync.RWMutex
	queue  []arrival // in the order of the log
	rows   map[string]*waiting
	base   int                   // the transaction of the file to which what follows, and waiting.now, is relative
	dirty  []*waiting            // rows of which that is not known yet
	delta  map[policy.Index]Stat // what the rows add to the file's stats
	sorted []*waiting            // guarded by sorting as well; nil where it is to be made

	sorting sync.Mutex
	retry   time.Time // not before that are the rows merged; belongs to the merger

	// Guarded by the mu of the residents.
	users int
	place *list.Element // in idle
}

// known is what the file said at a transaction.
type known struct {
	tx     int
	info   Info
	merged mark
}

// arrival is an update of the journal.
type arrival struct {
	log         seglog.ID
	at          seglog.Position
	incarnation ID // of the database that it is for
	when        time.Time
	rows        []Row
	bytes       int64 // that it takes in memory, about
}

// found returns an update whose position has turned out.
func (a arrival) found(at seglog.Position) arrival {
	a.at = at
	return a
}

// waiting is one row that waits to be merged.
type waiting struct {
	key  []byte          // policy and name, as in the file
	row  []byte          // all that waits, joined
	last seglog.Position // of the latest update in it

	now           []byte // joined with what the file has
	before, after Weight // what it counts for in the file, and together with what waits
	known         bool   // whether those three are
}

// add is told of an update that is durable, in the order of the log.
func (r *resident) add(a arrival) {
	r.in.Lock()
	defer r.in.Unlock()
	r.incoming = append(r.incoming, a)
	r.latest = mark{a.log, a.at}
}

// has reports whether an update waits, or has.
func (r *resident) has(log seglog.ID, at seglog.Position) bool {
	r.in.Lock()
	defer r.in.Unlock()
	return r.latest.has(log, at)
}

func (r *resident) hasIncoming() bool {
	r.in.Lock()
	defer r.in.Unlock()
	return len(r.incoming) > 0
}

// absorb puts what has come for an incarnation among what waits. It needs mu for writing.
// Of what is for another one, or is in the file already, nothing is seen, but that it waits: a row that
// was replayed may have been deleted since, and the delete be forgotten. T is a transaction of the file.
func (r *resident) absorb(t *Tx) error {
	r.in.Lock()
	list := r.incoming
	r.incoming = nil
	r.in.Unlock()
	if len(list) == 0 {
		return nil
	}
	back := func(err error) error {
		r.in.Lock()
		r.incoming = append(list, r.incoming...) // joining them once more takes no harm
		r.in.Unlock()
		return err
	}
	merged, err := t.merged()
	if err != nil {
		return back(err)
	}
	if r.rows == nil {
		r.rows = map[string]*waiting{}
	}
	for i := range list {
		a := &list[i]
		if a.incarnation != t.info.Incarnation || merged.has(a.log, a.at) {
			a.rows = nil
		}
		for j := range a.rows {
			if err := r.absorbRow(t.schema, a.at, &a.rows[j]); err != nil {
				return back(err)
			}
		}
	}
	r.queue = append(r.queue, list...)
	return nil
}

func (r *resident) absorbRow(schema Schema, at seglog.Position, row *Row) error {
	key := rowKey(nil, row.Space, row.Name)
	w := r.rows[string(key)]
	if w == nil {
		w = &waiting{key: key, row: row.Row}
		r.rows[string(key)] = w
		r.dirty = append(r.dirty, w)
		r.sorted = nil
	} else {
		joined, err := schema.Join(w.row, row.Row)
		if err != nil {
			return corrupt(err)
		}
		w.row = joined
		r.dirty = append(r.dirty, w)
	}
	w.last = at
	return nil
}

// batch is what is merged at once.
type batch struct {
	n       int // of the queue
	bytes   int64
	through mark
	rows    []*waiting // by key
	values  [][]byte   // of each what is merged

	last []seglog.Position // of each the latest update in that
}

// take returns the first of what waits, of at most that many updates, or all where most is
// 0; nil if nothing does.
func (r *resident) take(t *Tx, most int) (*batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.absorb(t); err != nil {
		return nil, err
	}
	n := len(r.queue)
	if most > 0 {
		n = min(n, most)
	}
	if n == 0 {
		return nil, nil
	}
	b := &batch{n: n, through: mark{r.queue[n-1].log, r.queue[n-1].at}}
	seen := make(map[*waiting]bool, n)
	var key []byte
	for i := range r.queue[:n] {
		b.bytes += r.queue[i].bytes
		for j := range r.queue[i].rows {
			row := &r.queue[i].rows[j]
			key = rowKey(key[:0], row.Space, row.Name)
			// It is not there where a batch before this one has had it, with this update.
			if w := r.rows[string(key)]; w != nil && !seen[w] {
				seen[w] = true
				b.rows = append(b.rows, w)
			}
		}
	}
	slices.SortFunc(b.rows, func(v, w *waiting) int { return bytes.Compare(v.key, w.key) })
	b.values, b.last = make([][]byte, len(b.rows)), make([]seglog.Position, len(b.rows))
	for i, w := range b.rows {
		b.values[i], b.last[i] = w.row, w.last
	}
	return b, nil
}

// merged is told that a batch is in the file, durably.
func (r *resident) merged(b *batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.Delete(r.queue, 0, b.n)
	for _, w := range b.rows {
		if !b.through.at.Less(w.last) {
			delete(r.rows, string(w.key))
		}
	}
	r.base, r.sorted, r.dirty = 0, nil, nil // all that is left is looked at anew
	if len(r.queue) == 0 && len(r.rows) == 0 {
		r.queue, r.rows, r.delta = nil, nil, nil // they have the room of what was merged
	}
}

// discard forgets what waits, of a database that is not there any more, and returns how
// many updates that were, and their bytes.
func (r *resident) discard() (n int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in.Lock()
	defer r.in.Unlock()
	for _, list := range [...][]arrival{r.queue, r.incoming} {
		for i := range list {
			bytes += list[i].bytes
		}
		n += len(list)
	}
	r.incoming, r.queue, r.rows, r.dirty, r.sorted, r.delta, r.base = nil, nil, nil, nil, nil, nil, 0
	return n, bytes
}

// oldest returns the first update that waits, if one does.
func (r *resident) oldest() (a arrival, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.in.Lock()
	defer r.in.Unlock()
	for _, list := range [...][]arrival{r.queue, r.incoming} {
		if len(list) > 0 {
			return list[0], true
		}
	}
	return a, false
}

// segments adds those of the log that have something that waits.
func (r *resident) segments(into map[uint64]bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.in.Lock()
	defer r.in.Unlock()
	for _, list := range [...][]arrival{r.queue, r.incoming} {
		for i := range list {
			into[list[i].at.Segment] = true
		}
	}
}

// inOrder returns the rows that wait, by key. It needs mu for reading.
func (r *resident) inOrder() []*waiting {
	r.sorting.Lock()
	defer r.sorting.Unlock()
	if r.sorted == nil && len(r.rows) > 0 {
		r.sorted = make([]*waiting, 0, len(r.rows))
		for _, w := range r.rows {
			r.sorted = append(r.sorted, w)
		}
		slices.SortFunc(r.sorted, func(v, w *waiting) int { return bytes.Compare(v.key, w.key) })
	}
	return r.sorted
}

// learn keeps what a transaction has seen, if no later one was, and it was in the same life:
// nothing was forgotten since.
func (r *resident) learn(k *known, life uint64) {
	r.learning.Lock()
	defer r.learning.Unlock()
	if old := r.known.Load(); life == r.life.Load() && (old == nil || old.tx <= k.tx) {
		r.known.Store(k)
	}
}

// isSettled notes that the file is durable as it was found, and its name, if nothing was forgotten since
// somebody has seen that.
func (r *resident) isSettled(life uint64) {
	r.learning.Lock()
	defer r.learning.Unlock()
	if life == r.life.Load() {
		r.settled.Store(true)
	}
}

// forget forgets what is known of a file that is read anew, or of another one in its place.
func (r *resident) forget() {
	r.learning.Lock()
	r.life.Add(1)
	r.known.Store(nil)
	r.settled.Store(false)
	r.learning.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base = 0
}

// residents are those of one disk.
type residents struct {
	mu      sync.Mutex
	all     map[name.Hash]*resident // mu
	waiting map[*resident]struct{}  // mu; those that have something waiting
	idle    *list.List              // mu; those that nobody uses, and that have not, the latest first
}

// maxIdle is how many databases of a disk are known that nobody uses, at some 500 bytes each.
const maxIdle = 16_384

func newResidents() *residents {
	return &residents{all: map[name.Hash]*resident{}, waiting: map[*resident]struct{}{}, idle: list.New()}
}

// acquire returns the resident of a database. Each call wants one release.
func (rs *residents) acquire(hash name.Hash) *resident {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.all[hash]
	if r == nil {
		r = &resident{hash: hash}
		rs.all[hash] = r
	}
	r.users++
	if r.place != nil {
		rs.idle.Remove(r.place)
		r.place = nil
	}
	return r
}

func (rs *residents) release(r *resident) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.users--; r.users > 0 || r.waits.Load() > 0 {
		return // who has merged what waits releases it as well
	}
	delete(rs.waiting, r)
	r.place = rs.idle.PushFront(r)
	if rs.idle.Len() > maxIdle {
		last := rs.idle.Remove(rs.idle.Back()).(*resident)
		last.place = nil
		delete(rs.all, last.hash)
	}
}

// arrived counts an update that waits. Its resident is in use.
func (rs *residents) arrived(r *resident) {
	if r.waits.Add(1) > 1 {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.waits.Load() > 0 {
		rs.waiting[r] = struct{}{}
	}
}

// fewer counts updates of a resident that do not wait any more.
func (rs *residents) fewer(r *resident, n int) {
	if r.waits.Add(int64(-n)) > 0 {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.waits.Load() == 0 {
		delete(rs.waiting, r)
	}
}

// withWaiting acquires those that have something waiting.
func (rs *residents) withWaiting() []*resident {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	list := make([]*resident, 0, len(rs.waiting))
	for r := range rs.waiting {
		r.users++ // it is not idle: release sees to that
		list = append(list, r)
	}
	return list
}

// forget forgets what is known of a database, if anything is.
func (rs *residents) forget(hash name.Hash) {
	rs.mu.Lock()
	r := rs.all[hash]
	rs.mu.Unlock()
	if r != nil {
		r.forget()
	}
}
