package replicator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// That a device is paused is written on it, in <device>/replication/paused, so that it is
// true of that disk also after a restart or in another node: a line of JSON, and a line with
// the CRC32C of the first, its end included. The file is there whole or not at all. One that is
// damaged pauses the device, since nobody would have written it otherwise.
const (
	pauseFolder = "replication"
	pauseFile   = "paused"
	pauseFormat = 1
	maxPause    = 4096 // bytes
)

// pauseNote is what the file says.
type pauseNote struct {
	Format int       `json:"format"`
	Since  time.Time `json:"since"`
}

var (
	errPauseDamaged = errors.New("replication of the device is paused, it is not known since when: " + pauseFolder + "/" + pauseFile + " on it is damaged")
	errNotLooked    = errors.New("whether replication of the device is paused has not been looked at yet")
)

// PausedError is why a device pushes nothing: an operator has paused it.
type PausedError struct{ Since time.Time }

func (e PausedError) Error() string {
	return "replication of the device is paused since " + e.Since.UTC().Format(time.RFC3339)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (n *pauseNote) encode() ([]byte, error) {
	line, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	line = append(line, '\n')
	return fmt.Appendf(line, "crc32c %08x\n", crc32.Checksum(line, castagnoli)), nil
}

func parsePause(b []byte) (n pauseNote, err error) {
	end := bytes.IndexByte(b, '\n') + 1
	if string(b[end:]) != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:end], castagnoli)) ||
		json.Unmarshal(b[:end], &n) != nil || n.Format != pauseFormat || n.Since.IsZero() {
		return pauseNote{}, errPauseDamaged
	}
	return n, nil
}

