package metadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

var bg = context.Background()

func TestDatabaseStays(t *testing.T) { homes(t, testDatabaseStays) }

func testDatabaseStays(t *testing.T, home Config) {
	dir := t.TempDir()
	s, dev := open(t, dir, home)
	loc := Location{dev, hashOf(7)}
	info := Info{Path: name.Path{Account: "a", Container: "c"}, Policy: 3, Created: at(4), Put: at(5)}
	fields := []Field{{"X-Meta-A", "1", at(5)}, {"X-Meta-B", "", at(6)}}
	err := s.Ensure(bg, loc, info, func(tx *Tx) error {
		if !tx.Made() {
			t.Error("Made is false in a database that is being made")
		}
		if _, err := tx.MergeRow(0, "r", live(9, 4)); err != nil {
			return err
		}
		return tx.MergeFields(fields)
	})
	if err != nil {
		t.Fatal(err)
	}
	hex := loc.Hash.String()
	file := filepath.Join(dir, "sda", "tests", hex[:2], hex[2:4], hex+".db")
	if home.small >= 0 {
		file = filepath.Join(dir, "sda", "tests", "4.small")
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "sda", "tmp")); err != nil || len(left) != 0 {
		t.Errorf("tmp holds %v, %v; want nothing", left, err)
	}
	if err := s.SetReported(bg, loc, Report{at(5), at(1), 2, -3}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a closed store answers %v", err)
	}

	s, dev = open(t, dir, home)
	loc.Device = dev
	err = s.View(bg, loc, func(tx *Tx) error {
		got := tx.Info()
		if got.Incarnation == (ID{}) {
			t.Error("no incarnation was chosen")
		}
		info.Incarnation, info.PolicyAt = got.Incarnation, info.Created
		if got != info {
			t.Errorf("info is %+v, want %+v", got, info)
		}
		if f, err := tx.Fields(); err != nil || !slices.Equal(f, fields) {
			t.Errorf("fields are %v, %v; want %v", f, err, fields)
		}
		if r, err := tx.Reported(); err != nil || r != (Report{at(5), at(1), 2, -3}) {
			t.Errorf("reported is %v, %v", r, err)
		}
		if st, err := tx.Stat(0); err != nil || st != (Stat{1, 1, 4}) {
			t.Errorf("stat is %v, %v", st, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestAbsent(t *testing.T) { homes(t, testAbsent) }

func testAbsent(t *testing.T, home Config) {
	s, dev := open(t, t.TempDir(), home)
	loc := Location{dev, hashOf(1)}
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		t.Errorf("View of nothing: %v", err)
	}
	if err := s.Update(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		t.Errorf("Update of nothing: %v", err)
	}
	refuse := errs.Refuse(errs.Conflict, "no")
	if err := s.Ensure(bg, loc, Info{}, func(*Tx) error { return refuse }); !errs.Is(err, errs.Conflict) {
		t.Errorf("Ensure that fails: %v", err)
	}
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		t.Errorf("View after an Ensure that failed: %v", err)
	}
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := s.Ensure(ctx, loc, Info{}, nothing); !errs.Is(err, errs.Aborted) {
		t.Errorf("Ensure for one who went away: %v", err)
	}
	if err := os.RemoveAll(dev.Path()); err != nil {
		t.Fatal(err)
	}
	if err := s.Ensure(bg, loc, Info{}, nothing); !errs.Is(err, errs.BadDevice) {
		t.Errorf("Ensure on a device whose folder is gone: %v", err)
	}
	if _, err := os.Stat(dev.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the device's folder was made anew: %v", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, "sda", "tmp")
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"metadb-tests-1", "metadb-others-1", "else"} {
		if err := os.WriteFile(filepath.Join(tmp, n), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, Config{})
	list, err := os.ReadDir(tmp)
	if err != nil || len(list) != 2 || list[0].Name() != "else" || list[1].Name() != "metadb-others-1" {
		t.Errorf("tmp holds %v, %v; want what is not of this store", list, err)
	}
}

// state is everything of a database that replicas must agree on.
func state(t interface{ Fatal(...any) }, s *Store, loc Location) string {
	var b bytes.Buffer
	err := s.View(bg, loc, func(tx *Tx) error {
		list, err := tx.Changes(0, 1000)
		if err != nil {
			return err
		}
		rows := map[string][]byte{}
		for _, c := range list {
			rows[fmt.Sprintf("%d/%s", c.Space, c.Name)] = c.Row
		}
		for _, n := range slices.Sorted(maps.Keys(rows)) {
			fmt.Fprintf(&b, "%s=%x ", n, rows[n])
		}
		fields, err := tx.Fields()
		if err != nil {
			return err
		}
		stats, err := tx.Stats()
		for _, st := range stats {
			if st.Stat != (Stat{}) {
				fmt.Fprint(&b, st)
			}
		}
		fmt.Fprint(&b, fields)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestChanges(t *testing.T) { homes(t, testChanges) }

func testChanges(t *testing.T, home Config) {
	s, loc := one(t, home)
	for i, step := range []struct {
		name string
		row  []byte
		want string // name@number of all changes since 0
	}{
		{"a", live(5, 1), "a@1"},
		{"b", live(5, 1), "a@1 b@2"},
		{"a", live(4, 9), "a@1 b@2"}, // older: nothing changes
		{"a", live(5, 1), "a@1 b@2"}, // the same
		{"a", dead(6), "b@2 a@3"},
		{"c", dead(6), "b@2 a@3 c@4"},
		{"a", live(7, 1), "b@2 c@4 a@5"},
	} {
		merge(t, s, loc, map[string][]byte{step.name: step.row})
		err := s.View(bg, loc, func(tx *Tx) error {
			list, err := tx.Changes(0, 99)
			var got []string
			for _, c := range list {
				got = append(got, fmt.Sprintf("%s@%d", c.Name, c.Number))
			}
			if fmt.Sprint(got) != "["+step.want+"]" {
				t.Errorf("step %d: changes are %v, want %s", i, got, step.want)
			}
			for n := range tx.LastChange() + 2 {
				for limit := range 4 {
					part, err := tx.Changes(n, limit)
					if err != nil {
						return err
					}
					want := slices.DeleteFunc(slices.Clone(list), func(c Change) bool { return c.Number <= n })
					if want = want[:min(limit, len(want))]; len(part) != len(want) || len(want) > 0 && part[0].Number != want[0].Number {
						t.Errorf("step %d: Changes(%d, %d) gives %v, want %v", i, n, limit, part, want)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(bg, loc); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
}

func TestRowsOlderThanTheDeleteAreHidden(t *testing.T) { homes(t, testRowsOlderThanTheDeleteAreHidden) }

func testRowsOlderThanTheDeleteAreHidden(t *testing.T, home Config) {
	s, loc := one(t, home)
	err := s.Update(bg, loc, func(tx *Tx) error {
		info := tx.Info()
		info.Delete = at(10)
		if err := tx.MergeInfo(info); err != nil {
			return err
		}
		for n, r := range map[string][]byte{"old": live(9, 2), "same": live(10, 2), "new": live(11, 2)} {
			if _, err := tx.MergeRow(0, n, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := page(s, loc, Query{Params: allParams})
	if err != nil || !slices.Equal(got, []string{"new"}) {
		t.Errorf("listed are %q, %v; want only the row that is newer than the delete", got, err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestFieldsAreJoined(t *testing.T) { homes(t, testFieldsAreJoined) }

func testFieldsAreJoined(t *testing.T, home Config) {
	s, loc := one(t, home)
	if err := s.Update(bg, loc, func(tx *Tx) error {
		return tx.MergeFields([]Field{{"A", "1", at(5)}, {"B", "1", at(5)}})
	}); err != nil {
		t.Fatal(err)
	}
	err := s.Update(bg, loc, func(tx *Tx) error {
		got, err := tx.JoinFields([]Field{{"A", "0", at(4)}, {"B", "", at(6)}, {"C", "3", at(1)}})
		if want := []Field{{"A", "1", at(5)}, {"B", "", at(6)}, {"C", "3", at(1)}}; !slices.Equal(got, want) {
			t.Errorf("JoinFields gives %v, want %v", got, want)
		}
		if err := tx.MergeFields([]Field{{"", "x", at(9)}}); !errs.Is(err, errs.Invalid) {
			t.Errorf("an empty name: %v", err)
		}
		return errors.Join(err, tx.clearFields(at(7)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := state(t, s, loc), fmt.Sprint([]Field{{"A", "", at(7)}, {"B", "", at(7)}}); got != want {
		t.Errorf("after clearFields the state is %s, want %s", got, want)
	}
}

func TestBadRowsAreRefused(t *testing.T) { homes(t, testBadRowsAreRefused) }

func testBadRowsAreRefused(t *testing.T, home Config) {
	s, loc := one(t, home)
	for what, c := range map[string]struct {
		name string
		row  []byte
	}{
		"no name":     {"", live(1, 1)},
		"a long name": {string(make([]byte, MaxName+1)), live(1, 1)},
		"no row":      {"a", []byte("?")},
	} {
		err := s.Update(bg, loc, func(tx *Tx) error { _, err := tx.MergeRow(0, c.name, c.row); return err })
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: got %v, want an error of kind invalid", what, err)
		}
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestWritersShareATransaction(t *testing.T) { homes(t, testWritersShareATransaction) }

func testWritersShareATransaction(t *testing.T, home Config) {
	s, loc := one(t, home)
	refuse := errors.New("refused")
	const n = 64
	gate := make(chan struct{})
	var wg sync.WaitGroup
	results := make([]error, n)
	// While the first holds the transaction the others queue up behind it.
	wg.Go(func() {
		results[0] = s.Update(bg, loc, func(tx *Tx) error {
			<-gate
			_, err := tx.MergeRow(0, "r00", live(5, 1))
			return err
		})
	})
	db := opened(t, s, loc)
	waiting := func() int { db.mu.Lock(); defer db.mu.Unlock(); return len(db.waiting) }
	for !busy(db) || waiting() != 0 {
		yield()
	}
	for i := 1; i < n; i++ {
		wg.Go(func() {
			results[i] = s.Update(bg, loc, func(tx *Tx) error {
				if i%8 == 1 {
					return refuse // before it changed anything
				}
				_, err := tx.MergeRow(0, fmt.Sprintf("r%02d", i), live(5, 1))
				if i%8 == 2 {
					return refuse // after
				}
				return err
			})
		})
	}
	for waiting() != n-1 {
		yield()
	}
	before := txID(t, db)
	close(gate)
	wg.Wait()
	var want []string
	for i, err := range results {
		if bad := i%8 == 1 || i%8 == 2; errors.Is(err, refuse) != bad || !bad && err != nil {
			t.Errorf("writer %d got %v", i, err)
		} else if !bad {
			want = append(want, fmt.Sprintf("r%02d", i))
		}
	}
	got, err := page(s, loc, Query{Params: allParams})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listed are %q, %v; want %q", got, err, want)
	}
	if after := txID(t, db); after-before != 2 && home.small != 250 {
		t.Errorf("%d writers took %d transactions, want 2", n, after-before)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestNoChangeNoCommit(t *testing.T) { homes(t, testNoChangeNoCommit) }

func testNoChangeNoCommit(t *testing.T, home Config) {
	s, loc := one(t, home)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
	db := opened(t, s, loc)
	before := txID(t, db)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
	merge(t, s, loc, map[string][]byte{"a": live(4, 1)})
	if after := txID(t, db); after != before {
		t.Errorf("merges that change nothing moved the database from transaction %d to %d", before, after)
	}
}

func TestCacheUnderPressure(t *testing.T) { homes(t, testCacheUnderPressure) }

func testCacheUnderPressure(t *testing.T, home Config) {
	s, dev := open(t, t.TempDir(), with(home, Config{Open: 2, Track: true}))
	const databases, workers, rounds = 6, 8, 12
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				loc := Location{dev, hashOf(uint64((w + i) % databases))}
				err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error {
					_, err := tx.MergeRow(0, fmt.Sprintf("%d-%d", w, i), live(5, 1))
					return err
				})
				if err == nil {
					err = s.View(bg, loc, func(tx *Tx) error { _, err := tx.Total(); return err })
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c := s.now(dev).cache
	c.mu.Lock()
	if len(c.entries) > 2 || c.idle.Len() != len(c.entries) {
		t.Errorf("%d databases are open, %d idle; want at most 2, all idle", len(c.entries), c.idle.Len())
	}
	c.mu.Unlock()
	total := int64(0)
	var walked []name.Hash
	for h, err := range s.Walk(bg, dev) {
		if err != nil {
			t.Fatal(err)
		}
		walked = append(walked, h)
		if err := s.Check(bg, Location{dev, h}); err != nil {
			t.Error(err)
		}
		if err := s.View(bg, Location{dev, h}, func(tx *Tx) error {
			sum, err := tx.Total()
			total += sum.Rows
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	if len(walked) != databases || total != workers*rounds {
		t.Errorf("%d databases with %d rows, want %d with %d", len(walked), total, databases, workers*rounds)
	}
	if got := s.TakeChanged(); len(got) != databases {
		t.Errorf("%d databases changed, want %d", len(got), databases)
	}
	if got := s.TakeChanged(); len(got) != 0 {
		t.Errorf("changed ones are returned twice: %v", got)
	}
	loc := Location{dev, walked[0]}
	if err := s.SetReported(bg, loc, Report{Objects: 1}); err != nil {
		t.Fatal(err)
	}
	if got := s.TakeChanged(); len(got) != 0 {
		t.Errorf("SetReported made a change to report: %v", got)
	}
	s.MarkChanged(loc)
	if got := s.TakeChanged(); len(got) != 1 || got[0] != loc {
		t.Errorf("after MarkChanged: %v", got)
	}
}

func TestConcurrentEnsureMakesOne(t *testing.T) { homes(t, testConcurrentEnsureMakesOne) }

func testConcurrentEnsureMakesOne(t *testing.T, home Config) {
	s, dev := open(t, t.TempDir(), home)
	loc := Location{dev, hashOf(3)}
	var wg sync.WaitGroup
	made := make([]bool, 16)
	for i := range made {
		wg.Go(func() {
			if err := s.Ensure(bg, loc, Info{Created: timestamp.FromTicks(int64(i))}, func(tx *Tx) error {
				made[i] = tx.Made()
				if i%4 == 0 {
					return errs.Refuse(errs.Invalid, "no")
				}
				return nil
			}); (i%4 == 0) != errs.Is(err, errs.Invalid) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	n := 0
	for i, m := range made {
		if m && i%4 != 0 {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d callers made the database, want 1", n)
	}
}
