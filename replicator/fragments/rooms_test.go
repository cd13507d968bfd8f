package fragments

import (
	"testing"
	"testing/synctest"
	"time"
)

// Buffers are used again, those first that are large enough, and forgotten when they were not needed for a while.
func TestRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rooms
		sized := func(n int) *[]byte { b := make([]byte, n); return &b }
		small, large := sized(10), sized(100)
		r.put(large)
		r.put(small)
		if got := r.get(50); got != large {
			t.Errorf("for 50 bytes there was one of %d", cap(*got))
		}
		if got := r.get(50); got != small {
			t.Error("one that is too small was not given out")
		}
		if got := r.get(0); cap(*got) != 0 {
			t.Error("one that is in use was given out")
		}
		r.put(small)
		r.put(large)
		for range 10 {
			time.Sleep(roomKept - time.Millisecond) // in the bubble
			if got := r.get(100); got != large {
				t.Fatal("the one that is in use was forgotten")
			}
			r.put(large)
		}
		kept := func(want int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.free) != want || r.looked != (want > 0) {
				t.Errorf("%d are kept, of which %d are needed; a look is due: %v", len(r.free), want, r.looked)
			}
		}
		kept(1)
		time.Sleep(3 * roomKept) // in the bubble
		kept(0)
	})
}
