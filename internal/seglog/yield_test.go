package seglog

import (
	"runtime"
	"sync"
	"testing"

	"martlet/internal/vfs"
)

// TestWhoIsReadyShares: those who are about to append when somebody else begins to write, and only wait for a processor, are written with him.
func TestWhoIsReadyShares(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one runs at a time, and all others wait
	count := vfs.Count(vfs.NewMem())
	c := config(count)
	c.SegmentSize = 1 << 22
	l := open(t, c)
	if _, err := l.Append(record(1<<40), nil); err != nil { // the segment is made
		t.Fatal(err)
	}
	before := count.Counts()
	const writers = 64
	var all sync.WaitGroup
	for n := range uint64(writers) {
		all.Go(func() {
			if _, err := l.Append(record(n), nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if syncs := count.Counts().Sub(before).Syncs; syncs > writers/4 {
		t.Errorf("%d syncs for %d who were ready at one time", syncs, writers)
	}
	if got := found(t, l); len(got) != writers+1 {
		t.Errorf("found %d records, want %d", len(got), writers+1)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
