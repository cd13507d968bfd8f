package metadb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
)

// A file of bbolt never shrinks. One of which more than half, and more than vacuumLeast, is
// neither rows nor changes is written anew, while the database is in use:
//
//  1. rows, and then changes, are copied into a file in tmp, in slices as an audit's. The
//     file has then of each row some state, and of the changes those before the copy began.
//  2. Rows that changed since the copy began, which changes tell by their numbers, are
//     brought up to the state of one look, until few have changed since the one before. What
//     is not rows is copied in that look as well. So the copy is one state of the database, with
//     all its numbers and its incarnation; it is checked, and synced.
//  3. Writers of the database are held up. What has changed since is brought up, synced, and
//     the copy is given the database's name, durably. Then the file that was open is closed, with
//     its last reader, and whoever comes opens the new one. Rows go into the journal all the while.
//
// Until it has its name nothing knows of the copy, and a crash leaves a file in tmp, which
// is removed at the next start. What the old file has in step 3 was acknowledged, and so is
// durable in one file or the other, whichever a crash then leaves under the name. The
// name is durable before anything is written to the new file, since it is not settled before
// (settleName).
//
// A DELETE moves rows without a change of their numbers. One that comes meanwhile ends the
// attempt; so does whatever fails.
const (
	vacuumLeast = 1 << 20
	vacuumBatch = 8 << 20 // bytes in one transaction of the copy
	vacuumLast  = 500     // changes that are brought up while writers are held up, at most
	vacuumTurns = 20      // attempts to have as few
)

var errBusy = errors.New("it changes faster than it can be copied, or was deleted meanwhile")

