package engine

import (
	"log/slog"
	"math"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// replay applies what of the log the index does not have.
func (d *disk) replay() error {
	const op errs.Op = "engine.replay"
	from := d.index.Position()
	if end := d.end(); from != (seglog.Position{}) && !from.Less(end) {
		if from.Segment > end.Segment {
			return errs.E(op, errs.Corrupt, "the index knows of segments that the log has lost")
		}
		d.cfg.Log.Error("the log has lost its last records", slog.String("device", d.root), slog.String("from", end.String()))
		return d.quarantineRegion(toTheEnd, end, seglog.Position{Segment: from.Segment, Offset: math.MaxInt64})
	}
	for e, err := range d.log.Scan(from) {
		if err != nil {
			return errs.E(op, err)
		}
		if e.Damage {
			d.damage(&e)
			continue
		}
		if !d.index.Applied().Less(e.At) {
			continue
		}
		if err := d.replayOne(&e); err != nil {
			return errs.E(op, errs.Subject(e.At.String()), err)
		}
		if d.index.Stats().Changes >= d.cfg.Changes {
			if err := d.save(); err != nil {
				return errs.E(op, err)
			}
		}
	}
	return nil
}

// end returns the end of the log.
func (d *disk) end() seglog.Position {
	all := d.log.Stat()
	if len(all) == 0 {
		return seglog.Position{}
	}
	s := all[len(all)-1]
	return seglog.Position{Segment: s.Number, Offset: s.Size}
}

// replayOne applies one record. What can't be understood is of a later version: the
// device is refused, and nothing lost.
func (d *disk) replayOne(e *seglog.Entry) error {
	h, err := record.Parse(e.Kind, e.Head)
	if err != nil {
		return errs.E(errs.BadDevice, err)
	}
	if h.Kind == record.Compacted {
		changes, err := d.compactedPart(&h)
		if err != nil {
			return err
		}
		d.applyCompacted(e.At, &h, changes)
		return nil
	}
	if h.Kind == record.Journal {
		d.applyJournal(e.At, h.Owner)
		return nil
	}
	key := index.Key{Policy: h.Policy, Hash: name.Hash(e.Key)}
	old, err := d.index.Get(key)
	if err != nil {
		return err
	}
	now := after(&old, &h, index.Place{Segment: e.At.Segment, Offset: e.At.Offset, Size: e.Size()})
	d.apply(e.At, key, &old, &now)
	switch h.Kind {
	case record.Data, record.Blob, record.Meta, record.Tombstone:
		d.noteReplayed(key)
	}
	return nil
}

// apply tells the index of a record.
func (d *disk) apply(at seglog.Position, key index.Key, old, now *index.Entry) {
	d.index.ApplyWith(at, func() { d.usage.moved(old, now) }, index.Change{Key: key, Old: *old, New: *now})
}

// damage is told of a part of the log that can't be read, behind what the index has: what
// it held is not known. Peers know, and send it when they are next compared with.
func (d *disk) damage(e *seglog.Entry) {
	d.cfg.Log.Error("a part of the log is damaged; records in it are lost here until replication brings them back",
		slog.String("device", d.root), slog.String("from", e.At.String()), slog.String("to", e.To.String()))
}
