// Package whole replaces files whole or not at all: whoever opens one, at any time and
// after any crash, finds what was there before or what is new, never a part and never
// nothing. Rings, builders and their backups are written with it.
//
// It promises, too, that what it wrote is on stable storage when it returns nil. It
// leaves to others what is in the files, and who may change them at what time.
package whole

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// ErrUnsynced is wrapped by the error of a write that has taken place, but may be
// undone by a power cut: the folder could not be synced. Nothing else is in doubt.
var ErrUnsynced = errors.New("in its place, but a power cut may undo that")

// An FS is what writing and reading whole files takes of a file system. OS is the real
// one. Errors match fs.ErrNotExist and fs.ErrExist.
type FS interface {
	// Resolve follows symbolic links to the file that a name leads to.
	Resolve(name string) (string, error)
	// Open opens a file for reading. What is no regular file is refused.
	Open(name string) (File, error)
	// Temp makes a file in a folder under a name that only Sweep looks for, for
	// writing. It has the mode and owner of another or, where that is nil, mode 0644.
	Temp(dir, base string, like File) (File, error)
	// Is reports whether an open file is the one of a name.
	Is(f File, name string) (bool, error)
	// Place gives a file of Temp its name, where there is nothing: else the error is
	// fs.ErrExist.
	Place(temp, name string) error
	// Rename gives a file of Temp its name, and replaces what is there.
	Rename(temp, name string) error
	Remove(name string) error
	Mkdir(name string) error
	// Names are the names in a folder, in order.
	Names(dir string) ([]string, error)
	// SyncDir makes the names in a folder durable.
	SyncDir(dir string) error
}

// A File is an open file of an FS.
type File interface {
	io.Reader
	io.Writer
	io.Closer
	Name() string
	Sync() error
	// Lock takes the file for this process until it is closed. The error wraps
	// ErrLocked where another one has it.
	Lock() error
}

// ErrLocked says that another process has locked a file.
var ErrLocked = errors.New("locked by another process")

// Replace replaces the file at path by what write gives. When it returns an error
// that is not ErrUnsynced, the old file is still there. The new one can be read by
// everyone (mode 0644).
func Replace(fsys FS, path string, write func(io.Writer) error) error {
	f, err := put(fsys, path, nil, write, fsys.Rename)
	return closed(f, err)
}

// Create makes a file of what write gives where there is none, as Replace does.
// Where there is one the error is fs.ErrExist.
func Create(fsys FS, path string, write func(io.Writer) error) error {
	f, err := put(fsys, path, nil, write, fsys.Place)
	return closed(f, err)
}

// Swap replaces the file at path, which is open as old, as Replace does, but by one
// that has its mode and owner, and is locked before it has the name. The new file
// stays open and is returned, with ErrUnsynced too.
func Swap(fsys FS, path string, old File, write func(io.Writer) error) (File, error) {
	return put(fsys, path, old, write, fsys.Rename)
}

// closed closes a file that put returned. That can't fail for what is in it, which was
// synced.
func closed(f File, err error) error {
	if f != nil {
		_ = f.Close()
	}
	return err
}

func put(fsys FS, path string, old File, write func(io.Writer) error, name func(temp, name string) error) (File, error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	f, err := fsys.Temp(dir, base, old)
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return nil, &fs.PathError{Op: "write", Path: path, Err: pe.Err} // the file that is meant
	}
	if err != nil {
		return nil, err
	}
	temp := f.Name()
	w := bufio.NewWriterSize(f, 1<<16)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && old != nil {
		err = f.Lock()
	}
	if err == nil {
		err = name(temp, path)
	}
	if err != nil {
		if e := fsys.Remove(temp); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		_ = f.Close() // it is gone
		return nil, err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return f, fmt.Errorf("%s is %w: %w", path, ErrUnsynced, err)
	}
	return f, nil
}

// Sweep removes what writes of the file at path that were killed have left. Nobody
// may be writing it.
func Sweep(fsys FS, path string) error {
	dir, base := filepath.Split(path)
	return SweepDir(fsys, filepath.Clean(dir), func(name string) bool { return name == base })
}

// SweepDir is Sweep for the files of a folder whose names are of a kind.
func SweepDir(fsys FS, dir string, kind func(name string) bool) error {
	names, err := fsys.Names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if base, ok := tempOf(name); !ok || !kind(base) {
			continue
		}
		if e := fsys.Remove(filepath.Join(dir, name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// TempName is what a file of Temp is called, with a number in the place of * that
// makes it the only one.
func TempName(base string) string { return "." + base + ".*.tmp" }

// tempOf says what file a temporary one was to become, if it is one.
func tempOf(name string) (base string, ok bool) {
	name, dot := strings.CutPrefix(name, ".")
	name, end := strings.CutSuffix(name, ".tmp")
	at := strings.LastIndexByte(name, '.')
	if !dot || !end || at < 1 || at == len(name)-1 || strings.Trim(name[at+1:], "0123456789") != "" {
		return "", false
	}
	return name[:at], true
}

// Read reads a whole file.
func Read(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	return io.ReadAll(f)
}
