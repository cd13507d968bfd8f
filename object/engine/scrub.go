package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// Scrub is Engine.Scrub.
func (s *store) Scrub(ctx context.Context, before time.Time, pace Pace) error {
	const op errs.Op = "engine.scrub"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return err
	}
	if err := d.scrubLog(ctx, before, pace); err != nil {
		return s.wrap(op, Location{}, err)
	}
	return s.wrap(op, Location{}, d.scrubBlobs(ctx, before, pace))
}

// scrubLog reads the segments that are due, those first that have waited longest.
func (d *disk) scrubLog(ctx context.Context, before time.Time, pace Pace) error {
	if err := d.vanished(ctx); err != nil {
		return err
	}
	read := map[uint64]int64{}
	var due []uint64
	for _, s := range d.log.Stat() {
		if read[s.Number] = d.usage.get(s.Number).read; read[s.Number] < before.Unix() {
			due = append(due, s.Number)
		}
	}
	slices.SortStableFunc(due, func(a, b uint64) int { return cmp.Compare(read[a], read[b]) })
	for _, n := range due {
		if err := d.verify(ctx, n, pace); err != nil {
			return err
		}
		if d.log.IsSealed(n) {
			d.usage.wasRead(n, time.Now()) // else more may come
		}
	}
	return nil
}

// vanished quarantines what was in segments that are gone, though nobody removed them.
func (d *disk) vanished(ctx context.Context) error {
	known := d.usage.numbers() // before the log is asked: it may begin more
	there := d.log.Segments()
	for _, n := range known {
		if slices.Contains(there, n) || d.usage.get(n).done == allDone {
			continue // what was removed, and was not for good, may be back after a crash, and this says that it is of no use
		}
		all := seglog.Position{Segment: n, Offset: math.MaxInt64}
		if err := d.quarantineRegion(ctx, seglog.Position{Segment: n}, all); err != nil {
			return err
		}
		d.usage.forget(n)
	}
	return nil
}

// scrubBlobs reads the files of the folders that are due. Which file a name has is known
// from the index, so that one that is missing is found as well.
func (d *disk) scrubBlobs(ctx context.Context, before time.Time, pace Pace) error {
	var due []int
	for i := range blobFolders {
		if d.usage.blobRead(i) < before.Unix() {
			due = append(due, i)
		}
	}
	slices.SortStableFunc(due, func(a, b int) int { return cmp.Compare(d.usage.blobRead(a), d.usage.blobRead(b)) })
	for _, folder := range due {
		from, to := index.Partition(8, uint32(folder))
		for _, set := range d.index.Sets() {
			if sum, err := d.index.Digest(set, 8, uint32(folder)); err != nil || sum.Objects == 0 {
				if err != nil {
					return err
				}
				continue // nothing needs to be read to know that
			}
			for item, err := range d.index.Range(set.Policy, from, to) {
				if err != nil {
					return err
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !item.Entry.Blob {
					continue
				}
				if err := d.verifyBlob(ctx, Location{set.Policy, item.Key.Hash}, pace); err != nil {
					return err
				}
			}
		}
		d.usage.blobsWereRead(folder, time.Now())
	}
	return nil
}

func lastHash() (h name.Hash) {
	for i := range h {
		h[i] = 0xff
	}
	return h
}

// verifyRecord reads a record if it is in force.
func (d *disk) verifyRecord(e *seglog.Entry, buf []byte) ([]byte, error) {
	h, err := record.Parse(e.Kind, e.Head)
	if err != nil || !h.Kind.OfObject() {
		return buf, nil //nolint:nilerr // what can't be parsed is of a later version: not damage
	}
	at := Location{h.Policy, name.Hash(e.Key)}
	entry, err := d.get(at)
	if err != nil || !inForce(&entry, e.At) {
		return buf, err
	}
	place := index.Place{Segment: e.At.Segment, Offset: e.At.Offset, Size: e.Size()}
	_, buf, err = d.log.Read(e.At, e.Size(), buf)
	p := partData
	switch {
	case is(entry.Meta, e.At):
		p = partMeta
	case is(entry.Mark, e.At):
		p = partMark
	}
	var bad *damaged
	if err = wrongPart(p, place, err); errors.As(err, &bad) {
		return buf, d.quarantine(at, bad)
	}
	if errors.Is(err, errMoved) {
		err = nil
	}
	return buf, err
}

// verifyBlob reads all of the data of a name, which puts it into quarantine if it is
// damaged.
func (d *disk) verifyBlob(ctx context.Context, at Location, pace Pace) error {
	r, err := d.Open(ctx, at)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Corrupt) {
		return nil // it is gone, or lost: the store knows
	}
	if errors.Is(err, blob.ErrLater) {
		return nil // nobody here can read it, and those behind it are to be looked at
	}
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was only read
	for off := int64(0); ; {
		b, err := r.View(off, blob.MaxLength)
		if err == io.EOF || errs.Is(err, errs.Corrupt) {
			return nil
		}
		if err != nil {
			return err
		}
		off += int64(len(b))
		if err := pace.wait(ctx, int64(len(b))); err != nil {
			return err
		}
	}
}

// quarantineRegion puts into quarantine what of the index points into a part of the log
// that can't be read.
func (d *disk) quarantineRegion(ctx context.Context, from, to seglog.Position) error {
	inside := func(p index.Place) bool {
		at := p.Position()
		return !p.IsZero() && !at.Less(from) && at.Less(to)
	}
	why := errs.E(errs.Corrupt, "the log is damaged from "+from.String()+" to "+to.String())
	for item, err := range d.index.All() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for p, place := range [...]index.Place{item.Entry.Data, item.Entry.Meta, item.Entry.Mark} {
			if !inside(place) {
				continue
			}
			at := Location{item.Key.Policy, item.Key.Hash}
			if err := d.quarantine(at, &damaged{part: part(p), place: place, err: why}); err != nil {
				return err
			}
		}
	}
	return nil
}
