package metadb

import (
	"bytes"
	"encoding/binary"

	"martlet/internal/policy"
)

// Change is a row as it stands, with the number of its latest change.
type Change struct {
	Number uint64
	Space  policy.Index
	Name   string
	Row    []byte
}

// LastChange returns the number of the latest change of a row, 0 before the
// first.
func (t *Tx) LastChange() uint64 { return t.changes.Sequence() }

// Changes returns up to limit rows that changed after the change of number
// since, in order of change, dead rows included. A row that changed again is
// there once, under its latest number. The result is a copy, of at most limit
// rows: ask again from the last number on, in another transaction.
func (t *Tx) Changes(since uint64, limit int) ([]Change, error) {
	var list []Change
	c := t.changes.Cursor()
	from := binary.BigEndian.AppendUint64(nil, since)
	for k, key := c.Seek(from); k != nil && len(list) < limit; k, key = c.Next() {
		number, row, err := t.changed(k, key)
		if err != nil {
			return nil, err
		}
		if number == since {
			continue
		}
		list = append(list, Change{
			Number: number,
			Space:  spaceOf(key),
			Name:   string(key[spaceLen:]),
			Row:    bytes.Clone(row),
		})
	}
	return list, nil
}

// changed returns the row that an entry of the changes names.
func (t *Tx) changed(k, key []byte) (number uint64, row []byte, err error) {
	if len(k) != 8 || len(key) <= spaceLen {
		return 0, nil, corrupt(errShape)
	}
	number = binary.BigEndian.Uint64(k)
	for _, b := range [...]table{t.live, t.dead} {
		if stored := b.Get(key); stored != nil {
			change, row, err := openRow(key, stored)
			if err == nil && change != number {
				err = corrupt(errShape)
			}
			return number, row, err
		}
	}
	return 0, nil, corrupt(errShape)
}
