package metadb

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
)

// A part is a list of replwire.DatabasePart. Its first record is what the database
// knows of itself, the others are metadata and rows, in any order:
//
//	info   length, as stored in a file
//	field  'm', name, length, as stored
//	row    'r', policy, name, length, as stored
const (
	partField = 'm'
	partRow   = 'r'

	// A part ends with the item that takes it past one of these.
	partBytes = 1 << 20
	partItems = 4096
)

// appendPart writes what comes after a cursor.
func (t *Tx) appendPart(p *replwire.Part, at replwire.Cursor) error {
	b := replwire.Begin(make([]byte, 0, 4096), replwire.DatabasePart)
	b = AppendString(b, string(appendInfo(nil, &t.info)))
	items := 1
	full := func() bool { return items >= partItems || len(b) >= partBytes }
	if !at.Rows {
		c := t.meta.Cursor()
		k, v := c.Seek([]byte(at.Field))
		if at.Field != "" && string(k) == at.Field {
			k, v = c.Next()
		}
		for ; k != nil && !full(); k, v = c.Next() {
			raw, err := unseal(k, v)
			if err != nil {
				return corrupt(err)
			}
			b = AppendString(append(b, partField), string(k))
			b = AppendString(b, string(raw))
			at.Field = string(k)
			items++
		}
		at.Rows = k == nil
	}
	var err error
	for at.Rows && !full() && err == nil {
		var list []Change
		if list, err = t.Changes(at.Row, 256); len(list) == 0 {
			at.Row = max(at.Row, t.LastChange()) // the rows of the latest changes may be forgotten
			break
		}
		for i := range list {
			if full() {
				break
			}
			c := &list[i]
			b = binary.AppendUvarint(append(b, partRow), uint64(c.Space))
			b = AppendString(b, c.Name)
			b = AppendString(b, string(c.Row))
			at.Row = c.Number
			items++
			p.Rows++
		}
	}
	p.Next, p.More = at, !at.Rows || at.Row < t.LastChange()
	p.Path = t.info.Path
	p.Body = replwire.End(b, items, p.More)
	return err
}

// part is a part, read and found to be whole.
type part struct {
	info   Info
	fields []Field
	rows   []Change // their numbers mean nothing here
	last   bool     // there is no part behind it
}

// openPart reads what appendPart writes. Every item is looked at before any is
// used: whatever is wrong is of kind errs.Invalid.
func openPart(schema Schema, body []byte) (*part, error) {
	records, count, more, err := replwire.Open(body, replwire.DatabasePart)
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("this is not part of a database: "+err.Error()), err)
	}
	d := NewDecoder(records)
	p := &part{last: !more}
	if p.info, err = decodeInfo([]byte(d.String())); err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("the database does not say what it is"), err)
	}
	for n := 1; n < count; n++ {
		if err := p.item(schema, &d); err != nil {
			return nil, errs.E(errs.Invalid, errs.Public("item "+strconv.Itoa(n)+" of the database can't be read"), err)
		}
	}
	if err := d.Err(); err != nil || count == 0 {
		return nil, errs.E(errs.Invalid, errs.Public("the database holds something else than it says"), err)
	}
	return p, nil
}

func (p *part) item(schema Schema, d *Decoder) error {
	switch d.Byte() {
	case partField:
		key, raw := d.String(), d.String()
		f, err := decodeField([]byte(key), []byte(raw))
		if err == nil && (key == "" || len(key) > MaxName || key != Canonical(key)) {
			err = ErrDecode
		}
		p.fields = append(p.fields, f)
		return err
	case partRow:
		c := Change{Space: decodePolicy(d), Name: d.String(), Row: []byte(d.String())}
		if d.failed || c.Name == "" || len(c.Name) > MaxName {
			return ErrDecode
		}
		p.rows = append(p.rows, c)
		return checkRow(schema, c.Space, c.Row)
	}
	return ErrDecode
}

// checkRow sees to it that a row is one, and in the one form that merging with
// itself leaves as it is: else replicas that got it more or less often would
// differ.
func checkRow(schema Schema, space policy.Index, row []byte) error {
	if _, err := schema.Weigh(space, row, Info{}.Delete); err != nil {
		return err
	}
	same, err := schema.Join(row, row)
	if err == nil && !bytes.Equal(same, row) {
		err = ErrDecode
	}
	return err
}

// fits reports whether the part is one of the database of a path.
func (p *part) fits(path name.Path) error {
	if p.info.Path != path {
		return errs.Refuse(errs.Invalid, "the database is not of the path")
	}
	return nil
}
