package metadb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/policy"
)

// An audit reads all of a database while that is in use, in slices: each is a look of its
// own that ends after auditSlice. So whoever needs the file to grow waits for one slice at
// most, and pages that are written anew are kept no longer.
//
// What is found is so of one state, the latest that a slice saw. Rows and changes are read
// each in their order, and added up; a transaction that comes meanwhile tells the audit what
// it does to rows, and what of that lies in what was read already is put right. So when all
// is read the sums are those of the file as the last slice saw it, as if it had been read
// at once, and must be equal to what the file says of itself: no change that comes meanwhile is
// taken for damage, and none hides any.
//
// That rows and changes name each other is told by two sums of a hash of the pair, one over
// each bucket: that needs neither memory nor a look for each row in the other bucket.
type audit struct {
	mu    sync.Mutex
	moves []moved // mu; in the order of the transactions
	again bool    // mu; a later delete has moved rows in ways that are not told

	sums  tally
	rows  []byte // the key of the last row that was read
	all   bool   // there are no more rows
	upTo  uint64 // the number of the last change that was read; math.MaxUint64 for all
	bytes int64  // of keys and values, with what a page has for each
	paid  int64

	span  time.Duration // of one slice
	step  int           // rows between looks at the clock
	burst int64         // bytes that are paid for together
}

func newAudit() *audit {
	return &audit{sums: tally{stats: map[policy.Index]Stat{}}, span: auditSlice, step: auditStep, burst: auditBurst}
}

// tally is what rows and changes add up to.
type tally struct {
	digest           Digest
	stats            map[policy.Index]Stat
	rows, changes    int64
	byName, byNumber uint64 // sums of pairs
}

// moved is what a transaction did to one row.
type moved struct {
	tx            int
	key           []byte
	delta         Digest
	before, after Weight
	was, now      uint64 // change numbers, 0 where there was no row, or is none
}

const (
	auditSlice = 10 * time.Millisecond
	auditStep  = 64      // rows between looks at the clock
	auditBurst = 1 << 18 // bytes that are paid for together
)

// Pace is asked before so many bytes are read or written, and returns when that may be.
type Pace func(ctx context.Context, bytes int64) error

func (p Pace) wait(ctx context.Context, n int64) error {
	if p == nil {
		return context.Cause(ctx)
	}
	return p(ctx, n)
}

var pairSeed = maphash.MakeSeed()

// pair is a hash of a change number and the row that has it.
func pair(number uint64, key []byte) uint64 {
	h := maphash.Bytes(pairSeed, key) ^ number*0x9E3779B97F4A7C15
	h = (h ^ h>>32) * 0xD6E8FEB86659FD93
	return h ^ h>>32
}

// note tells an audit what becomes of a row, if there is one.
func (t *Tx) note(key []byte, was uint64, old, row []byte, before, after Weight) {
	if t.audit == nil {
		return
	}
	m := moved{tx: t.id, key: bytes.Clone(key), before: before, after: after, was: was, now: t.LastChange() + 1}
	if old != nil {
		m.delta = m.delta.minus(t.term(termRow, key, old))
	}
	m.delta = m.delta.plus(t.term(termRow, key, row))
	t.moves = append(t.moves, m)
}

// tell tells the audit what a transaction did, before anybody can see it.
func (t *Tx) tell() {
	if t.audit == nil {
		return
	}
	t.audit.mu.Lock()
	defer t.audit.mu.Unlock()
	t.audit.moves = append(t.audit.moves, t.moves...)
	t.audit.again = t.audit.again || t.info.Delete != t.was.Delete
}

var errAgain = errors.New("the database was deleted while it was checked")

// catchUp puts right what transactions up to one did to what was read already.
func (a *audit) catchUp(tx int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for ; n < len(a.moves) && a.moves[n].tx <= tx; n++ {
		m := &a.moves[n]
		if a.all || bytes.Compare(m.key, a.rows) <= 0 {
			a.sums.replace(m)
		}
		if m.was != 0 && m.was <= a.upTo {
			a.sums.byNumber -= pair(m.was, m.key)
			a.sums.changes--
		}
		if m.now <= a.upTo {
			a.sums.byNumber += pair(m.now, m.key)
			a.sums.changes++
		}
	}
	if a.moves = a.moves[n:]; len(a.moves) == 0 {
		a.moves = nil
	}
	if a.again {
		return errAgain
	}
	return nil
}

