package engine

import (
	"context"
	"errors"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/object/engine/record"
)

// A Journal is what one owner of databases has in the log of a disk, as that was attached
// once: updates that are durable there before they are in the databases' own files. It is
// safe for concurrent use.
//
// What may still be needed is kept in the log, and given back by Replay after a restart,
// until its owner has said by Merged that it is not. So an owner replays before he appends,
// and says nothing of Merged before that.
type Journal struct {
	d     *disk
	owner byte
}

// Journal returns the journal of an owner, from 1 to record.Owners-1, on the disk that is
// attached now, opening that if it must. Once the disk is detached, or opened anew because
// its index has failed, calls fail with the kind errs.BadDevice, and there is another
// journal to be had.
//
// From time to time, when room can be had by it or writing has failed, hooks.Hurry is called,
// which asks the owner to merge what he has soon, and hooks.Needed, which returns the
// segments that have something that is not merged, of all that was appended before the
// call, nil if that is not known: then all from the first of them on are kept. Those of the
// latest call for an owner are called; Hurry must not block.
func (e *Engine) Journal(ctx context.Context, owner byte, hooks Hooks) (*Journal, error) {
	const op errs.Op = "engine.journal"
	if owner == 0 || owner >= record.Owners {
		return nil, errs.E(op, errs.Invalid, "there is no such owner")
	}
	s := e.now()
	d, err := s.open(ctx)
	if err != nil {
		return nil, s.wrap(op, Location{}, err)
	}
	d.owners[owner].Store(&hooks)
	return &Journal{d, owner}, nil
}

// Hooks are what the owner of a Journal is asked. Those that are nil are not.
type Hooks struct {
	Hurry  func()
	Needed func() map[uint64]bool
}

// Gone reports whether nothing can be appended any more, and another Journal is to be had.
func (j *Journal) Gone() bool { return j.d.gone.Load() }

// LogID returns the identity of the log: positions in another one are of no meaning here.
func (j *Journal) LogID() seglog.ID { return j.d.log.ID() }

// Replay calls fn with each update that may be needed, in the order of the log, until fn
// fails. What fn is given is its own. Damage in the log is passed over, and was logged when
// the device was opened.
func (j *Journal) Replay(fn func(at seglog.Position, key [16]byte, update []byte) error) error {
	const op errs.Op = "engine.journal.replay"
	needed := j.d.usage.journalOf(j.owner)
	if needed.isNone() {
		return nil
	}
	for e, err := range j.d.log.Scan(needed.start) {
		if err != nil {
			return j.d.wrap(op, Location{}, err)
		}
		if needed.last.Less(e.At) {
			return nil
		}
		if e.Damage || e.Kind != byte(record.Journal) || !needed.merged.Less(e.At) {
			continue
		}
		h, err := record.Parse(e.Kind, e.Head)
		if err != nil {
			return errs.E(op, errs.BadDevice, errs.Subject(e.At.String()), err) // of a later version
		}
		if h.Owner != j.owner {
			continue
		}
		if err := fn(e.At, e.Key, h.Update); err != nil {
			return err
		}
	}
	return nil
}

// MaxUpdate bounds an update, in bytes.
const MaxUpdate = seglog.MaxHead - 64

// Append writes an update for the database of a hash. When it returns nil the update is on
// stable storage, by the log's promise, and apply has been called with its position: in
// the order of the log, one call at a time, and it must not call the journal. The update is not kept. The error is
// of kind errs.NoSpace where the device is full, errs.BadDevice where it is failing or was
// detached; then nothing was written that a replay would give back.
func (j *Journal) Append(key [16]byte, update []byte, apply func(seglog.Position)) error {
	const op errs.Op = "engine.journal.append"
	d := j.d
	switch {
	case len(update) > MaxUpdate:
		return errs.E(op, errs.TooLarge, "the update is too large")
	case d.gone.Load():
		return d.wrap(op, Location{}, errClosed)
	case d.suspect.Load() > 0:
		return errs.E(op, errs.BadDevice, errSuspect)
	}
	h := record.Head{Kind: record.Journal, Owner: j.owner, Update: update}
	room := newHead()
	defer room.done()
	head, err := room.of(&h)
	if err != nil {
		return errs.E(op, err)
	}
	// It may use the room that is kept for deletes: it is small, and a delete is among what
	// it says.
	_, err = d.log.Append(&seglog.Record{Kind: byte(record.Journal), Key: key, Head: head, Urgent: true}, func(at seglog.Position) {
		d.applyJournal(at, j.owner)
		apply(at)
	})
	return d.wrap(op, Location{}, err)
}

// errSuspect is why nothing is written for a while after writing has failed.
var errSuspect = errors.New("writing has failed, and what was written before is being looked at")

// applyJournal notes a record of the journal.
func (d *disk) applyJournal(at seglog.Position, owner byte) {
	d.index.ApplyWith(at, func() { d.usage.journaled(owner, at) })
}

// Merged says that the update at a position, and those before it, are needed no more, since
// they are durable elsewhere.
func (j *Journal) Merged(through seglog.Position) { j.d.usage.merged(j.owner, through) }

// hurry asks those whose updates are in the log to merge them.
func (d *disk) hurry() {
	for i := range d.owners {
		if hooks := d.owners[i].Load(); hooks != nil && hooks.Hurry != nil {
			hooks.Hurry()
		}
	}
}

// held returns what reports whether a segment has something in a journal that may be needed.
func (d *disk) held() func(segment uint64) bool {
	var needed [record.Owners]map[uint64]bool
	for i := range d.owners {
		if hooks := d.owners[i].Load(); hooks != nil && hooks.Needed != nil {
			needed[i] = hooks.Needed()
		}
	}
	return func(segment uint64) bool {
		for i := range needed {
			if d.usage.journalOf(byte(i)).holds(segment) && (needed[i] == nil || needed[i][segment]) {
				return true
			}
		}
		return false
	}
}

// journalUse is where in the log there are records of one owner that may be needed: behind
// merged, up to last. There are none if they are the same.
type journalUse struct {
	merged, last seglog.Position
	start        seglog.Position // a record, of which none before is needed
}

func (j journalUse) isNone() bool { return !j.merged.Less(j.last) }

// holds reports whether a segment may have a record that is needed.
func (j journalUse) holds(segment uint64) bool {
	return !j.isNone() && j.start.Segment <= segment && segment <= j.last.Segment
}

func (u *usage) journalOf(owner byte) journalUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.journal[owner]
}

// journaled notes that a record was appended.
func (u *usage) journaled(owner byte, at seglog.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	j := &u.journal[owner]
	if j.isNone() {
		j.start = at
	}
	j.last = at
}

// merged notes that nothing up to a position is needed.
func (u *usage) merged(owner byte, through seglog.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if j := &u.journal[owner]; j.merged.Less(through) {
		j.merged, j.start = through, through
	}
}
