package replwire

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// The kinds of lists about the writes whose data is in fragments.
const (
	commits  byte = 'k'
	writes   byte = 'w'
	verdicts byte = 'v'
)

// Commit is the state of an object whose data is in fragments.
type Commit struct {
	Hash  name.Hash // not sent: it is that of the path
	Path  name.Path
	Time  timestamp.T // of the data
	Coded backend.Coded
}

// maxCommits bounds the bytes of a list of commits that is being made: one more commit fits
// into MaxList however long its texts are.
const maxCommits = MaxList - 4*math.MaxUint16

// A CommitList is a list of commits that is being made. The zero CommitList is empty.
type CommitList struct {
	b     []byte
	count int
}

// Room reports whether there is room for one more.
func (l *CommitList) Room() bool { return len(l.b) < maxCommits }

// Empty reports whether nothing was added.
func (l *CommitList) Empty() bool { return l.count == 0 }

// Add adds a commit for which there is Room, behind those of lower hashes.
func (l *CommitList) Add(path name.Path, t timestamp.T, coded string) {
	if l.count == 0 {
		l.b = Begin(l.b[:0], commits)
	}
	be := binary.BigEndian
	l.b = appendText(appendText(appendText(l.b, path.Account), path.Container), path.Object)
	l.b = be.AppendUint64(be.AppendUint64(l.b, uint64(t.Ticks())), t.Offset())
	l.b = appendText(l.b, coded)
	l.count++
}

// Encoded returns the encoded list, and ends it. More is whether there are others behind those.
func (l *CommitList) Encoded(more bool) []byte {
	if l.count == 0 {
		l.b = Begin(l.b[:0], commits)
	}
	return End(l.b, l.count, more && l.count > 0)
}

// ParseCommits reads a list of commits: in order of hash, which is what hash makes of their
// paths, each once, all between from and to. The error wraps ErrList.
func ParseCommits(b []byte, hash func(name.Path) name.Hash, from, to name.Hash) (list []Commit, more bool, err error) {
	records, count, more, err := Open(b, commits)
	if err != nil {
		return nil, false, err
	}
	d := decoder{rest: records}
	list = make([]Commit, 0, min(count, len(records)/commitSize))
	for range count {
		c := Commit{Path: name.Path{Account: d.text(), Container: d.text(), Object: d.text()}}
		if c.Time, err = d.time(); err != nil {
			return nil, false, err
		}
		text := d.text()
		if d.err != nil {
			return nil, false, d.err
		}
		if c.Coded, err = backend.ParseCoded(text); err != nil || c.Path.Object == "" || c.Time.IsZero() {
			return nil, false, bad("no object %.100q says %.100q", c.Path.String(), text)
		}
		c.Hash = hash(c.Path)
		if bytes.Compare(c.Hash[:], from[:]) < 0 || bytes.Compare(c.Hash[:], to[:]) > 0 {
			return nil, false, bad("hash %s is outside of %s to %s", c.Hash, from, to)
		}
		if n := len(list); n > 0 && bytes.Compare(list[n-1].Hash[:], c.Hash[:]) >= 0 {
			return nil, false, bad("hash %s comes after %s", c.Hash, list[n-1].Hash)
		}
		list = append(list, c)
	}
	return list, more, d.end()
}

// commitSize is how long the shortest commit is.
const commitSize = 3*2 + 16 + 2

// time reads a time.
func (d *decoder) time() (timestamp.T, error) {
	b := d.take(16)
	if b == nil {
		return timestamp.T{}, d.err
	}
	ticks := int64(binary.BigEndian.Uint64(b))
	t := timestamp.FromTicks(ticks).WithOffset(binary.BigEndian.Uint64(b[8:]))
	if t.Ticks() != ticks {
		return timestamp.T{}, bad("%d ticks are no time", ticks)
	}
	return t, nil
}

// Write is a write whose data is in fragments, of an object that is known by its hash.
type Write struct {
	Hash name.Hash
	Time timestamp.T
	ID   [16]byte
}

const writeSize = 16 + 16 + 16

// MaxWrites is how many writes one question may be about.
const MaxWrites = 16384

// AppendWrites appends to b, which must be empty, the encoded question what a device knows of
// some writes: at most MaxWrites, and at least one.
func AppendWrites(b []byte, list []Write) []byte {
	b = Begin(b, writes)
	be := binary.BigEndian
	for i := range list {
		w := &list[i]
		b = append(b, w.Hash[:]...)
		b = be.AppendUint64(be.AppendUint64(b, uint64(w.Time.Ticks())), w.Time.Offset())
		b = append(b, w.ID[:]...)
	}
	return End(b, len(list), false)
}

// ParseWrites reads an encoded question about writes. The error wraps ErrList.
func ParseWrites(b []byte) ([]Write, error) {
	records, count, more, err := Open(b, writes)
	if err != nil {
		return nil, err
	}
	if more || count == 0 || count > MaxWrites || count*writeSize != len(records) {
		return nil, bad("%d writes in %d bytes", count, len(records))
	}
	d := decoder{rest: records}
	list := make([]Write, count)
	for i := range list {
		w := &list[i]
		copy(w.Hash[:], d.take(len(w.Hash)))
		if w.Time, err = d.time(); err != nil {
			return nil, err
		}
		copy(w.ID[:], d.take(len(w.ID)))
	}
	return list, d.end()
}

// A Verdict is what a device knows of a write, as one that has to have its commit.
type Verdict byte

// The verdicts.
const (
	Unsure  Verdict = iota // it can't tell: what it has there is damaged, or it was away for too long
	Unknown                // it has nothing of the time of the write or later
	Current                // it has the commit of just this write
	Another                // it has another write of just this time
	Ended                  // what it has of the object has come to its end by itself, and may yet be given a longer life
	Newer                  // it has something newer: data, or a tombstone
	endOfVerdicts
)

// Judged is what a device says of one write, and whether it takes itself for a primary of the object.
type Judged struct {
	Verdict Verdict
	Primary bool
}

const primaryBit = 0x80

// AppendVerdicts appends the encoded answer to an encoded question about writes to b, which must
// be empty: one for each, in their order.
func AppendVerdicts(b, asked []byte, list []Judged) []byte {
	b = binary.BigEndian.AppendUint32(Begin(b, verdicts), crc32.Checksum(asked, castagnoli))
	for _, j := range list {
		c := byte(j.Verdict)
		if j.Primary {
			c |= primaryBit
		}
		b = append(b, c)
	}
	return End(b, len(list), false)
}

// ParseVerdicts reads an encoded answer to a question about n writes, of which asked is the
// encoded form. The error wraps ErrList.
func ParseVerdicts(b []byte, n int, asked []byte) ([]Judged, error) {
	records, count, more, err := open(b, verdicts)
	if err != nil {
		return nil, err
	}
	if more || count != n || len(records) != 4+n {
		return nil, bad("%d verdicts in %d bytes on %d writes", count, len(records), n)
	}
	if binary.BigEndian.Uint32(records) != crc32.Checksum(asked, castagnoli) {
		return nil, bad("it answers another question")
	}
	list := make([]Judged, n)
	for i, c := range records[4:] {
		if list[i] = (Judged{Verdict(c &^ primaryBit), c&primaryBit != 0}); list[i].Verdict >= endOfVerdicts {
			return nil, bad("%d is no verdict", c)
		}
	}
	return list, nil
}
