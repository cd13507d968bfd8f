package fragments

import (
	"sync"

	"martlet/replicator"
)

// mostLacking is how many fragments of a partition a guess may be of: more than a device has, and few enough for all to be added up.
const mostLacking = 1 << 32

// guessOf is how many fragments of a partition are missing if others say that they have so many, and there are some here.
func guessOf(most, here int64) int64 { return min(most-here, mostLacking) }

// work is how much a pass has still to get. At first that is a guess: what others have more of in each partition. It is known
// once a piece of a partition was gone into. What can't be got stays in it.
type work struct {
	progress *replicator.Progress // that is told; nil for none

	mu             sync.Mutex
	guess          int64 // fragments of what was not gone into; guarded by mu, as are all
	objects, bytes int64 // that are known to be missing
	seen, size     int64 // fragments that were ever known to be, and their bytes
}

// expect notes how many fragments are probably missing in all.
func (w *work) expect(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guess += n
	w.tell()
}

// found notes what is missing of a piece of which there was a guess.
func (w *work) found(guess int64, list []*missing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.guess -= guess
	for _, m := range list {
		size := m.archiveSize()
		w.objects, w.bytes = w.objects+1, w.bytes+size
		w.seen, w.size = w.seen+1, w.size+size
	}
	w.tell()
}

// got notes that a fragment is here.
func (w *work) got(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects, w.bytes = w.objects-1, w.bytes-bytes
	w.tell()
}

// tell tells what is left. The caller holds mu.
func (w *work) tell() {
	guess, bytes := max(0, w.guess), float64(w.bytes)
	if w.seen > 0 {
		bytes += float64(guess) * float64(w.size) / float64(w.seen)
	}
	w.progress.Lacks(w.objects+guess, int64(min(bytes, 1<<62))) // a float64 of 1<<63 has no int64
}
