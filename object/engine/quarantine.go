package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
)

// Quarantine is Engine.Quarantine.
func (e *store) Quarantine(ctx context.Context, at Location, s State, why error) error {
	const op errs.Op = "engine.quarantine"
	if err := ctx.Err(); err != nil {
		return errs.E(op, errs.Aborted, err)
	}
	h := blob.Header{Kind: blob.Data, Hash: at.Hash, Time: s.Time, MD5: s.MD5, Length: s.Length, CRC: s.CRC, Name: s.Name}
	return e.wrap(op, at, e.quarantine(at, &damaged{extData, h, why}))
}

// quarantine isolates a damaged file that was met without holding the lock.
func (e *store) quarantine(at Location, bad *damaged) error {
	defer e.lock(at.Hash).Unlock()
	now, err := e.header(at, bad.ext)
	var same *damaged
	switch {
	case errors.As(err, &same):
		bad.header = same.header
	case err != nil:
		return err
	case now.Kind != bad.header.Kind, now.Time != bad.header.Time, now.MD5 != bad.header.MD5, now.CRC != bad.header.CRC:
		return nil // something else is there now
	}
	return e.isolate(at, bad)
}

// isolate moves a damaged file away. The mark that it was lost is durable before
// the file leaves its name, so that no crash makes a lost object an absent one.
// The caller holds the lock.
func (e *store) isolate(at Location, bad *damaged) error {
	e.cfg.Log.Error("damaged file goes to quarantine", "device", e.root, "object", at.String(), "part", bad.ext, "err", bad.err)
	into, err := e.quarantineDir(at)
	if err != nil {
		return err
	}
	newest := timestamp.Max(bad.header.Time, timestamp.Max(bad.header.MetaTime, bad.header.ContentTypeTime))
	to := fmt.Sprintf("%s/%s.%s.%08x%s", into, at.Hash, newest, rand.Uint32(), bad.ext)
	if err := e.writeReason(to+".reason", bad); err != nil {
		return err
	}
	if bad.ext == extData {
		err = e.isolateData(at, bad, to)
	} else {
		err = e.isolateSmall(at, bad, to)
	}
	return err
}

// isolateData marks the data as lost and moves its file.
func (e *store) isolateData(at Location, bad *damaged, to string) error {
	old, err := e.header(at, extLost)
	var worse *damaged
	if err != nil && !errors.As(err, &worse) {
		return err
	}
	mark := blob.Header{Kind: blob.Lost, Hash: at.Hash, Time: timestamp.Max(bad.header.Time, old.Time), Name: bad.header.Name}
	if err := e.mark(at, extLost, old.Kind != 0 || worse != nil, mark); err != nil {
		return err
	}
	if err := e.cfg.FS.Rename(e.file(at, bad.ext), to); err != nil {
		return err
	}
	return errors.Join(e.names.Sync(path.Dir(to)), e.names.Sync(e.folder(at)))
}

// isolateSmall copies a file that has no data and puts a mark in its place.
func (e *store) isolateSmall(at Location, bad *damaged, to string) error {
	if err := e.copySmall(e.file(at, bad.ext), to); err != nil {
		return err
	}
	h := bad.header
	return e.mark(at, bad.ext, true, blob.Header{
		Kind: blob.Lost, Hash: at.Hash, Name: h.Name,
		Time: h.Time, MetaTime: h.MetaTime, ContentTypeTime: h.ContentTypeTime,
	})
}

func (e *store) mark(at Location, ext string, taken bool, h blob.Header) error {
	f, link, err := e.put(at, h)
	if err != nil {
		return err
	}
	return errors.Join(e.place(at, ext, taken, link), f.Close())
}

// quarantineDir makes the directory for damaged files, durably.
func (e *store) quarantineDir(at Location) (string, error) {
	top := e.root + "/quarantined"
	dir := top + "/objects" + at.Policy.Suffix()
	if err := e.names.Folder(top, e.root); err != nil {
		return "", err
	}
	return dir, e.names.Folder(dir, top)
}

// writeReason keeps beside a damaged file what is wrong with it.
func (e *store) writeReason(file string, bad *damaged) error {
	text := fmt.Sprintf("reason: %v\nname: %s\ntime: %s\n", bad.err, bad.header.Name.Quoted(), bad.header.Time)
	return e.writeFile(file, []byte(text))
}

// writeFile makes a small file durable.
func (e *store) writeFile(file string, content []byte) error {
	dir := path.Dir(file)
	f, err := e.cfg.FS.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = e.cfg.FS.Link(f, file)
	}
	if err == nil {
		err = e.names.Sync(dir)
	}
	return errors.Join(err, f.Close())
}

// copySmall copies the front of a file, which is all of one without data.
func (e *store) copySmall(from, to string) error {
	f, err := e.cfg.FS.Open(from)
	if err != nil {
		return err
	}
	buf := make([]byte, blob.PageSize+blob.MaxText)
	n, err := f.ReadAt(buf, 0)
	if closeErr := f.Close(); err == nil || errors.Is(err, io.EOF) {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return e.writeFile(to, buf[:n])
}

// eofOr leaves io.EOF as it is and gives other errors their kind.
func eofOr(err error, e *store, at Location) error {
	if err == io.EOF {
		return err
	}
	return e.wrap("engine.read", at, err)
}
