package metadb

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// A database that is in quarantine is not there, and yet not to be forgotten: where no other replica has it nobody else
// knows that it was. So the reasons that lie beside what is in quarantine say what is missing. Once another replica
// has brought one back it is there, and says so itself; when it is dropped after that, since others have it or as it
// was deleted long ago, its reasons are given another name, and it is not missed again. So they are where the device is to have it no
// more, and all who are have it.

const (
	reasonSuffix   = ".reason"   // HASH.TIME.reason: it may be missing
	replacedSuffix = ".replaced" // the same, later: it came back, and went rightly
)

// Lost returns which databases of a device were moved into quarantine, from a hash on, in order. Those among
// them that are there have come back. It says nothing of what was in a damaged page of a shared file, since nobody can
// read what that was.
func (r Replicas) Lost(_ context.Context, dev string, from name.Hash) ([]name.Hash, error) {
	const op errs.Op = "metadb.lost"
	at, err := r.at(dev, from)
	if err != nil {
		return nil, err
	}
	var all []name.Hash
	err = r.store.reasons(r.store.now(at.Device), func(h name.Hash, _ string) error {
		if bytes.Compare(h[:], from[:]) >= 0 {
			all = append(all, h)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b name.Hash) int { return bytes.Compare(a[:], b[:]) })
	if err != nil {
		return nil, errs.E(op, errs.Subject(dev), err)
	}
	return slices.Compact(all), nil
}

// Found notes that a database which was moved into quarantine is not missed on a device: others have it, who are to have it.
// That is durable when it returns nil.
func (r Replicas) Found(ctx context.Context, dev string, h name.Hash) error {
	const op errs.Op = "metadb.found"
	at, err := r.at(dev, h)
	if err != nil {
		return err
	}
	d, err := r.store.disk(ctx, at)
	if err == nil {
		err = r.store.replaced(d, h)
	}
	return r.store.wrap(op, at, err)
}

// reasons calls fn with each reason that may be of a missing database, and its file.
func (s *Store) reasons(d *disk, fn func(h name.Hash, path string) error) error {
	dir := d.Dir(quarantineDir, s.schema.Folder())
	list, err := d.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(err)
	}
	for _, e := range list {
		begin, isReason := strings.CutSuffix(e.Name, reasonSuffix)
		text, _, _ := strings.Cut(begin, ".")
		h, err := name.ParseHash(text)
		if !isReason || err != nil {
			continue // of a shared file, or something else
		}
		if err := fn(h, filepath.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// replaced notes, durably, that a database which is there will not be missing when it is gone.
func (s *Store) replaced(d *disk, hash name.Hash) error {
	some := false
	err := s.reasons(d, func(h name.Hash, path string) error {
		if h != hash {
			return nil
		}
		some = true
		return d.fs.Rename(path, strings.TrimSuffix(path, reasonSuffix)+replacedSuffix)
	})
	if err == nil && some {
		err = d.syncDir(d.Dir(quarantineDir, s.schema.Folder()))
	}
	return err
}
