//go:build !nosync

package vfs

import "golang.org/x/sys/unix"

// The calls that make things last, as they are; sync_nosync.go has their broken
// forms, which are in no build but that of a test.

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

func fsyncDir(fd int) error { return unix.Fsync(fd) }

func rename(dir int, from, to string) error { return unix.Renameat(dir, from, dir, to) }

func link(fd, dir int, name string) error { return linkNow(fd, dir, name) }
