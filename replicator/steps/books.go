package steps

import (
	"sync"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Books are those of a node's devices: each of the disk that is attached now, read when it is
// first asked for. It is safe for concurrent use.
type Books struct {
	terms   Terms
	devices map[string]*place
}

// place is what is kept for a device.
type place struct {
	path string

	mu   sync.Mutex
	fs   vfs.FS // guarded by mu
	book *Book  // of fs; nil before it was read. Guarded by mu
}

// NewBooks returns the books of devices. What is in them is on the devices: fsys is how
// those are seen whose set was not opened (device.NewSet).
func NewBooks(terms Terms, fsys vfs.FS, devices *device.Set) *Books {
	b := &Books{terms: terms, devices: map[string]*place{}}
	for d := range devices.All() {
		p := &place{path: d.Path(), fs: fsys}
		b.devices[d.Name()] = p
		d.Follow(func(c device.Change) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fs, p.book = c.FS, nil
		})
	}
	return b
}

// Of returns the book of a device. The error is of kind errs.BadDevice where it can't be
// read.
func (b *Books) Of(name string) (*Book, error) {
	p := b.devices[name]
	if p == nil {
		return nil, errs.E(errs.Op("steps.of"), errs.Subject(name), errs.BadDevice, "this node has no such device")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book == nil {
		book, err := Open(p.fs, p.path, b.terms)
		if err != nil {
			return nil, err
		}
		p.book = book
	}
	return p.book, nil
}

// Terms returns by what the books judge.
func (b *Books) Terms() Terms { return b.terms }
