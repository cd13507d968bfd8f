package blob

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Large buffers don't overlap, and there are no more slabs than what was out at one time
// needs; those that nobody needs any more are given back, and no others.
func TestSlabs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slabs
		take := func(n int) (out []*[]byte) {
			for range n {
				b := s.Get().(*[]byte)
				if len(*b) != largeBuffer || cap(*b) != largeBuffer {
					t.Fatalf("a buffer of %d bytes and room for %d", len(*b), cap(*b))
				}
				mark := byte(rand.Uint32())
				(*b)[0], (*b)[1], (*b)[largeBuffer-1] = mark, byte(len(out)), mark
				out = append(out, b)
			}
			return out
		}
		give := func(out []*[]byte) {
			for i, b := range out {
				if (*b)[0] != (*b)[largeBuffer-1] || (*b)[1] != byte(i) {
					t.Errorf("buffer %d is another one's as well", i)
				}
				s.Put(b)
			}
		}
		slabsAre := func(when string, want int) {
			t.Helper()
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := len(s.of) / perSlab; got != want {
				t.Errorf("%s: %d slabs, want %d", when, got, want)
			}
		}
		after := func(looks int) {
			time.Sleep(time.Duration(looks)*slabKept + time.Millisecond) // in a bubble
			synctest.Wait()
		}
		kept := take(1)
		for range 3 {
			give(take(6))
			slabsAre("seven were out", 4)
		}
		for range 3 { // something comes in each turn, however short it is
			after(1)
			give(take(6))
			slabsAre("seven are out now and then", 4)
		}
		after(1)
		give(take(2)) // one beside the one that is kept, and one of another slab
		after(1)
		slabsAre("three are out now and then", 2)
		after(1)
		slabsAre("one is out", 1)
		give(kept)
		after(2)
		slabsAre("none is out", 0)
		give(take(3))
		slabsAre("three after none", 2)
		after(3)
		slabsAre("none again", 0)
	})
}
