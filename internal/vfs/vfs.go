package vfs

import (
	"io"
	"io/fs"
	"time"
)

// An FS is what a device's engine needs of a file system. Names are slash
// separated paths and clean. An FS is not rooted: OS takes absolute paths, Mem
// has a tree of its own that starts at "/".
//
// Errors are *fs.PathError with the name that was asked for (the old one, of
// Rename) and match fs.ErrNotExist, fs.ErrExist, fs.ErrClosed,
// errors.ErrUnsupported and the syscall.Errno values with errors.Is. An FS and
// its files may be used by many goroutines at once.
type FS interface {
	// CreateUnnamed returns a new, empty file on the file system of dir, open
	// for reading and writing, that has no name until Link and is gone if it is
	// closed, or the machine stops, before that. Where O_TMPFILE is refused the
	// file is named ".tmp-" and a random part in dir until Link moves it or Close
	// removes it; a crash can leave it behind, for the caller to sweep.
	CreateUnnamed(dir string) (File, error)

	// Open opens a file for reading. The error is fs.ErrNotExist if there is
	// none. A directory is refused here or at the first read (EISDIR).
	Open(name string) (File, error)

	// OpenFile opens a file as flag says: one of os.O_RDONLY, O_WRONLY and
	// O_RDWR, with any of os.O_CREATE, O_EXCL and O_TRUNC. Other flags are EINVAL:
	// positions are given with each call, durability comes from Sync, direct
	// I/O from SetDirect. A file that is created has mode 0640; its name is
	// durable only after SyncDir of its directory.
	OpenFile(name string, flag int) (File, error)

	// Link gives a file of CreateUnnamed its name, on the same file system.
	// The error is fs.ErrExist if the name is taken, and EINVAL if the file
	// already has one. The name is durable only after SyncDir of its directory;
	// what is in the file, only after its Sync.
	Link(f File, name string) error

	// Rename moves a file or a directory, replacing what is at newName (a
	// directory only if it is empty) atomically. It is durable only after SyncDir
	// of both directories.
	Rename(oldName, newName string) error

	// Remove removes a file or an empty directory. It is durable only after
	// SyncDir of the directory it was in. A file that is open stays readable.
	Remove(name string) error

	// Mkdir makes one directory, mode 0750. The error is fs.ErrExist if the
	// name is taken. It is durable only after SyncDir of its parent.
	Mkdir(name string) error

	// ReadDir returns what is in a directory, in order of name.
	ReadDir(name string) ([]Entry, error)

	// SyncDir makes the names in a directory durable: everything done to it
	// before the call. It does not reach into its subdirectories or its files,
	// and does not make the directory's own name durable.
	SyncDir(name string) error

	// Stat describes a file or a directory. Symbolic links are followed.
	Stat(name string) (Info, error)

	// Usage says how full the file system of name is.
	Usage(name string) (Usage, error)
}

// A File is an open file. Its methods may be called at the same time, except
// that overlapping writes have no defined order. Close waits for calls under way;
// all calls after it fail with fs.ErrClosed. A File that is not closed leaks.
type File interface {
	// ReadAt reads as io.ReaderAt says. Of a file in direct mode that ends
	// within the aligned buffer, it returns what there is and io.EOF.
	io.ReaderAt

	// WriteAt writes all of p or says why not. Nothing is durable before Sync.
	io.WriterAt

	// WriteVec writes bufs one after the other from off on, in one system
	// call where that is possible. It returns how many bytes were written, short
	// of all only with an error. It changes neither bufs nor what they hold.
	WriteVec(bufs [][]byte, off int64) (int, error)

	// Sync makes what is in the file durable, with the size (fdatasync), but
	// not its name. After an error nothing written since the last success may
	// be taken for durable, not even when a later Sync succeeds.
	Sync() error

	// Truncate sets the size. A file that grows reads as zeros there.
	Truncate(size int64) error

	// Preallocate reserves room for n > 0 bytes from off on, without changing
	// the size. The error is errors.ErrUnsupported where the file system can't,
	// ENOSPC where there is no room.
	Preallocate(off, n int64) error

	// Size returns the size in bytes.
	Size() (int64, error)

	// SetDirect switches direct I/O on or off, waiting for calls under way.
	// The error is errors.ErrUnsupported where the file system refuses. While it
	// is on, offset, length and memory of every read and write must be aligned
	// as Align says, or the call may fail with EINVAL. On Mem it does.
	SetDirect(on bool) error

	// Align returns the alignment that direct I/O wants, in bytes, of memory
	// and of offset and length: powers of two.
	Align() (mem, off int)

	// DropCache tells the kernel that n bytes from off on will not be read
	// again soon; n = 0 means to the end. Only what is not dirty is dropped, and is
	// read from the disk next time: so what a failed Sync has left in the cache, and
	// not on the disk, is seen no more. It is advice: an error may be ignored.
	DropCache(off, n int64) error

	// Close closes the file. A file that never got a name is gone.
	Close() error
}

// An Entry is one name in a directory.
type Entry struct {
	Name string // without the directory
	Dir  bool
}

// Info describes a file or a directory.
type Info struct {
	Size    int64 // bytes; not meaningful for a directory
	Dir     bool
	ModTime time.Time
	Dev     uint64 // the file system: differs between a mount point and its parent if something is mounted
	Ino     uint64 // the file, within Dev
}

// Usage is the room on a file system.
type Usage struct {
	Total     int64 // bytes
	Free      int64 // bytes
	Available int64 // bytes that may be used without privileges; at most Free
	Files     int64 // inodes; 0 where the file system does not count them
	FilesFree int64 // inodes; 0 where the file system does not count them
}

// pathError puts a name to an error; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
