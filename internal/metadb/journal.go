package metadb

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
)

// A Journal is the part of a device's log that belongs to a Store. What Append has written
// is durable before apply is called, in the order of the log, and is given back by Replay
// after a restart, until Merged was called with its position or a later one. Append does not keep the update. Once it is
// gone nothing can be appended any more, and another one is to be opened.
type Journal interface {
	Gone() bool
	LogID() seglog.ID
	Replay(fn func(at seglog.Position, key [16]byte, update []byte) error) error
	Append(key [16]byte, update []byte, apply func(seglog.Position)) error
	Merged(through seglog.Position)
}

// A Row is one that is to be merged: of a space, and in the encoding of the schema.
type Row struct {
	Space policy.Index
	Name  string
	Row   []byte
}

// check sees to it that a row can be merged, before it is durable anywhere.
func (r *Row) check(schema Schema) error {
	if r.Name == "" || len(r.Name) > MaxName {
		return errs.Refuse(errs.Invalid, "A name of %d bytes is not allowed", len(r.Name))
	}
	if err := checkRow(schema, r.Space, r.Row); err != nil {
		return errs.E(errs.Invalid, err)
	}
	return nil
}

// An update is a record of the journal, version 1:
//
//	1 byte    version
//	16 bytes  incarnation of the database: of another one it says nothing
//	uvarint   number of rows
//	rows      policy as uvarint, name and row each behind its length as uvarint
const updateVersion = 1

func appendUpdate(b []byte, incarnation ID, rows []Row) []byte {
	b = append(append(b, updateVersion), incarnation[:]...)
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for i := range rows {
		b = binary.AppendUvarint(b, uint64(rows[i].Space))
		b = AppendString(b, rows[i].Name)
		b = binary.AppendUvarint(b, uint64(len(rows[i].Row)))
		b = append(b, rows[i].Row...)
	}
	return b
}

// decodeUpdate reads what appendUpdate writes; every row can be merged.
func decodeUpdate(schema Schema, b []byte) (incarnation ID, rows []Row, err error) {
	d := NewDecoder(b)
	if d.Byte() != updateVersion {
		d.Fail()
	}
	copy(incarnation[:], d.Bytes(int64(len(incarnation))))
	n := d.Size()
	if n == 0 || n > int64(len(b)) {
		d.Fail()
	}
	for range n {
		r := Row{Space: decodePolicy(&d), Name: d.String(), Row: bytes.Clone(d.Bytes(d.Size()))}
		if d.failed || r.check(schema) != nil {
			return incarnation, nil, ErrDecode
		}
		rows = append(rows, r)
	}
	return incarnation, rows, d.Err()
}

// JournalHooks are what a Journal calls of who has opened it. They do not call the journal.
type JournalHooks struct {
	// Hurry asks for what waits to be merged soon, and does not block.
	Hurry func()

	// Needed returns the segments of the log that have something that is not merged, of all
	// that was appended before the call; nil where that is not known. It may wait for
	// those who look at a database.
	Needed func() map[uint64]bool
}

// journaled is what a disk has to do with its journal.
type journaled struct {
	open func(ctx context.Context, dev *device.Device, hooks JournalHooks) (Journal, error)
	step int           // updates in one transaction at most
	wake chan struct{} // the merger is to look
	stop chan struct{} // closed when the disk is let go of
	end  sync.WaitGroup

	pass sync.Mutex // held by who merges what is due

	mu      sync.Mutex
	log     Journal           // mu; nil before it is opened, and after it has failed
	opening chan struct{}     // mu; closed when an attempt has ended; nil while there is none
	failed  error             // mu; of the last attempt
	at      time.Time         // mu; when that was
	merging bool              // mu; the merger runs
	over    error             // mu; why nothing begins any more; nil before
	order   []seglog.Position // mu; of some updates, until they and all before them are merged
	since   int               // mu; updates that are not in order, behind the latest that is
	last    seglog.Position   // mu; of the latest update
	through seglog.Position   // mu; all updates up to that are merged
	hurry   bool              // mu; all is to be merged
	waiting int64             // mu; bytes of updates that are not merged, about
	room    chan struct{}     // mu; closed when there are fewer; nil if nobody waits for that
}

