package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrOlder is wrapped by the error that refuses a ring older than the one in use.
var ErrOlder = errors.New("older than the ring in use")

// Source is a ring file that may be replaced while it is in use. It is safe for
// concurrent use. It starts nothing: whoever owns it calls Check now and then.
type Source struct {
	path    string
	current atomic.Pointer[Ring]

	whole *Source // of which this has the first replicas; nil for a file's own
	first int
	cut   atomic.Pointer[cut]

	mu     sync.Mutex  // one Check at a time; guards loaded
	loaded fs.FileInfo // the file that is known to hold the current ring
}

// Open loads the ring file at path, with the errors of [Load].
func Open(path string) (*Source, error) {
	r, info, err := load(path)
	if err != nil {
		return nil, err
	}
	s := &Source{path: path, loaded: info}
	s.current.Store(r)
	return s, nil
}

// A cut is the first replicas of a ring.
type cut struct{ of, ring *Ring }

// First is a source of the first n replicas of the ring that s has (Ring.First). It
// goes along with s: Check of either looks at the file for both.
func (s *Source) First(n int) *Source { return &Source{whole: s, first: n} }

// Ring is the generation in use. A request takes it once and keeps it to its end,
// so that all it looks up agrees. It is the same pointer for as long as it is in use.
func (s *Source) Ring() *Ring {
	if s.whole == nil {
		return s.current.Load()
	}
	for {
		last := s.cut.Load() // first: it can't be of a later ring than r then
		r := s.whole.Ring()
		if last != nil && last.of == r {
			return last.ring
		}
		if next := (&cut{r, r.First(s.first)}); s.cut.CompareAndSwap(last, next) {
			return next.ring
		}
	}
}

// Check looks whether the file has changed and, if so, puts its ring in use. A file
// of an older version ([ErrOlder]), a damaged one or none at all is refused with an
// error, at every Check for as long as it is there, and the ring in use stays. A file
// of the same version replaces the ring where the two differ: rings that carry no
// version all have 0.
func (s *Source) Check() (reloaded bool, err error) {
	if s.whole != nil {
		return s.whole.Check()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.path)
	if err != nil {
		return false, err
	}
	if sameFile(info, s.loaded) {
		return false, nil
	}
	next, info, err := load(s.path)
	if err != nil {
		return false, err
	}
	now := s.current.Load()
	if next.version < now.version {
		return false, fmt.Errorf("%s: version %d: %w, version %d", s.path, next.version, ErrOlder, now.version)
	}
	s.loaded = info
	if equal(next, now) {
		return false, nil
	}
	s.current.Store(next)
	return true, nil
}

// sameFile says whether nothing suggests a change. A rename brings another inode,
// writing in place another time or size.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func equal(a, b *Ring) bool {
	return a.version == b.version && a.partPower == b.partPower && a.nextPartPower == b.nextPartPower &&
		slices.EqualFunc(a.devices, b.devices, equalDevice) &&
		slices.EqualFunc(a.rows.narrow, b.rows.narrow, slices.Equal[[]uint16]) &&
		slices.EqualFunc(a.rows.wide, b.rows.wide, slices.Equal[[]uint32])
}

func equalDevice(a, b *Device) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
