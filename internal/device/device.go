// Package device is the set of devices that a storage node owns: folders, each
// the mount point of one disk, named as the ring names them.
//
// A device that can't be used answers with an error of kind errs.BadDevice,
// which a server turns into 507 so that the sender goes to another.
package device

import (
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A Device is one folder of a node. It is safe for concurrent use.
type Device struct {
	name, path string
	fault      atomic.Pointer[error] // why it can't be used; nil while it can
}

// Name is the name in the ring.
func (d *Device) Name() string { return d.name }

// Path is the folder.
func (d *Device) Path() string { return d.path }

// Dir returns a path below the device's folder.
func (d *Device) Dir(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Check returns why the device can't be used, of kind errs.BadDevice, or nil.
func (d *Device) Check() error {
	if p := d.fault.Load(); p != nil {
		return errs.E(errs.Op("device.check"), errs.Subject(d.name), errs.BadDevice, *p)
	}
	return nil
}

// Fail takes the device out of use for the given reason; nil takes it back.
func (d *Device) Fail(why error) {
	if why == nil {
		d.fault.Store(nil)
		return
	}
	d.fault.Store(&why)
}

// Set is a node's devices. It does not change while the node runs.
type Set struct {
	list []*Device // by name
}

// NewSet makes the set of the named folders below root. Each must exist and be
// a folder; one that is not is in the set as failed, since the others can do
// without it. A name must be a plain file name.
func NewSet(fs vfs.FS, root string, names []string) (*Set, error) {
	const op errs.Op = "device.open"
	s := &Set{}
	for _, n := range names {
		if n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00") {
			return nil, errs.E(op, errs.Subject(n), errs.Invalid, "not a device name")
		}
		d := &Device{name: n, path: filepath.Join(root, n)}
		info, err := fs.Stat(d.path)
		switch {
		case err != nil:
			d.Fail(err)
		case !info.Dir:
			d.Fail(errs.E(op, errs.Subject(d.path), "not a folder"))
		}
		s.list = append(s.list, d)
	}
	slices.SortFunc(s.list, func(a, b *Device) int { return strings.Compare(a.name, b.name) })
	for i := range s.list[:max(len(s.list)-1, 0)] {
		if s.list[i].name == s.list[i+1].name {
			return nil, errs.E(op, errs.Subject(s.list[i].name), errs.Invalid, "named twice")
		}
	}
	return s, nil
}

// Lookup returns the device of a name if it can be used, else an error of kind
// errs.BadDevice.
func (s *Set) Lookup(name string) (*Device, error) {
	i, ok := slices.BinarySearchFunc(s.list, name, func(d *Device, n string) int { return strings.Compare(d.name, n) })
	if !ok {
		return nil, errs.E(errs.Op("device.lookup"), errs.Subject(name), errs.BadDevice, "no such device here")
	}
	return s.list[i], s.list[i].Check()
}

// All yields every device, also those that can't be used.
func (s *Set) All() iter.Seq[*Device] { return slices.Values(s.list) }
