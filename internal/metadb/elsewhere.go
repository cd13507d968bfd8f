package metadb

import (
	"bytes"

	"martlet/internal/policy"
)

// A RowName says which row of a database is meant; the zero value comes before all.
type RowName struct {
	Space policy.Index
	Name  string
}

// Elsewhere returns up to limit rows of other policies than the database's own, dead ones included, that
// come after a row, in order of policy and name. The result is a copy. Rows that wait to be merged, and are new, are
// not among it: whoever watches for them (SpaceWatcher) hears of them when they are. The cost is in
// proportion to what is returned, however many rows there are of its own policy.
func (t *Tx) Elsewhere(after RowName, limit int) ([]Change, error) {
	live, dead := t.live.Cursor(), t.dead.Cursor()
	from := append(rowKey(nil, after.Space, after.Name), 0) // the very next name
	if after.Name == "" {
		from = from[:spaceLen]
	}
	lk, lv := live.Seek(from)
	dk, dv := dead.Seek(from)
	beyond := rowKey(nil, t.info.Policy+1, "")
	skip := func(c tableCursor, k, v []byte) ([]byte, []byte) {
		if len(k) < spaceLen || spaceOf(k) != t.info.Policy {
			return k, v
		}
		if t.info.Policy+1 == 0 {
			return nil, nil // there is no policy behind it
		}
		return c.Seek(beyond)
	}
	var list []Change
	for len(list) < limit {
		lk, lv = skip(live, lk, lv)
		dk, dv = skip(dead, dk, dv)
		c := &Change{}
		var err error
		switch {
		case lk == nil && dk == nil:
			return list, nil
		case dk == nil || lk != nil && bytes.Compare(lk, dk) < 0:
			err = t.elsewhere(c, lk, lv)
			lk, lv = live.Next()
		default:
			err = t.elsewhere(c, dk, dv)
			dk, dv = dead.Next()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, *c)
	}
	return list, nil
}

// elsewhere reads a row as it is now, with what waits to be merged into it.
func (t *Tx) elsewhere(c *Change, key, stored []byte) error {
	if len(key) <= spaceLen {
		return corrupt(errShape)
	}
	number, row, err := openRow(key, stored)
	if err != nil {
		return err
	}
	if t.over != nil {
		if w := t.over.rows[string(key)]; w != nil {
			row = w.now
		}
	}
	*c = Change{Number: number, Space: spaceOf(key), Name: string(key[spaceLen:]), Row: bytes.Clone(row)}
	return nil
}

// watchSpace tells who wants to know that the database may have rows of another policy than its own.
func (t *Tx) watchSpace() {
	if w, ok := t.schema.(SpaceWatcher); ok {
		w.RowElsewhere(t.info.Path)
	}
}
