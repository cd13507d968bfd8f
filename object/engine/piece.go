package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// pieces bound what is compacted with one sync, its names locked meanwhile.
type pieces struct {
	names int   // records of names, dead or alive
	moved int   // records that are appended again; with one more they fit into a batch of the log
	bytes int64 // of those, but for the last
	room  int64 // bytes that are in memory of the segment

	together int64 // bytes of segments that are removed after one checkpoint, or one segment if that has more
}

// maxHead is what a head takes at most, nearly always.
const maxHead = 4 << 10

// usualPieces take a lock of one in five while they are moved, if nearly all in them is dead.
var usualPieces = pieces{names: 1024, moved: 256, bytes: 2 << 20, room: 1 << 20, together: 64 << 20}

// compaction is what a pass over the segments of a disk works with: one piece of one segment at a time. What it
// needs of memory is kept from one piece to the next.
type compaction struct {
	*disk
	horizon timestamp.T
	pace    Pace
	most    pieces
	finder  finder

	walk     *seglog.Walk // of the segment
	segment  uint64
	from, to int64 // of the piece
	last     bool  // nothing is behind it
	sparse   bool  // so little of the segment is in force that it is read again where it is

	lot
	items []seglog.Item
	moves []move
	heads []byte // of items
	large []byte // records that the walk has passed over
	locks []int
	bytes []byte // room for the walk

	done []uint64 // segments that are to be removed
	room int64    // bytes that they have
}

// move is a record that is appended again.
type move struct {
	name int32
	size int64
	head record.Head
}

func newCompaction(d *disk, horizon timestamp.T, pace Pace) *compaction {
	most := usualPieces
	if d.cfg.pieces != (pieces{}) {
		most = d.cfg.pieces
	}
	return &compaction{disk: d, horizon: horizon, pace: pace, most: most}
}

func (c *compaction) close() { c.finder.close() }

// sparse is the part of a segment that is in force up to which a read for each record costs less than having all of it in
// memory, and so many more pieces.
const sparse = 8

// begin begins with a segment, at an offset.
func (c *compaction) begin(segment uint64, from int64) (err error) {
	if c.bytes == nil {
		c.bytes = make([]byte, min(c.most.room, c.segmentSize))
	}
	c.segment, c.to, c.last = segment, from, false
	c.sparse = c.usage.get(segment).live < c.log.Size(segment)/sparse
	c.walk, err = c.log.Walk(seglog.Position{Segment: segment, Offset: from}, c.bytes)
	return err
}

// gather finds what the next piece is, and waits until it may be worked on.
func (c *compaction) gather(ctx context.Context) error {
	c.clear()
	c.from = c.to
	paid := c.from
	c.walk.Keep(c.from)
	for {
		e, more, err := c.walk.Next()
		switch {
		case err != nil:
			return err
		case !more && (c.walk.Ended() || len(c.records) > 0 && !c.sparse):
			c.last = c.walk.Ended()
			return c.pace.wait(ctx, c.to-paid)
		case !more: // there are no names in all of this, or nearly all of it is dead
			if err := c.pace.wait(ctx, c.to-paid); err != nil {
				return err
			}
			paid = c.to
			c.walk.Keep(c.to)
			continue
		case len(c.records) == c.most.names:
			return c.pace.wait(ctx, c.to-paid)
		case e.Damage:
			if err := c.quarantineRegion(ctx, e.At, e.To); err != nil {
				return err
			}
			c.to = e.To.Offset
			continue
		}
		if err := c.add(&e); err != nil {
			return err
		}
		c.to = e.At.Offset + e.Size()
	}
}

// move appends what is in force, and the record that the piece is done, with one sync if
// they fit into a batch. All names in the piece are locked.
func (c *compaction) move() error {
	c.group()
	defer c.lockAll()()
	if c.suspect.Load() > 0 {
		return errs.E(errs.BadDevice, errSuspect)
	}
	for again := true; again; {
		var err error
		if again, err = c.collect(); err != nil {
			return err
		}
	}
	h := record.Head{Kind: record.Compacted, Segment: c.segment, From: c.from, To: c.to, Last: c.last}
	head, err := h.Append(nil)
	if err != nil {
		return err
	}
	c.items = append(c.items, seglog.Item{
		Record: seglog.Record{Kind: byte(record.Compacted), Head: head, Urgent: true},
		Apply:  func(at seglog.Position) { c.applyCompacted(at, &h, c.changes(c.segment)) },
	})
	return c.log.AppendAll(c.items)
}

