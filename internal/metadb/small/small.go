package small

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/metadb/boltfile"
	"martlet/internal/vfs"
)

// Key names a value.
type Key = [16]byte

// A Bucket is one of the lists of a file.
type Bucket int

// The buckets.
const (
	Values Bucket = iota
	Marks
	Told
)

var (
	buckets    = [...][]byte{Values: []byte("values"), Marks: []byte("marks"), Told: []byte("told")}
	bucketInfo = []byte("info")

	keyFormat = []byte("small")
	keyWalked = []byte("walked")
)

const (
	version  = 1
	quarters = 4
	suffix   = ".small"
)

// Quarter is which file a key is in, from 0 on.
type Quarter int

// Of returns the quarter of a key.
func Of(key Key) Quarter { return Quarter(key[0] >> 6) }

// Name returns the name of the quarter's file.
func (q Quarter) Name() string { return string("048c"[q]) + suffix }

// First returns the least key of the quarter, and Last the greatest.
func (q Quarter) First() (k Key) {
	k[0] = byte(q) << 6
	return k
}

// Last returns the greatest key of the quarter.
func (q Quarter) Last() (k Key) {
	copy(k[:], bytes.Repeat([]byte{0xff}, len(k)))
	k[0] = byte(q)<<6 | 0x3f
	return k
}

// All returns the quarters.
func All() []Quarter { return []Quarter{0, 1, 2, 3} }

// Config is where the files are, and what they need of whoever looks after the
// directories.
type Config struct {
	FS     vfs.FS
	Folder string // where the files are
	Log    *slog.Logger

	// Doubt outlasts the Files: it is about one disk.
	Doubt *Doubt

	// Make makes the folder, durably. It is called before a file is made.
	Make func() error

	// Temp returns the name of a file that does not exist yet, in a directory that does.
	Temp func() (string, error)

	// SyncDir makes the names in a directory durable.
	SyncDir func(dir string) error

	// Settle makes the folder's own name durable, and those above it.
	Settle func() error
}

// Doubt is about which files the latest commit failed, on one disk.
type Doubt struct {
	mu  sync.Mutex
	all [quarters]bool // mu
}

// Files are the shared files of a folder. They are opened when they are first needed, and are
// safe for concurrent use.
type Files struct {
	cfg      Config
	quarters [quarters]*quarter
}

// New returns the files of a folder. End ends them.
func New(cfg Config) *Files {
	f := &Files{cfg: cfg}
	for n := range f.quarters {
		f.quarters[n] = newQuarter(f, Quarter(n))
	}
	return f
}

// path returns where the file of a quarter is.
func (f *Files) path(q Quarter) string { return filepath.Join(f.cfg.Folder, q.Name()) }

// Path returns where the file of a key is.
func (f *Files) Path(key Key) string { return f.path(Of(key)) }

// Turn changes when what was read of a quarter may not be what is in its file any more.
func (f *Files) Turn(key Key) uint64 { return f.of(key).turn.Load() }

func (f *Files) of(key Key) *quarter { return f.quarters[Of(key)] }

// End closes the files, each with its last user, for whom it does not wait. Calls after it
// fail with why.
func (f *Files) End(why error) {
	for _, q := range f.quarters {
		q.end(why)
	}
}

// Wait waits until all is closed, after End.
func (f *Files) Wait() {
	for _, q := range f.quarters {
		q.wait()
	}
}

// Damaged reports whether something of a quarter could not be read or written because a page is
// damaged, since it was last salvaged.
func (f *Files) Damaged(q Quarter) bool { return f.quarters[q].damaged.Load() }

// Distrust says that a page of a quarter is damaged, as Damaged tells: nothing is written to it
// before it was salvaged.
func (f *Files) Distrust(q Quarter) {
	f.quarters[q].damaged.Store(true)
	f.quarters[q].broken.Store(true)
}

// Settle makes durable what the file of a key holds, and its name, as it was found.
func (f *Files) Settle(key Key) error {
	q := f.of(key)
	return q.with(false, func(o *open) error { return q.settle(o) })
}

var errAbsent = errs.E(errs.NotFound, "there is no such file")

func corrupt(err error) error { return boltfile.Corrupt(err) }

// Settled reports whether what the file of a key holds is known to be durable, as it is after Settle.
func (f *Files) Settled(key Key) bool {
	q := f.of(key)
	q.mu.Lock()
	o := q.file
	q.mu.Unlock()
	if o == nil {
		return false
	}
	o.settling.Lock()
	defer o.settling.Unlock()
	return o.settled
}
