package floor

import (
	"errors"
	"sync"

	"martlet/internal/vfs"
)

// fileSize is how large a file of a log gets, in bytes, before the next takes its place.
const fileSize = 256 << 20

// log is the least that group commit can be: who comes first writes what has gathered
// meanwhile, as it is, and syncs it. Nobody can read it again: its files have no
// names, so that nothing is left of them.
type log struct {
	fs   vfs.FS
	dir  string
	file vfs.File // of whoever writes, as is end
	end  int64

	mu      sync.Mutex
	writing bool      // mu
	bytes   [][]byte  // mu; what waits
	waiting []*waiter // mu; who waits, in the same order

	wrote    [][]byte  // of whoever writes: what was written last, to be filled again
	wroteFor []*waiter // likewise
}

// waiter is one goroutine's, which has one append under way at a time.
type waiter struct {
	lead chan bool // true: it is yours to write; false: it was written
	err  error
}

func newWaiter() *waiter { return &waiter{lead: make(chan bool, 1)} }

func openLog(fs vfs.FS, dir string) (*log, error) {
	l := &log{fs: fs, dir: dir}
	return l, l.next()
}

// next has a new file.
func (l *log) next() error {
	f, err := l.fs.CreateUnnamed(l.dir)
	if err != nil {
		return err
	}
	if err := f.Preallocate(0, fileSize); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(err, f.Close())
	}
	if l.file != nil {
		err = l.file.Close()
	}
	l.file, l.end = f, 0
	return err
}

// append returns when b is on stable storage. Nobody may change it meanwhile.
func (l *log) append(w *waiter, b []byte) error {
	l.mu.Lock()
	l.bytes, l.waiting = append(l.bytes, b), append(l.waiting, w)
	first := !l.writing
	l.writing = true
	l.mu.Unlock()
	if !first && !<-w.lead {
		return w.err
	}
	return l.lead(w)
}

// lead writes all that waits, tells those that it was for, and hands on to the first that has come meanwhile.
func (l *log) lead(w *waiter) error {
	l.mu.Lock()
	batch, waiting := l.bytes, l.waiting
	l.bytes, l.waiting = l.wrote[:0], l.wroteFor[:0]
	l.mu.Unlock()
	err := l.write(batch)
	l.wrote, l.wroteFor = batch, waiting
	for _, o := range waiting {
		if o != w {
			o.err = err
			o.lead <- false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing = len(l.waiting) > 0; l.writing {
		l.waiting[0].lead <- true
	}
	return err
}

func (l *log) write(batch [][]byte) error {
	n, err := l.file.WriteVec(batch, l.end)
	l.end += int64(n)
	if err == nil {
		err = l.file.Sync()
	}
	if err == nil && l.end > fileSize {
		err = l.next()
	}
	return err
}

func (l *log) close() error { return l.file.Close() }
