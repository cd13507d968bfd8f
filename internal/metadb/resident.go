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

	known   atomic.Pointer[known] // nil where nothing is
	settled atomic.Bool           // the file, and its name, are durable as this process has found them
	report  atomic.Pointer[Report]

	in       sync.Mutex
	incoming []arrival       // in; not yet among the rows that wait
	latest   seglog.Position // in; of the latest update there was
	log      seglog.ID       // in; where that is

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
	at   seglog.Position
	when time.Time
	rows []Row
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
func (r *resident) add(log seglog.ID, a arrival) {
	r.in.Lock()
	defer r.in.Unlock()
	r.incoming = append(r.incoming, a)
	r.log, r.latest = log, a.at
}

// has reports whether an update waits, or has.
func (r *resident) has(log seglog.ID, at seglog.Position) bool {
	r.in.Lock()
	defer r.in.Unlock()
	return r.log == log && !r.latest.Less(at)
}

func (r *resident) hasIncoming() bool {
	r.in.Lock()
	defer r.in.Unlock()
	return len(r.incoming) > 0
}

// absorb puts what has come among what waits. It needs mu for writing.
func (r *resident) absorb(schema Schema) error {
	r.in.Lock()
	list := r.incoming
	r.incoming = nil
	r.in.Unlock()
	if r.rows == nil && len(list) > 0 {
		r.rows = map[string]*waiting{}
	}
	for i := range list {
		a := &list[i]
		for j := range a.rows {
			if err := r.absorbRow(schema, a.at, &a.rows[j]); err != nil {
				return err
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
	through mark
	rows    []*waiting // by key
	values  [][]byte   // of each what is merged
}

// take returns the first of what waits, of at most that many updates, or all where most is
// 0; nil if nothing does.
func (r *resident) take(schema Schema, most int) (*batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.absorb(schema); err != nil {
		return nil, err
	}
	n := len(r.queue)
	if most > 0 {
		n = min(n, most)
	}
	if n == 0 {
		return nil, nil
	}
	r.in.Lock()
	log := r.log // it is of all that is in the queue
	r.in.Unlock()
	b := &batch{n: n, through: mark{log, r.queue[n-1].at}}
	seen := make(map[*waiting]bool, n)
	var key []byte
	for i := range r.queue[:n] {
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
	b.values = make([][]byte, len(b.rows))
	for i, w := range b.rows {
		b.values[i] = w.row
	}
	return b, nil
}

// merged is told that a batch is in the file, durably. It returns how many updates that were.
func (r *resident) merged(b *batch) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.Delete(r.queue, 0, b.n)
	for _, w := range b.rows {
		if !b.through.at.Less(w.last) {
			delete(r.rows, string(w.key))
		}
	}
	r.base, r.sorted = 0, nil
	return b.n
}

// discard forgets what waits, of a database that is not there any more, and returns how
// many updates that were.
func (r *resident) discard(schema Schema) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.absorb(schema) // what can't be is forgotten with the rest
	n := len(r.queue)
	r.queue, r.rows, r.dirty, r.sorted, r.base = nil, nil, nil, nil, 0
	return n
}

// wait returns how many updates wait, and since when the oldest does, and where it is.
func (r *resident) wait() (n int, oldest arrival) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.in.Lock()
	defer r.in.Unlock()
	n = len(r.queue) + len(r.incoming)
	switch {
	case len(r.queue) > 0:
		oldest = r.queue[0]
	case n > 0:
		oldest = r.incoming[0]
	}
	return n, oldest
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

// learn keeps what a transaction has seen, if no later one was.
func (r *resident) learn(k *known) {
	for {
		old := r.known.Load()
		if old != nil && old.tx > k.tx || r.known.CompareAndSwap(old, k) {
			return
		}
	}
}

// forget forgets what is known of a file that is read anew, or of another one in its place.
func (r *resident) forget() {
	r.known.Store(nil)
	r.settled.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.base = 0
}

// residents are those of one disk.
type residents struct {
	mu   sync.Mutex
	all  map[name.Hash]*resident // mu
	idle *list.List              // mu; those that nobody uses and that have nothing waiting, the latest first
}

// maxIdle is how many databases of a disk are known that nobody uses, at some 500 bytes each.
const maxIdle = 16_384

func newResidents() *residents { return &residents{all: map[name.Hash]*resident{}, idle: list.New()} }

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
	n, _ := r.wait()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r.users--; r.users > 0 || n > 0 {
		return // what waits is released by who merges it
	}
	r.place = rs.idle.PushFront(r)
	if rs.idle.Len() > maxIdle {
		last := rs.idle.Remove(rs.idle.Back()).(*resident)
		last.place = nil
		delete(rs.all, last.hash)
	}
}

// waiting acquires those that have something waiting.
func (rs *residents) waiting() []*resident {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var list []*resident
	for _, r := range rs.all {
		if r.place == nil { // else it has nothing
			r.users++
			list = append(list, r)
		}
	}
	return list
}
