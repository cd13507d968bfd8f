package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
)

// Pace is asked before each piece of work in the background, with its bytes, and returns
// when that may begin, or an error when it is to end. Nil holds nothing back.
type Pace func(ctx context.Context, bytes int64) error

func (p Pace) wait(ctx context.Context, bytes int64) error {
	if p == nil {
		return context.Cause(ctx)
	}
	return p(ctx, bytes)
}

// A share of a segment must be dead so that it is compacted: worth where less than little of the device is free, lavish where more than
// plenty is, what lies between in between, and scarce where the device has come to its reserve. What is
// left alone is overwritten and deleted meanwhile, and need not be moved then.
const (
	worth  = 0.5
	lavish = 0.75
	scarce = 0.05

	little = 0.25
	plenty = 0.5
)

// worth returns which share of a segment must be dead.
func (d *disk) worth() float64 {
	if d.reserve(0) != nil {
		return scarce
	}
	u, err := d.cfg.FS.Usage(d.root)
	if err != nil || u.Total == 0 {
		return worth // what is wrong is told when something is written
	}
	free := float64(u.Available) / float64(u.Total)
	return worth + (lavish-worth)*min(1, max(0, (free-little)/(plenty-little)))
}

// Compact is Engine.Compact.
func (s *store) Compact(ctx context.Context, horizon timestamp.T, pace Pace) error {
	const op errs.Op = "engine.compact"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return err
	}
	d.compacting.Lock()
	defer d.compacting.Unlock()
	c := newCompaction(d, horizon, pace)
	defer c.close()
	var done []uint64 // those that were begun in this pass: what is appended now is not worth it
	for {
		n, ok := d.choose(done)
		if !ok {
			return s.wrap(op, Location{}, c.retire(ctx))
		}
		done = append(done, n)
		err := c.do(ctx, n)
		if err == nil && !c.enough() {
			continue
		}
		// Where one fails, be it in each pass, those before it go all the same: unless there is no time for that.
		gives := len(c.done) > 0
		if err == nil || ctx.Err() == nil {
			if why := c.retire(ctx); why != nil {
				err, gives = errors.Join(err, why), false
			}
		}
		if gives && errs.Is(err, errs.NoSpace) {
			done = done[:len(done)-1] // there is room for it now
			continue
		}
		if err != nil {
			return s.wrap(op, Location{}, err)
		}
	}
}

// A segment is small if it has less than a smallPart of a full one, as each start leaves one.
// The oldest is compacted where there are manySmall.
const (
	smallPart = 8
	manySmall = 16
)

// choose returns the segment that is compacted next: one that was begun, the oldest of them first, or the one that has
// the most dead, or the oldest of many small ones; none that the databases' journal needs, and none behind one that was begun.
func (d *disk) choose(except []uint64) (best uint64, ok bool) {
	want := d.worth()
	least := 1.0
	small, oldestSmall := 0, uint64(0)
	// In this order: what is sealed by now has all that it will have, and its owners know of it.
	all := d.log.Stat()
	held, someHeld := d.held(), false
	for _, s := range all {
		if !s.Sealed || slices.Contains(except, s.Number) {
			continue
		}
		u := d.usage.get(s.Number)
		if held(s.Number) {
			if someHeld = true; u.done > 0 {
				d.sayHeld(s.Number)
				break // later ones may have the records that say how far it is: they must not go before it does
			}
			continue
		}
		if s.Size < d.segmentSize/smallPart {
			if small++; small == 1 {
				oldestSmall = s.Number
			}
		}
		if u.done > 0 {
			return s.Number, true
		}
		if live := float64(u.live) / float64(s.Size); live <= 1-want && live < least {
			best, least, ok = s.Number, live, true
		}
	}
	if someHeld {
		d.hurry()
	}
	if !ok && small >= manySmall {
		return oldestSmall, true
	}
	return best, ok
}

// sayHeld tells the log, once for each segment, that compaction can't go on behind it.
func (d *disk) sayHeld(segment uint64) {
	if d.saidHeld != segment {
		d.saidHeld = segment
		d.cfg.Log.Warn("no segment behind one that was begun is compacted: databases have rows in it that were not merged",
			slog.String("device", d.root), slog.Uint64("segment", segment))
	}
}

// do appends again what of a segment is in force, so that it can be removed: retire does that,
// after a checkpoint of the index that needs nothing of it. Until then a crash finds
// everything, and goes on where it was.
func (c *compaction) do(ctx context.Context, segment uint64) error {
	if c.stays != nil {
		return errs.E(errs.BadDevice, fmt.Errorf("a segment could not be removed before: %w", c.stays))
	}
	if from := c.usage.get(segment).done; from < allDone {
		if err := c.begin(segment, from); err != nil {
			return err
		}
		for !c.last {
			if err := c.gather(ctx); err != nil {
				return err
			}
			if err := c.move(); err != nil {
				return err
			}
			c.due()
		}
	}
	c.done = append(c.done, segment)
	c.room += c.log.Size(segment)
	return nil
}

// enough reports whether segments that are done are to be removed before others are begun. A checkpoint costs as much as
// compacting a small segment, so that some share one, where the device does not need their room.
func (c *compaction) enough() bool { return c.room >= c.most.together || c.reserve(0) != nil }

// retire removes the segments that are done. An older one goes before a later one, which may hold the records that say how far it was.
func (c *compaction) retire(ctx context.Context) error {
	if len(c.done) == 0 {
		return nil
	}
	err := c.checkpoint(ctx)
	if errs.Is(err, errs.NoSpace) {
		// What is about to be removed is more than what is kept for such a case.
		var gave bool
		if gave, err = c.log.GiveRoom(); err == nil && !gave {
			err = errs.E(errs.NoSpace, "there is no room for the index, nor a spare segment to give up for it")
		}
		if err == nil {
			err = c.checkpoint(ctx)
		}
	}
	if err != nil {
		return err
	}
	slices.Sort(c.done)
	for _, segment := range c.done {
		if err := c.log.Remove(segment); err != nil && !errs.Is(err, errs.NotFound) {
			// It may be back after a crash, so that what hides what it holds must stay.
			c.stays = err
			return err
		}
		c.usage.forget(segment)
		c.cfg.Log.Debug("segment was compacted", slog.String("device", c.root), slog.Uint64("segment", segment))
	}
	c.done, c.room = c.done[:0], 0
	return nil
}
