// Package engine is the object store of one device: versions of objects, tombstones and
// later metadata, as records of the device's log (internal/seglog) and, where the data
// is large, as files that a record makes real (package blob), with an index (object/index)
// that is a cache of the log. DESIGN.md says why it is so.
//
// It promises: what a call that returned nil has written survives a crash at any later
// moment, and the loss of the index; a call that failed leaves the old state or the new
// one, whole; what was deleted or dropped does not come back; no byte is read whose
// checksum does not match; the state of a name is the same whatever the order in which
// the same writes came. It leaves to its callers what a request means, who else has
// copies, and when something may be forgotten.
//
// # Files
//
//	<device>/log/                 the log
//	<device>/index/               the index
//	<device>/blobs/<2 hex>/<hash>-<policy>-<16 hex>
//	                              the data of one version; the folder is the first
//	                              byte of the hash, the last number random
//	<device>/quarantined/objects[-N]/<hash>.<time>.<random>.<part>[.reason]
//	                              what was damaged: a file, or a record as it was read
//
// # State
//
// The state of a name is the join of everything that was written to it: the greatest of
// all data and tombstones, by time, then tombstone before data, then MD5, length and at
// last content; the latest content type and the latest metadata, where the data brings
// both with its own time. So it is commutative, associative and idempotent. Metadata
// later than any data there is waits for it.
//
// Whoever writes to a name holds its lock from when he looks at what is there until his
// record is in the log and the index. So a record of the log is one that has won, the
// index follows from the log in its order (after), and replay decides nothing.
//
// # What is durable when
//
// Commit, Update, Delete and Drop return nil when their record is on stable storage, by
// the log's promise; Commit of a large object has synced its file and the folder with
// the file's name before. The index is behind, and is replayed from its last checkpoint.
package engine

import (
	"errors"
	"io/fs"
	"log/slog"
	"syscall"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
	"martlet/object/index"
)

// Location is where an object is on its device.
type Location struct {
	Policy policy.Index
	Hash   name.Hash
}

// String returns the hash, with the policy before it where it is not 0.
func (l Location) String() string { return "objects" + l.Policy.Suffix() + "/" + l.Hash.String() }

// Config is what an Engine can be told.
type Config struct {
	FS      vfs.FS        // the file system of the device
	Buffers *blob.Buffers // shared by the engines of a process; nil for its own
	Log     *slog.Logger  // nil for none

	// Reserve is the share of the device, 0 to 1, that stays free: data that
	// would use it is refused. Deletes and metadata may.
	Reserve float64

	// KeepCache is the size in bytes up to which an object that was read stays in
	// the page cache. What is larger is read around it.
	KeepCache int64

	// Threshold is the size in bytes up to which the data of an object is kept in the
	// log; what is larger has a file of its own. At most blob.SmallMax, and an eighth of
	// a segment.
	Threshold int64

	// SegmentSize is that of the log's segments, in bytes, of which two are reserved at
	// the least: from 4 MiB, but for tests, to 16 GiB. On a device that is small for that
	// they are a 64th of it. Zero has them filled with zeros
	// before they are used (seglog.Config).
	SegmentSize int64
	Zero        bool

	// Depth is how many bits of the hash the buckets of the digests have (index.Config).
	Depth int

	// Changes is how many names change, about, between two checkpoints of the index: what
	// is replayed after a crash. At 50,000 they take some 10 MB of memory.
	Changes int

	pieces pieces // of compaction; zero for what is usual

	// Lost is told of an object whose data or metadata was found damaged, once that is
	// durable; nil for nobody. It must not call the engine.
	Lost func(Location)
}

// Defaults returns the configuration that fits most devices.
func Defaults() Config {
	return Config{
		FS: vfs.OS, Reserve: device.Reserve, KeepCache: 5 << 20,
		Threshold: blob.SmallMax, SegmentSize: 1 << 30, Depth: 18, Changes: 50_000,
	}
}

// defaultBuffers is the memory of an engine that shares none, in bytes.
const defaultBuffers = 128 << 20

// wrap gives an error its kind and says where it was. nil stays nil.
func (s *store) wrap(op errs.Op, at Location, err error) error {
	if err == nil {
		return nil
	}
	if said := (*errs.Error)(nil); errors.As(err, &said) && said.Op == op {
		return err
	}
	kind := errs.KindOf(err)
	var read *blob.ReadError
	switch {
	case errors.As(err, &read):
	case errors.Is(err, errClosed), errors.Is(err, errMoved), errors.Is(err, seglog.ErrClosed), errors.Is(err, index.ErrClosed):
		kind = errs.BadDevice
	case kind != errs.Other:
	case errors.Is(err, blob.ErrCorrupt):
		kind = errs.Corrupt
	case errors.Is(err, blob.ErrTooMuch):
		kind = errs.TooLarge
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = errs.NoSpace
	case badDevice(err):
		kind = errs.BadDevice
	}
	return errs.E(op, errs.Subject(s.root+" "+at.String()), kind, err)
}

// badDevice reports whether an error is the device's fault: another replica
// may do better.
func badDevice(err error) bool {
	for _, no := range []error{syscall.EIO, syscall.EROFS, syscall.ENODEV, syscall.ENXIO, syscall.EUCLEAN, syscall.ENOTCONN, syscall.ESTALE, fs.ErrNotExist, fs.ErrPermission, fs.ErrClosed} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
