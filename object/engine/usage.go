package engine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"

	"martlet/internal/errs"
	"martlet/object/index"
)

// usage is how much of each segment is in force, and how far those that are compacted
// are. It changes in the same moment as the index (index.ApplyWith), and a checkpoint of
// the index holds it as it was then.
type usage struct {
	mu       sync.Mutex
	segments map[uint64]*segmentUsage // mu
}

// segmentUsage is what is known of one segment.
type segmentUsage struct {
	live int64 // bytes of records in force
	done int64 // up to that offset it has been compacted; allDone: as a whole
}

// allDone says that nothing of a segment is needed any more once a checkpoint knows.
const allDone = math.MaxInt64

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

// forget forgets a segment that is gone.
func (u *usage) forget(segment uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.segments, segment)
}

// encode is index.Config.Extra: version 1, then for each segment in order number, bytes
// in force and how far it is compacted, 8 bytes each, little endian.
func (u *usage) encode() []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	numbers := make([]uint64, 0, len(u.segments))
	for n := range u.segments {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, cmp.Compare)
	b := []byte{usageFormat}
	for _, n := range numbers {
		s := u.segments[n]
		b = binary.LittleEndian.AppendUint64(b, n)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.live))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.done))
	}
	return b
}

const usageFormat = 1

// decode reads what encode wrote; nothing is that of an index that is empty.
func (u *usage) decode(b []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	if b[0] != usageFormat || len(b)%24 != 1 {
		return errs.E(errs.Op("engine.usage"), errs.Corrupt, errors.New("what the index keeps of segments can't be read"))
	}
	for b = b[1:]; len(b) > 0; b = b[24:] {
		u.segments[binary.LittleEndian.Uint64(b)] = &segmentUsage{
			live: int64(binary.LittleEndian.Uint64(b[8:])), done: int64(binary.LittleEndian.Uint64(b[16:])),
		}
	}
	return nil
}
