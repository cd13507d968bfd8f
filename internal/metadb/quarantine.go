package metadb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// quarantineDir is the folder of a device in which is kept what was found damaged: below it
// there is one for each kind of database, with a file beside each that tells the reason.
const quarantineDir = "quarantined"

// errMoved is what an attempt to open a database ends with that moves it into quarantine.
var errMoved = errors.New("the database is in quarantine now")

// suspects notes a database in which something corrupt was found, for Isolate to look at.
func (d *disk) suspects(hash name.Hash, err error) {
	if !errs.Is(err, errs.Corrupt) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.suspect[hash] = struct{}{}
}

// Isolate looks at the databases of a device in which a call has found something corrupt
// since it was last called: those that are so are moved into quarantine. So is a shared file, when
// what can be read is in a new one.
func (s *Store) Isolate(ctx context.Context, dev *device.Device, pace Pace) error {
	const op errs.Op = "metadb.isolate"
	d, err := s.disk(ctx, Location{Device: dev})
	if err != nil {
		return errs.E(op, err)
	}
	d.mu.Lock()
	var list []name.Hash
	for h := range d.suspect {
		list = append(list, h)
	}
	d.mu.Unlock()
	var all []error
	for _, q := range small.All() {
		if d.small.Damaged(q) {
			all = append(all, s.salvage(ctx, d, q))
		}
	}
	for _, h := range list {
		if ctx.Err() != nil {
			break
		}
		if _, err := s.inspect(ctx, Location{dev, h}, pace); err != nil {
			all = append(all, err)
			continue // it stays a suspect
		}
		d.mu.Lock()
		delete(d.suspect, h)
		d.mu.Unlock()
	}
	return errors.Join(all...)
}

// inspect checks a database, and moves it into quarantine if it is corrupt. It returns what
// Check adds up, 0 for a database that is gone.
func (s *Store) inspect(ctx context.Context, loc Location, pace Pace) (used int64, err error) {
	const op errs.Op = "metadb.inspect"
	d, err := s.disk(ctx, loc)
	if err != nil {
		return 0, s.wrap(op, loc, err)
	}
	d.notCorrupt(loc.Hash) // it is read again
	before, err := d.fs.Stat(s.path(loc))
	if errors.Is(err, fs.ErrNotExist) {
		used, err = s.inspectSmall(ctx, d, loc, pace)
		return used, s.wrap(op, loc, err)
	}
	if err == nil {
		used, err = s.check(ctx, loc, pace)
	}
	if errs.Is(err, errs.Corrupt) {
		// It may be another's finding, or of a moment: only what is found again counts, and
		// only of a file that can be read.
		if err = s.readAnew(ctx, d, loc); err == nil {
			used, err = s.check(ctx, loc, pace)
		}
	}
	if used, damaged, why := s.checked(loc, used, err); !damaged {
		return used, s.wrap(op, loc, why)
	}
	return 0, s.wrap(op, loc, s.quarantine(ctx, d, loc, before, err))
}

// checked counts what a check of a database has come to, and reports whether it is damaged; if
// not, what there is to say.
func (s *Store) checked(loc Location, bytes int64, err error) (used int64, damaged bool, why error) {
	switch {
	case err == nil:
		s.counts.checked.Add(1)
		s.counts.bytes.Add(bytes)
		return bytes, false, nil
	case errs.Is(err, errs.NotFound):
		return 0, false, nil
	case !errs.Is(err, errs.Corrupt):
		return 0, false, err
	}
	off := loc.Device.Check() // where the disk fails nobody knows what is on it
	return 0, off == nil, off
}

// readAnew has a database closed, what is remembered of it forgotten, and its file read
// as a whole, with no regard for what is in it: what the disk does not give is its own fault.
func (s *Store) readAnew(ctx context.Context, d *disk, loc Location) error {
	err := s.with(ctx, loc, s.open, func(_ *disk, e *entry) error {
		e.db.fail(errDropped) // whoever has it open looks again
		return nil
	})
	if err != nil && !errs.Is(err, errs.Corrupt) {
		return err
	}
	d.notCorrupt(loc.Hash)
	f, err := d.fs.Open(s.path(loc))
	if err != nil {
		return classify(err)
	}
	b := make([]byte, 1<<20)
	for at := int64(0); err == nil; at += int64(len(b)) {
		if err = context.Cause(ctx); err == nil {
			_, err = f.ReadAt(b, at)
		}
	}
	if closeErr := f.Close(); !errors.Is(err, io.EOF) || closeErr != nil {
		return errs.E(errs.BadDevice, errors.Join(err, closeErr))
	}
	return nil
}

