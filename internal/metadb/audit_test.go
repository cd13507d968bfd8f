package metadb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
)

// An audit that is interrupted after every row by whatever may happen finds nothing wrong,
// and comes to the same sums as one that is left alone.
func TestAuditWhileRowsChange(t *testing.T) {
	s, dev := open(t, t.TempDir(), own)
	n := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		n++
		loc := Location{dev, hashOf(n)}
		if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
			rt.Fatal(err)
		}
		change := func(tx *Tx) error {
			for range rapid.IntRange(1, 4).Draw(rt, "rows") {
				r := testRow{at(rapid.Int64Range(2, 9).Draw(rt, "stamp")), rapid.Bool().Draw(rt, "dead"), rapid.Int64Range(0, 3).Draw(rt, "size")}
				space := policy.Index(rapid.IntRange(0, 1).Draw(rt, "space"))
				if _, err := tx.MergeRow(space, fmt.Sprint("r", rapid.IntRange(0, 20).Draw(rt, "name")), r.encode()); err != nil {
					return err
				}
			}
			return tx.MergeFields([]Field{{"A", "b", at(rapid.Int64Range(1, 9).Draw(rt, "field"))}})
		}
		for range rapid.IntRange(0, 5).Draw(rt, "before") {
			if err := s.Update(bg, loc, change); err != nil {
				rt.Fatal(err)
			}
		}
		deletes := 1
		between := func(context.Context, int64) error {
			switch rapid.IntRange(0, 9).Draw(rt, "between") {
			case 0, 1, 2, 3:
				return s.Update(bg, loc, change)
			case 4:
				_ = s.Update(bg, loc, func(tx *Tx) error { // it comes to nothing
					_ = change(tx)
					return errs.E(errs.Invalid, "refused")
				})
			case 5:
				if deletes--; deletes < 0 {
					return nil // else there is no end
				}
				return s.Update(bg, loc, func(tx *Tx) error {
					i := tx.Info()
					i.Delete = at(rapid.Int64Range(2, 9).Draw(rt, "delete"))
					return tx.MergeInfo(i)
				})
			}
			return nil
		}
		if err := s.View(bg, loc, nothing); err != nil {
			rt.Fatal(err)
		}
		db := opened(t, s, loc)
		err := errAgain
		for err == errAgain {
			a := newAudit()
			a.span, a.step, a.burst = 0, 1, 0
			_, err = db.auditWith(bg, a, between, nil)
		}
		if err != nil {
			rt.Fatal(err)
		}
		if db.auditor.Load() != nil {
			rt.Fatal("an audit that has ended is told more")
		}
		if err := s.Check(bg, loc); err != nil {
			rt.Fatal(err)
		}
	})
}