func newJournaled(cfg Config) *journaled {
	return &journaled{open: cfg.Journal, step: cfg.step, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// attach returns the journal of a disk, having seen to it that all it gives back is among
// what waits; nil where the store has none.
func (s *Store) attach(ctx context.Context, d *disk) (Journal, error) {
	j := d.journal
	if j.open == nil {
		return nil, nil
	}
	j.mu.Lock()
	switch {
	case j.over != nil:
		defer j.mu.Unlock()
		return nil, j.over
	case j.log != nil:
		defer j.mu.Unlock()
		return j.log, nil
	case j.failed != nil && j.opening == nil && time.Since(j.at) < openAgain:
		defer j.mu.Unlock()
		return nil, errs.E(errs.BadDevice, j.failed)
	}
	attempt := j.opening
	if attempt == nil {
		attempt = make(chan struct{})
		j.opening = attempt
		j.end.Go(func() { s.openJournal(d, attempt) }) //nolint:contextcheck // it is for all who wait, and outlives them
	}
	j.mu.Unlock()
	select {
	case <-attempt:
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, ctx.Err())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == nil {
		return nil, errs.E(errs.BadDevice, j.failed)
	}
	return j.log, nil
}

// openJournal opens the journal of a disk for all who wait.
func (s *Store) openJournal(d *disk, done chan struct{}) {
	defer close(done)
	j := d.journal
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-j.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	log, err := j.open(ctx, d.Device, JournalHooks{Hurry: d.hurryUp, Needed: d.needed})
	j.mu.Lock()
	if !j.merging && j.over == nil {
		j.merging = true // there may be more than all that may wait
		j.end.Go(func() { s.keepMerging(d) })
	}
	through := j.through
	j.mu.Unlock()
	if err == nil {
		log.Merged(through) // it may not know, if it was opened anew
		err = log.Replay(func(at seglog.Position, key [16]byte, update []byte) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.replay(ctx, d, log.LogID(), at, name.Hash(key), update)
		})
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.opening, j.at = nil, time.Now()
	if j.failed = err; err != nil {
		return
	}
	j.log = log
}

// openAgain is how long the last attempt to open a journal counts.
const openAgain = time.Second

// replay puts an update of the journal among what waits. Whether it was merged before, or
// its database is another one now, is found when it is merged. One that can't be read is of
// a later version: then the device is refused, and nothing lost.
func (s *Store) replay(ctx context.Context, d *disk, id seglog.ID, at seglog.Position, hash name.Hash, update []byte) error {
	incarnation, rows, err := decodeUpdate(s.schema, update)
	if err != nil {
		return errs.E(errs.BadDevice, errs.Subject("the journal of "+d.Name()+" at "+at.String()), err)
	}
	r := d.residents.acquire(hash)
	defer d.residents.release(r)
	if r.has(id, at) {
		return nil
	}
	d.arrived(r, arrival{log: id, at: at, incarnation: incarnation, when: time.Now(), rows: rows, bytes: weight(rows)})
	s.mark(d, hash) // its owner may not have been told
	return s.makeRoom(ctx, d)
}

// know returns what is known of a database, which it opens if that is nothing, and sees to
// it that the file is durable as it was found, and its name: what goes to the journal for it
// must find it again.
func (s *Store) know(ctx context.Context, d *disk, r *resident) (*known, error) {
	if k := r.known.Load(); k != nil && r.settled.Load() {
		return k, nil
	}
	life := r.life.Load()
	loc := Location{d.Device, r.hash}
	var k *known
	err := s.withOn(ctx, d, loc, s.open, func(_ *disk, e *entry) error {
		if !r.settled.Load() {
			if err := e.db.merge(); err != nil {
				return err
			}
		}
		return e.db.look(func(t *Tx) (err error) { k, err = t.known(); return err })
	})
	if err != nil {
		return nil, err
	}
	r.learn(k, life)
	return k, nil
}

// orderEach is how many updates there are for each whose position is kept.
const orderEach = 64

// weight is about how many bytes rows that wait take in memory.
func weight(rows []Row) int64 {
	n := int64(0)
	for i := range rows {
		n += 400 + 3*int64(len(rows[i].Name)) + 2*int64(len(rows[i].Row))
	}
	return n
}

// arrived notes an update that is durable in the journal, of a resident in use.
func (d *disk) arrived(r *resident, a arrival) {
	d.residents.arrived(r)
	r.add(a)
	j := d.journal
	j.mu.Lock()
	if j.last.Less(a.at) { // behind the others: see settledUpTo
		j.last = a.at
		if j.since++; j.since == orderEach {
			j.since = 0
			j.order = append(j.order, a.at)
		}
	}
	j.waiting += a.bytes
	full := j.waiting >= mergeSoon
	j.mu.Unlock()
	if full {
		d.wakeUp()
	}
}

func (d *disk) wakeUp() {
	select {
	case d.journal.wake <- struct{}{}:
	default:
	}
}

// hurryUp has all that waits merged soon.
func (d *disk) hurryUp() {
	j := d.journal
	j.mu.Lock()
	j.hurry = true
	j.mu.Unlock()
	d.wakeUp()
}

// needed is JournalHooks.Needed.
func (d *disk) needed() map[uint64]bool {
	j := d.journal
	j.mu.Lock()
	known := j.log != nil && j.over == nil // else there may be more than has been replayed
	j.mu.Unlock()
	if !known {
		return nil
	}
	all := map[uint64]bool{}
	for _, r := range d.residents.withWaiting() {
		r.segments(all)
		d.residents.release(r)
	}
	return all
}

// lost is told that the journal is gone: it is opened anew by who next needs it.
func (j *journaled) lost(log Journal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.log == log {
		j.log = nil
	}
}

// MergeRows merges rows into a database. When it returns nil they are on stable storage,
// in the journal where there is one, and all who look see them. Admit, unless it is nil,
// is asked first with what the database knows of itself, and may refuse; that may change
// until the rows are merged. They are kept, and must not change any more, nor what is in them. The error is of kind errs.NotFound where there is no
// database, errs.Invalid where a row can't be merged, and else as of Update.
func (s *Store) MergeRows(ctx context.Context, loc Location, admit func(Info) error, rows ...Row) error {
	const op errs.Op = "metadb.mergerows"
	for i := range rows {
		if err := rows[i].check(s.schema); err != nil {
			return s.wrap(op, loc, err)
		}
	}
	d, err := s.disk(ctx, loc)
	if err != nil {
		return s.wrap(op, loc, err)
	}
	log, err := s.attach(ctx, d)
	switch {
	case err != nil:
		return s.wrap(op, loc, err)
	case log == nil:
		return s.Update(ctx, loc, func(tx *Tx) error {
			if admit != nil {
				if err := admit(tx.Info()); err != nil {
					return err
				}
			}
			return tx.mergeRows(rows)
		})
	}
	if err = s.makeRoom(ctx, d); err == nil {
		err = s.journalRows(ctx, d, log, loc.Hash, admit, rows)
	}
	if err == nil {
		s.mark(d, loc.Hash)
	}
	return s.wrap(op, loc, err)
}

// updates are memory for updates on their way to a journal, which does not keep them: who has one gives it back once Append has
// returned, however long a disk that hangs takes for that, and nobody else had it.
var updates = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// keptUpdate is how large such memory may have become that is kept, in bytes.
const keptUpdate = 4096

// journalRows writes rows to the journal.
func (s *Store) journalRows(ctx context.Context, d *disk, log Journal, hash name.Hash, admit func(Info) error, rows []Row) error {
	r := d.residents.acquire(hash)
	defer d.residents.release(r)
	var k *known
	for k == nil {
		// Not under the gate: nobody waits for a database while he holds that.
		if _, err := s.know(ctx, d, r); err != nil {
			return err
		}
		r.gate.RLock()
		if k = r.known.Load(); k == nil || !r.settled.Load() {
			k = nil
			r.gate.RUnlock() // it was dropped meanwhile, or another file has come in its place
		}
	}
	defer r.gate.RUnlock()
	if admit != nil {
		if err := admit(k.info); err != nil {
			return err
		}
	}
	room := updates.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer updates.Put(room)
	update := appendUpdate((*room)[:0], k.info.Incarnation, rows)
	if cap(update) <= keptUpdate {
		*room = update
	}
	a := arrival{log: log.LogID(), incarnation: k.info.Incarnation, when: time.Now(), rows: rows, bytes: weight(rows)}
	err := log.Append(hash, update, func(at seglog.Position) { d.arrived(r, a.found(at)) })
	if err != nil && log.Gone() {
		d.journal.lost(log)
	}
	if err == nil {
		err = d.journal.still()
	}
	return err
}

// still fails if the disk was let go of: what was written to the journal may or may not be
// among what it gives back to whoever works with the disk now.
func (j *journaled) still() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.over
}

// mergeRows merges rows in a transaction.
func (t *Tx) mergeRows(rows []Row) error {
	for i := range rows {
		if _, err := t.MergeRow(rows[i].Space, rows[i].Name, rows[i].Row); err != nil {
			return err
		}
	}
	return nil
}

// A mark says up to which position of which log the updates of a database are in its file.
type mark struct {
	log seglog.ID
	at  seglog.Position
}

func (m mark) has(log seglog.ID, at seglog.Position) bool { return m.log == log && !m.at.Less(at) }

const (
	markVersion = 1
	markSize    = 1 + 16 + 8 + 8
)

var keyMerged = []byte("merged")

// merged returns up to where the journal is merged.
func (t *Tx) merged() (m mark, err error) {
	stored := t.infob.Get(keyMerged)
	if stored == nil {
		return m, nil
	}
	raw, err := unseal(keyMerged, stored)
	if err != nil {
		return m, corrupt(err)
	}
	if err := checkVersion(raw, markSize, markVersion); err != nil {
		return m, corrupt(err)
	}
	copy(m.log[:], raw[1:])
	m.at = seglog.Position{Segment: binary.LittleEndian.Uint64(raw[17:]), Offset: int64(binary.LittleEndian.Uint64(raw[25:]))}
	return m, nil
}

func (t *Tx) setMerged(m mark) error {
	b := append(append(make([]byte, 0, markSize+sealLen), markVersion), m.log[:]...)
	b = binary.LittleEndian.AppendUint64(b, m.at.Segment)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.at.Offset))
	return t.put(t.infob, keyMerged, seal(keyMerged, b))
}

// known returns what updates need to know of the database as the transaction has it.
func (t *Tx) known() (*known, error) {
	m, err := t.merged()
	return &known{tx: t.id, info: t.info, merged: m}, err
}
