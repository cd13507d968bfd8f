package metadb

import (
	"bytes"
	"slices"
	"sort"

	bolt "go.etcd.io/bbolt"
)

// A table is what a database keeps of one kind: a bucket of a file of its own, or lists in
// memory where it is small. It means what a bucket of bbolt means: what it returns is
// not to be changed, and is good until the transaction ends.
type table interface {
	Get(key []byte) []byte
	Put(key, value []byte) error
	Delete(key []byte) error
	Cursor() tableCursor
	Sequence() uint64
	SetSequence(n uint64) error
	NextSequence() (uint64, error)
	fill(percent float64) // how full pages are made
}

// A tableCursor moves over a table, in order; it returns a nil key where there is no more.
type tableCursor interface {
	First() (key, value []byte)
	Last() (key, value []byte)
	Next() (key, value []byte)
	Prev() (key, value []byte)
	Seek(key []byte) (k, value []byte)
}

// bucket is a table in a file of its own.
type bucket struct{ *bolt.Bucket }

func (b bucket) Cursor() tableCursor  { return b.Bucket.Cursor() }
func (b bucket) fill(percent float64) { b.FillPercent = percent }

// memory is a table in memory. Of a copy that clone has made the entries are still those of
// the original until it is changed.
type memory struct {
	keys, values [][]byte
	sequence     uint64
	size         *int // of all tables of the database: bytes, about
	shared       bool
}

// perEntry is what an entry is taken for beside its bytes.
const perEntry = 16

func (m *memory) clone(size *int) *memory { return &memory{m.keys, m.values, m.sequence, size, true} }

func (m *memory) find(key []byte) (at int, found bool) {
	return slices.BinarySearchFunc(m.keys, key, bytes.Compare)
}

// own has the entries be nobody else's.
func (m *memory) own() {
	if m.shared {
		m.keys = append(make([][]byte, 0, len(m.keys)+4), m.keys...)
		m.values = append(make([][]byte, 0, len(m.values)+4), m.values...)
		m.shared = false
	}
}

// Get implements table.
func (m *memory) Get(key []byte) []byte {
	if at, ok := m.find(key); ok {
		return m.values[at]
	}
	return nil
}

// Put implements table. It is errGrown where the database has become too large for one
// that is kept with others.
func (m *memory) Put(key, value []byte) error {
	m.own()
	at, ok := m.find(key)
	if ok {
		*m.size += len(value) - len(m.values[at])
		m.values[at] = value
	} else {
		*m.size += len(key) + len(value) + perEntry
		m.keys = slices.Insert(m.keys, at, bytes.Clone(key))
		m.values = slices.Insert(m.values, at, value)
	}
	if *m.size > mostInMemory {
		return errGrown
	}
	return nil
}

// Delete implements table.
func (m *memory) Delete(key []byte) error {
	if at, ok := m.find(key); ok {
		m.own()
		*m.size -= len(key) + len(m.values[at]) + perEntry
		m.keys, m.values = slices.Delete(m.keys, at, at+1), slices.Delete(m.values, at, at+1)
	}
	return nil
}

// Cursor implements table.
func (m *memory) Cursor() tableCursor { return &memoryCursor{memory: m} }

// Sequence implements table.
func (m *memory) Sequence() uint64 { return m.sequence }

// SetSequence implements table.
func (m *memory) SetSequence(n uint64) error { m.sequence = n; return nil }

// NextSequence implements table.
func (m *memory) NextSequence() (uint64, error) { m.sequence++; return m.sequence, nil }

func (m *memory) fill(float64) {}

// memoryCursor moves over a table in memory.
type memoryCursor struct {
	*memory
	at int
}

func (c *memoryCursor) here() (key, value []byte) {
	if c.at < 0 || c.at >= len(c.keys) {
		return nil, nil
	}
	return c.keys[c.at], c.values[c.at]
}

// First implements tableCursor.
func (c *memoryCursor) First() (key, value []byte) { c.at = 0; return c.here() }

// Last implements tableCursor.
func (c *memoryCursor) Last() (key, value []byte) { c.at = len(c.keys) - 1; return c.here() }

// Next implements tableCursor.
func (c *memoryCursor) Next() (key, value []byte) {
	c.at = min(c.at+1, len(c.keys))
	return c.here()
}

// Prev implements tableCursor.
func (c *memoryCursor) Prev() (key, value []byte) { c.at = max(c.at-1, -1); return c.here() }

// Seek implements tableCursor.
func (c *memoryCursor) Seek(key []byte) (k, value []byte) {
	c.at = sort.Search(len(c.keys), func(i int) bool { return bytes.Compare(c.keys[i], key) >= 0 })
	return c.here()
}
