package engine

import (
	"slices"

	"martlet/object/index"
)

// mostReplayed is how many records of the log's end are remembered, the last ones: who wrote them may have been cut
// off before the listing was told. At that number they take 2 MB.
const mostReplayed = 1 << 16

// noteReplayed remembers a record of an object that the index did not have.
func (d *disk) noteReplayed(key index.Key) {
	if key.Policy.IsFragments() { // which are in no listing
		return
	}
	d.replayedMu.Lock()
	defer d.replayedMu.Unlock()
	if len(d.replayed) >= 2*mostReplayed {
		gone := len(d.replayed) - mostReplayed
		d.replayed = append(d.replayed[:0], d.replayed[gone:]...)
		d.returned = max(0, d.returned-gone)
	}
	d.replayed = append(d.replayed, Location{Policy: key.Policy, Hash: key.Hash})
}

// Replayed returns the names that the last records are of which the index did not have when the disk was opened: those that were
// written since its last checkpoint, at most a minute before, by a process that did not end in order, and those of which Untold was called since. There are up to
// 65,536 records of them. The names that were written last come first, each once. They stay until Told says that nobody needs them any more. Of a
// disk that has not been opened there are none yet.
func (e *Engine) Replayed() []Location {
	d := e.now().ready.Load()
	if d == nil {
		return nil
	}
	d.replayedMu.Lock()
	d.returned = len(d.replayed)
	all := slices.Clone(d.replayed[max(0, len(d.replayed)-mostReplayed):])
	d.replayedMu.Unlock()
	slices.Reverse(all)
	seen := make(map[Location]bool, len(all))
	return slices.DeleteFunc(all, func(l Location) bool {
		was := seen[l]
		seen[l] = true
		return was
	})
}

// Untold notes that the listing could not be told of the last write of a name, and that this could not be queued either: Replayed returns it from
// now on, too. Only memory and the log know of it: a process that is cut off finds it in the log, unless a checkpoint was made since.
func (e *Engine) Untold(at Location) {
	if d := e.now().ready.Load(); d != nil {
		d.noteReplayed(index.Key{Policy: at.Policy, Hash: at.Hash})
	}
}

// Told forgets what Replayed returned when it was called last, and nothing that came since. Until then the disk is closed without a checkpoint, and none is made because time has passed, so
// that the log tells the same again. One is made where many changes were made since.
func (e *Engine) Told() {
	if d := e.now().ready.Load(); d != nil {
		d.replayedMu.Lock()
		if d.replayed = d.replayed[d.returned:]; len(d.replayed) == 0 {
			d.replayed = nil
		}
		d.returned = 0
		d.replayedMu.Unlock()
	}
}

// untold reports whether something is left of what was replayed.
func (d *disk) untold() bool {
	d.replayedMu.Lock()
	defer d.replayedMu.Unlock()
	return len(d.replayed) > 0
}
