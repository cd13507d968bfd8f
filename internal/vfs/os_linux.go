package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the real file system. Names should be absolute.
var OS FS = osFS{}

// osFS is the real file system. With named set it never asks for O_TMPFILE.
type osFS struct{ named bool }

const (
	fileMode = 0o640
	dirMode  = 0o750

	// TempPrefix starts the name of a file of CreateUnnamed where the file
	// system has no unnamed files. What a crash left of them may be removed.
	TempPrefix = ".tmp-"
)

// openFlags are what OpenFile takes.
const openFlags = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC

// again calls a system call until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func openFD(name string, flag int) (fd int, err error) {
	for {
		fd, err = unix.Open(name, flag|unix.O_CLOEXEC, fileMode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (o osFS) CreateUnnamed(dir string) (File, error) {
	if !o.named {
		fd, err := openFD(dir, unix.O_TMPFILE|unix.O_RDWR)
		if err == nil {
			return &osFile{fd: fd, name: dir + "/(unnamed)", unnamed: true}, nil
		}
		// A kernel without O_TMPFILE says EISDIR, a file system without it EOPNOTSUPP.
		if err != unix.EOPNOTSUPP && err != unix.EISDIR {
			return nil, pathError("create", dir, err)
		}
	}
	for range 100 {
		temp := fmt.Sprintf("%s/%s%016x", dir, TempPrefix, rand.Uint64())
		fd, err := openFD(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
		if err == nil {
			return &osFile{fd: fd, name: temp, unnamed: true, temp: temp}, nil
		}
		if err != unix.EEXIST {
			return nil, pathError("create", dir, err)
		}
	}
	return nil, pathError("create", dir, unix.EEXIST)
}

func (osFS) Open(name string) (File, error) {
	fd, err := openFD(name, unix.O_RDONLY)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &osFile{fd: fd, name: name}, nil
}

func (osFS) OpenFile(name string, flag int) (File, error) {
	if flag&^openFlags != 0 {
		return nil, pathError("open", name, unix.EINVAL)
	}
	fd, err := openFD(name, flag)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &osFile{fd: fd, name: name}, nil
}

func (osFS) Link(f File, name string) error {
	file, ok := f.(*osFile)
	if !ok {
		return pathError("link", name, unix.EINVAL)
	}
	return pathError("link", name, file.link(name))
}

func (osFS) Rename(oldName, newName string) error {
	return pathError("rename", oldName, again(func() error { return unix.Rename(oldName, newName) }))
}

func (osFS) Remove(name string) error {
	err := again(func() error { return unix.Unlink(name) })
	if err == unix.EISDIR || err == unix.EPERM { // POSIX says EPERM of a directory, Linux EISDIR
		if dirErr := again(func() error { return unix.Rmdir(name) }); dirErr != unix.ENOTDIR {
			err = dirErr
		}
	}
	return pathError("remove", name, err)
}

func (osFS) Mkdir(name string) error {
	return pathError("mkdir", name, again(func() error { return unix.Mkdir(name, dirMode) }))
}

func (osFS) ReadDir(name string) ([]Entry, error) {
	list, err := os.ReadDir(name)
	if err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, pathError("readdir", name, err)
	}
	entries := make([]Entry, len(list))
	for i, e := range list {
		entries[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	return entries, nil
}

func (osFS) SyncDir(name string) error {
	fd, err := openFD(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError("syncdir", name, err)
	}
	err = again(func() error { return unix.Fsync(fd) })
	if closeErr := closeFD(fd); err == nil {
		err = closeErr
	}
	return pathError("syncdir", name, err)
}

func (osFS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Stat(name, &st) }); err != nil {
		return Info{}, pathError("stat", name, err)
	}
	return Info{
		Size:    st.Size,
		Dir:     st.Mode&unix.S_IFMT == unix.S_IFDIR,
		ModTime: time.Unix(st.Mtim.Unix()),
		Dev:     uint64(st.Dev),
		Ino:     st.Ino,
	}, nil
}

func (osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := again(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Usage{}, pathError("statfs", name, err)
	}
	unit := int64(st.Frsize)
	if unit == 0 { // old kernels leave it out
		unit = int64(st.Bsize)
	}
	return Usage{
		Total:     int64(st.Blocks) * unit,
		Free:      int64(st.Bfree) * unit,
		Available: int64(st.Bavail) * unit,
		Files:     int64(st.Files),
		FilesFree: int64(st.Ffree),
	}, nil
}

// closeFD closes fd once. Linux has freed the number even if a signal came, so
// EINTR is not retried: another goroutine may have the number by then.
func closeFD(fd int) error {
	if err := unix.Close(fd); err != unix.EINTR {
		return err
	}
	return nil
}

// linkFD names the unnamed file that fd has open.
func linkFD(fd int, name string) error {
	err := again(func() error {
		return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	})
	if err != unix.ENOENT {
		return err
	}
	// Either the directory of name is missing or /proc is. This way needs no
	// /proc, though on older kernels a privilege; it says ENOENT in the first case.
	return again(func() error { return unix.Linkat(fd, "", unix.AT_FDCWD, name, unix.AT_EMPTY_PATH) })
}

// moveTemp gives a temporary file its name, replacing nothing.
func moveTemp(temp, name string) error {
	err := again(func() error {
		return unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
	})
	if err != unix.ENOSYS && err != unix.EINVAL {
		return err
	}
	// The kernel or the file system knows no such rename.
	if err := again(func() error { return unix.Link(temp, name) }); err != nil {
		return err
	}
	// The file has its name. A temporary one that stays is swept like those
	// that a crash leaves, so it is no reason to call this a failure.
	_ = again(func() error { return unix.Unlink(temp) })
	return nil
}
