package whole

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// OS is the real file system.
var OS FS = osFS{}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Lock() error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return ErrLocked
		case nil:
			return nil
		default:
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

func (osFS) Resolve(name string) (string, error) { return filepath.EvalSymlinks(name) }

func (osFS) Open(name string) (File, error) {
	// Before the open, which would wait for a writer if this were a pipe.
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Temp(dir, base string, like File) (File, error) {
	mode, owner := os.FileMode(0o644), (*syscall.Stat_t)(nil)
	if old, ok := like.(osFile); ok {
		info, err := old.Stat()
		if err != nil {
			return nil, err
		}
		mode = info.Mode().Perm()
		owner, _ = info.Sys().(*syscall.Stat_t)
	}
	f, err := os.CreateTemp(dir, TempName(base))
	if err != nil {
		return nil, err
	}
	if owner != nil && int(owner.Uid) != os.Getuid() {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err = errors.Join(err, f.Chmod(mode)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return osFile{f}, nil
}

func (osFS) Is(f File, name string) (bool, error) {
	open, ok := f.(osFile)
	if !ok {
		return false, nil
	}
	mine, err := open.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, there), nil
}

func (osFS) Place(temp, name string) error {
	if err := os.Link(temp, name); err != nil { // unlike a rename it replaces nothing
		return err
	}
	// The file has its name. A temporary one that stays is swept like those that a
	// crash leaves: it is no reason to call this a failure.
	_ = os.Remove(temp)
	return nil
}

func (osFS) Rename(temp, name string) error { return os.Rename(temp, name) }
func (osFS) Remove(name string) error       { return os.Remove(name) }
func (osFS) Mkdir(name string) error        { return os.Mkdir(name, 0o755) }

func (osFS) Names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, d.Close())
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
