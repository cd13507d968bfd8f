package engine

import (
	"sync"

	"martlet/object/engine/record"
)

// headRoom is memory for the head of a record while that is appended. The log copies the head before it waits for anything,
// and the caller, who alone has the memory, gives it back once the log has returned, however long that takes at a disk
// that hangs: so nobody holds it then.
type headRoom struct{ b []byte }

var headRooms = sync.Pool{New: func() any { return &headRoom{make([]byte, 0, 512)} }}

// keptHead is how large memory may have become that is kept, in bytes.
const keptHead = 4096

func newHead() *headRoom {
	return headRooms.Get().(*headRoom) //nolint:forcetypeassert // the pool holds nothing else
}

// of writes a head into the memory, in the place of what is there.
func (r *headRoom) of(h *record.Head) ([]byte, error) {
	b, err := h.Append(r.b[:0])
	if err == nil && cap(b) <= keptHead {
		r.b = b
	}
	return b, err
}

func (r *headRoom) done() { headRooms.Put(r) }
