// Package netns makes, enters and removes named network namespaces, those that `ip netns` lists.
//
// A name says nothing of whose a namespace is; its inode does, for as long as the machine is up. Whoever
// made one keeps that, and asks by it (Is) before touching anything of that name later.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// folder is where the names are, for this package as for `ip netns`.
const folder = "/run/netns"

// Path is the file that a namespace of that name has.
func Path(name string) string { return filepath.Join(folder, name) }

// Prepare makes the folder of the names, a mount that all mount namespaces share, as `ip netns` does when it
// is used the first time. It reports whether there was none.
func Prepare() (made bool, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return false, err
	}
	if err := unix.Mount("", folder, "", unix.MS_SHARED|unix.MS_REC, ""); err == nil {
		return false, nil
	}
	if err := unix.Mount(folder, folder, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return false, fmt.Errorf("mount %s: %w", folder, err)
	}
	return true, unix.Mount("", folder, "", unix.MS_SHARED|unix.MS_REC, "")
}

// Retire undoes a Prepare that made the folder, if no namespace is left in it.
func Retire() error {
	names, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || len(names) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(folder, 0); err != nil && !errors.Is(err, unix.EINVAL) { // it is gone with a restart
		return fmt.Errorf("unmount %s: %w", folder, err)
	}
	if err := os.Remove(folder); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// Create makes a namespace, with nothing but its loopback device, which is down. The error is fs.ErrExist
// where the name is taken.
func Create(name string) (inode uint64, err error) {
	f, err := os.OpenFile(Path(name), os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	err = apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", Path(name), "", unix.MS_BIND, "")
	})
	if err != nil {
		return 0, errors.Join(fmt.Errorf("namespace %s: %w", name, err), os.Remove(Path(name)))
	}
	inode, _, err = find(name)
	return inode, err
}

// nsfs is what statfs says of namespaces.
const nsfs = 0x6e736673

// find returns the inode of a namespace, or that there is none; a name alone, as a machine that has lost
// power may have, is none.
func find(name string) (inode uint64, ok bool, err error) {
	var kind unix.Statfs_t
	if err := unix.Statfs(Path(name), &kind); errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, fmt.Errorf("%s: %w", Path(name), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(Path(name), &st); err != nil {
		return 0, false, fmt.Errorf("%s: %w", Path(name), err)
	}
	return st.Ino, kind.Type == nsfs, nil
}

// Is reports whether the namespace of that name is the one with that inode.
func Is(name string, inode uint64) (bool, error) {
	is, ok, err := find(name)
	return ok && is == inode, err
}

// Live reports whether there is a namespace of that name; Named, whether anything has it.
func Live(name string) (bool, error) {
	_, ok, err := find(name)
	return ok, err
}

// Named reports whether anything has that name, be it a namespace or what a machine that lost power has left of one.
func Named(name string) (bool, error) {
	_, err := os.Lstat(Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Delete takes the name away. The namespace ends when no process is left in it. There being none is fine.
func Delete(name string) error {
	for { // a name can be mounted on more than once
		if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil {
			break // it is a name alone
		}
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// apart runs f on a thread that is thrown away afterwards, so that it may change what threads have.
func apart(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The first thread does not end, and what it has is taken for what the process has.
			err := apart(f)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// Do runs f in a namespace: what f opens or starts, itself and not in another goroutine, belongs there.
func Do(name string, f func() error) error {
	return apart(func() error {
		if err := Enter(name); err != nil {
			return err
		}
		return f()
	})
}

// Enter puts the calling thread into a namespace. Nothing brings it back: it is for a thread that is about to
// become another program, or one of Do.
func Enter(name string) error {
	fd, err := unix.Open(Path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return errors.Join(fmt.Errorf("namespace %s: %w", name, err), unix.Close(fd))
	}
	return unix.Close(fd)
}

// Dial returns a function that connects from within a namespace to an IP address with a port.
func Dial(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = Do(name, func() (err error) {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}

// Processes lists the processes in any of the namespaces with these inodes, but for this one.
func Processes(inodes map[uint64]bool) (pids []int, err error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join("/proc", p.Name(), "ns/net"), &st); err != nil {
			continue // it has ended
		}
		if inodes[st.Ino] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
