package blob

import (
	"sync"

	"martlet/internal/vfs"
)

// NewGuarded is NewBuffers for tests that find out who uses memory which is not his any more. Each buffer has memory of its own,
// of which nothing can be read or written once it was given back: who tries ends the process, and a call of the
// kernel fails (EFAULT). What is given back twice, or was not handed out, is a panic. It is far too slow for anything else.
func NewGuarded(limit int64) *Buffers {
	b := NewBuffers(limit)
	b.tiny.pool, b.small.pool, b.large.pool = &guards{size: tinyBuffer}, &guards{size: smallBuffer}, &guards{size: largeBuffer}
	return b
}

// sealedKept is how many buffers that were given back keep their place, so that nothing else can be there. The kernel has a bound on
// how many places a process has.
const sealedKept = 512

// guards is a store of buffers that are used once.
type guards struct {
	size int

	mu     sync.Mutex
	out    map[*[]byte]*vfs.Guarded // guarded by mu
	sealed []*vfs.Guarded           // the last that were given back; guarded by mu
}

// Get implements store.
func (s *guards) Get() any {
	g, err := vfs.NewGuarded(s.size)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out == nil {
		s.out = map[*[]byte]*vfs.Guarded{}
	}
	buf := g.Bytes
	s.out[&buf] = g
	return &buf
}

// Put implements store.
func (s *guards) Put(b any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf, _ := b.(*[]byte)
	g := s.out[buf]
	if g == nil {
		panic("blob: a buffer is given back that nobody has")
	}
	delete(s.out, buf)
	if err := g.Seal(); err != nil {
		panic(err)
	}
	if s.sealed = append(s.sealed, g); len(s.sealed) > sealedKept {
		s.sealed[0].Free()
		s.sealed = s.sealed[1:]
	}
}
