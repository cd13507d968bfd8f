package metadb

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

var (
	bucketInfo    = []byte("info")
	bucketMeta    = []byte("meta")
	bucketLive    = []byte("live")
	bucketDead    = []byte("dead")
	bucketChanges = []byte("changes")
	bucketStats   = []byte("stats")

	// buckets are those of a file, in the order of Tx.tables.
	buckets = [...][]byte{bucketInfo, bucketMeta, bucketLive, bucketDead, bucketChanges, bucketStats}

	keyInfo   = []byte("info")
	keyReport = []byte("reported")
	keyDigest = []byte("digest")
)

const (
	// MaxName is the longest name of a row, and of an item of metadata, in bytes.
	MaxName = 16 << 10

	spaceLen = 2
)

// Tx is one look at a database, or one change of it. It is of use only until
// the function that was given it returns, and by one goroutine.
type Tx struct {
	schema Schema
	made   bool // the file was made for this transaction
	touch  bool // something was written

	// whether what the owner of a listing is told may have changed
	unreported bool

	id   int       // of the transaction in the file
	res  *resident // what is in memory of the database; nil where that is of no concern
	over *resident // rows that wait, if it is a look that sees them and there are any

	told  *telling // what the owner was told; nil where nobody is, or it is not known
	audit *audit   // is told what becomes of rows; nil for none
	moves []moved  // what it is to be told

	info, was Info   // now, and as it is stored
	delta     Digest // what changes of metadata and rows add to the stored digest

	stats    map[policy.Index]Stat // those that were looked at
	statsSet bool

	meta, live, dead, changes, statb, infob table

	// Rows that were inserted between the same two of the file as the one before are a run.
	seeker       tableCursor // over live
	gap          []byte      // the key behind the latest that was inserted; nil is the end
	inserts      int
	runs         int // those that were in one
	key, scratch []byte
}

// denseFill is how full pages are made that are not to be expected to get more soon.
const denseFill = 0.9

// minRuns is how many rows tell whether they come in runs.
const minRuns = 16

// begin returns a transaction of a database with a file of its own.
func begin(schema Schema, tx *bolt.Tx) (*Tx, error) {
	t := &Tx{schema: schema, id: tx.ID()}
	for i, to := range t.tables() {
		b := tx.Bucket(buckets[i])
		if b == nil {
			return nil, corrupt(errShape)
		}
		*to = bucket{b}
	}
	return t, t.readInfo()
}

// tables returns where the tables are, in the order of buckets.
func (t *Tx) tables() [6]*table {
	return [...]*table{&t.infob, &t.meta, &t.live, &t.dead, &t.changes, &t.statb}
}

// readInfo reads what every transaction needs.
func (t *Tx) readInfo() error {
	raw, err := unseal(keyInfo, t.infob.Get(keyInfo))
	if err != nil {
		return corrupt(err)
	}
	if t.info, err = decodeInfo(raw); err != nil {
		return corrupt(err)
	}
	t.was = t.info
	return nil
}

// Made reports whether the database was made by the call of Ensure that runs
// this function.
func (t *Tx) Made() bool { return t.made }

// Info returns what the database knows of itself.
func (t *Tx) Info() Info { return t.info }

// Stat returns what the live rows under a policy add up to.
func (t *Tx) Stat(p policy.Index) (Stat, error) {
	s, err := t.storedStat(p)
	if err == nil && t.over != nil {
		s = s.Plus(t.over.delta[p])
	}
	return s, err
}

// storedStat is Stat without the rows that wait.
func (t *Tx) storedStat(p policy.Index) (Stat, error) {
	if s, ok := t.stats[p]; ok {
		return s, nil
	}
	key := binary.BigEndian.AppendUint16(make([]byte, 0, spaceLen), uint16(p))
	stored := t.statb.Get(key)
	if stored == nil {
		return Stat{}, nil
	}
	return openStat(key, stored)
}

func openStat(key, stored []byte) (Stat, error) {
	raw, err := unseal(key, stored)
	if err != nil {
		return Stat{}, corrupt(err)
	}
	s, err := decodeStat(raw)
	return s, classify(err)
}

// Stats returns the stats of every policy that has or had rows, by policy.
func (t *Tx) Stats() ([]PolicyStat, error) {
	all := maps.Clone(t.stats)
	if all == nil {
		all = map[policy.Index]Stat{}
	}
	c := t.statb.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(k) != spaceLen {
			return nil, corrupt(errShape)
		}
		p := policy.Index(binary.BigEndian.Uint16(k))
		if _, ok := all[p]; ok {
			continue
		}
		s, err := openStat(k, v)
		if err != nil {
			return nil, err
		}
		all[p] = s
	}
	if t.over != nil {
		for p, s := range t.over.delta {
			all[p] = all[p].Plus(s)
		}
	}
	list := make([]PolicyStat, 0, len(all))
	for _, p := range slices.Sorted(maps.Keys(all)) {
		list = append(list, PolicyStat{p, all[p]})
	}
	return list, nil
}

