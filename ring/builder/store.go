package builder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"martlet/ring"
	"martlet/ring/whole"
)

var (
	// ErrBusy says that another process is changing the builder file.
	ErrBusy = errors.New("in use by another process")
	// ErrConflict says that a builder file has changed since it was opened, in spite
	// of the lock: by hand, or from another machine.
	ErrConflict = errors.New("changed by somebody else meanwhile")
	// ErrRing says that a builder file is saved, and its ring file is what it was.
	ErrRing = errors.New("saved, but its ring is not written")
)

// BackupDir is the folder beside a builder file that its earlier forms are kept in,
// as NAME.VERSION.TIME.
const BackupDir = "backups"

// maxBackups is how many earlier forms of one builder file are kept.
const maxBackups = 100

// Load reads the builder file at path. Errors are those of [Read], or the file system's.
func Load(path string) (*Builder, error) {
	f, err := whole.OS.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// Create makes a new builder file, on stable storage when it returns nil. Where
// there is one already the error is fs.ErrExist.
func Create(path string, b *Builder) error { return whole.Create(whole.OS, path, b.Write) }

// A File is a builder file that is open for change, and locked against others who
// would change it.
type File struct {
	*Builder
	fsys whole.FS
	path string
	lock whole.File
	sum  [sha256.Size]byte // of what is in the file
	was  int64             // the version of that

	unsynced bool // what is in the file may be gone after a power cut
}

// Open locks and reads a builder file. The error is ErrBusy where another process
// has it open for change, or as of Load.
//
// A symbolic link is followed once: it is the file that it leads to that is locked
// and replaced, so that two names of one file are one.
func Open(path string) (*File, error) { return OpenOn(whole.OS, path) }

// OpenOn is Open on another file system than that of the machine.
func OpenOn(fsys whole.FS, path string) (*File, error) {
	path, err := fsys.Resolve(path)
	if err != nil {
		return nil, err
	}
	for range 10 {
		lock, err := fsys.Open(path)
		if err != nil {
			return nil, err
		}
		if err := lock.Lock(); err != nil {
			return nil, errors.Join(busy(path, err), lock.Close())
		}
		same, err := fsys.Is(lock, path)
		if err == nil && same {
			return read(fsys, path, lock)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return nil, err
		}
		// It was replaced between the two: what is there now is to be locked.
	}
	return nil, busy(path, whole.ErrLocked)
}

func busy(path string, err error) error {
	if errors.Is(err, whole.ErrLocked) {
		return fmt.Errorf("%s: %w", path, ErrBusy)
	}
	return fmt.Errorf("%s: lock: %w", path, err)
}

func read(fsys whole.FS, path string, lock whole.File) (*File, error) {
	hash := sha256.New()
	b, err := Read(io.TeeReader(lock, hash))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), lock.Close())
	}
	f := &File{Builder: b, fsys: fsys, path: path, lock: lock, was: b.version}
	hash.Sum(f.sum[:0])
	return f, nil
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Close gives up the lock. What was not saved is lost.
func (f *File) Close() error { return f.lock.Close() }

// Save keeps the file as it was in BackupDir, and replaces it by the builder: whole
// or not at all, and on stable storage, the backup too, when it returns nil. It goes
// on being locked. Where what is there is not what was opened or last saved, the
// error is ErrConflict and nothing is written. After an error that is not
// whole.ErrUnsynced the file is as it was.
func (f *File) Save() error {
	old, err := whole.Read(f.fsys, f.path)
	if err != nil {
		return err
	}
	if sha256.Sum256(old) != f.sum {
		return fmt.Errorf("%s: %w; nothing was saved", f.path, ErrConflict)
	}
	var text bytes.Buffer
	if err := f.Write(&text); err != nil {
		return err
	}
	same := bytes.Equal(text.Bytes(), old)
	if same && !f.unsynced {
		return nil
	}
	if !same {
		if err := f.backUp(old); err != nil {
			return errors.New("backup: " + err.Error()) // whatever it wraps is not about the file
		}
	}
	if err := whole.Sweep(f.fsys, f.path); err != nil {
		return err
	}
	lock, err := whole.Swap(f.fsys, f.path, f.lock, func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
	if lock == nil {
		return err
	}
	_ = f.lock.Close() // of what has no name any more
	f.lock, f.sum, f.was, f.unsynced = lock, sha256.Sum256(text.Bytes()), f.version, err != nil
	return err
}

// SaveWithRing saves the builder, and then its ring at another path. In this order, so
// that no process gets a ring which the builder doesn't know of: the next rebalance
// would make another one of the same version. The error wraps ErrRing where only the
// first of the two was done.
func (f *File) SaveWithRing(r *ring.Ring, path string) error {
	if err := f.Save(); err != nil {
		return err
	}
	err := whole.Sweep(f.fsys, path)
	if err == nil {
		err = r.SaveOn(f.fsys, path)
	}
	if err != nil && !errors.Is(err, whole.ErrUnsynced) {
		err = fmt.Errorf("%s: %w: %w", f.path, ErrRing, err)
	}
	return err
}

// backUp keeps what the file was, and drops the oldest of what is kept beyond
// maxBackups.
func (f *File) backUp(old []byte) error {
	dir, base := filepath.Join(filepath.Dir(f.path), BackupDir), filepath.Base(f.path)
	if err := f.fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Each time: whoever made the folder may have been stopped before this.
	if err := f.fsys.SyncDir(filepath.Dir(f.path)); err != nil {
		return err
	}
	mine := func(name string) bool { return isBackup(name, base) }
	if err := whole.SweepDir(f.fsys, dir, mine); err != nil {
		return err
	}
	name := fmt.Sprintf("%s.%08d.%s", base, f.was, time.Now().UTC().Format("20060102T150405.000Z"))
	if err := whole.Replace(f.fsys, filepath.Join(dir, name), func(w io.Writer) error {
		_, err := w.Write(old)
		return err
	}); err != nil {
		return err
	}
	kept, err := f.fsys.Names(dir)
	if err != nil {
		return err
	}
	kept = slices.DeleteFunc(kept, func(n string) bool { return n == name || !mine(n) })
	// The oldest go: an old copy that was put back has a low version and is new.
	slices.SortStableFunc(kept, func(a, b string) int { return strings.Compare(savedAt(a), savedAt(b)) })
	for _, n := range kept[:max(0, len(kept)+1-maxBackups)] {
		if err := f.fsys.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isBackup reports whether a name is of a backup of a builder file.
func isBackup(name, base string) bool {
	rest, ok := strings.CutPrefix(name, base+".")
	version, at, split := strings.Cut(rest, ".")
	return ok && split && len(version) >= 8 && strings.Trim(version, "0123456789") == "" && strings.HasSuffix(at, "Z")
}

// savedAt is the time in the name of a backup, as text that sorts.
func savedAt(name string) string {
	name = strings.TrimSuffix(name, "Z")
	return name[strings.LastIndexByte(name[:strings.LastIndexByte(name, '.')], '.')+1:]
}
