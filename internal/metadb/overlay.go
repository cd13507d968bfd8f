package metadb

import (
	"bytes"
	"slices"
	"sort"

	"martlet/internal/planted"
	"martlet/internal/policy"
)

// view runs fn over the newest state: that of the file, and over it the rows that wait to
// be merged.
func (d *database) view(fn func(*Tx) error) error {
	return d.guarded(func() error {
		for absorbed := false; ; absorbed = true {
			if done, err := d.viewOver(absorbed, fn); done || err != nil {
				return err
			}
			if err := d.resolve(); err != nil {
				return err
			}
		}
	})
}

// viewOver runs fn if what waits is known relative to the state of the file, and reports
// whether it did. What has come since it was absorbed need not be seen.
func (d *database) viewOver(absorbed bool, fn func(*Tx) error) (done bool, err error) {
	r := d.res
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !absorbed && r.hasIncoming() {
		return false, nil
	}
	err = d.newest(func(t *Tx) error {
		if len(r.rows) > 0 && (r.base != t.id || len(r.dirty) > 0) {
			return nil // a merge that begins absorbs rows, and does not resolve them
		}
		done = true
		if t.res = r; len(r.rows) > 0 {
			t.over = r
		}
		return fn(t)
	})
	return done, err
}

// resolve finds out what rows that wait change in the file as it is.
func (d *database) resolve() error {
	r := d.res
	r.mu.Lock()
	defer r.mu.Unlock()
	return d.newest(func(t *Tx) error {
		if err := r.absorb(t); err != nil {
			return err
		}
		if r.base != t.id {
			r.delta, r.dirty = map[policy.Index]Stat{}, nil
			for _, w := range r.rows {
				w.known = false
				r.dirty = append(r.dirty, w)
			}
		}
		r.base = 0 // until all is known
		for _, w := range r.dirty {
			if err := t.resolve(r, w); err != nil {
				return err
			}
		}
		r.dirty = nil
		r.base = t.id
		return nil
	})
}

// resolve finds out what one row changes.
func (t *Tx) resolve(r *resident, w *waiting) error {
	if w.known {
		r.count(w.before, +1)
		r.count(w.after, -1)
		w.known = false
	}
	w.now, w.before = w.row, Weight{}
	_, old, isLive, err := t.stored(w.key)
	if err != nil {
		return err
	}
	if old != nil {
		if w.now, err = t.schema.Join(old, w.row); err != nil {
			return corrupt(err)
		}
		if isLive {
			if w.before, err = t.schema.Weigh(spaceOf(w.key), old, t.info.Delete); err != nil {
				return corrupt(err)
			}
		}
	}
	if w.after, err = t.schema.Weigh(spaceOf(w.key), w.now, t.info.Delete); err != nil {
		return corrupt(err)
	}
	r.count(w.before, -1)
	r.count(w.after, +1)
	w.known = true
	return nil
}

// count counts a row for what it weighs, or not any more.
func (r *resident) count(w Weight, sign int64) {
	if planted.CountOnlyGrows && sign < 0 { // as in Tx.replace
		return
	}
	if w.Live {
		r.delta[w.Policy] = r.delta[w.Policy].add(w, sign)
	}
}

// stored returns the row of the file under a key, with its change number, and whether it
// is among the live ones; nil where there is none.
func (t *Tx) stored(key []byte) (change uint64, row []byte, isLive bool, err error) {
	for _, b := range [...]table{t.live, t.dead} {
		if v := b.Get(key); v != nil {
			change, row, err = openRow(key, v)
			return change, row, b == t.live, err
		}
	}
	return 0, nil, false, nil
}

// cursor moves over the live rows, by key: those of the file, and over them those that wait.
type cursor struct {
	file tableCursor
	over []*waiting // by key

	key, value []byte   // of the file, where it is
	at         int      // in over
	back       bool     // both are the next ones towards the beginning
	on         *waiting // the present row, if it is one that waits
	present    []byte   // its key
	both       bool     // the file has one of that key, too
}

// seek moves to the first row whose key is not less than key, and returns its key, nil if
// there is none; so do the others.
func (c *cursor) seek(key []byte) []byte {
	c.key, c.value = c.file.Seek(key)
	c.at = sort.Search(len(c.over), func(i int) bool { return bytes.Compare(c.over[i].key, key) >= 0 })
	c.back = false
	return c.pick()
}

// last moves to the last row.
func (c *cursor) last() []byte {
	c.key, c.value = c.file.Last()
	c.at, c.back = len(c.over)-1, true
	return c.pick()
}

// next moves to the row behind the present one.
func (c *cursor) next() []byte {
	if c.back {
		return c.seek(append(slices.Clone(c.present), 0))
	}
	c.leave()
	return c.pick()
}

// prev moves to the row before the present one.
func (c *cursor) prev() []byte {
	if c.back {
		c.leave()
		return c.pick()
	}
	if c.key, c.value = c.file.Seek(c.present); c.key == nil {
		c.key, c.value = c.file.Last()
	} else {
		c.key, c.value = c.file.Prev()
	}
	c.at = sort.Search(len(c.over), func(i int) bool { return bytes.Compare(c.over[i].key, c.present) >= 0 }) - 1
	c.back = true
	return c.pick()
}

// leave moves on whatever has the present row.
func (c *cursor) leave() {
	if c.on == nil || c.both {
		c.key, c.value = c.step()
	}
	if c.on != nil {
		c.at += c.way()
	}
}

func (c *cursor) step() (key, value []byte) {
	if c.back {
		return c.file.Prev()
	}
	return c.file.Next()
}

func (c *cursor) way() int {
	if c.back {
		return -1
	}
	return 1
}

// pick finds which row is the present one: the next one of the file, or of those that wait,
// which take its place, or that of none where they are not live.
func (c *cursor) pick() []byte {
	for {
		c.on, c.both = nil, false
		if c.at < 0 || c.at >= len(c.over) {
			c.present = c.key
			return c.present
		}
		w := c.over[c.at]
		order := -1
		if c.key != nil {
			order = bytes.Compare(w.key, c.key) * c.way()
		}
		if order > 0 {
			c.present = c.key
			return c.present
		}
		c.on, c.both, c.present = w, order == 0, w.key
		if w.after.Live {
			return c.present
		}
		c.leave()
	}
}

// row returns the present row.
func (c *cursor) row() ([]byte, error) {
	if c.on != nil {
		return c.on.now, nil
	}
	_, row, err := openRow(c.key, c.value)
	return row, err
}
