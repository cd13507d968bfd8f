package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the real file system. Names should be absolute.
var OS FS = osFS{}

// osFS is the real file system. With named set it never asks for O_TMPFILE; with
// an anchor, names are looked up from the folder that the anchor holds open.
type osFS struct {
	named  bool
	anchor *anchor
}

// enter returns a directory and what a name is called from there. Each success
// wants one leave.
func (o osFS) enter(name string) (dir int, rel string, err error) {
	if o.anchor == nil {
		return unix.AT_FDCWD, name, nil
	}
	return o.anchor.enter(name)
}

func (o osFS) leave() {
	if o.anchor != nil {
		o.anchor.leave()
	}
}

// at calls with what enter returns, until no signal interrupts it.
func (o osFS) at(name string, call func(dir int, name string) error) error {
	dir, rel, err := o.enter(name)
	if err != nil {
		return err
	}
	defer o.leave()
	return again(func() error { return call(dir, rel) })
}

// two is at for a call with two names.
func (o osFS) two(a, b string, call func(dir int, a, b string) error) error {
	return o.at(a, func(dir int, a string) error {
		if o.anchor == nil {
			return call(dir, a, b)
		}
		b, err := o.anchor.below(b)
		if err != nil {
			return err
		}
		return call(dir, a, b)
	})
}

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

func (o osFS) openFD(name string, flag int, mode uint32) (fd int, err error) {
	dir, rel, err := o.enter(name)
	if err != nil {
		return -1, err
	}
	defer o.leave()
	for {
		fd, err = unix.Openat(dir, rel, flag|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (o osFS) CreateUnnamed(dir string) (File, error) {
	if !o.named {
		fd, err := o.openFD(dir, unix.O_TMPFILE|unix.O_RDWR, fileMode)
		if err == nil {
			return &osFile{fs: o, fd: fd, name: dir + "/(unnamed)", unnamed: true}, nil
		}
		// A kernel without O_TMPFILE says EISDIR, a file system without it EOPNOTSUPP.
		if err != unix.EOPNOTSUPP && err != unix.EISDIR {
			return nil, pathError("create", dir, err)
		}
	}
	for range 100 {
		temp := fmt.Sprintf("%s/%s%016x", dir, TempPrefix, rand.Uint64())
		fd, err := o.openFD(temp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, fileMode)
		if err == nil {
			return &osFile{fs: o, fd: fd, name: temp, unnamed: true, temp: temp}, nil
		}
		if err != unix.EEXIST {
			return nil, pathError("create", dir, err)
		}
	}
	return nil, pathError("create", dir, unix.EEXIST)
}

func (o osFS) Open(name string) (File, error) {
	fd, err := o.openFD(name, unix.O_RDONLY, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &osFile{fs: o, fd: fd, name: name}, nil
}

func (o osFS) OpenFile(name string, flag int) (File, error) {
	if flag&^openFlags != 0 {
		return nil, pathError("open", name, unix.EINVAL)
	}
	fd, err := o.openFD(name, flag, fileMode)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &osFile{fs: o, fd: fd, name: name}, nil
}

func (osFS) Link(f File, name string) error {
	file, ok := f.(*osFile)
	if !ok {
		return pathError("link", name, unix.EINVAL)
	}
	return pathError("link", name, file.link(name))
}

func (o osFS) Rename(oldName, newName string) error {
	return pathError("rename", oldName, o.two(oldName, newName, func(dir int, from, to string) error {
		return rename(dir, from, to)
	}))
}

func (o osFS) Remove(name string) error {
	err := o.unlink(name, 0)
	if err == unix.EISDIR || err == unix.EPERM { // POSIX says EPERM of a directory, Linux EISDIR
		if dirErr := o.unlink(name, unix.AT_REMOVEDIR); dirErr != unix.ENOTDIR {
			err = dirErr
		}
	}
	return pathError("remove", name, err)
}

func (o osFS) unlink(name string, flag int) error {
	return o.at(name, func(dir int, name string) error { return unix.Unlinkat(dir, name, flag) })
}

func (o osFS) Mkdir(name string) error {
	return pathError("mkdir", name, o.at(name, func(dir int, name string) error { return unix.Mkdirat(dir, name, dirMode) }))
}

func (o osFS) ReadDir(name string) ([]Entry, error) {
	fd, err := o.openFD(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	list, err := dir.ReadDir(-1)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
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
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (o osFS) SyncDir(name string) error {
	fd, err := o.openFD(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return pathError("syncdir", name, err)
	}
	o.tally().syncedDir()
	err = again(func() error { return fsyncDir(fd) })
	if closeErr := closeFD(fd); err == nil {
		err = closeErr
	}
	return pathError("syncdir", name, err)
}

func (o osFS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	if err := o.at(name, func(dir int, name string) error { return unix.Fstatat(dir, name, &st, 0) }); err != nil {
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

func (o osFS) Usage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := o.statfs(name, &st); err != nil {
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

// statfs describes the file system of a name.
func (o osFS) statfs(name string, st *unix.Statfs_t) error {
	if o.anchor == nil {
		return again(func() error { return unix.Statfs(name, st) })
	}
	return o.at(name, func(dir int, name string) error {
		if name == "." {
			return unix.Fstatfs(dir, st)
		}
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC, 0) // there is no statfsat
		if err != nil {
			return err
		}
		err = unix.Fstatfs(fd, st)
		_ = closeFD(fd) // it only named something
		return err
	})
}

// linkFD names the unnamed file that fd has open.
func (o osFS) linkFD(fd int, name string) error {
	return o.at(name, func(dir int, name string) error { return link(fd, dir, name) })
}

// linkNow gives an open file a name in a directory.
func linkNow(fd, dir int, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
	if err != unix.ENOENT {
		return err
	}
	// Either the directory of name is missing or /proc is. This way needs no
	// /proc, though on older kernels a privilege; it says ENOENT in the first case.
	return unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
}

// moveTemp gives a temporary file its name, replacing nothing.
func (o osFS) moveTemp(temp, name string) error {
	err := o.two(temp, name, func(dir int, from, to string) error {
		return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	})
	if err != unix.ENOSYS && err != unix.EINVAL {
		return err
	}
	// The kernel or the file system knows no such rename.
	err = o.two(temp, name, func(dir int, from, to string) error { return unix.Linkat(dir, from, dir, to, 0) })
	if err != nil {
		return err
	}
	// The file has its name. A temporary one that stays is swept like those
	// that a crash leaves, so it is no reason to call this a failure.
	_ = o.unlink(temp, 0)
	return nil
}
