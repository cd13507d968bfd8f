package metadb

import (
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// A Schema says what the rows of one kind of database are. Rows are opaque
// bytes here; one row has exactly one encoding.
type Schema interface {
	// Folder is the name of the folder on a device, such as "containers".
	Folder() string

	// Join merges two versions of a row. It must be commutative, associative
	// and idempotent, and must not keep or change its arguments. It fails on what
	// is not a row.
	Join(a, b []byte) ([]byte, error)

	// Weigh says what a row of a space counts for in a database whose latest
	// delete is at deleted. A later delete may hide a row that was live, and does
	// nothing else. It fails on what is not a row.
	Weigh(space policy.Index, row []byte, deleted timestamp.T) (Weight, error)

	// Newest returns the latest stamp of any part of a row. It fails on what is not a row.
	Newest(row []byte) (timestamp.T, error)
}

// Weight is what one row counts for.
type Weight struct {
	Live    bool         // listings see it; the rest is of no account if not
	Policy  policy.Index // under which policy it counts
	Objects int64        // how many objects it stands for
	Bytes   int64
}

// Stat is what the live rows of a database add up to.
type Stat struct {
	Rows    int64
	Objects int64
	Bytes   int64
}

func (s Stat) add(w Weight, sign int64) Stat {
	return Stat{s.Rows + sign, s.Objects + sign*w.Objects, s.Bytes + sign*w.Bytes}
}

// Plus returns the sum of two.
func (s Stat) Plus(t Stat) Stat {
	return Stat{s.Rows + t.Rows, s.Objects + t.Objects, s.Bytes + t.Bytes}
}

// PolicyStat is the Stat of one policy.
type PolicyStat struct {
	Policy policy.Index
	Stat
}

// A FieldWatcher is a Schema that hears of metadata, whoever brings it: each time an
// item changes that is not deleted then, before that is committed, be it that nothing
// comes of it. It is called often, by several at a time, and must not wait.
type FieldWatcher interface {
	FieldMerged(path name.Path, field string)
}

// A SpaceWatcher is a Schema that hears of databases that may have rows of another policy than their own:
// each time such a row changes, and when a database comes to have another policy than it had, before that is committed, be
// it that nothing comes of it. It is called often, by several at a time, and must not wait. What was so
// before the start is found by Tx.Elsewhere.
type SpaceWatcher interface {
	RowElsewhere(path name.Path)
}
