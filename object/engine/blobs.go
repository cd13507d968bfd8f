package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object/index"
)

// blobDir is the folder of a name's blobs.
func (s *store) blobDir(at Location) string {
	return s.root + blobFolder + "/" + fmt.Sprintf("%02x", at.Hash[0])
}

func (s *store) blobName(at Location, file uint64) string {
	return fmt.Sprintf("%s-%d-%016x", at.Hash, at.Policy, file)
}

func (s *store) blobPath(at Location, file uint64) string {
	return s.blobDir(at) + "/" + s.blobName(at, file)
}

// parseBlobName reads the name of a blob's file.
func parseBlobName(file string) (at Location, number uint64, ok bool) {
	parts := strings.Split(file, "-")
	if len(parts) != 3 {
		return at, 0, false
	}
	hash, err := name.ParseHash(parts[0])
	if err != nil {
		return at, 0, false
	}
	p, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return at, 0, false
	}
	number, err = strconv.ParseUint(parts[2], 16, 64)
	return Location{policy.Index(p), hash}, number, err == nil
}

// blobOf returns the file that has the data of an entry, "" where it has none.
func (d *disk) blobOf(at Location, e *index.Entry) (string, error) {
	if !e.Blob {
		return "", nil
	}
	h, err := d.head(at, partData, e.Data)
	if err != nil {
		return "", err
	}
	return d.blobPath(at, h.File), nil
}

// unlink removes a file that nothing refers to any more. One that can't be removed is left
// to Sweep.
func (d *disk) unlink(path string) {
	if path == "" {
		return
	}
	if err := d.cfg.FS.Remove(path); err != nil && !notThere(err) {
		d.cfg.Log.Warn("superseded file stays", slog.String("file", path), slog.Any("err", err))
	}
}

// nameLater takes a file's name away, and gives it back a moment later: what planted.BlobAfterRecord does.
func (d *disk) nameLater(path string) {
	const away = ".late"
	if err := d.cfg.FS.Rename(path, path+away); err == nil {
		time.AfterFunc(200*time.Millisecond, func() { _ = d.cfg.FS.Rename(path+away, path) }) // nobody is left to be told
	}
}

// Sweep is Engine.Sweep.
func (s *store) Sweep(ctx context.Context) error {
	const op errs.Op = "engine.sweep"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return err
	}
	top := s.root + blobFolder
	folders, err := d.list(top)
	if err != nil {
		return s.wrap(op, Location{}, err)
	}
	for _, folder := range folders {
		if !folder.Dir {
			continue
		}
		files, err := d.list(top + "/" + folder.Name)
		if err != nil {
			return s.wrap(op, Location{}, err)
		}
		for _, f := range files {
			if ctx.Err() != nil {
				return errs.E(op, errs.Aborted, context.Cause(ctx))
			}
			if err := d.sweepFile(top+"/"+folder.Name, f.Name); err != nil && !notThere(err) {
				return s.wrap(op, Location{}, err)
			}
		}
	}
	return nil
}

// sweepFile removes a file if nothing refers to it.
func (d *disk) sweepFile(dir, file string) error {
	path := dir + "/" + file
	if strings.HasPrefix(file, vfs.TempPrefix) {
		info, err := d.cfg.FS.Stat(path)
		if err != nil || !info.ModTime.Before(d.began) {
			return err // gone, or in use
		}
		return d.cfg.FS.Remove(path)
	}
	at, number, ok := parseBlobName(file)
	if !ok {
		return nil // not ours
	}
	defer d.lock(at.Hash).Unlock() // whoever gives a file its name holds it until there is a record
	if _, ok := d.undecided.Load(path); ok {
		return nil
	}
	e, err := d.get(at)
	if err != nil {
		return err
	}
	if e.Blob {
		h, err := d.head(at, partData, e.Data)
		var bad *damaged
		if errors.As(err, &bad) || err == nil && h.File == number {
			return nil // what is damaged is for who reads it
		}
		if err != nil {
			return err
		}
	}
	return d.cfg.FS.Remove(path)
}

// list returns what is in a directory, nothing where there is none.
func (d *disk) list(dir string) ([]vfs.Entry, error) {
	list, err := d.cfg.FS.ReadDir(dir)
	if notThere(err) {
		return nil, nil
	}
	return list, err
}
