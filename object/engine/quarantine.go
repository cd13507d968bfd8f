package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// Quarantine is Engine.Quarantine.
func (s *store) Quarantine(ctx context.Context, at Location, state State, why error) error {
	const op errs.Op = "engine.quarantine"
	d, err := s.openFor(ctx, op, at)
	if err != nil {
		return err
	}
	defer d.lock(at.Hash).Unlock()
	e, p, err := d.loadLocked(at)
	if err != nil {
		return s.wrap(op, at, err)
	}
	if e.Kind != index.Data && e.Kind != index.Tombstone || p.data.Time != state.Time || p.data.MD5 != state.MD5 || p.data.CRC != state.CRC {
		return nil // something else is there now
	}
	bad := &damaged{part: partData, place: e.Data, err: why}
	if e.Blob {
		h, err := d.head(at, partData, e.Data)
		if err != nil {
			return s.wrap(op, at, err)
		}
		bad.file = h.File
	}
	return s.wrap(op, at, d.isolate(at, &e, bad))
}

// quarantine isolates what was found damaged without holding the lock, if it is still
// what is in force.
func (d *disk) quarantine(at Location, bad *damaged) error {
	defer d.lock(at.Hash).Unlock()
	e, err := d.get(at)
	if err != nil {
		return err
	}
	same := false
	switch bad.part {
	case partData:
		same = e.Data == bad.place
		if e.Blob && bad.file != 0 && !same { // its record may have moved
			h, err := d.head(at, partData, e.Data)
			if err != nil {
				return err
			}
			same, bad.place = h.File == bad.file, e.Data
		}
	case partMeta:
		same = e.Meta == bad.place
	case partMark:
		same = e.Mark == bad.place
	}
	if !same {
		return nil
	}
	return d.isolate(at, &e, bad)
}

// isolate keeps what is damaged aside, and has the name say that it is lost. The record of
// that is durable before a file leaves its name, so that no crash makes a lost object an
// absent one. The caller holds the lock, and e is what the index says.
func (d *disk) isolate(at Location, e *index.Entry, bad *damaged) error {
	d.cfg.Log.Error("damaged data goes to quarantine", slog.String("device", d.root),
		slog.String("object", at.String()), slog.String("part", bad.part.String()), slog.Any("err", bad.err))
	if e.Kind == index.Gone { // it says that it was dropped, and nothing else
		return d.append(at, e, &record.Head{Kind: record.Purge, Policy: at.Policy, Alone: true}, nil, true)
	}
	// A mark that is damaged is written anew.
	h := record.Head{Kind: record.Quarantine, Policy: at.Policy, Reason: bad.err.Error()}
	if e.Kind == index.Lost || bad.part == partData {
		h.Lost |= record.LostData
	}
	if e.MetaLost || bad.part == partMeta {
		h.Lost |= record.LostMeta
	}
	h.Object = blob.Header{Time: e.Times.Data, ContentTypeTime: e.Times.ContentType, MetaTime: e.Times.Meta}
	h.Object.Name = d.nameOf(at, e)
	into, err := d.keepAside(at, e, bad, &h)
	if err != nil {
		return err
	}
	h.Alone = alone(e, &h)
	if err := d.append(at, e, &h, nil, true); err != nil {
		return err
	}
	if bad.file != 0 {
		err = d.moveAside(at, bad, into)
	}
	if d.cfg.Lost != nil {
		d.cfg.Lost(at)
	}
	return err
}

// nameOf returns the name that any record in force still says, as far as one can be read.
func (d *disk) nameOf(at Location, e *index.Entry) name.Path {
	for _, from := range [...]struct {
		part  part
		place index.Place
	}{{partData, e.Data}, {partMeta, e.Meta}, {partMark, e.Mark}} {
		if from.place.IsZero() {
			continue
		}
		if h, err := d.head(at, from.part, from.place); err == nil {
			return h.Object.Name
		}
	}
	return name.Path{}
}

// keepAside writes into the quarantine why something is there, and what can be read of a
// damaged record. It returns the path that the damaged data has there, or will have.
func (d *disk) keepAside(at Location, e *index.Entry, bad *damaged, h *record.Head) (string, error) {
	top := d.root + quarantineFolder
	dir := top + "/objects" + at.Policy.Suffix()
	if err := d.names.FolderOnce(top, d.root); err != nil {
		return "", err
	}
	if err := d.names.FolderOnce(dir, top); err != nil {
		return "", err
	}
	newest := timestamp.Max(e.Times.Data, timestamp.Max(e.Times.ContentType, e.Times.Meta))
	to := fmt.Sprintf("%s/%s.%s.%08x.%s", dir, at.Hash, newest, rand.Uint32(), bad.part)
	text := fmt.Sprintf("reason: %v\nname: %s\ntime: %s\nrecord: %s, %d bytes\n",
		bad.err, h.Object.Name.Quoted(), newest, bad.place.Position(), bad.place.Size)
	if err := d.writeFile(to+reasonSuffix, []byte(text)); err != nil {
		return "", err
	}
	if bad.file != 0 {
		return to, nil
	}
	raw, err := d.log.Raw(bad.place.Position(), bad.place.Size)
	if err != nil || len(raw) == 0 {
		return to, nil //nolint:nilerr // the reason says where it was
	}
	return to, d.writeFile(to, raw)
}

// moveAside moves a damaged file into the quarantine.
func (d *disk) moveAside(at Location, bad *damaged, to string) error {
	err := d.cfg.FS.Rename(d.blobPath(at, bad.file), to)
	if notThere(err) {
		return nil // that is what was wrong with it
	}
	if err != nil {
		return err
	}
	return errors.Join(d.names.Sync(path.Dir(to)), d.names.Sync(d.blobDir(at)))
}

// writeFile makes a small file durable.
func (d *disk) writeFile(file string, content []byte) error {
	f, err := d.cfg.FS.CreateUnnamed(path.Dir(file))
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.cfg.FS.Link(f, file)
	}
	if err == nil {
		err = d.names.Sync(path.Dir(file))
	}
	return errors.Join(err, f.Close())
}