func (s *tally) replace(m *moved) {
	s.digest = s.digest.plus(m.delta)
	s.count(m.before, -1)
	s.count(m.after, +1)
	if m.was != 0 {
		s.byName -= pair(m.was, m.key)
		s.rows--
	}
	s.byName += pair(m.now, m.key)
	s.rows++
}

func (s *tally) count(w Weight, sign int64) {
	if w.Live {
		s.stats[w.Policy] = s.stats[w.Policy].add(w, sign)
	}
}

// audit checks a database, which its caller keeps open, and returns about how many bytes
// its file has to hold. It ends early when stop is closed.
func (d *database) audit(ctx context.Context, pace Pace, stop <-chan struct{}) (used int64, err error) {
	d.auditing.Lock()
	defer d.auditing.Unlock()
	if d.small != nil {
		return d.auditSmall()
	}
	for {
		if used, err = d.auditWith(ctx, newAudit(), pace, stop); !errors.Is(err, errAgain) {
			return used, err
		}
	}
}

// auditSmall checks what a shared file has of a database.
func (d *database) auditSmall() (used int64, err error) {
	if err := d.failure(); err != nil {
		return 0, err
	}
	i, err := d.small.latest()
	if err != nil {
		if errors.Is(err, errDropped) {
			d.fail(err) // what is in memory is not there any more: it is looked for anew
		}
		return 0, classify(err)
	}
	t, err := beginImage(d.schema, i)
	a := newAudit()
	for done := false; err == nil && !done; {
		done, err = a.slice(t)
	}
	return a.bytes + perValue, classify(err)
}

func (d *database) auditWith(ctx context.Context, a *audit, pace Pace, stop <-chan struct{}) (used int64, err error) {
	if err := d.guarded(func() error { return d.attend(a) }); err != nil {
		return 0, err
	}
	defer d.auditor.Store(nil)
	for done := false; !done; {
		select {
		case <-stop:
			return 0, errs.E(errs.BadDevice, "the device was detached")
		default:
		}
		if n := a.bytes - a.paid; n >= a.burst || a.paid == 0 {
			a.paid = a.bytes + 1
			err = pace.wait(ctx, n)
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, errs.E(errs.Aborted, err)
		}
		err = d.look(func(t *Tx) (err error) { done, err = a.slice(t); return err })
		if err != nil {
			return 0, err
		}
	}
	return a.bytes + smallest, nil
}

// attend has all transactions that are not committed yet tell the audit what they do.
func (d *database) attend(a *audit) error {
	b, err := d.bolt.Begin(true) // nobody is within one
	if err != nil {
		return err
	}
	d.auditor.Store(a)
	return rollback(b, nil)
}

// slice reads for as long as a look may take, and reports whether all was read, and is
// well.
func (a *audit) slice(t *Tx) (done bool, err error) {
	if err := a.catchUp(t.id); err != nil {
		return false, err
	}
	end := time.Now().Add(a.span)
	if !a.all {
		if err := a.readRows(t, end); err != nil || !a.all {
			return false, err
		}
	}
	if a.upTo != math.MaxUint64 {
		if err := a.readChanges(t, end); err != nil || a.upTo != math.MaxUint64 {
			return false, err
		}
	}
	return true, a.compare(t)
}

const (
	perItem  = 16       // bytes that a page of a file has for each item beside key and value
	smallest = 32 << 10 // bytes of a file without rows
)

func after(c tableCursor, key []byte) (k, v []byte) {
	if key == nil {
		return c.First()
	}
	if k, v = c.Seek(key); bytes.Equal(k, key) {
		return c.Next()
	}
	return k, v
}

