package metadb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/policy"
)

// Check reads all of a database: every value's checksum, every row, that rows
// and changes name each other, and that stats and digest are what the rows add up
// to.
// What does not agree is of kind errs.Corrupt. It works on one state of the
// database, so writers that need the file to grow wait for it.
func (s *Store) Check(ctx context.Context, loc Location) error {
	return s.look(ctx, loc, func(t *Tx) error { return t.check(ctx) })
}

func (t *Tx) check(ctx context.Context) error {
	if _, err := t.Fields(); err != nil {
		return err
	}
	if _, err := t.Reported(); err != nil {
		return err
	}
	if _, err := t.merged(); err != nil {
		return err
	}
	counted := map[policy.Index]Stat{}
	rows := 0
	for _, b := range []*bolt.Bucket{t.live, t.dead} {
		n, err := t.checkRows(ctx, b, counted)
		if err != nil {
			return err
		}
		rows += n
	}
	if n := t.changes.Stats().KeyN; n != rows {
		return corrupt(fmt.Errorf("%w: %d rows, %d changes", errShape, rows, n))
	}
	if err := t.checkDigest(); err != nil {
		return err
	}
	return t.checkStats(counted)
}

// checkRows reads the rows of a bucket and adds up what they count for.
func (t *Tx) checkRows(ctx context.Context, b *bolt.Bucket, counted map[policy.Index]Stat) (rows int, err error) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if rows++; rows%1024 == 0 && ctx.Err() != nil {
			return 0, errs.E(errs.Aborted, ctx.Err())
		}
		if err := t.checkRow(k, v, b == t.live, counted); err != nil {
			return 0, fmt.Errorf("row %.100q: %w", k, err)
		}
	}
	return rows, nil
}

func (t *Tx) checkRow(k, v []byte, live bool, counted map[policy.Index]Stat) error {
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
	if live {
		counted[w.Policy] = counted[w.Policy].add(w, +1)
	}
	if key := t.changes.Get(binary.BigEndian.AppendUint64(nil, change)); !bytes.Equal(key, k) {
		return corrupt(fmt.Errorf("%w: change %d is not this row's", errShape, change))
	}
	return nil
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
		return corrupt(fmt.Errorf("policy %d has rows and no stats", p))
	}
	return nil
}

func (t *Tx) checkDigest() error {
	if _, err := t.syncs(); err != nil {
		return err
	}
	stored, ok, err := t.storedDigest()
	if err != nil || !ok {
		return err
	}
	sum, err := t.compute()
	if err == nil && sum != stored {
		err = corrupt(fmt.Errorf("the digest is %x, rows and metadata add up to %x", stored.Bytes(), sum.Bytes()))
	}
	return err
}
