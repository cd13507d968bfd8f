// Package engine is the object store of one device: the versions of objects,
// tombstones and later metadata, each a file of its own (package blob), and what
// they come to together.
//
// It promises: what a call that returned nil has written survives a crash at
// any later moment; a call that failed leaves the old state or the new one,
// whole; no byte is read whose checksum does not match; the state of a name is
// the same whatever the order in which the same writes came. It leaves to its
// callers what a request means, who else has copies, and when something may be
// forgotten.
//
// # Names
//
//	<device>/objects[-N]/<3 hex>/<hash>.data   the data or its tombstone
//	                             <hash>.meta   later content type and metadata
//	                             <hash>.lost   marks data that is in quarantine
//	                             .new-*, .tmp-*  on the way; of no meaning after a crash
//	<device>/quarantined/objects[-N]/<hash>.<time>.<random>.<part>[.reason]
//
// There is no partition in a path: folders are the first three digits of the
// hash, so that partitions of any part power are runs of folders or of names in
// one, and walking them is walking partitions in order. The name of a file is
// known from the hash alone: what is there is found by opening it, in time that
// does not depend on how many others are in the folder, so that 4096 folders are
// enough; each costs a sync when it is first used. A newer version replaces an
// older one by renaming over it, which is atomic; a reader that has the old one
// open goes on reading.
//
// # State
//
// The state of a name is the join of everything that was written to it: the
// greatest of all data and tombstones, by time, then tombstone before data, then
// MD5, length and at last content; the latest content type and the latest
// metadata, where the data brings both with its own time. So it is commutative,
// associative and idempotent. Metadata later than any data there is waits for it.
package engine

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object/durable"
	"martlet/object/engine/blob"
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
	// the page cache.
	KeepCache int64
}

// Defaults returns the configuration that fits most devices.
func Defaults() Config {
	return Config{FS: vfs.OS, Reserve: device.Reserve, KeepCache: 5 << 20}
}

// defaultBuffers is the memory of an engine that shares none, in bytes.
const defaultBuffers = 128 << 20

// store is an Engine over one file system: what is known of that, such as which
// folders are durable, holds for no other. Readers take no lock: what is under a
// name is always whole.
type store struct {
	cfg   Config
	root  string
	began time.Time
	locks *[256]sync.Mutex // by hash: held by whoever changes what is under its name
	names *durable.Names
	made  sync.Map // policy.Index to *bitmap: the folders known to be durable
}

// New returns the store in the folder of a device. It does nothing to the disk.
func New(root string, cfg Config) *Engine {
	if cfg.Buffers == nil {
		cfg.Buffers = blob.NewBuffers(defaultBuffers)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &store{cfg: cfg, root: root, began: time.Now(), locks: new([256]sync.Mutex), names: durable.New(cfg.FS)}
	e := &Engine{disks: map[string]*store{"": s}}
	e.current.Store(s)
	return e
}

// Usage is Engine.Usage.
func (e *store) Usage() (vfs.Usage, error) {
	u, err := e.cfg.FS.Usage(e.root)
	return u, e.wrap("engine.usage", Location{}, err)
}

func (e *store) lock(h name.Hash) *sync.Mutex {
	l := &e.locks[h[15]]
	l.Lock()
	return l
}

// The parts of a name's state, as their files end.
const (
	extData = ".data"
	extMeta = ".meta"
	extLost = ".lost"
)

func (e *store) objects(p policy.Index) string { return e.root + "/objects" + p.Suffix() }

const hexDigits = "0123456789abcdef"

// leaves is how many folders a policy has on a device.
const leaves = 1 << 12

// leafOf numbers the folder of a hash.
func leafOf(h name.Hash) int { return int(h[0])<<4 | int(h[1])>>4 }

func leafName(n int) string {
	return string([]byte{hexDigits[n>>8&15], hexDigits[n>>4&15], hexDigits[n&15]})
}

// folder returns the directory of a location.
func (e *store) folder(at Location) string {
	return e.objects(at.Policy) + "/" + leafName(leafOf(at.Hash))
}

// file returns the path of a part. It is made in one go: every request asks for
// a few.
func (e *store) file(at Location, ext string) string {
	var space [256]byte
	b := append(append(space[:0], e.root...), "/objects"...)
	b = append(append(b, at.Policy.Suffix()...), '/')
	n := leafOf(at.Hash)
	b = append(b, hexDigits[n>>8&15], hexDigits[n>>4&15], hexDigits[n&15], '/')
	b = hex.AppendEncode(b, at.Hash[:])
	return string(append(b, ext...))
}

// wrap gives an error its kind and says where it was. nil stays nil.
func (e *store) wrap(op errs.Op, at Location, err error) error {
	if err == nil {
		return nil
	}
	if said := (*errs.Error)(nil); errors.As(err, &said) && said.Op == op {
		return err
	}
	kind := errs.KindOf(err)
	var read *blob.ReadError
	switch {
	case kind != errs.Other || errors.As(err, &read):
	case errors.Is(err, blob.ErrCorrupt):
		kind = errs.Corrupt
	case errors.Is(err, blob.ErrTooMuch):
		kind = errs.TooLarge
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = errs.NoSpace
	case badDevice(err):
		kind = errs.BadDevice
	}
	return errs.E(op, errs.Subject(e.root+" "+at.String()), kind, err)
}

// badDevice reports whether an error is the device's fault: another replica
// may do better.
func badDevice(err error) bool {
	for _, no := range []error{syscall.EIO, syscall.EROFS, syscall.ENODEV, syscall.ENXIO, syscall.EUCLEAN, syscall.ENOTCONN, syscall.ESTALE, fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

type bitmap [leaves / 64]atomic.Uint64

// ensure makes the folder of a location, where it is not known to be there, and
// makes its name durable, with that of the folder above it.
func (e *store) ensure(at Location) error {
	v, ok := e.made.Load(at.Policy)
	if !ok {
		v, _ = e.made.LoadOrStore(at.Policy, new(bitmap))
	}
	bit := leafOf(at.Hash)
	word := &v.(*bitmap)[bit/64]
	leaf := e.folder(at)
	if word.Load()>>(bit%64)&1 == 1 {
		return e.names.Trusted(leaf)
	}
	if err := e.names.FolderOnce(e.objects(at.Policy), e.root); err != nil {
		return err
	}
	if err := e.names.Folder(leaf, e.objects(at.Policy)); err != nil {
		return err
	}
	word.Or(1 << (bit % 64))
	return e.names.Trusted(leaf)
}
