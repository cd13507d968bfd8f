package metadb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"martlet/internal/errs"
)

// An image is all of a small database, as it is kept in memory while that is open. One that was
// committed does not change any more: a transaction works on a copy, of which it makes its own what it
// changes.
//
// In the shared file it is one value, version 1:
//
//	1 byte    version
//	uvarint   how many commits there were
//	16 bytes  digest
//	string    info, as in a file of its own
//	string    what was reported, as there; empty where nothing was
//	string    up to where the journal is merged, as there; empty where nothing is
//	list      other replicas: incarnation, both change numbers as uvarints
//	list      metadata: name and value as strings, by name
//	list      stats: policy as uvarint, the stat as a string as there, by policy
//	uvarint   the latest change number
//	list      live rows, by key
//	list      dead rows, by key
//
// A list begins with its length, a string with that of its bytes, both as uvarints. A row is how
// many bytes its key has in common with the one before it, the rest of the key as a string, its
// change number, and itself as a string. Which changes there were follows from the rows.
type image struct {
	commits uint64
	size    int
	tables  [len(buckets)]*memory // in the order of buckets
}

const (
	imageVersion = 1

	// smallLimit is how long a value is at most, in bytes: a database that would pass it moves
	// into a file of its own.
	smallLimit = 16 << 10

	// mostInMemory is about how many bytes a transaction may make of a small database before
	// it is told to try again in a file of its own.
	mostInMemory = 4 * smallLimit

	// longestValue is how long a value is that is read.
	longestValue = mostInMemory
)

// errGrown is why a transaction of a small database came to nothing: what it makes is too
// large.
var errGrown = errors.New("the database has become too large to be kept with others")

const (
	atInfo = iota
	atMeta
	atLive
	atDead
	atChanges
	atStats
)

// newImage returns a database with info in it and nothing else.
func newImage(info *Info) *image {
	i := &image{commits: 1}
	for n := range i.tables {
		i.tables[n] = &memory{size: &i.size}
	}
	_ = i.tables[atInfo].Put(keyInfo, seal(keyInfo, appendInfo(nil, info))) // it is not that long
	return i
}

// next returns a copy for the next transaction.
func (i *image) next() *image {
	c := &image{commits: i.commits + 1, size: i.size}
	for n, t := range i.tables {
		c.tables[n] = t.clone(&c.size)
	}
	return c
}

// beginImage returns a transaction of a small database.
func beginImage(schema Schema, i *image) (*Tx, error) {
	t := &Tx{schema: schema, id: int(i.commits)}
	for n, to := range t.tables() {
		*to = i.tables[n]
	}
	return t, t.readInfo()
}

// encode returns the value of the image, unless it is longer than most.
func (i *image) encode(most int) ([]byte, error) {
	info := i.tables[atInfo]
	digest, err := unsealed(info, keyDigest)
	if err != nil || len(digest) != 1+16 || digest[0] != digestVersion {
		return nil, corrupt(ErrDecode)
	}
	b := binary.AppendUvarint(append(make([]byte, 0, i.size+64), imageVersion), i.commits)
	b = append(b, digest[1:]...)
	for _, key := range [...][]byte{keyInfo, keyReport, keyMerged} {
		v, err := unsealed(info, key)
		if err != nil {
			return nil, corrupt(err)
		}
		b = AppendString(b, string(v))
	}
	if b, err = appendKnown(b, info); err != nil {
		return nil, err
	}
	if b, err = appendMeta(b, i.tables[atMeta]); err != nil {
		return nil, err
	}
	if b, err = appendStats(b, i.tables[atStats]); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, i.tables[atChanges].sequence)
	for _, n := range [...]int{atLive, atDead} {
		if b, err = appendRows(b, i.tables[n]); err != nil {
			return nil, err
		}
	}
	if len(b) > most {
		return nil, errGrown
	}
	return b, nil
}

// unsealed returns what is stored under a key; nil if nothing is.
func unsealed(m *memory, key []byte) ([]byte, error) {
	v := m.Get(key)
	if v == nil {
		return nil, nil
	}
	return unseal(key, v)
}

func appendKnown(b []byte, info *memory) ([]byte, error) {
	all, err := (&Tx{infob: info}).syncs()
	if err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, key := range info.keys {
		if id, ok := bytes.CutPrefix(key, prefixKnown); ok {
			k := all[ID(id)]
			b = binary.AppendUvarint(binary.AppendUvarint(append(b, id...), k.Ours), k.Theirs)
		}
	}
	return b, nil
}

func appendMeta(b []byte, meta *memory) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(meta.keys)))
	for n, key := range meta.keys {
		v, err := unseal(key, meta.values[n])
		if err != nil {
			return nil, corrupt(err)
		}
		b = AppendString(AppendString(b, string(key)), string(v))
	}
	return b, nil
}

func appendStats(b []byte, stats *memory) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(stats.keys)))
	for n, key := range stats.keys {
		v, err := unseal(key, stats.values[n])
		if err != nil {
			return nil, corrupt(err)
		}
		b = AppendString(binary.AppendUvarint(b, uint64(spaceOf(key))), string(v))
	}
	return b, nil
}

func appendRows(b []byte, rows *memory) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(len(rows.keys)))
	var last []byte
	for n, key := range rows.keys {
		change, row, err := openRow(key, rows.values[n])
		if err != nil {
			return nil, err
		}
		same := common(last, key)
		b = AppendString(binary.AppendUvarint(b, uint64(same)), string(key[same:]))
		b = AppendString(binary.AppendUvarint(b, change), string(row))
		last = key
	}
	return b, nil
}

