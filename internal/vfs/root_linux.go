package vfs

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Root is the real file system below one folder, which it holds open: names
// begin with the folder's, and are looked up from what was there when the Root
// was opened. What is mounted over the folder later, or left there when the disk
// is unmounted, is never reached through it. It is safe for concurrent use.
type Root struct{ osFS }

// OpenRoot opens a folder. The error is ENOTDIR where it is something else.
func OpenRoot(folder string) (*Root, error) {
	fd, err := osFS{}.openFD(folder, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, pathError("open", folder, err)
	}
	a := &anchor{path: strings.TrimSuffix(folder, "/"), fd: fd}
	a.users.Store(1)
	return &Root{osFS{anchor: a}}, nil
}

// Lock takes the folder for this Root alone, until Close: no other process, and
// no other Root, can then have its lock. It leaves nothing in the folder. The
// error is EWOULDBLOCK where another one has it.
func (r *Root) Lock() error {
	err := r.at(r.anchor.path, func(dir int, _ string) error { return unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB) })
	return pathError("lock", r.anchor.path, err)
}

// MountID tells one mount from another. Kernels before 6.8 give the number of one
// that is gone to another one; where nothing is known it is 0.
func (r *Root) MountID() uint64 {
	for _, mask := range []int{unix.STATX_MNT_ID_UNIQUE, unix.STATX_MNT_ID} {
		var st unix.Statx_t
		err := r.at(r.anchor.path, func(dir int, _ string) error { return unix.Statx(dir, "", unix.AT_EMPTY_PATH, mask, &st) })
		if err == nil && st.Mask&uint32(mask) != 0 {
			return st.Mnt_id
		}
	}
	return 0
}

// OpenOS is OpenFile for those who need a file of package os. mode is that of a
// file that is created.
func (r *Root) OpenOS(name string, flag int, mode os.FileMode) (*os.File, error) {
	fd, err := r.openFD(name, flag, uint32(mode.Perm()))
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CountIn has what is asked of the disk through this Root counted, but for files of package os. It is called before the Root is used, if at all.
func (r *Root) CountIn(t *Tally) { r.anchor.tally = t }

// Close gives the folder and its lock back. Calls that begin afterwards fail with
// ErrDetached; it does not wait for those under way, nor for files to be closed: they
// stay as good as the disk is. Only the first Close does anything.
func (r *Root) Close() error {
	a := r.anchor
	if a.closed.Swap(true) {
		return nil
	}
	// By name: a call that a dead disk holds up would keep the lock.
	err := again(func() error { return unix.Flock(a.fd, unix.LOCK_UN) })
	a.leave()
	return pathError("unlock", a.path, err)
}

// anchor is a folder that is held open.
type anchor struct {
	path   string // without a slash at its end
	fd     int
	tally  *Tally       // nil for none
	users  atomic.Int64 // calls under way, and one until Close; fd is closed with the last
	closed atomic.Bool
}

// below returns what a name is called from the folder.
func (a *anchor) below(name string) (string, error) {
	n := len(a.path)
	switch {
	case name == "":
		return "", unix.ENOENT
	case name == a.path:
		return ".", nil
	case len(name) > n+1 && name[:n] == a.path && name[n] == '/':
		return name[n+1:], nil
	}
	return "", fmt.Errorf("%w: not below %s", unix.EXDEV, a.path)
}

func (a *anchor) enter(name string) (dir int, rel string, err error) {
	if rel, err = a.below(name); err != nil {
		return -1, "", err
	}
	for {
		n := a.users.Load()
		if n == 0 || a.closed.Load() {
			return -1, "", ErrDetached
		}
		if a.users.CompareAndSwap(n, n+1) {
			return a.fd, rel, nil
		}
	}
}

func (a *anchor) leave() {
	if a.users.Add(-1) == 0 {
		_ = closeFD(a.fd) // a folder has nothing that could be lost
	}
}