// readPause returns why a device is paused, nil where it is not. The error is of what can't
// be read.
func readPause(disk vfs.FS, root string) (paused, err error) {
	f, err := disk.Open(filepath.Join(root, pauseFolder, pauseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, maxPause)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	note, damaged := parsePause(b[:n])
	if damaged != nil {
		return damaged, nil
	}
	return PausedError{note.Since}, nil
}

// writePause writes that a device is paused, which is on stable storage when it returns nil.
// After a crash, or an error, it is there whole or not at all.
func writePause(disk vfs.FS, root string, since time.Time) error {
	text, err := (&pauseNote{pauseFormat, since.UTC().Truncate(time.Second)}).encode()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, pauseFolder)
	if err := disk.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := disk.SyncDir(root); err != nil { // whoever made it may have been killed before it did
		return err
	}
	f, err := disk.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(text, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = disk.Link(f, filepath.Join(dir, pauseFile))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return disk.SyncDir(dir)
}

// removePause has a device be paused no more, durably when it returns nil.
func removePause(disk vfs.FS, root string) error {
	dir := filepath.Join(root, pauseFolder)
	err := disk.Remove(filepath.Join(dir, pauseFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := disk.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil // it was never paused
		}
		err = nil // it may have been removed before a crash, and not durably
	}
	if err != nil {
		return err
	}
	return disk.SyncDir(dir)
}

// look finds out whether a device is paused, which may be another disk than before.
func (d *DevicePace) look(dev *device.Device) error {
	d.file.Lock()
	defer d.file.Unlock()
	paused, err := readPause(dev.FS(), dev.Path())
	if err != nil {
		return errs.E(errs.Op("replicator.pause"), errs.Subject(dev.Name()), errs.BadDevice, err)
	}
	d.setPaused(paused)
	return nil
}

// setPaused takes in why nothing is pushed, and ends the pass that is under way where
// there is a reason.
func (d *DevicePace) setPaused(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused = why; why != nil && d.end != nil {
		d.end(why)
	}
}

// pause has a device pushed nothing of until it is resumed, and ends the pass that is under
// way. It is on stable storage when it returns nil.
func (d *DevicePace) pause(dev *device.Device) error {
	d.file.Lock()
	defer d.file.Unlock()
	disk := dev.FS()
	paused, err := readPause(disk, dev.Path())
	if err == nil && errors.Is(paused, errPauseDamaged) {
		err, paused = removePause(disk, dev.Path()), nil
	}
	if err == nil && paused == nil {
		err = writePause(disk, dev.Path(), time.Now())
	} else if err == nil {
		err = disk.SyncDir(filepath.Join(dev.Path(), pauseFolder)) // whoever wrote it may have been killed before it did
	}
	if err == nil {
		paused, err = readPause(disk, dev.Path())
	}
	if err != nil {
		return err
	}
	d.setPaused(paused)
	return nil
}

func (d *DevicePace) resume(dev *device.Device) error {
	d.file.Lock()
	defer d.file.Unlock()
	if err := removePause(dev.FS(), dev.Path()); err != nil {
		return err
	}
	d.setPaused(nil)
	return nil
}

// pass looks whether a pass may begin, and ties it to a pause that comes meanwhile. The
// function that it returns is called at its end.
func (d *DevicePace) pass(ctx context.Context, dev *device.Device) (context.Context, func(), error) {
	if err := d.look(dev); err != nil {
		return ctx, nil, err
	}
	ctx, end := context.WithCancelCause(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused != nil {
		end(nil)
		return ctx, nil, d.paused
	}
	d.end = end
	return ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.end = nil
		end(nil)
	}, nil
}

// Pause has a device, or where the name is "" all of the node, push nothing until Resume:
// passes that are under way end early, and none begins. It goes on taking what others push,
// and answering them. That is on stable storage, and true of that disk also after a restart,
// when Pause returns nil. The error names the devices that could not be paused; it is of kind
// errs.NotFound for one that the node does not have.
func (r *Replicator) Pause(name string) error {
	return r.each("replicator.pause", name, "replication is paused", (*DevicePace).pause)
}

// Resume ends what Pause began, likewise.
func (r *Replicator) Resume(name string) error {
	return r.each("replicator.resume", name, "replication is resumed", (*DevicePace).resume)
}

// each does something with a device, or all of them, and tells the log.
func (r *Replicator) each(op errs.Op, name, text string, do func(*DevicePace, *device.Device) error) error {
	devices, err := r.named(name)
	if err != nil {
		return errs.E(op, err)
	}
	var all []error
	for _, d := range devices {
		err := d.Check()
		if err == nil {
			err = do(r.Paces.Of(d.Name()), d)
		}
		if err != nil {
			all = append(all, errs.E(op, errs.Subject(d.Name()), errs.BadDevice, err))
			continue
		}
		r.Log.LogAttrs(context.Background(), slog.LevelInfo, text, slog.String("device", d.Name()))
	}
	return errors.Join(all...)
}

// Pacing returns what holds back the replication of a device, or where the name is "" of
// all of them, by name. The error is of kind errs.NotFound for one that the node does not have.
func (r *Replicator) Pacing(name string) ([]PaceReport, error) {
	devices, err := r.named(name)
	if err != nil {
		return nil, errs.E(errs.Op("replicator.pacing"), err)
	}
	all := make([]PaceReport, len(devices))
	for i, d := range devices {
		all[i] = r.Paces.Of(d.Name()).Report()
	}
	return all, nil
}

// Limit changes the limits of a device, or where the name is "" of all of them, until the
// process ends: change is given those of each. Where one of them comes out wrong, which is of
// kind errs.Invalid, none is changed.
func (r *Replicator) Limit(name string, change func(*Limits)) error {
	const op errs.Op = "replicator.limit"
	devices, err := r.named(name)
	if err != nil {
		return errs.E(op, err)
	}
	r.setting.Lock()
	defer r.setting.Unlock()
	all := make([]Limits, len(devices))
	for i, d := range devices {
		all[i] = r.Paces.Of(d.Name()).Limits()
		change(&all[i])
		if err := all[i].Check(); err != nil {
			return errs.E(op, errs.Subject(d.Name()), errs.Invalid, errs.Public(err.Error()), err)
		}
	}
	for i, d := range devices {
		r.Paces.Of(d.Name()).Set(all[i])
		r.Log.LogAttrs(context.Background(), slog.LevelInfo, "limits of replication were changed", slog.String("device", d.Name()),
			slog.Int64("bytes_per_second", all[i].BytesPerSecond), slog.Int64("operations_per_second", all[i].OperationsPerSecond),
			slog.Int("concurrency", all[i].Concurrency), slog.Int("incoming", all[i].Incoming))
	}
	return nil
}
