package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"martlet/internal/vfs"
)

// A Mount is the folder of a device, held open: *vfs.Root.
type Mount interface {
	vfs.FS
	Lock() error     // against other processes, until Close
	MountID() uint64 // tells one mount from another, as far as is known; 0 is not known
	Close() error    // of which later calls fail; it waits for nothing
}

// Change is what those who keep files on a device are told of it.
type Change struct {
	// FS is from now on the file system of the device's folder. It is vfs.Absent
	// while the device can't be used. An earlier one fails with vfs.ErrDetached.
	FS vfs.FS

	// Disk is the number in the identity of what is attached: another one is
	// another disk in the place of the one before, of which nothing holds that was
	// known of that one. It is empty while the device can't be used.
	Disk string

	// Fresh says that this disk was not attached before, or is known to have been
	// mounted anew since: what the kernel had in memory of it is gone, and with it
	// what was in doubt because a sync failed.
	Fresh bool
}

// Follow has f called with each change, before the device is used again and after
// it was taken out of use, and once before Follow returns. What f keeps of the
// earlier file system, such as open files, it lets go of; it must not call the
// device. Nothing is ever said of a device in a set that was not opened.
func (d *Device) Follow(f func(Change)) {
	if d.watching == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followers = append(d.followers, f)
	f(Change{FS: *d.fs.Load(), Disk: d.disk, Fresh: true})
}

// Why a device can't be used.
var (
	errMissing   = errors.New("its folder does not exist")
	errNotFolder = errors.New("what is at its place is not a folder")
	errMoved     = errors.New("something else is at its folder")
	errReadOnly  = errors.New("it is read-only")
	errLocked    = errors.New("it is in use by another process")
	errSilent    = errors.New("it does not answer: a check has not come back")
	errClosed    = errors.New("this node is ending")
)

// folderError says what is wrong where a folder can't be opened or described.
func folderError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errMissing
	case errors.Is(err, syscall.ENOTDIR):
		return errNotFolder
	}
	return err
}

func lockError(err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// open opens the folder, locked, if it is the device and can be written to.
// Nothing is written before that is known. It returns which disk it is, too.
func (d *Device) open() (m Mount, disk string, err error) {
	if m, err = d.watching.Mount(d.path); err != nil {
		return nil, "", folderError(err)
	}
	if r, ok := m.(interface{ CountIn(*vfs.Tally) }); ok {
		r.CountIn(&d.work)
	}
	if disk, err = d.identify(m); err == nil {
		err = lockError(m.Lock())
	}
	if err == nil {
		disk, err = d.finish(m, disk)
	}
	if err == nil {
		err = d.probe(m)
	}
	if err != nil {
		return nil, "", errors.Join(err, m.Close())
	}
	return m, disk, nil
}

// finish empties a device that is to be, and returns which disk it is then.
func (d *Device) finish(m Mount, disk string) (string, error) {
	began := time.Now()
	aside, err := finishEmptying(m, d.path)
	if err != nil || aside == "" {
		return disk, err
	}
	d.emptied(aside, began)
	return d.identify(m)
}

// examine returns what is wrong with a device that is attached as a disk.
func (d *Device) examine(m Mount, disk string) error {
	at, err := d.watching.FS.Stat(d.path)
	if err != nil {
		return folderError(err)
	}
	if !at.Dir {
		return errNotFolder
	}
	held, err := m.Stat(d.path)
	if err != nil {
		return err
	}
	if at.Dev != held.Dev || at.Ino != held.Ino {
		return fmt.Errorf("%w: file system %x and inode %d, it was %x and %d", errMoved, at.Dev, at.Ino, held.Dev, held.Ino)
	}
	now, err := d.identify(m)
	if err != nil {
		return err
	}
	if now != disk {
		return fmt.Errorf("%w: disk %s, it was %s", errMoved, now, disk)
	}
	return d.probe(m)
}

// identify returns the number of the disk, if it is the device.
func (d *Device) identify(m Mount) (disk string, err error) {
	i, err := ReadIdentity(m, d.path)
	if err != nil {
		return "", err
	}
	return i.ID, i.Check(d.watching.Owner, d.name)
}

// probeFile is what a check writes, in <device>/tmp. It is overwritten in its
// place, so that also a full disk takes it.
const probeFile = "device-check"

// probe writes to the disk and syncs it, and notes how full it is.
func (d *Device) probe(m Mount) error {
	err := writeProbe(m, d.path+"/tmp")
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT): // it is full, which is not a fault
	case errors.Is(err, syscall.EROFS):
		return errReadOnly
	case err != nil:
		return err
	}
	u, err := m.Usage(d.path)
	if err == nil {
		d.usage.Store(&u)
	}
	return err
}

func writeProbe(m Mount, dir string) error {
	if err := m.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := m.OpenFile(dir+"/"+probeFile, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt([]byte("This file is written to see whether the device can be.\n"), 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// attach puts a device in use that open has found to be good.
func (d *Device) attach(m Mount, disk string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errors.Join(errClosed, m.Close())
	}
	id := m.MountID()
	last, known := d.mounts[disk]
	d.mount, d.disk, d.mounts[disk] = m, disk, id
	d.tell(Change{FS: m, Disk: disk, Fresh: !known || id != 0 && id != last})
	d.fault.Store(nil)
	return nil
}

// detach takes the device out of use. Requests that are under way come to an end
// with what they have open; the folder is let go of, so that it can be unmounted.
func (d *Device) detach(why error) {
	d.Fail(why)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mount == nil {
		return
	}
	_ = d.mount.Close() // only the lock could fail to be given back, and it goes with the descriptor
	d.mount, d.disk = nil, ""
	d.usage.Store(nil)
	d.tell(Change{FS: vfs.Absent})
}

// tell tells the followers. The caller holds mu.
func (d *Device) tell(c Change) {
	d.fs.Store(&c.FS)
	for _, f := range d.followers {
		f(c)
	}
}

// close gives the folder back for good.
func (d *Device) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.mount == nil {
		return nil
	}
	d.Fail(errClosed)
	m := d.mount
	d.mount = nil
	return m.Close()
}
