package fragments

import (
	"slices"
	"sync"
	"time"
)

// roomKept is how long, at least and at most twice that, a buffer is kept that nobody needs. The garbage collector would take it
// as soon as there is a moment between two questions: a new one costs as much as what is done with it.
const roomKept = 2 * time.Second

// rooms are buffers for whole answers. The zero value is ready for use, and it is safe for concurrent use.
type rooms struct {
	mu     sync.Mutex
	free   []*[]byte // guarded by mu; the one that was used last is the last
	least  int       // guarded by mu; how many of them there have been since the last look
	looked bool      // guarded by mu; a look is due
}

// get returns a buffer, if there is one that has n bytes, or else any: whoever finds too little in it puts another one in its place.
func (r *rooms) get(n int) *[]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.free) == 0 {
		return new([]byte)
	}
	at := len(r.free) - 1
	for i := at; i >= 0; i-- {
		if cap(*r.free[i]) >= n {
			at = i
			break
		}
	}
	room := r.free[at]
	r.free = slices.Delete(r.free, at, at+1)
	r.least = min(r.least, len(r.free))
	return room
}

// put gives a buffer back.
func (r *rooms) put(room *[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, room)
	if !r.looked {
		r.looked, r.least = true, 0
		time.AfterFunc(roomKept, r.look)
	}
}

// look forgets what nobody has needed since the last look, and looks again while there is anything.
func (r *rooms) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = slices.Delete(r.free, 0, r.least)
	r.least = len(r.free)
	if r.looked = r.least > 0; r.looked {
		time.AfterFunc(roomKept, r.look)
	}
}
