package metadb

import (
	"encoding/binary"

	"martlet/internal/errs"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
)

// What is dead may be forgotten once all that it says is before the horizon: rows that listings do not
// see, metadata that was deleted, and a whole database that was deleted, holds nothing live, and
// nothing from after the horizon. Each replica removes it by itself (see Reclaim), and not at the same
// moment as others. So that none hands it back to one that has removed it, a part of another replica
// is merged without what may be forgotten, except where it meets something that it may end; and a
// database that may be forgotten whole is for replication not there.

// errForgotten is why a part was not merged: all that it says may be forgotten, and there is nothing here
// that it could end.
var errForgotten = errs.Refuse(errs.Gone, "all of it is before the reclaim age, and nothing older is here")

// horizon returns the time before which what is dead may be forgotten; zero where nothing may be.
func (s *Store) horizon() timestamp.T {
	if s.cfg.Horizon == nil {
		return timestamp.T{}
	}
	return s.cfg.Horizon()
}

// forgettable reports whether the item was deleted before the horizon.
func (f *Field) forgettable(horizon timestamp.T) bool {
	return f.Value == "" && f.Stamp.Before(horizon)
}

// forgettable reports whether the database was deleted, and all that it knows of itself is before the
// horizon.
func (i *Info) forgettable(horizon timestamp.T) bool {
	if !i.Delete.After(i.Put) || !i.Delete.After(i.Created) {
		return false
	}
	for _, t := range [...]timestamp.T{i.Created, i.Put, i.Delete, i.StatusChanged, i.PolicyAt, i.PolicyAfter} {
		if !t.Before(horizon) {
			return false
		}
	}
	return true
}

// forgettableRow reports whether a row is dead and says nothing from after the horizon.
func (t *Tx) forgettableRow(c *Change, deleted, horizon timestamp.T) (bool, error) {
	if horizon.IsZero() {
		return false, nil
	}
	w, err := t.schema.Weigh(c.Space, c.Row, deleted)
	if err != nil || w.Live {
		return false, err
	}
	newest, err := t.schema.Newest(c.Row)
	return newest.Before(horizon), err
}

// mostDead is how many dead rows are looked at to see whether a database may be forgotten whole. Of
// one with more that is found out when they are forgotten.
const mostDead = 1000

// forgettable reports whether the database may be forgotten whole.
func (t *Tx) forgettable(horizon timestamp.T) (bool, error) {
	if !t.info.forgettable(horizon) {
		return false, nil
	}
	if k, _ := t.live.Cursor().First(); k != nil {
		return false, nil
	}
	list, err := t.Fields()
	if err != nil {
		return false, err
	}
	for i := range list {
		if !list[i].Stamp.Before(horizon) {
			return false, nil
		}
	}
	n := 0
	c := t.dead.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		is, err := t.isOld(k, v, horizon)
		if n++; err != nil || !is || n > mostDead {
			return false, err
		}
	}
	return true, nil
}

// isOld reports whether a dead row says nothing from after the horizon.
func (t *Tx) isOld(key, stored []byte, horizon timestamp.T) (bool, error) {
	_, row, err := openRow(key, stored)
	if err != nil {
		return false, err
	}
	newest, err := t.schema.Newest(row)
	if err != nil {
		return false, corrupt(err)
	}
	return newest.Before(horizon), nil
}

// forgetRow removes a row, and its change, if it is dead and old, and reports whether it was.
func (t *Tx) forgetRow(key []byte, horizon timestamp.T) (bool, error) {
	stored := t.dead.Get(key)
	if stored == nil {
		return false, nil
	}
	if is, err := t.isOld(key, stored, horizon); err != nil || !is {
		return false, err
	}
	change, row, err := openRow(key, stored)
	if err != nil {
		return false, err
	}
	t.touch = true
	t.exchange(termRow, key, row, nil)
	if err := t.dead.Delete(key); err != nil {
		return false, err
	}
	return true, t.changes.Delete(binary.BigEndian.AppendUint64(nil, change))
}

// forgetFields removes the metadata that was deleted before the horizon.
func (t *Tx) forgetFields(horizon timestamp.T) error {
	list, err := t.Fields()
	if err != nil {
		return err
	}
	for i := range list {
		if !list[i].forgettable(horizon) {
			continue
		}
		key := []byte(list[i].Name)
		stored := t.meta.Get(key)
		t.touch = true
		t.exchange(termField, key, stored[:len(stored)-sealLen], nil)
		if err := t.meta.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// hasOldFields reports whether there is metadata that was deleted before the horizon.
func (t *Tx) hasOldFields(horizon timestamp.T) (bool, error) {
	list, err := t.Fields()
	for i := range list {
		if list[i].forgettable(horizon) {
			return true, nil
		}
	}
	return false, err
}

// saysNothing reports whether a part has nothing for somebody who has no such database: it was deleted, and
// all in the part may be forgotten. What else the database holds is in other parts, each of which says
// that it was deleted. Metadata that has a value may be that of a database with live rows in a later part.
func (t *Tx) saysNothing(p *part, horizon timestamp.T) (bool, error) {
	if !p.info.forgettable(horizon) {
		return false, nil
	}
	for _, f := range p.fields {
		f = t.outlive(f)
		if !f.Stamp.Before(horizon) || f.Value != "" && !p.last {
			return false, nil
		}
	}
	for i := range p.rows {
		if is, err := t.forgettableRow(&p.rows[i], p.info.Delete, horizon); err != nil || !is {
			return false, err
		}
	}
	return true, nil
}

// merge merges all of the part but what may be forgotten and has nothing here to end.
func (t *Tx) merge(p *part, horizon timestamp.T) error {
	if t.made {
		is, err := t.saysNothing(p, horizon)
		if err != nil {
			return err
		}
		if is {
			return errForgotten
		}
	}
	if err := t.MergeInfo(p.info); err != nil {
		return err
	}
	if err := t.MergeFields(t.relevantFields(p.fields, horizon)); err != nil {
		return err
	}
	for i := range p.rows {
		c := &p.rows[i]
		skip, err := t.skips(c, horizon)
		if err == nil && !skip {
			_, err = t.MergeRow(c.Space, c.Name, c.Row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// relevantFields are those of a list that may not be forgotten, or that are here.
func (t *Tx) relevantFields(list []Field, horizon timestamp.T) []Field {
	kept := list[:0:0]
	for _, f := range list {
		if f = t.outlive(f); f.forgettable(horizon) && t.meta.Get([]byte(f.Name)) == nil {
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

// skips reports whether a row of a part is left out.
func (t *Tx) skips(c *Change, horizon timestamp.T) (bool, error) {
	is, err := t.forgettableRow(c, t.info.Delete, horizon)
	if err != nil || !is {
		return false, err
	}
	t.key = rowKey(t.key[:0], c.Space, c.Name)
	return t.live.Get(t.key) == nil && t.dead.Get(t.key) == nil, nil
}

// present returns the database as peers compare it; the error is of kind errs.NotFound where it may be
// forgotten whole.
func (t *Tx) present(hash [16]byte, horizon timestamp.T) (d replwire.Database, err error) {
	is, err := t.forgettable(horizon)
	if err != nil {
		return d, err
	}
	if is {
		return d, errs.E(errs.NotFound, "it was deleted before the reclaim age")
	}
	return t.state(hash)
}
