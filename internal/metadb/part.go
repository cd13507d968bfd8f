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

// partWriter is a part that is being written.
type partWriter struct {
	b     []byte
	most  int // items
	items int
	rows  int
}

func (w *partWriter) full() bool { return w.items >= w.most || len(w.b) >= partBytes }

func (w *partWriter) row(space policy.Index, name, row []byte) {
	w.b = binary.AppendUvarint(append(w.b, partRow), uint64(space))
	w.b = append(binary.AppendUvarint(w.b, uint64(len(name))), name...)
	w.b = append(binary.AppendUvarint(w.b, uint64(len(row))), row...)
	w.items++
	w.rows++
}

// appendPart writes what comes after a cursor, of at most so many items.
func (t *Tx) appendPart(p *replwire.Part, at replwire.Cursor, most int) error {
	if at.ByName && !at.Begun() {
		at.Row = t.LastChange()
	}
	w := &partWriter{b: replwire.Begin(make([]byte, 0, 4096), replwire.DatabasePart), most: most, items: 1}
	w.b = AppendString(w.b, string(appendInfo(nil, &t.info)))
	err := t.writeFields(w, &at)
	for err == nil && at.Rows && at.ByName && !w.full() {
		err = t.writeByName(w, &at)
	}
	if err == nil && at.Rows && !at.ByName {
		err = t.writeChanges(w, &at)
	}
	p.Next, p.More = at, !at.Rows || at.ByName || at.Row < t.LastChange()
	p.Path = t.info.Path
	p.Rows = w.rows
	p.Body = replwire.End(w.b, w.items, p.More)
	return err
}

// writeFields writes metadata until the part is full.
func (t *Tx) writeFields(w *partWriter, at *replwire.Cursor) error {
	if at.Rows {
		return nil
	}
	c := t.meta.Cursor()
	k, v := c.Seek([]byte(at.Field))
	if at.Field != "" && string(k) == at.Field {
		k, v = c.Next()
	}
	for ; k != nil && !w.full(); k, v = c.Next() {
		raw, err := unseal(k, v)
		if err != nil {
			return corrupt(err)
		}
		w.b = AppendString(append(w.b, partField), string(k))
		w.b = AppendString(w.b, string(raw))
		w.items++
		at.Field = string(k)
	}
	at.Rows = k == nil
	return nil
}

// writeByName writes rows in the order in which they lie in the file, until the part is full or the
// live or the dead ones end.
func (t *Tx) writeByName(w *partWriter, at *replwire.Cursor) error {
	from := t.live
	if at.Dead {
		from = t.dead
	}
	var last []byte
	if at.Key != "" {
		last = []byte(at.Key)
	}
	c := from.Cursor()
	k, v := after(c, last)
	for ; k != nil && !w.full(); k, v = c.Next() {
		if len(k) <= spaceLen {
			return corrupt(errShape)
		}
		_, row, err := openRow(k, v)
		if err != nil {
			return err
		}
		w.row(spaceOf(k), k[spaceLen:], row)
		last = k
	}
	switch {
	case k != nil:
		at.Key = string(last)
	case at.Dead:
		at.ByName, at.Dead, at.Key = false, false, ""
	default:
		at.Dead, at.Key = true, ""
	}
	return nil
}

// writeChanges writes rows in the order of their changes, until the part is full.
func (t *Tx) writeChanges(w *partWriter, at *replwire.Cursor) error {
	for !w.full() {
		list, err := t.Changes(at.Row, 256)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			at.Row = max(at.Row, t.LastChange()) // the rows of the latest changes may be forgotten
			return nil
		}
		for i := range list {
			if w.full() {
				break
			}
			c := &list[i]
			w.row(c.Space, []byte(c.Name), c.Row)
			at.Row = c.Number
		}
	}
	return nil
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
	if p.info, err = decodeInfo(d.Bytes(d.Size())); err != nil {
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
		key, raw := d.Bytes(d.Size()), d.Bytes(d.Size())
		f, err := decodeField(key, raw)
		if err == nil && (f.Name == "" || len(f.Name) > MaxName || f.Name != Canonical(f.Name)) {
			err = ErrDecode
		}
		p.fields = append(p.fields, f)
		return err
	case partRow:
		c := Change{Space: decodePolicy(d), Name: d.String(), Row: bytes.Clone(d.Bytes(d.Size()))}
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
