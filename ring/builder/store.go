package builder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"martlet/ring"
)

var (
	// ErrBusy says that another process is changing the builder file.
	ErrBusy = errors.New("in use by another process")
	// ErrConflict says that a builder file has changed since it was opened, in spite
	// of the lock: by hand, or from another machine.
	ErrConflict = errors.New("changed by somebody else meanwhile")
)

// BackupDir is the folder beside a builder file that its earlier forms are kept in,
// as NAME.VERSION.TIME.
const BackupDir = "backups"

// maxBackups is how many earlier forms of one builder file are kept.
const maxBackups = 100

// Load reads the builder file at path. Errors are those of [Read], or the file system's.
func Load(path string) (*Builder, error) {
	f, err := openRegular(path)
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

func openRegular(path string) (*os.File, error) {
	// Before the open, which would wait for a writer if this were a pipe.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return os.Open(path)
}

// Create makes a new builder file, on stable storage when it returns nil. Where
// there is one already the error is fs.ErrExist.
func Create(path string, b *Builder) error {
	var text bytes.Buffer
	if err := b.Write(&text); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = func() error {
		_, err := f.Write(text.Bytes())
		return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	}()
	if err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it replaces nothing
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return syncDir(dir)
}

// A File is a builder file that is open for change, and locked against others who
// would change it.
type File struct {
	*Builder
	path string
	lock *os.File
	sum  [sha256.Size]byte // of what is in the file
}

// Open locks and reads a builder file. The error is ErrBusy where another process
// has it open for change, or as of Load.
//
// A symbolic link is followed once: it is the file that it leads to that is locked
// and replaced, so that two names of one file are one.
func Open(path string) (*File, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	for range 10 {
		lock, err := openRegular(path)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			err = errors.Join(busy(path, err), lock.Close())
			return nil, err
		}
		same, err := stillAt(lock, path)
		if err == nil && same {
			return read(path, lock)
		}
		if err = errors.Join(err, lock.Close()); err != nil {
			return nil, err
		}
		// It was replaced between the two: what is there now is to be locked.
	}
	return nil, busy(path, unix.EWOULDBLOCK)
}

func busy(path string, err error) error {
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", path, ErrBusy)
	}
	return fmt.Errorf("%s: lock: %w", path, err)
}

func stillAt(f *os.File, path string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, there), nil
}

func read(path string, lock *os.File) (*File, error) {
	hash := sha256.New()
	b, err := Read(io.TeeReader(lock, hash))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), lock.Close())
	}
	f := &File{Builder: b, path: path, lock: lock}
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
// error is ErrConflict and nothing is written.
func (f *File) Save() error {
	old, err := os.ReadFile(f.path)
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
	if bytes.Equal(text.Bytes(), old) {
		return nil
	}
	if err := f.backUp(old); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := f.tidy(); err != nil {
		return err
	}
	lock, err := replace(f.path, text.Bytes())
	if err != nil {
		return err
	}
	err = f.lock.Close()
	f.lock, f.sum = lock, sha256.Sum256(text.Bytes())
	return err
}

// tidy removes what saves that were killed have left. Nobody else saves meanwhile.
func (f *File) tidy() error {
	left, err := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(f.path)), "."+escapeGlob(filepath.Base(f.path))+".*.tmp"))
	for _, name := range left {
		if e := os.Remove(name); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// escapeGlob makes a pattern that matches just a name.
func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// replace replaces the file at path as ring.WriteFile does, but by one that has its
// mode and owner, and is locked before it has the name. It stays open.
func replace(path string, text []byte) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	if was, ok := info.Sys().(*syscall.Stat_t); ok && int(was.Uid) != os.Getuid() {
		err = errors.Join(err, f.Chown(int(was.Uid), int(was.Gid)))
	}
	if err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// backUp keeps what the file was, and drops the oldest of what is kept beyond
// maxBackups.
func (f *File) backUp(old []byte) error {
	dir, base := filepath.Join(filepath.Dir(f.path), BackupDir), filepath.Base(f.path)
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if err := syncDir(filepath.Dir(f.path)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	was, err := Read(bytes.NewReader(old))
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s.%08d.%s", base, was.version, time.Now().UTC().Format("20060102T150405.000Z"))
	if err := ring.WriteFile(filepath.Join(dir, name), func(w io.Writer) error {
		_, err := w.Write(old)
		return err
	}); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name || !isBackup(e.Name(), base) })
	// The oldest go: an old copy that was put back has a low version and is new.
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(savedAt(a.Name()), savedAt(b.Name())) })
	for _, e := range entries[:max(0, len(entries)+1-maxBackups)] {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
