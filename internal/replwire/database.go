package replwire

import (
	"bytes"
	"encoding/binary"

	"martlet/internal/name"
)

// DatabasePart is the kind of the lists by which databases are pushed. What is in
// their records is the business of whoever keeps databases.
const DatabasePart byte = 'p'

// Database is what a device holds of an account or a container, as far as peers
// compare it. Two with one digest hold the same, whatever their incarnations and
// change numbers.
type Database struct {
	Hash        name.Hash
	Incarnation [16]byte // of the file; change numbers count within one
	Change      uint64   // the number of the latest change of a row
	Digest      [16]byte // of everything that replicas must agree on
}

const databaseSize = 16 + 16 + 8 + 16

// MaxDatabases is how many databases a list may hold.
const MaxDatabases = (MaxList - headSize - tailSize) / databaseSize

// AppendDatabase appends a record to a list that was begun with Begin.
func AppendDatabase(b []byte, d *Database) []byte {
	b = append(append(b, d.Hash[:]...), d.Incarnation[:]...)
	b = binary.BigEndian.AppendUint64(b, d.Change)
	return append(b, d.Digest[:]...)
}

// ParseDatabases reads a list of Accounts or Containers: in order of hash, each
// once, all between from and to. The error wraps ErrList.
func ParseDatabases(b []byte, kind byte, from, to name.Hash) (list []Database, more bool, err error) {
	records, count, more, err := Open(b, kind)
	if err != nil {
		return nil, false, err
	}
	if count*databaseSize != len(records) {
		return nil, false, bad("%d databases in %d bytes", count, len(records))
	}
	list = make([]Database, count)
	for i := range list {
		d, rest := &list[i], records[i*databaseSize:]
		copy(d.Hash[:], rest)
		copy(d.Incarnation[:], rest[16:])
		d.Change = binary.BigEndian.Uint64(rest[32:])
		copy(d.Digest[:], rest[40:])
		if bytes.Compare(d.Hash[:], from[:]) < 0 || bytes.Compare(d.Hash[:], to[:]) > 0 {
			return nil, false, bad("hash %s is outside of %s to %s", d.Hash, from, to)
		}
		if i > 0 && bytes.Compare(list[i-1].Hash[:], d.Hash[:]) >= 0 {
			return nil, false, bad("hash %s comes after %s", d.Hash, list[i-1].Hash)
		}
	}
	return list, more, nil
}

// Cursor is how far into a database its parts have come. The zero Cursor is
// before everything, and goes through the rows in the order of their changes; with ByName it goes through
// them as they lie in the file, first those that listings see. Whatever changes meanwhile has
// a change number beyond Row, and so comes behind them.
type Cursor struct {
	Field string // the metadata up to this name was read
	Rows  bool   // all of the metadata was
	Row   uint64 // the rows up to this change number were, or will have been when ByName is false

	ByName bool   // not all rows were read yet
	Dead   bool   // those that listings see were
	Key    string // so were those up to this key
}

// Begun reports whether anything was read.
func (c Cursor) Begun() bool { return c != Cursor{ByName: c.ByName} }

// Part is a piece of a database, to be pushed.
type Part struct {
	Path     name.Path
	Database        // as it was when this was read
	Body     []byte // a list of DatabasePart: what the database says of itself, metadata, rows
	Rows     int    // how many are in it
	Next     Cursor // where the next part begins
	More     bool   // there is one
}
