//go:build nosync

package boltfile

import "os"

var drop = os.Getenv("MARTLET_DROP") == "db"

// DropSync breaks the promise that a commit is on the disk, so that the tests
// which are to notice can be seen to notice: package vfs says more of this build.
func DropSync() bool { return drop }

// Sync puts on the disk what is in the file, unless it is told not to.
func (f *File) Sync() error {
	if drop {
		return nil
	}
	return f.DB.Sync()
}