// vacuum writes the file of a database anew if that is worth it. Used is about what its rows
// and changes take.
func (s *Store) vacuum(ctx context.Context, d *disk, loc Location, used int64, pace Pace) error {
	const op errs.Op = "metadb.vacuum"
	path := s.path(loc)
	info, err := d.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.wrap(op, loc, classify(err))
	}
	free := info.Size - used*10/9
	hasRoom := loc.Device.Room(2*used) == nil
	if free < vacuumLeast || free < info.Size/2 || !hasRoom {
		return nil
	}
	began := time.Now()
	var held time.Duration
	err = s.withOn(ctx, d, loc, s.open, func(d *disk, e *entry) (err error) {
		if e.db.small != nil {
			return nil // it has come in its place
		}
		held, err = s.rewrite(ctx, d, loc, e.db, pace)
		return err
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if errors.Is(err, errBusy) {
		s.log.Info("a database could not be made smaller, and will be later", "device", d.Name(), "hash", loc.Hash, "err", err)
		return nil
	}
	if err != nil {
		return s.wrap(op, loc, err)
	}
	now, err := d.fs.Stat(path)
	if err != nil {
		return s.wrap(op, loc, classify(err))
	}
	s.counts.rewritten.Add(1)
	s.counts.freed.Add(max(0, info.Size-now.Size))
	s.log.Info("a database was made smaller", "device", d.Name(), "hash", loc.Hash, "from", info.Size, "to", now.Size,
		"took", time.Since(began), "writers waited", held)
	return nil
}

// rewrite writes the file of an open database anew, and says for how long writers were held up.
func (s *Store) rewrite(ctx context.Context, d *disk, loc Location, db *database, pace Pace) (held time.Duration, err error) {
	db.auditing.Lock()
	defer db.auditing.Unlock()
	tmp, err := s.temp(d)
	if err != nil {
		return 0, err
	}
	to, err := s.openFile(d.fs, tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	named := false
	if err == nil {
		to.bolt.NoSync = true // it is synced before it counts
		c := &copying{from: db, to: to, pace: pace, stop: d.journal.stop}
		if err = c.run(ctx); err == nil {
			held, named, err = s.exchangeFiles(d, loc, c, tmp)
		}
		if c.tx != nil {
			err = rollback(c.tx, err)
		}
		err = errors.Join(err, to.close()) // it is opened again by who needs it
	}
	if !named {
		s.removeTemp(d, tmp)
	}
	return held, classify(err)
}

// exchangeFiles is the third step. Named is whether the copy has lost the name it had in tmp.
func (s *Store) exchangeFiles(d *disk, loc Location, c *copying, tmp string) (held time.Duration, named bool, err error) {
	began := time.Now()
	var turn uint64
	err = c.from.guarded(func() (err error) {
		b, err := c.from.bolt.Begin(true) // whoever writes waits, and then finds the database dropped
		if err != nil {
			return err
		}
		defer func() { err = rollback(b, err) }()
		if err := c.from.failure(); err != nil {
			return err
		}
		t, err := begin(s.schema, b)
		if err != nil {
			return err
		}
		n, err := c.bringUp(t, vacuumLast+1)
		if err == nil && n > vacuumLast {
			err = errBusy
		}
		if err == nil {
			err = c.commit()
		}
		if err == nil {
			err = c.to.file.Sync()
		}
		if err != nil {
			return err
		}
		path := s.path(loc)
		turn = d.unsettle([4]byte([]byte(loc.Hash.String())))
		c.from.fail(errDropped) // whatever comes of it, the file is looked for again
		if err := d.fs.Rename(tmp, path); err != nil {
			return err
		}
		named = true
		return d.syncDir(filepath.Dir(path))
	})
	if named && err == nil {
		d.isSettled([4]byte([]byte(loc.Hash.String())), turn)
		err = d.syncDir(filepath.Dir(tmp))
	}
	return time.Since(began), named, err
}

// copying is a copy of a database that is being made.
type copying struct {
	from, to *database
	pace     Pace
	stop     <-chan struct{}

	start, upTo uint64 // the last change when it began, and up to which it was brought up
	info        Info   // when it began
	rows        []byte // the key of the last row that is copied
	all         bool   // there are no more
	change      uint64 // the number of the last change that is copied, up to start

	tx   *bolt.Tx // of the copy; nil where there is none
	out  *Tx      // the buckets of tx
	size int64    // of what was put into it
	paid int64
}

// run is the first two steps.
func (c *copying) run(ctx context.Context) error {
	err := c.from.look(func(t *Tx) error {
		c.start, c.info = t.LastChange(), t.info
		c.upTo = c.start
		return nil
	})
	for err == nil && !(c.all && c.change == c.start) {
		if err = c.wait(ctx); err == nil {
			err = c.from.look(func(t *Tx) error { return guard(func() error { return c.slice(t) }) })
		}
	}
	for turn := 0; err == nil; turn++ {
		if turn == vacuumTurns {
			return errBusy
		}
		n := 0
		if err = c.wait(ctx); err == nil {
			err = c.from.look(func(t *Tx) error { n, err = c.bringUp(t, vacuumLast); return err })
		}
		if err == nil {
			err = c.commit()
		}
		if n < vacuumLast {
			break
		}
	}
	if err != nil {
		return err
	}
	if _, err := c.to.auditWith(ctx, newAudit(), c.pace, c.stop); err != nil {
		return err
	}
	return c.to.file.Sync()
}

// wait pays for what was copied, and commits what is enough for a transaction.
func (c *copying) wait(ctx context.Context) error {
	select {
	case <-c.stop:
		return errs.E(errs.BadDevice, "the device was detached")
	default:
	}
	err := c.pace.wait(ctx, 2*(c.size-c.paid)) // read and written
	c.paid = c.size
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return errs.E(errs.Aborted, err)
	}
	if c.size >= vacuumBatch {
		return c.commit()
	}
	return nil
}

// begin begins a transaction of the copy if there is none, making what every file has.
func (c *copying) begin() error {
	if c.tx != nil {
		return nil
	}
	b, err := c.to.bolt.Begin(true)
	if err != nil {
		return err
	}
	c.tx, c.out = b, &Tx{}
	for i, to := range c.out.tables() {
		made, err := b.CreateBucketIfNotExists(buckets[i])
		if err != nil {
			return err
		}
		made.FillPercent = denseFill
		*to = bucket{made}
	}
	return nil
}

func (c *copying) commit() error {
	if c.tx == nil {
		return nil
	}
	err := c.tx.Commit()
	c.tx, c.out, c.size, c.paid = nil, nil, 0, 0
	return err
}

func (c *copying) put(b table, key, value []byte) error {
	c.size += int64(len(key) + len(value) + perItem)
	return b.Put(bytes.Clone(key), bytes.Clone(value)) // both are of another file, and kept until the commit
}

// slice copies for as long as a look may take.
func (c *copying) slice(t *Tx) error {
	if err := c.begin(); err != nil {
		return err
	}
	end := time.Now().Add(auditSlice)
	live, dead := t.live.Cursor(), t.dead.Cursor()
	lk, lv := after(live, c.rows)
	dk, dv := after(dead, c.rows)
	for n := 1; !c.all && (lk != nil || dk != nil); n++ {
		k, v, b, in := dk, dv, c.out.dead, dead
		isLive := dk == nil || lk != nil && bytes.Compare(lk, dk) < 0
		if isLive {
			k, v, b, in = lk, lv, c.out.live, live
		}
		if _, err := unseal(k, v); err != nil {
			return corrupt(err)
		}
		if err := c.put(b, k, v); err != nil {
			return err
		}
		c.rows = bytes.Clone(k)
		if k, v = in.Next(); isLive {
			lk, lv = k, v
		} else {
			dk, dv = k, v
		}
		if n%auditStep == 0 && !time.Now().Before(end) {
			return nil
		}
	}
	c.all = true
	in := t.changes.Cursor()
	k, key := in.Seek(binary.BigEndian.AppendUint64(nil, c.change+1))
	for n := 1; k != nil; n++ {
		if len(k) != 8 {
			return corrupt(errShape)
		}
		number := binary.BigEndian.Uint64(k)
		if number > c.start {
			break
		}
		if err := c.put(c.out.changes, k, key); err != nil {
			return err
		}
		c.change = number
		if k, key = in.Next(); n%auditStep == 0 && !time.Now().Before(end) {
			return nil
		}
	}
	c.change = c.start
	return nil
}

// bringUp copies rows that changed since they were last copied, at most so many, and how
// many there were; where that is less, it copies what is not rows as well: the copy is in
// the state of t then.
func (c *copying) bringUp(t *Tx, most int) (n int, err error) {
	if t.info.Delete != c.info.Delete {
		return 0, errBusy
	}
	if err := c.begin(); err != nil {
		return 0, err
	}
	list, err := t.Changes(c.upTo, most)
	if err != nil {
		return 0, err
	}
	for i := range list {
		if err := c.bringUpRow(t, &list[i]); err != nil {
			return 0, err
		}
		c.upTo = list[i].Number
	}
	if len(list) == most {
		return len(list), nil
	}
	c.upTo = t.LastChange()
	if err := c.out.changes.SetSequence(c.upTo); err != nil {
		return 0, err
	}
	for _, b := range [][2]table{{t.infob, c.out.infob}, {t.meta, c.out.meta}, {t.statb, c.out.statb}} {
		if err := c.replaceAll(b[0], b[1]); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

// bringUpRow brings one row, and its change, into the state of t.
func (c *copying) bringUpRow(t *Tx, row *Change) error {
	key := rowKey(nil, row.Space, row.Name)
	was, _, isLive, err := c.out.stored(key)
	if err != nil {
		return err
	}
	if was != 0 {
		if err := c.out.changes.Delete(binary.BigEndian.AppendUint64(nil, was)); err != nil {
			return err
		}
	}
	from, to, other := t.live, c.out.live, c.out.dead
	v := from.Get(key)
	if v == nil {
		from, to, other = t.dead, c.out.dead, c.out.live
		v = from.Get(key)
	}
	if was != 0 && isLive != (to == c.out.live) {
		if err := other.Delete(key); err != nil {
			return err
		}
	}
	if err := c.put(to, key, v); err != nil {
		return err
	}
	return c.put(c.out.changes, binary.BigEndian.AppendUint64(nil, row.Number), key)
}

// replaceAll makes a small bucket what another one is.
func (c *copying) replaceAll(from, to table) error {
	var gone [][]byte
	cur := to.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		if from.Get(k) == nil {
			gone = append(gone, bytes.Clone(k))
		}
	}
	for _, k := range gone {
		if err := to.Delete(k); err != nil {
			return err
		}
	}
	cur = from.Cursor()
	for k, v := cur.First(); k != nil; k, v = cur.Next() {
		if err := c.put(to, k, v); err != nil {
			return err
		}
	}
	return nil
}
