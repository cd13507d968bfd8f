package vfs

import (
	"fmt"
	"os"
	"syscall"
)

// ErrDetached is the error of calls to a file system that was let go of, Absent or a
// Root that was closed. It is ENODEV, but says more: nothing was done, and the disk
// was not even asked.
var ErrDetached = fmt.Errorf("the disk is not in use: %w", syscall.ENODEV)

// Absent is the file system of a disk that is not there: every call fails with
// ErrDetached and does nothing.
var Absent FS = absentFS{}

type absentFS struct{}

func absent(op, name string) error { return pathError(op, name, ErrDetached) }

func (absentFS) CreateUnnamed(dir string) (File, error)    { return nil, absent("create", dir) }
func (absentFS) Open(name string) (File, error)            { return nil, absent("open", name) }
func (absentFS) OpenFile(name string, _ int) (File, error) { return nil, absent("open", name) }
func (absentFS) Link(_ File, name string) error            { return absent("link", name) }
func (absentFS) Rename(oldName, _ string) error            { return absent("rename", oldName) }
func (absentFS) Remove(name string) error                  { return absent("remove", name) }
func (absentFS) Mkdir(name string) error                   { return absent("mkdir", name) }
func (absentFS) ReadDir(name string) ([]Entry, error)      { return nil, absent("readdir", name) }
func (absentFS) SyncDir(name string) error                 { return absent("syncdir", name) }
func (absentFS) Stat(name string) (Info, error)            { return Info{}, absent("stat", name) }
func (absentFS) Usage(name string) (Usage, error)          { return Usage{}, absent("statfs", name) }

// OpenOS is that of Root.
func (absentFS) OpenOS(name string, _ int, _ os.FileMode) (*os.File, error) {
	return nil, absent("open", name)
}