// readRows reads rows, the live and the dead in one order.
func (a *audit) readRows(t *Tx, end time.Time) error {
	live, dead := t.live.Cursor(), t.dead.Cursor()
	lk, lv := after(live, a.rows)
	dk, dv := after(dead, a.rows)
	var last []byte
	for n := 1; lk != nil || dk != nil; n++ {
		isLive := dk == nil || lk != nil && bytes.Compare(lk, dk) < 0
		k, v := dk, dv
		if isLive {
			k, v = lk, lv
		}
		if bytes.Equal(lk, dk) {
			return fmt.Errorf("row %.100q: %w", k, corrupt(fmt.Errorf("%w: it is there twice", errShape)))
		}
		if err := a.readRow(t, k, v, isLive); err != nil {
			return fmt.Errorf("row %.100q: %w", k, err)
		}
		last = k
		if isLive {
			lk, lv = live.Next()
		} else {
			dk, dv = dead.Next()
		}
		if n%a.step == 0 && !time.Now().Before(end) {
			a.rows = bytes.Clone(last)
			return nil
		}
	}
	a.all = true
	return nil
}

func (a *audit) readRow(t *Tx, k, v []byte, live bool) error {
	if len(k) <= spaceLen {
		return corrupt(errShape)
	}
	change, row, err := openRow(k, v)
	if err != nil {
		return err
	}
	w, err := t.schema.Weigh(spaceOf(k), row, t.info.Delete)
	if err != nil {
		return corrupt(err)
	}
	if w.Live != live {
		return corrupt(fmt.Errorf("%w: among the wrong rows", errShape))
	}
	a.sums.count(w, +1)
	a.sums.digest = a.sums.digest.plus(t.term(termRow, k, row))
	a.sums.byName += pair(change, k)
	a.sums.rows++
	a.bytes += int64(len(k) + len(v) + perItem)
	return nil
}

func (a *audit) readChanges(t *Tx, end time.Time) error {
	c := t.changes.Cursor()
	k, key := c.Seek(binary.BigEndian.AppendUint64(nil, a.upTo+1))
	for n := 1; k != nil; n++ {
		if len(k) != 8 || len(key) <= spaceLen {
			return corrupt(fmt.Errorf("%w: a change of %d and %d bytes", errShape, len(k), len(key)))
		}
		number := binary.BigEndian.Uint64(k)
		if number == math.MaxUint64 || number > t.LastChange() {
			return corrupt(fmt.Errorf("%w: change %d is to come", errShape, number))
		}
		a.sums.byNumber += pair(number, key)
		a.sums.changes++
		a.bytes += int64(len(k) + len(key) + perItem)
		a.upTo = number
		k, key = c.Next()
		if n%a.step == 0 && !time.Now().Before(end) {
			return nil
		}
	}
	a.upTo = math.MaxUint64
	return nil
}

// compare looks at all that is not rows, and compares what those add up to with it.
func (a *audit) compare(t *Tx) error {
	s := &a.sums
	if s.rows != s.changes || s.byName != s.byNumber {
		return corrupt(fmt.Errorf("%w: %d rows and %d changes that are not of each other", errShape, s.rows, s.changes))
	}
	if _, err := t.Reported(); err != nil {
		return err
	}
	if _, err := t.merged(); err != nil {
		return err
	}
	if _, err := t.syncs(); err != nil {
		return err
	}
	fields, err := t.computeFields()
	if err != nil {
		return err
	}
	stored, ok, err := t.storedDigest()
	if err != nil {
		return err
	}
	if sum := s.digest.plus(fields); ok && sum != stored {
		return corrupt(fmt.Errorf("the digest is %x, rows and metadata add up to %x", stored.Bytes(), sum.Bytes()))
	}
	return t.checkStats(s.stats)
}

func (t *Tx) checkStats(counted map[policy.Index]Stat) error {
	stored, err := t.Stats()
	if err != nil {
		return err
	}
	for _, s := range stored {
		if counted[s.Policy] != s.Stat {
			return corrupt(fmt.Errorf("stats of policy %d are %+v, rows add up to %+v", s.Policy, s.Stat, counted[s.Policy]))
		}
		delete(counted, s.Policy)
	}
	for p := range maps.Keys(counted) {
		if counted[p] != (Stat{}) {
			return corrupt(fmt.Errorf("policy %d has rows and no stats", p))
		}
	}
	return nil
}