// Total returns the sum of all policies.
func (t *Tx) Total() (Stat, error) {
	list, err := t.Stats()
	var sum Stat
	for _, s := range list {
		sum = sum.Plus(s.Stat)
	}
	return sum, err
}

// Reported returns what Store.SetReported was given last, and the zero Report before.
func (t *Tx) Reported() (Report, error) {
	if r := t.told.latest(); r != nil {
		return *r, nil
	}
	stored := t.infob.Get(keyReport)
	if stored == nil {
		return Report{}, nil
	}
	raw, err := unseal(keyReport, stored)
	if err != nil {
		return Report{}, corrupt(err)
	}
	r, err := decodeReport(raw)
	return r, classify(err)
}

// setReported remembers what the owner of the listing was told.
func (t *Tx) setReported(r Report) error {
	return t.put(t.infob, keyReport, seal(keyReport, appendReport(nil, r)))
}

// News returns what the owner of the listing is to be told.
func (t *Tx) News() (Report, error) {
	s, err := t.Stat(t.info.Policy)
	return Report{Put: t.info.Put, Delete: t.info.Delete, Objects: s.Rows, Bytes: s.Bytes}, err
}

func (t *Tx) put(b table, key, value []byte) error {
	t.touch = true
	return b.Put(key, value)
}

// Fields returns the metadata, deleted items included, by name.
func (t *Tx) Fields() ([]Field, error) {
	var list []Field
	c := t.meta.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		f, err := openField(k, v)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func openField(key, stored []byte) (Field, error) {
	raw, err := unseal(key, stored)
	if err != nil {
		return Field{}, corrupt(err)
	}
	f, err := decodeField(key, raw)
	return f, classify(err)
}

// JoinFields returns the metadata that merging list would make of what is
// stored, by name. Names in list must be canonical.
func (t *Tx) JoinFields(list []Field) ([]Field, error) {
	stored, err := t.Fields()
	if err != nil {
		return nil, err
	}
	all := make(map[string]Field, len(stored)+len(list))
	for _, f := range stored {
		all[f.Name] = f
	}
	for _, f := range list {
		f = t.outlive(f)
		if old, ok := all[f.Name]; ok {
			f = old.join(f)
		}
		all[f.Name] = f
	}
	out := make([]Field, 0, len(all))
	for _, n := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[n])
	}
	return out, nil
}

// outlive returns an item of metadata as it is after the latest delete of the
// database, which takes all that is no newer, also what comes after it.
func (t *Tx) outlive(f Field) Field {
	if d := t.info.Delete; !d.IsZero() && !f.Stamp.After(d) {
		f.Value, f.Stamp = "", d
	}
	return f
}

// MergeFields merges items of metadata, each by its own stamp; one that is no
// newer than the database's latest delete counts as deleted by it. A name that is
// empty or longer than MaxName is of kind errs.Invalid.
func (t *Tx) MergeFields(list []Field) error {
	for _, f := range list {
		if f.Name == "" || len(f.Name) > MaxName {
			return errs.Refuse(errs.Invalid, "A metadata name of %d bytes is not allowed", len(f.Name))
		}
		f = t.outlive(f)
		key := []byte(f.Name)
		var before []byte
		if stored := t.meta.Get(key); stored != nil {
			old, err := openField(key, stored)
			if err != nil {
				return err
			}
			if old.join(f) == old {
				continue
			}
			before = stored[:len(stored)-sealLen]
		}
		after := appendField(nil, &f)
		t.exchange(termField, key, before, after)
		if err := t.put(t.meta, key, seal(key, after)); err != nil {
			return err
		}
		if w, ok := t.schema.(FieldWatcher); ok && f.Value != "" {
			w.FieldMerged(t.info.Path, f.Name)
		}
	}
	return nil
}

// clearFields deletes every item of metadata that is not newer than stamp.
func (t *Tx) clearFields(stamp timestamp.T) error {
	list, err := t.Fields()
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Value, list[i].Stamp = "", stamp
	}
	return t.MergeFields(list)
}

// Row returns a copy of a row, dead ones included, and nil where there is none.
func (t *Tx) Row(space policy.Index, name string) ([]byte, error) {
	t.key = rowKey(t.key[:0], space, name)
	if t.over != nil {
		if w := t.over.rows[string(t.key)]; w != nil {
			return bytes.Clone(w.now), nil
		}
	}
	_, row, _, err := t.stored(t.key)
	return bytes.Clone(row), err
}

// rowKey appends the key of a row.
func rowKey(b []byte, space policy.Index, name string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(space)), name...)
}

// openRow returns the change number and the row of a stored value.
func openRow(key, stored []byte) (change uint64, row []byte, err error) {
	raw, err := unseal(key, stored)
	if err != nil {
		return 0, nil, corrupt(err)
	}
	change, n := binary.Uvarint(raw)
	if n <= 0 || n >= len(raw) {
		return 0, nil, corrupt(ErrDecode)
	}
	return change, raw[n:], nil
}

