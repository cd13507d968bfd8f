package vfs

import (
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// ReadOnly returns a view of a file system through which nothing is changed: for who
// looks at a device that somebody else may have in use. What a store does of its own when
// it is opened has no effect and no error: syncs, cutting what a crash has left,
// removing files, making folders, which are then empty, and writing files anew, which
// are thrown away. Writing into what is there is EROFS.
func ReadOnly(under FS) FS { return &readOnly{FS: under, aside: NewMem(), made: map[string]bool{}} }

type readOnly struct {
	FS
	aside *Mem // has what was written

	mu   sync.Mutex
	made map[string]bool // mu; folders and files that are not there
}

func readOnlyError(op, name string) error { return pathError(op, name, syscall.EROFS) }

// CreateUnnamed implements FS.
func (r *readOnly) CreateUnnamed(dir string) (File, error) { return nil, readOnlyError("create", dir) }

// Open implements FS.
func (r *readOnly) Open(name string) (File, error) {
	f, err := r.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f, name}, nil
}

// OpenFile implements FS.
func (r *readOnly) OpenFile(name string, flag int) (File, error) {
	if flag&os.O_CREATE != 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.made[name] = true
		return r.aside.CreateUnnamed("/")
	}
	if flag&os.O_TRUNC != 0 {
		return nil, readOnlyError("open", name)
	}
	return r.Open(name)
}

// Link implements FS.
func (r *readOnly) Link(_ File, name string) error { return readOnlyError("link", name) }

// Rename implements FS.
func (r *readOnly) Rename(oldName, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made[oldName] {
		return nil
	}
	return readOnlyError("rename", oldName)
}

// Remove implements FS.
func (r *readOnly) Remove(string) error { return nil }

// Mkdir implements FS.
func (r *readOnly) Mkdir(name string) error {
	if _, err := r.FS.Stat(name); err == nil {
		return pathError("mkdir", name, fs.ErrExist)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made[name] = true
	return nil
}

// ReadDir implements FS.
func (r *readOnly) ReadDir(name string) ([]Entry, error) {
	list, err := r.FS.ReadDir(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.made[name] {
		return nil, nil
	}
	return list, err
}

// SyncDir implements FS.
func (r *readOnly) SyncDir(string) error { return nil }

type readOnlyFile struct {
	File
	name string
}

func (f readOnlyFile) WriteAt([]byte, int64) (int, error) { return 0, readOnlyError("write", f.name) }
func (f readOnlyFile) WriteVec([][]byte, int64) (int, error) {
	return 0, readOnlyError("write", f.name)
}
func (f readOnlyFile) Sync() error                    { return nil }
func (f readOnlyFile) Truncate(int64) error           { return nil }
func (f readOnlyFile) Preallocate(int64, int64) error { return readOnlyError("write", f.name) }
