package metadb

import (
	"bytes"
)

// MergeInfo joins what the database knows of itself with what another replica, or
// a request, says: stamps never go back. The policy of a later life wins, in one
// life the one that was chosen first. A later DELETE deletes all metadata that is no
// newer, and hides such rows from listings. Path and incarnation of i are not
// looked at.
func (t *Tx) MergeInfo(i Info) error {
	joined := t.info.join(i)
	if joined == t.info {
		return nil
	}
	before := t.info
	t.info = joined
	t.touch, t.unreported = true, true
	if joined.Policy != before.Policy {
		t.watchSpace()
	}
	if joined.Delete == before.Delete {
		return nil
	}
	if err := t.clearFields(joined.Delete); err != nil {
		return err
	}
	return t.bury(before)
}

// buryStep is how many rows are moved at a time.
const buryStep = 1000

// bury moves the live rows that a later DELETE hides to the dead ones. Their
// change numbers stay: the rows are what they were. Before is what the database
// knew of itself so far.
func (t *Tx) bury(before Info) error {
	sum, err := t.Total()
	if err != nil || sum.Rows == 0 {
		return err
	}
	type item struct {
		key, value []byte
		was        Weight
	}
	step := make([]item, 0, min(buryStep, sum.Rows))
	from := []byte(nil)
	for more := true; more; {
		step = step[:0]
		c := t.live.Cursor()
		k, v := c.Seek(from)
		for ; k != nil && len(step) < buryStep; k, v = c.Next() {
			was, hidden, err := t.hidden(k, v, before)
			if err != nil {
				return err
			}
			if hidden {
				step = append(step, item{bytes.Clone(k), bytes.Clone(v), was})
			}
		}
		more, from = k != nil, bytes.Clone(k)
		for _, i := range step {
			if err := t.count(i.was, -1); err != nil {
				return err
			}
			if err := move(t.live, t.dead, i.key, i.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// hidden returns what a live row counted for, and whether it is to do so no more.
func (t *Tx) hidden(key, stored []byte, before Info) (was Weight, hidden bool, err error) {
	_, row, err := openRow(key, stored)
	if err != nil {
		return was, false, err
	}
	if was, err = t.schema.Weigh(spaceOf(key), row, before.Delete); err != nil {
		return was, false, corrupt(err)
	}
	now, err := t.schema.Weigh(spaceOf(key), row, t.info.Delete)
	return was, !now.Live, err
}

func move(from, to table, key, value []byte) error {
	if err := from.Delete(key); err != nil {
		return err
	}
	return to.Put(key, value)
}