// collect prepares what is to be appended, and ends the piece earlier where that is much. Where something damaged went to
// quarantine meanwhile, entries have changed, and it is to be done again.
func (c *compaction) collect() (again bool, err error) {
	c.items, c.moves, c.heads, c.large = c.items[:0], c.moves[:0], c.heads[:0], c.large[:0]
	for i := range c.names {
		n := &c.names[i]
		if n.now, err = c.finder.get(c.disk, Location{n.key.Policy, n.key.Hash}); err != nil {
			return false, err
		}
		n.will = n.now
	}
	bytes := int64(0)
	for i := range c.records {
		f := &c.records[i]
		n := &c.names[f.name]
		at := seglog.Position{Segment: c.segment, Offset: f.at}
		lost := planted.CompactionDropsLive && n.key.Hash[len(n.key.Hash)-1]%2 == 0 // breaks: what is in force is moved, and not lost
		if lost || !inForce(&n.will, at) || c.forgettable(&n.will) {
			n.will = compacted(&n.will, at)
			continue
		}
		if len(c.items) == c.most.moved || bytes >= c.most.bytes {
			c.records, c.to, c.last = c.records[:i], f.at, false
			return false, nil
		}
		bytes += f.size
		if err := c.copy(f, at); err != nil {
			return c.apart(n, err)
		}
	}
	return false, nil
}

// apart brings into quarantine what can't be moved because it is damaged, and returns other errors as they are.
func (c *compaction) apart(n *named, err error) (again bool, _ error) {
	var bad *damaged
	if !errors.As(err, &bad) {
		return false, err
	}
	now := n.now
	return true, c.isolate(Location{n.key.Policy, n.key.Hash}, &now, bad)
}

// inForce reports whether a record is one of those that an entry is made of.
func inForce(e *index.Entry, at seglog.Position) bool {
	return is(e.Data, at) || is(e.Meta, at) || is(e.Mark, at)
}

// forgettable reports whether nothing is lost with the one record that an entry is made
// of: no earlier one is left that it hides, and what it says is past the horizon, or
// only that something was dropped. The mark of metadata that was lost is left to Reclaim.
func (c *compaction) forgettable(e *index.Entry) bool {
	if e.Dead > 0 || places(e) != 1 || e.MetaLost {
		return false
	}
	switch e.Kind {
	case index.Gone:
		return true
	case index.Tombstone, index.Waiting:
		return e.Times.Happened().Before(c.horizon)
	}
	return false
}

// lockAll locks all names of the piece. Whoever else waits for a lock while holding one
// (lockBoth) locks them in this order, too.
func (c *compaction) lockAll() (unlock func()) {
	c.locks = c.locks[:0]
	for i := range c.names {
		c.locks = append(c.locks, shard(c.names[i].key.Hash))
	}
	slices.Sort(c.locks)
	c.locks = slices.Compact(c.locks)
	for _, n := range c.locks {
		c.disk.locks[n].Lock()
	}
	return func() {
		for _, n := range c.locks {
			c.disk.locks[n].Unlock()
		}
	}
}

// copy has a record in force appended again, with the rest of the piece. The error is a
// *damaged where it can't be.
func (c *compaction) copy(f *found, from seglog.Position) error {
	n := &c.names[f.name]
	e, at := &n.will, Location{n.key.Policy, n.key.Hash}
	var h record.Head
	var body []byte
	switch {
	case is(e.Mark, from):
		h = c.markOf(at, e)
	case e.Kind == index.Gone:
		h = record.Head{Kind: record.Purge}
		h.Object.Time, h.Object.ContentTypeTime, h.Object.MetaTime = e.Times.Data, e.Times.ContentType, e.Times.Meta
	default:
		p, place := partData, e.Data
		if is(e.Meta, from) {
			p, place = partMeta, e.Meta
		}
		r, err := c.read(place)
		if err == nil {
			h, err = parse(at, p, &r, int64(len(r.Body)), nil)
			body = r.Body
		}
		if errors.Is(err, record.ErrHead) {
			return errs.E(errs.BadDevice, errs.Subject(from.String()), err) // of a later version
		}
		if err != nil {
			return wrongPart(p, place, err)
		}
		if p == partMeta {
			stripMeta(&h.Object, e.Times.Data.Until())
		}
	}
	h.Policy, h.Tie, h.Alone = at.Policy, e.Tie, places(e) == 1
	start := len(c.heads)
	all, err := h.Append(c.heads)
	if err != nil {
		return err
	}
	head := all[start:len(all):len(all)]
	c.heads = all
	i := len(c.moves)
	c.moves = append(c.moves, move{name: f.name, size: seglog.Size(len(head), len(body)), head: h})
	c.items = append(c.items, seglog.Item{
		Record: seglog.Record{Kind: byte(h.Kind), Key: at.Hash, Head: head, Body: body, Urgent: true},
		Apply:  func(to seglog.Position) { c.moved(&c.moves[i], to) },
	})
	return nil
}