// common returns with how many of the same bytes both begin.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// decodeImage reads what encode writes, and nothing else: what it returns would be written
// as it was. What the rows are is not looked at.
func decodeImage(value []byte) (*image, error) {
	if len(value) > longestValue {
		return nil, corrupt(ErrDecode)
	}
	d := NewDecoder(value)
	switch version := d.Byte(); {
	case version > imageVersion: // it is sealed, and so not damaged
		return nil, errs.E(errs.BadDevice, "a database is of a later version")
	case version != imageVersion:
		return nil, corrupt(ErrDecode)
	}
	i := &image{commits: d.Uvarint()}
	for n := range i.tables {
		i.tables[n] = &memory{size: &i.size}
	}
	info := i.tables[atInfo]
	// In the order of their keys: digest, info, known, merged, reported.
	digest := append([]byte{digestVersion}, d.Bytes(16)...)
	about, reported, merged := d.Bytes(d.Size()), d.Bytes(d.Size()), d.Bytes(d.Size()) // sealed they are copies
	if _, err := decodeInfo(about); errors.Is(err, ErrLater) {
		return nil, corrupt(err)
	} else if err != nil {
		d.Fail()
	}
	info.add(keyDigest, digest)
	info.add(keyInfo, about)
	decodeKnown(&d, info)
	if len(merged) > 0 {
		info.add(keyMerged, merged)
	}
	if len(reported) > 0 {
		info.add(keyReport, reported)
	}
	decodeMeta(&d, i.tables[atMeta])
	decodeStats(&d, i.tables[atStats])
	changes := i.tables[atChanges]
	changes.sequence = uint64(d.Size())
	var order []numbered
	for _, n := range [...]int{atLive, atDead} {
		order = decodeRows(&d, i.tables[n], order)
	}
	slices.SortFunc(order, func(a, b numbered) int { return bytes.Compare(a.number, b.number) })
	for _, c := range order {
		if !changes.follows(c.number) || binary.BigEndian.Uint64(c.number) > changes.sequence {
			d.Fail()
			break
		}
		changes.push(c.number, c.key)
	}
	for _, key := range i.tables[atDead].keys {
		if i.tables[atLive].Get(key) != nil {
			d.Fail()
		}
	}
	if err := d.Err(); err != nil || i.size > mostInMemory {
		return nil, corrupt(ErrDecode)
	}
	return i, nil
}

// numbered is a row's key and its change number, as a key.
type numbered struct{ number, key []byte }

// follows reports whether a key would come behind all others.
func (m *memory) follows(key []byte) bool {
	return len(m.keys) == 0 || bytes.Compare(m.keys[len(m.keys)-1], key) < 0
}

// push puts a value behind all others.
func (m *memory) push(key, value []byte) {
	m.keys, m.values = append(m.keys, key), append(m.values, value)
	*m.size += len(key) + len(value) + perEntry
}

// add is push of a value that is to be sealed.
func (m *memory) add(key, value []byte) { m.push(key, seal(key, value)) }

// count reads how many items there are, each of so many bytes at least.
func count(d *Decoder, least int) int {
	n := d.Size()
	if n > int64(len(d.rest)/least) {
		d.Fail()
		return 0
	}
	return int(n)
}

func decodeKnown(d *Decoder, info *memory) {
	for range count(d, len(ID{})+2) {
		key := append(bytes.Clone(prefixKnown), d.Bytes(int64(len(ID{})))...)
		k := Known{d.Uvarint(), d.Uvarint()}
		if d.failed || !info.follows(key) {
			d.Fail()
			return
		}
		info.add(key, appendSync(nil, k))
	}
}

func decodeMeta(d *Decoder, meta *memory) {
	for range count(d, 2) {
		key, v := bytes.Clone(d.Bytes(d.Size())), d.Bytes(d.Size())
		if d.failed || len(key) == 0 || !meta.follows(key) {
			d.Fail()
			return
		}
		meta.add(key, v)
	}
}

func decodeStats(d *Decoder, stats *memory) {
	for range count(d, 2) {
		key := binary.BigEndian.AppendUint16(nil, uint16(decodePolicy(d)))
		v := d.Bytes(d.Size())
		if d.failed || !stats.follows(key) {
			d.Fail()
			return
		}
		stats.add(key, v)
	}
}

func decodeRows(d *Decoder, rows *memory, order []numbered) []numbered {
	n := count(d, 4)
	rows.keys, rows.values = make([][]byte, 0, n), make([][]byte, 0, n)
	var last []byte
	for range n {
		same := d.Size()
		if same > int64(len(last)) {
			d.Fail()
			return nil
		}
		rest := d.Bytes(d.Size())
		key := append(append(make([]byte, 0, int(same)+len(rest)), last[:same]...), rest...)
		change, row := d.Size(), d.Bytes(d.Size())
		if d.failed || len(key) <= spaceLen || len(key) > spaceLen+MaxName || common(last, key) != int(same) ||
			change == 0 || len(row) == 0 || !rows.follows(key) {
			d.Fail()
			return nil
		}
		rows.add(key, append(binary.AppendUvarint(make([]byte, 0, len(row)+16), uint64(change)), row...))
		if *rows.size > mostInMemory {
			d.Fail() // keys that have much in common take more room than here
			return nil
		}
		order = append(order, numbered{binary.BigEndian.AppendUint64(nil, uint64(change)), key})
		last = key
	}
	return order
}
