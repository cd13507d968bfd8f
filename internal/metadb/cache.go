package metadb

import (
	"container/list"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// cache holds the open databases of one device. At most limit stay open that
// nobody uses; those in use are as many as there are requests.
//
// bbolt locks a file to one opener, so there is one entry per database from
// before it is opened until after it is closed: whoever comes meanwhile waits.
type cache struct {
	limit int
	shut  func(name.Hash, *database) // closes a database

	mu      sync.Mutex
	change  sync.Cond            // an entry left, or closed was set; over mu
	entries map[name.Hash]*entry // guarded by mu
	idle    *list.List           // of *entry that nobody uses, the latest used first; guarded by mu
	closed  error                // why nothing is opened any more; nil until end; guarded by mu
}

type entry struct {
	hash   name.Hash
	ready  chan struct{} // closed once db or failed is set
	db     *database
	failed bool // it could not be opened, and the entry is out of the cache

	// Guarded by the cache's mu.
	users   int
	place   *list.Element // in idle
	closing bool
	gone    chan struct{} // closed once the file is closed
}

func newCache(limit int, shut func(name.Hash, *database)) *cache {
	c := &cache{limit: limit, shut: shut, entries: map[name.Hash]*entry{}, idle: list.New()}
	c.change.L = &c.mu
	return c
}

// acquire returns the open database of a hash, calling open if it is not open
// yet. Those who come while it is being opened wait for it; if that fails they
// try for themselves, since it may have failed for a reason of the other's. Each
// success wants one release.
func (c *cache) acquire(hash name.Hash, open func() (*database, error)) (*entry, error) {
	for {
		c.mu.Lock()
		if c.closed != nil {
			defer c.mu.Unlock()
			return nil, c.closed
		}
		e := c.entries[hash]
		switch {
		case e == nil:
			e = &entry{hash: hash, users: 1, ready: make(chan struct{}), gone: make(chan struct{})}
			c.entries[hash] = e
			c.mu.Unlock()
			return c.fill(e, open)
		case e.closing:
			c.mu.Unlock()
			<-e.gone
			continue
		}
		c.use(e)
		c.mu.Unlock()
		<-e.ready
		if !e.failed {
			return e, nil
		}
	}
}

// use counts a user. The caller holds mu.
func (c *cache) use(e *entry) {
	e.users++
	if e.place != nil {
		c.idle.Remove(e.place)
		e.place = nil
	}
}

// fill opens the database of a new entry.
func (c *cache) fill(e *entry, open func() (*database, error)) (*entry, error) {
	db, err := open()
	if err != nil {
		e.failed = true
		c.mu.Lock()
		delete(c.entries, e.hash)
		c.change.Broadcast()
		c.mu.Unlock()
		close(e.ready)
		return nil, err
	}
	e.db = db
	close(e.ready)
	return e, nil
}

// release takes back an acquire. The last user of a database that is of no
// more use closes it, and so does one who leaves too many open behind.
func (c *cache) release(e *entry) {
	bad := e.db.failure() != nil
	c.mu.Lock()
	// Whoever comes for one that failed waits until it is closed, so that a
	// stream of requests does not keep it open.
	e.closing = e.closing || bad || c.closed != nil
	var victims []*entry
	if e.users--; e.users == 0 {
		if e.closing {
			victims = append(victims, e)
		} else {
			e.place = c.idle.PushFront(e)
		}
	}
	if c.idle.Len() > c.limit {
		victims = append(victims, c.evict())
	}
	c.mu.Unlock()
	c.closeAll(victims)
}

// evict takes the entry that was unused for longest out of idle. The caller
// holds mu and closes it.
func (c *cache) evict() *entry {
	back := c.idle.Back()
	c.idle.Remove(back)
	e := back.Value.(*entry)
	e.place, e.closing = nil, true
	return e
}

// closeAll closes databases that were marked as closing.
func (c *cache) closeAll(list []*entry) {
	for _, e := range list {
		c.shut(e.hash, e.db)
		c.mu.Lock()
		delete(c.entries, e.hash)
		c.change.Broadcast()
		c.mu.Unlock()
		close(e.gone)
	}
}

// end closes every database, those in use with their last user; it does not wait
// for that. Calls after it fail with why.
func (c *cache) end(why error) {
	c.mu.Lock()
	c.closed = why
	var victims []*entry
	for c.idle.Len() > 0 {
		victims = append(victims, c.evict())
	}
	c.mu.Unlock()
	c.closeAll(victims)
}

// close closes every database, waiting for those in use.
func (c *cache) close() {
	c.end(errs.E(errs.Unavailable, "the store is closed"))
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.entries) > 0 {
		c.change.Wait()
	}
}
