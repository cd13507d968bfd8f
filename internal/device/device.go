// Package device is the set of devices that a storage node owns: folders, each
// the mount point of one disk, named as the ring names them.
//
// A device that can't be used answers with an error of kind errs.BadDevice,
// which a server turns into 507 so that the sender goes to another. A Set that
// was opened (Open) and is watched (Watch) takes a device out of use when its
// folder is missing, is another disk's or nobody's, can't be written to, or fails,
// and takes it back when that is over.
//
// It promises that nothing is written into the folder of a device that is not
// mounted: whoever keeps files on a device works through the file system that
// Follow hands out. That is the folder as it was when it was last checked, held
// open; what is at its name is looked at, and never written to before it has
// proved to be the device. What an operator has to know is in docs/operations.md.
package device

import (
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Reserve is the share of a device, 0 to 1, that stays free: only what makes room,
// deletes first of all, may use it.
const Reserve = 0.01

// A Device is one folder of a node. It is safe for concurrent use.
type Device struct {
	name, path string
	fault      atomic.Pointer[error] // why it can't be used; nil while it can
	fs         atomic.Pointer[vfs.FS]
	usage      atomic.Pointer[vfs.Usage] // as of the last check; nil while it can't be used
	room       atomic.Pointer[roomOf]    // what Room has seen; nil before it was asked
	outage     atomic.Pointer[Outage]    // nil before the first
	suspected  chan struct{}             // asks for a check; has room for one
	work       vfs.Tally

	mu        sync.Mutex
	mount     Mount             // nil while it is not attached; guarded by mu
	disk      string            // the number in its identity, while it is attached; guarded by mu
	mounts    map[string]uint64 // the mount that each disk was attached with last; guarded by mu
	followers []func(Change)    // guarded by mu
	closed    bool              // guarded by mu

	// Only whoever watches the device uses these.
	watching *Config // nil in a set that was not opened
	stuck    chan attempt
	said     string // the reason that was logged
	since    time.Time
}

func newDevice(root, name string) *Device {
	return &Device{name: name, path: filepath.Join(root, name), suspected: make(chan struct{}, 1), mounts: map[string]uint64{}}
}

// Name is the name in the ring.
func (d *Device) Name() string { return d.name }

// Path is the folder.
func (d *Device) Path() string { return d.path }

// Dir returns a path below the device's folder.
func (d *Device) Dir(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// FS is the file system of the device's folder as it is attached now: vfs.Absent while it
// can't be used, and failing with vfs.ErrDetached once it is let go of. Who keeps files open
// on it wants Follow.
func (d *Device) FS() vfs.FS { return *d.fs.Load() }

// Work is what was asked of the disks in the device's place since the process began, but for the files of databases. It is 0 of a
// device in a set that was not opened.
func (d *Device) Work() vfs.Tallied { return d.work.Sum() }

// Check returns why the device can't be used, of kind errs.BadDevice, or nil.
func (d *Device) Check() error {
	if p := d.fault.Load(); p != nil {
		return errs.E(errs.Op("device.check"), errs.Subject(d.name), errs.BadDevice, *p)
	}
	return nil
}

// Fail takes the device out of use for the given reason. One that is watched
// comes back when a check finds nothing wrong with it; else nil takes it back.
func (d *Device) Fail(why error) {
	if why == nil {
		d.fault.Store(nil)
		return
	}
	d.fault.Store(&why)
}

// Suspect asks for a check at once: something went wrong that may be the
// device's fault. It does not wait for it.
func (d *Device) Suspect() {
	if d.fault.Load() != nil {
		return // it is looked at as it is
	}
	select {
	case d.suspected <- struct{}{}:
	default: // a check is to come already
	}
}

// roomOf is how much room there is in the folder as it was attached once.
type roomOf struct {
	vfs.Room
	fs *vfs.FS
}

// Room returns an error of kind errs.NoSpace if size bytes more would leave less
// than the reserve. Where there is plenty it goes by what was so up to a tenth of a second ago; of a device that was
// attached or let go of since then it is asked anew.
func (d *Device) Room(size int64) error {
	const op errs.Op = "device.room"
	fs := d.fs.Load()
	r := d.room.Load()
	if r == nil || r.fs != fs {
		r = &roomOf{fs: fs}
		d.room.Store(r)
	}
	err := r.Take(size, Reserve, func() (vfs.Usage, error) {
		u, err := (*fs).Usage(d.path)
		if err != nil {
			err = errs.E(errs.BadDevice, err)
		}
		return u, err
	})
	if err != nil {
		return errs.E(op, errs.Subject(d.name), err)
	}
	return nil
}

// Usage says how full the device was at the last check; ok is false where it can't
// be used or is not watched.
func (d *Device) Usage() (u vfs.Usage, ok bool) {
	if p := d.usage.Load(); p != nil {
		return *p, true
	}
	return vfs.Usage{}, false
}

// An Outage is when a device that is watched was out of use.
type Outage struct {
	Since time.Time // when the last time began
	Times int64     // since the set was opened
}

// Outage returns the last time that the device was out of use, which may not be over; zero where it never was.
func (d *Device) Outage() Outage {
	if o := d.outage.Load(); o != nil {
		return *o
	}
	return Outage{}
}

// Set is a node's devices. It does not change while the node runs.
type Set struct {
	list []*Device // by name
}

// NewSet makes the set of the named folders below root, which nobody checks later.
// Each must exist and be a folder; one that is not is in the set as failed, since
// the others can do without it. A name must be a plain file name.
func NewSet(fs vfs.FS, root string, names []string) (*Set, error) {
	s, err := newSet(root, names)
	if err != nil {
		return nil, err
	}
	for _, d := range s.list {
		d.fs.Store(&fs)
		info, err := fs.Stat(d.path)
		switch {
		case err != nil:
			d.Fail(err)
		case !info.Dir:
			d.Fail(errNotFolder)
		}
	}
	return s, nil
}

func newSet(root string, names []string) (*Set, error) {
	const op errs.Op = "device.open"
	s := &Set{}
	for _, n := range names {
		if n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") {
			return nil, errs.E(op, errs.Subject(n), errs.Invalid, "not a device name")
		}
		s.list = append(s.list, newDevice(root, n))
	}
	slices.SortFunc(s.list, func(a, b *Device) int { return strings.Compare(a.name, b.name) })
	for i := range s.list[:max(len(s.list)-1, 0)] {
		if s.list[i].name == s.list[i+1].name {
			return nil, errs.E(op, errs.Subject(s.list[i].name), errs.Invalid, "named twice")
		}
	}
	return s, nil
}

// find returns the device of a name, nil if there is none.
func (s *Set) find(name string) *Device {
	i, ok := slices.BinarySearchFunc(s.list, name, func(d *Device, n string) int { return strings.Compare(d.name, n) })
	if !ok {
		return nil
	}
	return s.list[i]
}

// Lookup returns the device of a name if it can be used, else an error of kind
// errs.BadDevice.
func (s *Set) Lookup(name string) (*Device, error) {
	d := s.find(name)
	if d == nil {
		return nil, errs.E(errs.Op("device.lookup"), errs.Subject(name), errs.BadDevice, "no such device here")
	}
	return d, d.Check()
}

// Suspect is Device.Suspect for the device of a name, if there is one.
func (s *Set) Suspect(name string) {
	if d := s.find(name); d != nil {
		d.Suspect()
	}
}

// Blame has a device looked at when a request for it has failed in a way that may
// be its fault.
func (s *Set) Blame(name string, err error) {
	switch errs.KindOf(err) {
	case errs.BadDevice, errs.Corrupt, errs.Other:
		s.Suspect(name)
	}
}

// All yields every device, also those that can't be used.
func (s *Set) All() iter.Seq[*Device] { return slices.Values(s.list) }
