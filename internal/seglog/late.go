package seglog

import (
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"martlet/internal/vfs"
)

// lateBy is for how long a late file keeps what was written to it.
const lateBy = 200 * time.Millisecond

// late is a segment's file that has what is written to it in memory for a while, synced or not: a process
// that is killed loses of it what a cut of the power loses of what was not synced. It is what
// planted.AckBeforeSync makes of a file; in no other build is there any.
type late struct {
	vfs.File

	mu   sync.Mutex
	held []piece // guarded by mu; not written yet
}

// piece is bytes at an offset.
type piece struct {
	at int64
	b  []byte
}

// WriteVec implements vfs.File.
func (f *late) WriteVec(bufs [][]byte, off int64) (int, error) {
	p := piece{off, slices.Concat(bufs...)}
	f.mu.Lock()
	f.held = append(f.held, p)
	f.mu.Unlock()
	time.AfterFunc(lateBy, func() { f.flush(1) }) // that what came later stays as long
	return len(p.b), nil
}

// flush writes so many of what is held, the oldest first.
func (f *late) flush(most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.held[:min(most, len(f.held))] {
		_, _ = f.File.WriteAt(p.b, p.at) // it was said to be there
	}
	f.held = f.held[min(most, len(f.held)):]
}

// ReadAt implements vfs.File: what is held is seen.
func (f *late) ReadAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.File.ReadAt(b, off)
	if err != nil && err != io.EOF {
		return n, err
	}
	for _, p := range f.held {
		from, to := max(off, p.at), min(off+int64(len(b)), p.at+int64(len(p.b)))
		if from < to {
			copy(b[from-off:to-off], p.b[from-p.at:])
			n = max(n, int(to-off))
		}
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// Sync implements vfs.File, and does nothing.
func (*late) Sync() error { return nil }

// Truncate implements vfs.File.
func (f *late) Truncate(size int64) error {
	f.flush(math.MaxInt)
	return f.File.Truncate(size)
}

// Close implements vfs.File.
func (f *late) Close() error {
	f.flush(math.MaxInt)
	return f.File.Close()
}
