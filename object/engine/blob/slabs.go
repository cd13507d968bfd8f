package blob

import (
	"slices"
	"sync"
	"time"

	"martlet/internal/vfs"
)

// perSlab is how many buffers of largeBuffer a slab has.
const perSlab = vfs.HugePage / largeBuffer

// slabKept is how long, at least and at most twice that, a slab is kept that nobody needs. It is as long as that because
// making one costs as much as an upload of 1 MiB else does, and uploads come and go.
const slabKept = 2 * time.Second

// slab is one huge page, and the buffers that it is cut into.
type slab struct {
	page *vfs.Huge
	bufs [perSlab][]byte
	free [perSlab]bool
	in   int // how many are
}

// slabs has buffers of largeBuffer that are cut out of huge pages. Those of which some are out are
// given first, so that others are left whole. What is whole and was at no time needed is given back to the system.
type slabs struct {
	mu     sync.Mutex
	of     map[*[]byte]*slab // mu; the slab of each buffer, in or out
	begun  map[*slab]bool    // mu; those of which some are in, and some out
	whole  []*slab           // mu; those that are in altogether
	least  int               // mu; of whole, since the last look
	looked bool              // mu; a look is due, as there are any
}

// Get implements store.
func (s *slabs) Get() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.some()
	i := slices.Index(from.free[:], true)
	from.free[i] = false
	if from.in--; from.in == 0 {
		delete(s.begun, from)
	}
	return &from.bufs[i]
}

// some returns a slab with a buffer that is in, which is among those begun.
func (s *slabs) some() *slab {
	for from := range s.begun {
		return from
	}
	from := s.lastWhole()
	if from == nil {
		from = s.grow()
	}
	s.least = min(s.least, len(s.whole))
	s.begun[from] = true
	return from
}

func (s *slabs) lastWhole() *slab {
	last := len(s.whole) - 1
	if last < 0 {
		return nil
	}
	from := s.whole[last]
	s.whole[last] = nil
	s.whole = s.whole[:last]
	return from
}

func (s *slabs) grow() *slab {
	if s.of == nil {
		s.of, s.begun = map[*[]byte]*slab{}, map[*slab]bool{}
	}
	n := &slab{page: vfs.NewHuge(), in: perSlab}
	for i := range n.bufs {
		n.bufs[i] = n.page.Bytes[i*largeBuffer : (i+1)*largeBuffer : (i+1)*largeBuffer]
		n.free[i] = true
		s.of[&n.bufs[i]] = n
	}
	if !s.looked {
		s.looked, s.least = true, 0
		time.AfterFunc(slabKept, s.look)
	}
	return n
}

// Put implements store. A buffer that is in is a panic: else it would be two writers' at one time, or the system's while one
// has it.
func (s *slabs) Put(b any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := b.(*[]byte)
	to := s.of[buf]
	i := 0
	for to != nil && &to.bufs[i] != buf {
		i++
	}
	if to == nil || to.free[i] {
		panic("blob: a buffer is given back that nobody has")
	}
	to.free[i] = true
	if to.in++; to.in < perSlab {
		s.begun[to] = true
		return
	}
	delete(s.begun, to)
	s.whole = append(s.whole, to)
}

// look gives back what was whole ever since the last look, and looks again while there is anything.
func (s *slabs) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range s.least {
		last := s.lastWhole()
		for i := range last.bufs {
			delete(s.of, &last.bufs[i])
		}
		last.page.Free()
	}
	s.least = len(s.whole)
	if s.looked = len(s.of) > 0; s.looked {
		time.AfterFunc(slabKept, s.look)
	}
}