// read reads a record in force, whose parts are good until the piece is moved.
func (c *compaction) read(place index.Place) (seglog.Record, error) {
	if r, ok := c.walk.Record(place.Position(), place.Size); ok {
		return r, nil
	}
	if int64(cap(c.large)-len(c.large)) < place.Size {
		c.large = make([]byte, 0, max(c.most.bytes+c.threshold+maxHead, place.Size)) // those before are in use
	}
	start := len(c.large)
	r, into, err := c.log.Read(place.Position(), place.Size, c.large[start:start:start+int(place.Size)])
	c.large = c.large[:start+len(into)]
	return r, err
}

// moved tells the index of a record that was appended again.
func (c *compaction) moved(m *move, to seglog.Position) {
	n := &c.names[m.name]
	now := after(&n.now, &m.head, index.Place{Segment: to.Segment, Offset: to.Offset, Size: m.size})
	c.apply(to, n.key, &n.now, &now)
	n.now = now
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

// lot is the records of a part of a segment, and what they are of.
type lot struct {
	records []found // of names, in the order of the log
	names   []named // in order; none twice
	order   []int32 // of records, by their keys
	list    []index.Change
}

// found is a record of a lot.
type found struct {
	at   int64
	size int64
	key  index.Key
	name int32 // of which name it is
}

// named is a name of which a lot has records.
type named struct {
	key  index.Key
	now  index.Entry // what the index says, while its lock is held
	will index.Entry // what it is to be, but for where records are
	old  index.Entry // before the lot goes
	goes bool        // something of it does
}

func (l *lot) clear() { l.records, l.names = l.records[:0], l.names[:0] }

// add adds a record, unless it is of no name.
func (l *lot) add(e *seglog.Entry) error {
	kind, of, err := record.Peek(e.Kind, e.Head)
	if err != nil {
		return errs.E(errs.BadDevice, errs.Subject(e.At.String()), err) // of a later version
	}
	if kind.OfObject() {
		l.records = append(l.records, found{at: e.At.Offset, size: e.Size(), key: index.Key{Policy: of, Hash: name.Hash(e.Key)}})
	}
	return nil
}

// group finds which names there are.
func (l *lot) group() {
	l.order = l.order[:0]
	for i := range l.records {
		l.order = append(l.order, int32(i))
	}
	compare := func(a, b *index.Key) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), slices.Compare(a.Hash[:], b.Hash[:]))
	}
	slices.SortFunc(l.order, func(a, b int32) int { return compare(&l.records[a].key, &l.records[b].key) })
	l.names = l.names[:0]
	for _, i := range l.order {
		f := &l.records[i]
		if n := len(l.names); n == 0 || l.names[n-1].key != f.key {
			l.names = append(l.names, named{key: f.key})
		}
		f.name = int32(len(l.names) - 1)
	}
}

// changes returns what becomes of the entries of names when the records go with their segment.
func (l *lot) changes(segment uint64) []index.Change {
	for i := range l.records {
		f := &l.records[i]
		n := &l.names[f.name]
		if !n.goes {
			n.goes, n.old = true, n.now
		}
		n.now = compacted(&n.now, seglog.Position{Segment: segment, Offset: f.at})
	}
	l.list = l.list[:0]
	for i := range l.names {
		if n := &l.names[i]; n.goes {
			l.list = append(l.list, index.Change{Key: n.key, Old: n.old, New: n.now})
		}
	}
	return l.list
}

// compactedPart returns what a record of kind Compacted changed, when it is replayed: from
// the part of the segment that it is of, if that is still there.
func (d *disk) compactedPart(h *record.Head) ([]index.Change, error) {
	var p lot
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
		if err := p.add(&e); err != nil {
			return nil, err
		}
	}
	p.group()
	by := d.index.Finder()
	defer by.Close()
	for i := range p.names {
		n := &p.names[i]
		var err error
		if n.now, err = by.Get(n.key); err != nil {
			return nil, err
		}
	}
	return p.changes(h.Segment), nil
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
