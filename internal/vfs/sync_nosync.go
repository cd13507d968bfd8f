//go:build linux && nosync

package vfs

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A build with the tag nosync breaks a promise on purpose, so that the tests which
// are to notice can be seen to notice. The environment says which one: with
// MARTLET_DROP=file or dir the syncs of files or of directories do nothing, with
// order renames, and names of new files, come some time after they were said to be there. MARTLET_DROP=db is for
// package metadb.
var drop = os.Getenv("MARTLET_DROP")

func fdatasync(fd int) error {
	if drop == "file" {
		return nil
	}
	return unix.Fdatasync(fd)
}

func fsyncDir(fd int) error {
	if drop == "dir" {
		return nil
	}
	return unix.Fsync(fd)
}

// late is how long after its answer a rename or a link is done.
const late = 30 * time.Millisecond

func rename(dir int, from, to string) error {
	if drop != "order" {
		return unix.Renameat(dir, from, dir, to)
	}
	if dir != unix.AT_FDCWD {
		var err error
		if dir, err = unix.Dup(dir); err != nil {
			return err
		}
	}
	time.AfterFunc(late, func() {
		_ = unix.Renameat(dir, from, dir, to) // nobody is left to be told
		if dir != unix.AT_FDCWD {
			_ = unix.Close(dir)
		}
	})
	return nil
}

func link(fd, dir int, name string) error {
	if drop != "order" {
		return linkNow(fd, dir, name)
	}
	file, err := unix.Dup(fd)
	if err != nil {
		return err
	}
	if dir != unix.AT_FDCWD {
		if dir, err = unix.Dup(dir); err != nil {
			return err
		}
	}
	time.AfterFunc(late, func() {
		_ = linkNow(file, dir, name) // nobody is left to be told
		_ = unix.Close(file)
		if dir != unix.AT_FDCWD {
			_ = unix.Close(dir)
		}
	})
	return nil
}
