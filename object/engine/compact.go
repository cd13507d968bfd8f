package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
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

// A piece is what is compacted with one sync, its keys locked meanwhile.
const (
	pieceRecords = 256
	pieceBytes   = 2 << 20
)

// worth is the share of a segment that must be dead so that it is compacted; where the
// device has come to its reserve, scarce.
const (
	worth  = 0.5
	scarce = 0.05
)

// Compact is Engine.Compact.
func (s *store) Compact(ctx context.Context, horizon timestamp.T, pace Pace) error {
	const op errs.Op = "engine.compact"
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return err
	}
	d.compacting.Lock()
	defer d.compacting.Unlock()
	var done []uint64 // those that were begun in this pass: what is appended now is not worth it
	for {
		n, ok := d.choose(done)
		if !ok {
			return nil
		}
		done = append(done, n)
		if err := d.compactSegment(ctx, n, horizon, pace); err != nil {
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

// choose returns the segment that is compacted next: one that was begun, so that there is
// never more than one, or the one that has the most dead, or the oldest of many small ones;
// none that the databases' journal needs.
func (d *disk) choose(except []uint64) (best uint64, ok bool) {
	want := worth
	if d.reserve(0) != nil {
		want = scarce
	}
	least := 1.0
	small, oldestSmall := 0, uint64(0)
	// In this order: what is sealed by now has all that it will have, and its owners know of it.
	all := d.log.Stat()
	held, someHeld := d.held(), false
	for _, s := range all {
		if !s.Sealed || slices.Contains(except, s.Number) {
			continue
		}
		if held(s.Number) {
			someHeld = true
			continue
		}
		if s.Size < d.segmentSize/smallPart {
			if small++; small == 1 {
				oldestSmall = s.Number
			}
		}
		u := d.usage.get(s.Number)
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

// compactSegment appends again what of a segment is in force, and removes it. It is gone
// only after a checkpoint of the index that needs nothing of it; until then a crash finds
// everything, and goes on where it was.
func (d *disk) compactSegment(ctx context.Context, segment uint64, horizon timestamp.T, pace Pace) error {
	if d.stays != nil {
		return errs.E(errs.BadDevice, fmt.Errorf("a segment could not be removed before: %w", d.stays))
	}
	for from := d.usage.get(segment).done; from < allDone; {
		p := piece{disk: d, segment: segment, from: from, horizon: horizon}
		if err := p.gather(ctx, pace); err != nil {
			return err
		}
		if err := p.move(); err != nil {
			return err
		}
		d.due()
		from = p.to
		if p.last {
			break
		}
	}
	return d.retire(ctx, segment)
}

// retire removes a segment that is compacted as a whole.
func (d *disk) retire(ctx context.Context, segment uint64) error {
	err := d.checkpoint(ctx)
	if errs.Is(err, errs.NoSpace) {
		// What is about to be removed is more than what is kept for such a case.
		var gave bool
		if gave, err = d.log.GiveRoom(); err == nil && !gave {
			err = errs.E(errs.NoSpace, "there is no room for the index, nor a spare segment to give up for it")
		}
		if err == nil {
			err = d.checkpoint(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := d.log.Remove(segment); err != nil && !errs.Is(err, errs.NotFound) {
		// It may be back after a crash, so that what hides what it holds must stay.
		d.stays = err
		return err
	}
	d.usage.forget(segment)
	d.cfg.Log.Debug("segment was compacted", slog.String("device", d.root), slog.Uint64("segment", segment))
	return nil
}

// piece is a part of a segment that is compacted at once.
type piece struct {
	*disk
	segment  uint64
	from, to int64
	last     bool
	horizon  timestamp.T

	records []found
	now     map[index.Key]index.Entry // what the index says, while the locks are held
	items   []seglog.Item
}

// found is a record of the piece.
type found struct {
	at   seglog.Position
	size int64
	key  index.Key
	kind record.Kind
}

// gather finds what the piece is, and waits until it may be worked on.
func (p *piece) gather(ctx context.Context, pace Pace) error {
	bytes := int64(0)
	p.to, p.last = p.from, true
	for e, err := range p.log.Scan(seglog.Position{Segment: p.segment, Offset: p.from}) {
		if err != nil {
			return err
		}
		if e.At.Segment != p.segment {
			break
		}
		if len(p.records) == pieceRecords || bytes >= pieceBytes {
			p.last = false
			break
		}
		if e.Damage {
			if err := p.quarantineRegion(ctx, e.At, e.To); err != nil {
				return err
			}
			p.to = e.To.Offset
			continue
		}
		h, err := record.Parse(e.Kind, e.Head)
		if err != nil {
			return errs.E(errs.BadDevice, errs.Subject(e.At.String()), err) // of a later version
		}
		p.records = append(p.records, found{e.At, e.Size(), index.Key{Policy: h.Policy, Hash: name.Hash(e.Key)}, h.Kind})
		bytes += e.Size()
		p.to = e.At.Offset + e.Size()
	}
	return pace.wait(ctx, bytes)
}

// move appends what is in force, and the record that the piece is done, with one sync if
// they fit into a batch. All names in the piece are locked.
func (p *piece) move() error {
	defer p.lockAll()()
	if p.suspect.Load() > 0 {
		return errs.E(errs.BadDevice, errSuspect)
	}
	for again := true; again; {
		var err error
		if again, err = p.collect(); err != nil {
			return err
		}
	}
	h := record.Head{Kind: record.Compacted, Segment: p.segment, From: p.from, To: p.to, Last: p.last}
	head, err := h.Append(nil)
	if err != nil {
		return err
	}
	p.items = append(p.items, seglog.Item{
		Record: seglog.Record{Kind: byte(record.Compacted), Head: head, Urgent: true},
		Apply: func(at seglog.Position) {
			list, _ := changes(p.records, func(k index.Key) (index.Entry, error) { return p.now[k], nil })
			p.applyCompacted(at, &h, list)
		},
	})
	return p.log.AppendAll(p.items)
}

// collect prepares what is to be appended. Where something damaged went to quarantine
// meanwhile, entries have changed, and it is to be done again.
func (p *piece) collect() (again bool, err error) {
	p.now, p.items = map[index.Key]index.Entry{}, nil
	will := map[index.Key]index.Entry{} // what entries will be, but for where they are
	for _, f := range p.records {
		if !f.kind.OfObject() {
			continue
		}
		e, ok := will[f.key]
		if !ok {
			if e, err = p.get(Location{f.key.Policy, f.key.Hash}); err != nil {
				return false, err
			}
			p.now[f.key], will[f.key] = e, e
		}
		if planted.CompactionDropsLive && f.key.Hash[len(f.key.Hash)-1]%2 == 0 { // breaks: what is in force is moved, and not lost
			will[f.key] = compacted(&e, f.at)
			continue
		}
		if !inForce(&e, f.at) || p.forgettable(&e) {
			will[f.key] = compacted(&e, f.at)
			continue
		}
		err := p.copy(&f, &e)
		var bad *damaged
		if errors.As(err, &bad) {
			now := p.now[f.key]
			return true, p.isolate(Location{f.key.Policy, f.key.Hash}, &now, bad)
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// inForce reports whether a record is one of those that an entry is made of.
func inForce(e *index.Entry, at seglog.Position) bool {
	return is(e.Data, at) || is(e.Meta, at) || is(e.Mark, at)
}

// forgettable reports whether nothing is lost with the one record that an entry is made
// of: no earlier one is left that it hides, and what it says is past the horizon, or
// only that something was dropped. The mark of metadata that was lost is left to Reclaim.
func (p *piece) forgettable(e *index.Entry) bool {
	if e.Dead > 0 || places(e) != 1 || e.MetaLost {
		return false
	}
	switch e.Kind {
	case index.Gone:
		return true
	case index.Tombstone, index.Waiting:
		return e.Times.Happened().Before(p.horizon)
	}
	return false
}

// lockAll locks all names of the piece. Whoever else waits for a lock while holding one
// (lockBoth) locks them in this order, too.
func (p *piece) lockAll() (unlock func()) {
	all := make([]int, 0, len(p.records))
	for _, f := range p.records {
		all = append(all, shard(f.key.Hash))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	held := make([]*sync.Mutex, len(all))
	for i, n := range all {
		held[i] = &p.locks[n]
		held[i].Lock()
	}
	return func() {
		for _, l := range held {
			l.Unlock()
		}
	}
}

// copy has a record in force appended again, with the rest of the piece. The error is a
// *damaged where it can't be.
func (p *piece) copy(f *found, e *index.Entry) error {
	at := Location{f.key.Policy, f.key.Hash}
	var h record.Head
	var body []byte
	switch {
	case is(e.Mark, f.at):
		h = p.markOf(at, e)
	case e.Kind == index.Gone:
		h = record.Head{Kind: record.Purge}
		h.Object.Time, h.Object.ContentTypeTime, h.Object.MetaTime = e.Times.Data, e.Times.ContentType, e.Times.Meta
	default:
		part, place := partData, e.Data
		if is(e.Meta, f.at) {
			part, place = partMeta, e.Meta
		}
		r, _, err := p.log.Read(place.Position(), place.Size, nil)
		if err == nil {
			h, err = parse(at, part, &r, int64(len(r.Body)), nil)
			body = r.Body
		}
		if err != nil {
			return wrongPart(part, place, err)
		}
		if part == partMeta {
			stripMeta(&h.Object, e.Times.Data.Until())
		}
	}
	h.Policy, h.Tie, h.Alone = at.Policy, e.Tie, places(e) == 1
	head, err := h.Append(nil)
	if err != nil {
		return err
	}
	p.items = append(p.items, seglog.Item{
		Record: seglog.Record{Kind: byte(h.Kind), Key: at.Hash, Head: head, Body: body, Urgent: true},
		Apply: func(to seglog.Position) {
			old := p.now[f.key]
			now := after(&old, &h, index.Place{Segment: to.Segment, Offset: to.Offset, Size: seglog.Size(len(head), len(body))})
			p.apply(to, f.key, &old, &now)
			p.now[f.key] = now
		},
	})
	return nil
}

// stripMeta takes away from metadata what data that came later has replaced: beside data
// metadata says nothing that is not later (after).
func stripMeta(h *blob.Header, data timestamp.T) {
	if !h.MetaTime.After(data) {
		h.MetaTime, h.Meta = timestamp.T{}, nil
	}
	if !h.ContentTypeTime.After(data) {
		h.ContentTypeTime, h.ContentType = timestamp.T{}, ""
	}
}

// markOf is the mark of a quarantine written anew, from what the index says.
func (d *disk) markOf(at Location, e *index.Entry) record.Head {
	h := record.Head{Kind: record.Quarantine, Reason: "moved by compaction"}
	if old, err := d.head(at, partMark, e.Mark); err == nil {
		h.Reason, h.Object.Name = old.Reason, old.Object.Name
	}
	if e.Kind == index.Lost {
		h.Lost |= record.LostData
	}
	if e.MetaLost {
		h.Lost |= record.LostMeta
	}
	h.Object.Time, h.Object.ContentTypeTime, h.Object.MetaTime = e.Times.Data, e.Times.ContentType, e.Times.Meta
	return h
}

// changes returns what becomes of entries when records go with their segment.
func changes(records []found, get func(index.Key) (index.Entry, error)) ([]index.Change, error) {
	at := map[index.Key]int{}
	var list []index.Change
	for _, f := range records {
		if !f.kind.OfObject() {
			continue
		}
		i, ok := at[f.key]
		if !ok {
			e, err := get(f.key)
			if err != nil {
				return nil, err
			}
			i = len(list)
			at[f.key] = i
			list = append(list, index.Change{Key: f.key, Old: e, New: e})
		}
		list[i].New = compacted(&list[i].New, f.at)
	}
	return list, nil
}

// compactedPart returns what a record of kind Compacted changed, when it is replayed: from
// the part of the segment that it is of, if that is still there.
func (d *disk) compactedPart(h *record.Head) ([]index.Change, error) {
	var records []found
	for e, err := range d.log.Scan(seglog.Position{Segment: h.Segment, Offset: h.From}) {
		if err != nil {
			return nil, err
		}
		if e.At.Segment != h.Segment || e.At.Offset >= h.To {
			break
		}
		if e.Damage {
			continue
		}
		r, err := record.Parse(e.Kind, e.Head)
		if err != nil {
			return nil, errs.E(errs.BadDevice, err)
		}
		records = append(records, found{e.At, e.Size(), index.Key{Policy: r.Policy, Hash: name.Hash(e.Key)}, r.Kind})
	}
	return changes(records, d.index.Get)
}

// applyCompacted tells the index of a record of kind Compacted.
func (d *disk) applyCompacted(at seglog.Position, h *record.Head, list []index.Change) {
	d.index.ApplyWith(at, func() {
		for i := range list {
			d.usage.moved(&list[i].Old, &list[i].New)
		}
		d.usage.compacted(h.Segment, h.To, h.Last)
	}, list...)
}
