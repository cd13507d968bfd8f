package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A device is emptied by moving all that is on it into one folder beside, and giving it another identity: then it is
// another disk, of which nobody knows anything, with room for what others bring. That is begun by a file that says
// so, and done when the device is attached next, before anything of it is used: so whatever comes between, it is
// all there as before, or is going to be emptied.

const (
	// EmptyingFile is the name of the file in a device's folder that says that it is to be emptied: as an identity
	// file, a line of JSON, and one with its checksum.
	EmptyingFile = ".martlet-emptying"

	// AsidePrefix begins the names of the folders in a device's folder into which is moved what was there.
	AsidePrefix = "set-aside-"

	freshFile = ".martlet-fresh" // the new identity, before it has its name
)

var (
	errEmptying = errors.New("it is being emptied")

	errEmptyingDamaged = errors.New(EmptyingFile + " is damaged")
)

// emptying is what the file says.
type emptying struct {
	Aside    string   `json:"aside"`    // the folder that all is moved to
	Identity Identity `json:"identity"` // that the device is to have then
}

func parseEmptying(b []byte) (e emptying, err error) {
	line, ok := checked(b)
	if !ok || json.Unmarshal(line, &e) != nil || !strings.HasPrefix(e.Aside, AsidePrefix) || strings.Contains(e.Aside, "/") || e.Identity.Device == "" {
		return emptying{}, errEmptyingDamaged
	}
	return e, nil
}

// Empty has a device that is in use be taken out of use, all that it holds be moved into a folder on it, and then
// be used as one that is new. It returns the path of the folder. When it returns nil it will be so, also over
// a crash: it is done within seconds, while the set is watched. The error is of kind errs.BadDevice where the device can't be used,
// or nobody watches it; then it stays as it is, or where that is not certain is out of use at once.
func (d *Device) Empty() (aside string, err error) {
	const op errs.Op = "device.empty"
	if d.watching == nil {
		return "", errs.E(op, errs.Subject(d.name), errs.BadDevice, "nobody watches it")
	}
	if err := d.Check(); err != nil {
		return "", errs.E(op, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mount == nil || d.closed {
		return "", errs.E(op, errs.Subject(d.name), errs.BadDevice, errClosed)
	}
	i := NewIdentity(d.watching.Owner, d.name)
	e := emptying{Aside: AsidePrefix + i.Made.Format("20060102T150405Z") + "-" + i.ID[:8], Identity: i}
	text, err := sealed(&e)
	if err != nil {
		return "", errs.E(op, errs.Subject(d.name), errs.BadDevice, err)
	}
	if err := writeNew(d.mount, d.path, EmptyingFile, text); err != nil {
		if undone := d.notEmptying(err); undone != nil {
			err = errors.Join(err, undone)
			d.emptySoon() // it may be there for good: not after weeks of use
		}
		return "", errs.E(op, errs.Subject(d.name), errs.BadDevice, err)
	}
	d.emptySoon()
	return path.Join(d.path, e.Aside), nil
}

// emptySoon has the device be taken out of use, and emptied if it is to be.
func (d *Device) emptySoon() {
	d.Fail(errEmptying)
	select {
	case d.suspected <- struct{}{}:
	default: // a check is to come already
	}
}

// notEmptying sees to it, durably, that the device is not emptied later, of which it could not be said that it is to be.
func (d *Device) notEmptying(why error) error {
	if errors.Is(why, fs.ErrExist) {
		return nil // another one has said so
	}
	if err := d.mount.Remove(path.Join(d.path, EmptyingFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return d.mount.SyncDir(d.path)
}

// finishEmptying empties the device in a folder, if that was begun, and reports whether it was. It may be interrupted, and
// called again, at any point.
func finishEmptying(disk vfs.FS, folder string) (aside string, err error) {
	b, err := readSmall(disk, path.Join(folder, EmptyingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var e emptying
	if err == nil {
		e, err = parseEmptying(b)
	}
	if err != nil {
		return "", err
	}
	now, err := ReadIdentity(disk, folder)
	if err == nil && now.ID != e.Identity.ID {
		aside = path.Join(folder, e.Aside)
		err = moveAside(disk, folder, aside)
		if err == nil {
			err = writeIdentity(disk, aside, now) // so that it can be looked at as the device that it was
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = replaceIdentity(disk, folder, e.Identity)
		}
	}
	if err == nil {
		err = disk.Remove(path.Join(folder, EmptyingFile))
	}
	if err == nil {
		err = disk.SyncDir(folder)
	}
	if err != nil {
		return "", fmt.Errorf("it is being emptied: %w", err)
	}
	return aside, nil
}

// moveAside moves all that a device holds into a folder of it, durably.
func moveAside(disk vfs.FS, folder, aside string) error {
	if err := disk.Mkdir(aside); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := disk.SyncDir(folder); err != nil {
		return err
	}
	list, err := disk.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range list {
		if stays(e.Name) {
			continue
		}
		if err := disk.Rename(path.Join(folder, e.Name), path.Join(aside, e.Name)); err != nil {
			return err
		}
	}
	if err := disk.SyncDir(aside); err != nil {
		return err
	}
	return disk.SyncDir(folder)
}

// stays reports whether something in the folder of a device is not what the device holds.
func stays(file string) bool {
	switch file {
	case IdentityFile, EmptyingFile, freshFile, "lost+found":
		return true
	}
	return strings.HasPrefix(file, AsidePrefix) || strings.HasPrefix(file, vfs.TempPrefix)
}

// replaceIdentity gives a device another identity, durably: before that it has the one before.
func replaceIdentity(disk vfs.FS, folder string, i Identity) error {
	text, err := i.encode()
	if err != nil {
		return err
	}
	fresh := path.Join(folder, freshFile)
	if err := disk.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err = writeNew(disk, folder, freshFile, text); err == nil {
		err = disk.Rename(fresh, path.Join(folder, IdentityFile))
	}
	if err == nil {
		err = disk.SyncDir(folder)
	}
	return err
}

// emptied tells of what was done.
func (d *Device) emptied(aside string, began time.Time) {
	d.watching.Log.Warn("a device was emptied: what it held is set aside on it, and others bring what belongs there", "device", d.name,
		"in", aside, "after", time.Since(began).Round(time.Millisecond))
}
