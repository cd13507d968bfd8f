package fragments

import (
	"sync"

	"martlet/replicator"
)

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
	guess, bytes := max(0, w.guess), w.bytes
	if w.seen > 0 {
		bytes += int64(float64(guess) * float64(w.size) / float64(w.seen))
	}
	w.progress.Lacks(w.objects+guess, bytes)
}