// MergeRow merges a row into what is stored under the name and reports
// whether that changed anything. The space keeps rows apart that are listed
// apart. A name that is empty or longer than MaxName is of kind errs.Invalid, and so
// is a row that the schema can't read.
func (t *Tx) MergeRow(space policy.Index, name string, row []byte) (changed bool, err error) {
	if name == "" || len(name) > MaxName {
		return false, errs.Refuse(errs.Invalid, "A name of %d bytes is not allowed", len(name))
	}
	after, err := t.schema.Weigh(space, row, t.info.Delete)
	if err != nil {
		return false, errs.E(errs.Invalid, err)
	}
	key := rowKey(nil, space, name) // bbolt keeps it until the commit
	from := t.live
	stored, run := t.find(key)
	if stored == nil {
		from = t.dead
		stored = from.Get(key)
	}
	if stored == nil {
		t.inserts++
		if run {
			t.runs++
		}
		t.exchange(termRow, key, nil, row)
		t.note(key, 0, nil, row, Weight{}, after)
		if space != t.info.Policy {
			t.watchSpace()
		}
		return true, t.place(key, row, after)
	}
	change, old, err := openRow(key, stored)
	if err != nil {
		return false, err
	}
	merged, err := t.schema.Join(old, row)
	if err != nil {
		return false, corrupt(err)
	}
	if bytes.Equal(merged, old) {
		return false, nil
	}
	before, err := t.schema.Weigh(space, old, t.info.Delete)
	if err != nil {
		return false, corrupt(err)
	}
	if after, err = t.schema.Weigh(space, merged, t.info.Delete); err != nil {
		return false, err
	}
	t.exchange(termRow, key, old, merged)
	t.note(key, change, old, merged, before, after)
	if space != t.info.Policy {
		t.watchSpace()
	}
	return true, t.replace(key, merged, from, change, before, after)
}

// find returns the stored value of a live row, and where there is none whether it comes
// right behind the one that was looked for before.
func (t *Tx) find(key []byte) (stored []byte, run bool) {
	if t.seeker == nil {
		t.seeker = t.live.Cursor()
	}
	k, v := t.seeker.Seek(key)
	if bytes.Equal(k, key) {
		return v, false
	}
	run = t.inserts > 0 && bytes.Equal(k, t.gap)
	t.gap = k
	return nil, run
}

// replace moves a row to a new change number and to where it now belongs.
func (t *Tx) replace(key, row []byte, from table, change uint64, before, after Weight) error {
	t.touch = true
	if err := t.changes.Delete(binary.BigEndian.AppendUint64(nil, change)); err != nil {
		return err
	}
	wasLive := from == t.live
	if wasLive && !planted.CountOnlyGrows { // breaks: counts are those of the rows
		if err := t.count(before, -1); err != nil {
			return err
		}
	}
	if wasLive != after.Live {
		if err := from.Delete(key); err != nil {
			return err
		}
	}
	return t.place(key, row, after)
}

// place writes a row under the next change number.
func (t *Tx) place(key, row []byte, w Weight) error {
	t.touch = true
	change, err := t.changes.NextSequence()
	if err != nil {
		return err
	}
	value := make([]byte, 0, binary.MaxVarintLen64+len(row)+sealLen)
	value = append(binary.AppendUvarint(value, change), row...)
	to := t.dead
	if w.Live {
		to = t.live
		if err := t.count(w, +1); err != nil {
			return err
		}
	}
	if err := to.Put(key, seal(key, value)); err != nil {
		return err
	}
	// Where rows come in runs no more will come in between: pages are split to be
	// nearly full, and not in halves.
	if t.inserts > minRuns && 2*t.runs > t.inserts {
		t.live.fill(denseFill)
	}
	// Change numbers only grow: full pages are not split in halves.
	t.changes.fill(1)
	return t.changes.Put(binary.BigEndian.AppendUint64(nil, change), key)
}

// count adds a live row to the stats, or takes it off.
func (t *Tx) count(w Weight, sign int64) error {
	s, err := t.storedStat(w.Policy)
	if err != nil {
		return err
	}
	if t.stats == nil {
		t.stats = make(map[policy.Index]Stat, 1)
	}
	t.stats[w.Policy] = s.add(w, sign)
	t.statsSet, t.unreported = true, true
	return nil
}

// finish writes what was collected in memory.
func (t *Tx) finish() error {
	if err := t.keepDigest(); err != nil {
		return err
	}
	if t.info != t.was {
		if err := t.infob.Put(keyInfo, seal(keyInfo, appendInfo(nil, &t.info))); err != nil {
			return err
		}
	}
	if !t.statsSet {
		return nil
	}
	for p, s := range t.stats {
		key := binary.BigEndian.AppendUint16(nil, uint16(p))
		if err := t.statb.Put(key, seal(key, appendStat(nil, s))); err != nil {
			return err
		}
	}
	return nil
}
