package metadb

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
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
// after a restart, until Merged was called with its position or a later one. After an error
// of kind errs.BadDevice it is of no more use, and another one is to be opened.
type Journal interface {
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
	copy(incarnation[:], d.Take(int64(len(incarnation))))
	n := d.Size()
	if n == 0 || n > int64(len(b)) {
		d.Fail()
	}
	for range n {
		r := Row{Space: decodePolicy(&d), Name: d.String(), Row: []byte(d.String())}
		if d.failed || r.check(schema) != nil {
			return incarnation, nil, ErrDecode
		}
		rows = append(rows, r)
	}
	return incarnation, rows, d.Err()
}

// journaled is what a disk has to do with its journal.
type journaled struct {
	open func(ctx context.Context, dev *device.Device, hurry func()) (Journal, error)
	step int           // updates in one transaction at most
	wake chan struct{} // the merger is to look
	stop chan struct{} // closed when the disk is let go of
	end  sync.WaitGroup

	pass sync.Mutex // held by who merges what is due

	mu      sync.Mutex
	log     Journal           // mu; nil before it is opened, and after it has failed
	opening chan struct{}     // mu; closed when an attempt has ended; nil while there is none
	failed  error             // mu; of the last attempt
	merging bool              // mu; the merger runs
	over    bool              // mu; nothing begins any more
	order   []seglog.Position // mu; of all updates, until they and all before them are merged
	through seglog.Position   // mu; the latest that was in order
	hurry   bool              // mu; all is to be merged
	waiting int               // mu; updates that are not merged
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
	case j.over:
		j.mu.Unlock()
		return nil, errs.E(errs.BadDevice, "the device was detached")
	case j.log != nil:
		defer j.mu.Unlock()
		return j.log, nil
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
	log, err := j.open(ctx, d.Device, d.hurryUp)
	j.mu.Lock()
	if !j.merging && !j.over {
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
	j.opening = nil
	if j.failed = err; err != nil {
		return
	}
	j.log = log
}

// replay puts an update of the journal among what waits, unless it is known to be merged,
// or is of a database that is not there any more. One that can't be read is of a later
// version: then the device is refused, and nothing lost.
func (s *Store) replay(ctx context.Context, d *disk, id seglog.ID, at seglog.Position, hash name.Hash, update []byte) error {
	incarnation, rows, err := decodeUpdate(s.schema, update)
	if err != nil {
		return errs.E(errs.BadDevice, errs.Subject("the journal of "+d.Name()+" at "+at.String()), err)
	}
	r := d.residents.acquire(hash)
	defer d.residents.release(r)
	k, err := s.know(ctx, d, r)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil
	case errs.Is(err, errs.Corrupt):
		return nil // replication brings back all of it, or none
	case err != nil:
		return err
	}
	if k.info.Incarnation != incarnation || k.merged.has(id, at) || r.has(id, at) {
		return nil
	}
	d.arrived(r, id, arrival{at: at, when: time.Now(), rows: rows})
	return s.makeRoom(ctx, d)
}

// know returns what is known of a database, which it opens if that is nothing.
func (s *Store) know(ctx context.Context, d *disk, r *resident) (*known, error) {
	if k := r.known.Load(); k != nil {
		return k, nil
	}
	loc := Location{d.Device, r.hash}
	var k *known
	err := s.withOn(ctx, d, loc, s.open, func(_ *disk, e *entry) error {
		return e.db.look(func(t *Tx) (err error) { k, err = t.known(); return err })
	})
	if err != nil {
		return nil, err
	}
	r.learn(k)
	return k, nil
}

// arrived notes an update that is durable in the journal.
func (d *disk) arrived(r *resident, log seglog.ID, a arrival) {
	r.add(log, a)
	j := d.journal
	j.mu.Lock()
	j.order = append(j.order, a.at) // behind add: see settledUpTo
	j.waiting++
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

// lost is told that the journal has failed: it is opened anew by who next needs it.
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
// until the rows are merged. The error is of kind errs.NotFound where there is no
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

// journalRows writes rows to the journal.
func (s *Store) journalRows(ctx context.Context, d *disk, log Journal, hash name.Hash, admit func(Info) error, rows []Row) error {
	r := d.residents.acquire(hash)
	defer d.residents.release(r)
	r.gate.RLock()
	defer r.gate.RUnlock()
	k, err := s.know(ctx, d, r)
	if err == nil && admit != nil {
		err = admit(k.info)
	}
	if err != nil {
		return err
	}
	rows = slices.Clone(rows)
	update := appendUpdate(make([]byte, 0, 256), k.info.Incarnation, rows)
	err = log.Append(hash, update, func(at seglog.Position) {
		d.arrived(r, log.LogID(), arrival{at: at, when: time.Now(), rows: rows})
	})
	if errs.Is(err, errs.BadDevice) {
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
	if j.over {
		return errs.E(errs.BadDevice, "the device was detached")
	}
	return nil
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
	if len(raw) != markSize || raw[0] != markVersion {
		return m, corrupt(ErrDecode)
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

// SetReported remembers what the owner of the listing was told about a database. Where there
// is a journal that is as durable as the next change of the database: who is told again
// of what he knows takes no harm.
func (s *Store) SetReported(ctx context.Context, loc Location, r Report) error {
	if s.cfg.Journal == nil {
		return s.Update(ctx, loc, func(tx *Tx) error { return tx.SetReported(r) })
	}
	return s.View(ctx, loc, func(tx *Tx) error {
		tx.res.report.Store(&r)
		return nil
	})
}

// errGone is what is logged of updates whose database is gone.
var errGone = errors.New("the database of updates in the journal is gone")

func (s *Store) logGone(d *disk, hash name.Hash, n int) {
	s.log.Warn("updates were forgotten with their database", "device", d.Name(), "hash", hash, "updates", strconv.Itoa(n), "err", errGone)
}