// Whatever is wrong in a file whose values all have good checksums is found.
func TestAuditFindsWhatDoesNotAgree(t *testing.T) {
	raw := func(number uint64, row []byte) []byte { return append(binary.AppendUvarint(nil, number), row...) }
	key := func(n int) []byte { return rowKey(nil, 0, fmt.Sprintf("r%03d", n)) }
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for what, hurt := range map[string]func(tx *Tx) error{
		"a row that nobody counted": func(tx *Tx) error {
			return tx.live.Put(key(500), seal(key(500), raw(301, live(5, 1))))
		},
		"a row of another change": func(tx *Tx) error {
			return tx.live.Put(key(7), seal(key(7), raw(9, live(5, 7))))
		},
		"a row that is gone":         func(tx *Tx) error { return tx.live.Delete(key(8)) },
		"a row with another content": func(tx *Tx) error { return tx.live.Put(key(7), seal(key(7), raw(8, live(6, 7)))) },
		"a row with another size":    func(tx *Tx) error { return tx.live.Put(key(7), seal(key(7), raw(8, live(5, 9)))) },
		"a row that is there twice": func(tx *Tx) error {
			return tx.dead.Put(key(7), bytes.Clone(tx.live.Get(key(7))))
		},
		"a live row among the dead": func(tx *Tx) error {
			v := bytes.Clone(tx.live.Get(key(7)))
			if err := tx.live.Delete(key(7)); err != nil {
				return err
			}
			return tx.dead.Put(key(7), v)
		},
		"a change that is gone":    func(tx *Tx) error { return tx.changes.Delete(number(3)) },
		"a change too many":        func(tx *Tx) error { return tx.changes.Put(number(301), key(3)) },
		"a change of another row":  func(tx *Tx) error { return tx.changes.Put(number(3), key(9)) },
		"two changes exchanged":    func(tx *Tx) error { return bothPut(tx.changes, number(3), key(3), number(4), key(2)) },
		"a change that is to come": func(tx *Tx) error { return bothPut(tx.changes, number(999), key(2), nil, nil) },
		"another digest": func(tx *Tx) error {
			return tx.infob.Put(keyDigest, seal(keyDigest, append([]byte{digestVersion}, make([]byte, 16)...)))
		},
		"other stats": func(tx *Tx) error {
			k := []byte{0, 0}
			return tx.statb.Put(k, seal(k, appendStat(nil, Stat{1, 1, 1})))
		},
		"no stats":       func(tx *Tx) error { return tx.statb.Delete([]byte{0, 1}) },
		"a field":        func(tx *Tx) error { return tx.meta.Put([]byte("A"), []byte("?????")) },
		"what was said":  func(tx *Tx) error { return tx.infob.Put(keyReport, []byte("?????")) },
		"what is merged": func(tx *Tx) error { return tx.infob.Put(keyMerged, []byte("?????")) },
		"what is known":  func(tx *Tx) error { return tx.infob.Put(knownKey(ID{1}), []byte("?????")) },
	} {
		t.Run(what, func(t *testing.T) {
			s, loc := one(t, own)
			err := s.Update(bg, loc, func(tx *Tx) error {
				for i := range 300 {
					if _, err := tx.MergeRow(0, fmt.Sprintf("r%03d", i), live(5, int64(i))); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(bg, loc); err != nil {
				t.Fatal(err)
			}
			db := opened(t, s, loc)
			err = db.bolt.Update(func(b *bolt.Tx) error {
				tx, err := begin(testSchema{}, b)
				if err != nil {
					return err
				}
				return hurt(tx)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(bg, loc); !errs.Is(err, errs.Corrupt) {
				t.Errorf("got %v, want an error of kind corrupt", err)
			}
		})
	}
}

func bothPut(b table, k1, v1, k2, v2 []byte) error {
	err := b.Put(k1, v1)
	if err == nil && k2 != nil {
		err = b.Put(k2, v2)
	}
	return err
}

// Writers that need the file to grow get on while it is audited.
func TestAuditHoldsUpNobody(t *testing.T) {
	s, loc := one(t, own)
	for i := range 20 {
		rows := map[string][]byte{}
		for j := range 500 {
			rows[fmt.Sprintf("row-%02d-%04d", i, j)] = live(5, 1)
		}
		merge(t, s, loc, rows)
	}
	db := opened(t, s, loc)
	grown := 0
	a := newAudit()
	a.span, a.burst = 0, 0
	used, err := db.auditWith(bg, a, func(context.Context, int64) error {
		if grown++; grown > 30 {
			return nil
		}
		rows := map[string][]byte{}
		for j := range 1000 {
			rows[fmt.Sprintf("more-%02d-%04d", grown, j)] = live(5, 1)
		}
		merge(t, s, loc, rows) // it would not come back
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if grown < 30 || used < 40_000*50 {
		t.Errorf("%d slices, %d bytes", grown, used)
	}
	ctx, stop := context.WithCancel(bg)
	stop()
	if err := s.Check(ctx, loc); !errs.Is(err, errs.Aborted) {
		t.Errorf("ended by its context: %v", err)
	}
	stopped := make(chan struct{})
	close(stopped)
	if _, err := db.audit(bg, nil, stopped); !errs.Is(err, errs.BadDevice) {
		t.Errorf("the disk was let go of: %v", err)
	}
}
