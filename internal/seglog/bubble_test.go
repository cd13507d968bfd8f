package seglog

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"martlet/internal/vfs"
)

// A log in a bubble leaves nothing to logs outside of it: what waits at a channel of another bubble ends the process.
func TestLogsInBubbles(t *testing.T) {
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			cfg := Defaults()
			cfg.FS, cfg.Folder, cfg.SegmentSize = vfs.NewMem(), "/log", 1<<20
			l, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for g := range 16 {
				all.Go(func() {
					for i := range 50 {
						if _, err := l.Append(&Record{Kind: 1, Head: []byte(strconv.Itoa(g*100 + i))}, nil); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
