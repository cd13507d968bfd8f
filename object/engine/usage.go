package engine

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// usage is how much of each segment is in force, how far those that are compacted are, and
// when what was read last to find damage. It changes in the same moment as the index
// (index.ApplyWith), and a checkpoint of the index holds it as it was then.
type usage struct {
	mu       sync.Mutex
	segments map[uint64]*segmentUsage  // mu
	blobs    [blobFolders]int64        // mu; when the files of a folder were read, in seconds
	journal  [record.Owners]journalUse // mu
}

// blobFolders is how many folders there are for files.
const blobFolders = 256

// segmentUsage is what is known of one segment.
type segmentUsage struct {
	live int64 // bytes of records in force
	done int64 // up to that offset it has been compacted; allDone: as a whole
	read int64 // when all of it was read, in seconds since 1970; 0 is never
}

// allDone says that nothing of a segment is needed any more once a checkpoint knows.
const allDone = math.MaxInt64

// clear forgets everything: the log says it anew.
func (u *usage) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.segments, u.blobs, u.journal = map[uint64]*segmentUsage{}, [blobFolders]int64{}, [record.Owners]journalUse{}
}

func (u *usage) of(segment uint64) *segmentUsage {
	s := u.segments[segment]
	if s == nil {
		s = &segmentUsage{}
		u.segments[segment] = s
	}
	return s
}

// moved counts what an entry was made of as dead, and what it is made of as alive.
func (u *usage) moved(old, now *index.Entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range [...]index.Place{old.Data, old.Meta, old.Mark} {
		if !p.IsZero() {
			u.of(p.Segment).live -= p.Size
		}
	}
	for _, p := range [...]index.Place{now.Data, now.Meta, now.Mark} {
		if !p.IsZero() {
			u.of(p.Segment).live += p.Size
		}
	}
}

// compacted notes how far a segment is.
func (u *usage) compacted(segment uint64, to int64, last bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of(segment)
	if last {
		to = allDone
	}
	s.done = max(s.done, to)
}

// get returns what is known of a segment.
func (u *usage) get(segment uint64) segmentUsage {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.segments[segment]; s != nil {
		return *s
	}
	return segmentUsage{}
}

// wasRead notes that a segment was read at a time.
func (u *usage) wasRead(segment uint64, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(segment).read = at.Unix()
}

// blobRead returns when the files of a folder were read.
func (u *usage) blobRead(folder int) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.blobs[folder]
}

// blobsWereRead notes that the files of a folder were read at a time.
func (u *usage) blobsWereRead(folder int, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blobs[folder] = at.Unix()
}

// numbers returns the segments of which something is known, in order.
func (u *usage) numbers() []uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.segments))
}

// forget forgets a segment that is gone.
func (u *usage) forget(segment uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.segments, segment)
}

// encode is index.Config.Extra. Numbers are little endian, of 8 bytes: the version, 2; when
// the files of each folder were read; for each of 4 owners of a journal, by segment and
// offset, what was merged, the last record, and where to start, which version 1 did not have;
// then for each segment in order its number, the bytes in force, how far it is compacted,
// and when it was read.
func (u *usage) encode() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.segments) == 0 && u.journal == [record.Owners]journalUse{} {
		return nil // there is no log yet that a checkpoint could be of
	}
	le := binary.LittleEndian
	b := le.AppendUint64(make([]byte, 0, usageFront+segmentSize*len(u.segments)), usageFormat)
	for _, at := range u.blobs {
		b = le.AppendUint64(b, uint64(at))
	}
	for _, j := range u.journal {
		for _, at := range [...]seglog.Position{j.merged, j.last, j.start} {
			b = le.AppendUint64(le.AppendUint64(b, at.Segment), uint64(at.Offset))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(u.segments)) {
		s := u.segments[n]
		for _, v := range [...]uint64{n, uint64(s.live), uint64(s.done), uint64(s.read)} {
			b = le.AppendUint64(b, v)
		}
	}
	return b
}

const (
	usageFormat = 2
	usageFirst  = 8 + 8*blobFolders // what version 1 had before the segments
	usageFront  = usageFirst + record.Owners*ownerSize
	segmentSize = 4 * 8
	ownerSize   = 6 * 8
)

// decode reads what encode wrote; nothing is that of an index that is empty.
func (u *usage) decode(b []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	le := binary.LittleEndian
	front := usageFront
	if len(b) >= 8 && le.Uint64(b) == 1 {
		front = usageFirst
	}
	if len(b) < front || le.Uint64(b) > usageFormat || le.Uint64(b) == 0 || (len(b)-front)%segmentSize != 0 {
		return errs.E(errs.Op("engine.usage"), errs.Corrupt, errors.New("what the index keeps of segments can't be read"))
	}
	for i := range u.blobs {
		u.blobs[i] = int64(le.Uint64(b[8+8*i:]))
	}
	if front == usageFront {
		at := func(b []byte) seglog.Position {
			return seglog.Position{Segment: le.Uint64(b), Offset: int64(le.Uint64(b[8:]))}
		}
		for i := range u.journal {
			b := b[usageFirst+ownerSize*i:]
			u.journal[i] = journalUse{at(b), at(b[16:]), at(b[32:])}
		}
	}
	for b = b[front:]; len(b) > 0; b = b[segmentSize:] {
		u.segments[le.Uint64(b)] = &segmentUsage{live: int64(le.Uint64(b[8:])), done: int64(le.Uint64(b[16:])), read: int64(le.Uint64(b[24:]))}
	}
	return nil
}