// notCorrupt forgets that a file was found corrupt.
func (d *disk) notCorrupt(hash name.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.corrupt, hash)
}

// quarantine moves the file of a database aside. Nobody has it open then, and no update is
// acknowledged meanwhile. What of it waits in the journal goes with it, as it does with a
// database that is dropped: other replicas have it, and bring back both.
//
// The reason is durable before the file leaves its name. A crash before that is also durable
// leaves the file where it was, to be found again. A file that is not the one that was read is left
// alone.
func (s *Store) quarantine(ctx context.Context, d *disk, loc Location, file vfs.Info, why error) error {
	there := func() (bool, error) {
		now, err := d.fs.Stat(s.path(loc))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, classify(err)
		}
		if err != nil || now.Ino != file.Ino {
			d.notCorrupt(loc.Hash)
			return false, nil //nolint:nilerr // it is gone, or another one
		}
		return true, nil
	}
	return s.whileNobodys(ctx, d, loc, why, there, func() (string, error) { return s.moveAside(d, loc, file, why) })
}

// whileNobodys has a database moved aside, if it is still there, while nobody has it open and no
// update of it is acknowledged.
func (s *Store) whileNobodys(ctx context.Context, d *disk, loc Location, why error, there func() (bool, error), move func() (into string, err error)) error {
	r := d.residents.acquire(loc.Hash)
	defer d.residents.release(r)
	r.gate.Lock()
	defer r.gate.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return errs.E(errs.Aborted, err)
		}
		if is, err := there(); err != nil || !is {
			return err
		}
		e, err := d.cache.acquire(loc.Hash, func() (*database, error) {
			into, err := move()
			if into == "" {
				return nil, cmp.Or(err, errMoved)
			}
			r.forget()
			n, bytes := r.discard()
			d.fewer(r, n, bytes)
			s.counts.quarantined.Add(1)
			s.log.Error("a damaged database is in quarantine; its replicas will replace it",
				"device", d.Name(), "hash", loc.Hash, "kept as", into, "updates forgotten", n, "err", why)
			return nil, cmp.Or(err, errMoved)
		})
		switch {
		case errors.Is(err, errMoved):
			return nil
		case err != nil:
			return classify(err)
		}
		e.db.fail(why) // and those who come now wait until it is closed
		d.cache.release(e)
	}
}

// moveAside moves a file into quarantine. It returns its name there, empty where it still
// has its own, or is another file.
func (s *Store) moveAside(d *disk, loc Location, file vfs.Info, why error) (into string, err error) {
	path := s.path(loc)
	if now, err := d.fs.Stat(path); err != nil || now.Ino != file.Ino {
		return "", err
	}
	to, err := s.writeReason(d, loc.Hash.String(), path, why)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(to)
	// While it is not known which names there are in its folder, nothing in it is settled.
	key := [4]byte([]byte(loc.Hash.String()))
	turn := d.unsettle(key)
	if err := d.fs.Rename(path, to+suffix); err != nil {
		return "", err
	}
	for _, dir := range []string{dir, filepath.Dir(path)} {
		if err := d.syncDir(dir); err != nil {
			return to + suffix, err
		}
	}
	d.isSettled(key, turn)
	return to + suffix, nil
}

// writeReason writes why something is to be in quarantine, and returns how it is to be called there.
func (s *Store) writeReason(d *disk, what, path string, why error) (to string, err error) {
	if err := s.mkdirs(d, quarantineDir, s.schema.Folder()); err != nil {
		return "", err
	}
	now := time.Now().UTC()
	to = d.Dir(quarantineDir, s.schema.Folder(), fmt.Sprintf("%s.%d", what, now.UnixNano()))
	reason := fmt.Sprintf("reason: %v\nfile: %s\nfound: %s\n", why, path, now.Format(time.RFC3339))
	return to, d.writeFile(to+reasonSuffix, []byte(reason))
}

// unsettle notes that names in a folder may not be durable, and returns what isSettled takes.
func (d *disk) unsettle(key [4]byte) (turn uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.settled, key)
	d.turn++
	return d.turn
}

// writeFile makes a new file, durable but for its name.
func (d *disk) writeFile(path string, content []byte) error {
	f, err := d.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
