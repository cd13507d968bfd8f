//go:build !nosync

package boltfile

// DropSync leaves out the syncs of databases: never, except in the build of
// sync_nosync.go.
const DropSync = false

// Sync puts on the disk what is in the file.
func (f *File) Sync() error { return f.DB.Sync() }
