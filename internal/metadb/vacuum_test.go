package metadb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// rewritten writes the file of a database anew, whether that is worth it or not.
func rewritten(s *Store, loc Location, pace Pace) error {
	d := s.now(loc.Device)
	return s.withOn(bg, d, loc, s.open, func(d *disk, e *entry) error {
		_, err := s.rewrite(bg, d, loc, e.db, pace)
		return err
	})
}

// emptied fills a database and deletes almost all of it again.
func emptied(t testing.TB, s *Store, loc Location, rows int) {
	t.Helper()
	err := s.Update(bg, loc, func(tx *Tx) error {
		for i := range rows {
			if _, err := tx.MergeRow(0, fmt.Sprintf("row-%06d", i), live(5, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil { // as reclaiming will do
		err = s.Update(bg, loc, func(tx *Tx) error {
			for i := range rows - 10 {
				key := rowKey(nil, 0, fmt.Sprintf("row-%06d", i))
				number, row, _, err := tx.stored(key)
				if err != nil {
					return err
				}
				w, err := tx.schema.Weigh(0, row, tx.info.Delete)
				if err != nil {
					return err
				}
				tx.exchange(termRow, key, row, nil)
				if err := errors.Join(tx.count(w, -1), tx.live.Delete(key), tx.changes.Delete(numberKey(number))); err != nil {
					return err
				}
				tx.touch = true
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// all is everything that is known of a database.
func all(t fataler, s *Store, loc Location) (state []string) {
	t.Helper()
	err := s.look(bg, loc, func(tx *Tx) error {
		changes, err := tx.Changes(0, 1000)
		if err != nil {
			return err
		}
		fields, err := tx.Fields()
		if err != nil {
			return err
		}
		stats, err := tx.Stats()
		if err != nil {
			return err
		}
		known, err := tx.Known(ID{1})
		if err != nil {
			return err
		}
		merged, err := tx.merged()
		if err != nil {
			return err
		}
		digest, err := tx.Digest()
		state = []string{fmt.Sprintf("%+v %+v %+v %+v %+v %d %x", tx.Info(), fields, stats, known, merged, tx.LastChange(), digest.Bytes())}
		for _, c := range changes {
			state = append(state, fmt.Sprintf("%+v", c))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// A file that is written anew while the database changes, in whatever way, holds in the end what
// a database holds that was told the same and left alone.
func TestVacuumWhileRowsChange(t *testing.T) {
	s, dev := open(t, t.TempDir(), own)
	n := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		n += 2
		loc, plain := Location{dev, hashOf(n)}, Location{dev, hashOf(n + 1)}
		id := ID{byte(n), byte(n >> 8), 7}
		both := func(fn func(tx *Tx) error) {
			for _, at := range []Location{loc, plain} {
				if err := s.Update(bg, at, fn); err != nil {
					rt.Fatal(err)
				}
			}
		}
		for _, l := range []Location{loc, plain} {
			if err := s.Ensure(bg, l, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
				rt.Fatal(err)
			}
			if err := s.Update(bg, l, func(tx *Tx) error { tx.info.Incarnation, tx.touch = id, true; return nil }); err != nil {
				rt.Fatal(err)
			}
		}
		change := func() {
			type item struct {
				space policy.Index
				name  string
				row   []byte
			}
			var list []item
			for range rapid.IntRange(1, 5).Draw(rt, "rows") {
				r := testRow{at(rapid.Int64Range(2, 9).Draw(rt, "stamp")), rapid.Bool().Draw(rt, "dead"), rapid.Int64Range(0, 3).Draw(rt, "size")}
				list = append(list, item{policy.Index(rapid.IntRange(0, 1).Draw(rt, "space")), fmt.Sprint("r", rapid.IntRange(0, 20).Draw(rt, "name")), r.encode()})
			}
			f := Field{fmt.Sprint("F", rapid.IntRange(0, 2).Draw(rt, "field")), "v", at(rapid.Int64Range(1, 9).Draw(rt, "field stamp"))}
			known := rapid.Uint64Range(0, 9).Draw(rt, "known")
			both(func(tx *Tx) error {
				for _, i := range list {
					if _, err := tx.MergeRow(i.space, i.name, i.row); err != nil {
						return err
					}
				}
				return errors.Join(tx.MergeFields([]Field{f}), tx.SetKnown(ID{1}, Known{known, 1}))
			})
		}
		for range rapid.IntRange(0, 6).Draw(rt, "before") {
			change()
		}
		turns := 0
		err := rewritten(s, loc, func(context.Context, int64) error {
			if turns++; turns < 8 && rapid.Bool().Draw(rt, "between") {
				change()
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "more") {
			change()
		}
		if got, want := all(rt, s, loc), all(rt, s, plain); !slices.Equal(got, want) {
			rt.Fatalf("got  %q\nwant %q", got, want)
		}
		if err := s.Check(bg, loc); err != nil {
			rt.Fatal(err)
		}
	})
	if left, _ := filepath.Glob(dev.Dir("tmp", "*")); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
}

// A delete that comes while the file is written anew, and a stream of changes that does not
// end, leave it as it is.
func TestVacuumGivesUp(t *testing.T) {
	for what, between := range map[string]func(tx *Tx, n int) error{
		"a delete": func(tx *Tx, n int) error {
			i := tx.Info()
			i.Delete = at(int64(100 + n))
			return tx.MergeInfo(i)
		},
		"many changes": func(tx *Tx, n int) error {
			for i := range vacuumLast + 1 {
				if _, err := tx.MergeRow(0, fmt.Sprint("more-", i), live(int64(100+n), 1)); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		s, loc := one(t, own)
		merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
		n := 0
		err := rewritten(s, loc, func(context.Context, int64) error {
			n++
			return s.Update(bg, loc, func(tx *Tx) error { return between(tx, n) })
		})
		if !errors.Is(err, errBusy) {
			t.Errorf("%s: got %v, want %v", what, err, errBusy)
		}
		if err := s.Check(bg, loc); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if left, _ := filepath.Glob(loc.Device.Dir("tmp", "*")); len(left) > 0 {
			t.Errorf("%s: left is %v", what, left)
		}
	}
}

// Readers and writers that come while a file is written anew, and exchanged, see all that was
// acknowledged, before and after.
func TestVacuumUnderLoad(t *testing.T) {
	j := openTestJournal(t, vfs.NewMem())
	dir := t.TempDir()
	s, dev := open(t, dir, Config{small: -1, Journal: j.of, step: 50})
	loc := Location{dev, hashOf(1)}
	made(t, s, loc, "a")
	var wg sync.WaitGroup
	var writing atomic.Int32
	var acked [3]int
	for w := range acked {
		writing.Add(1)
		wg.Go(func() {
			defer writing.Add(-1)
			for i := range 150 {
				r := Row{0, fmt.Sprintf("w%d-%06d", w, i), live(5, 1)}
				err := s.MergeRows(bg, loc, nil, r)
				if err == nil && w == 1 {
					err = s.Update(bg, loc, func(tx *Tx) error { return tx.MergeFields([]Field{{"F", "v", at(int64(i))}}) })
				}
				if err == nil {
					err = s.View(bg, loc, func(tx *Tx) error {
						got, err := tx.Row(0, r.Name)
						if err == nil && got == nil {
							err = errors.New(r.Name + " is not seen")
						}
						return err
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked[w]++
			}
		})
	}
	done := 0
	for writing.Load() > 0 {
		switch err := rewritten(s, loc, nil); {
		case err == nil:
			done++
		case !errors.Is(err, errBusy):
			t.Error(err)
		}
	}
	wg.Wait()
	if err := rewritten(s, loc, nil); err != nil {
		t.Errorf("nothing changes, and yet: %v", err)
	}
	t.Logf("written anew %d times meanwhile", done)
	s.Close()
	s, loc.Device = open(t, dir, Config{small: -1, Journal: j.of})
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
	sum := 1
	for _, n := range acked {
		sum += n
	}
	err := s.View(bg, loc, func(tx *Tx) error {
		if got, err := tx.Total(); err != nil || got.Rows < int64(sum) {
			t.Errorf("%d rows of %d, %v", got.Rows, sum, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Whichever call of the file system fails while a file is written anew, the database has what
// was acknowledged, also what came after that, and nothing is left in tmp after the next start.
func TestVacuumFailsAtAnyCall(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		s, dev := open(t, dir, own)
		loc := Location{dev, hashOf(1)}
		made(t, s, loc, "a", "b")
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, dev = open(t, dir, Config{small: -1, FS: faulty})
		loc.Device = dev
		row := func(name string) error { return s.MergeRows(bg, loc, nil, Row{0, name, live(6, 1)}) }
		want := []string{"a", "b"}
		if row("c") == nil {
			want = append(want, "c")
		}
		err := rewritten(s, loc, nil)
		fired = faulty.Fired()
		if !fired && err != nil {
			t.Fatal(err)
		}
		if row("d") == nil {
			want = append(want, "d")
		} else if fired = faulty.Fired(); !fired {
			t.Error("after all went well nothing can be written")
		}
		s.Close()
		s, loc.Device = open(t, dir, own)
		if err := s.Check(bg, loc); err != nil {
			t.Errorf("call %d failed: %v", n, err)
		}
		got, err := page(s, loc, Query{Params: allParams})
		for _, w := range want {
			if err != nil || !slices.Contains(got, w) {
				t.Errorf("call %d failed: listed are %q, %v, want %q", n, got, err, want)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "sda", "tmp", "*")); len(left) > 0 {
			t.Errorf("call %d failed: left is %v", n, left)
		}
		s.Close()
	}
}

// A crash may bring back the old file where the new name was not synced: nothing may be
// acknowledged in the new one then.
func TestVacuumNameIsDurableBeforeMoreIsWritten(t *testing.T) {
	var broken atomic.Bool
	s, dev := open(t, t.TempDir(), Config{small: -1, FS: dirs{vfs.OS, func(dir string) error {
		if broken.Load() {
			return syscall.EIO
		}
		return vfs.OS.SyncDir(dir)
	}}})
	loc := Location{dev, hashOf(1)}
	made(t, s, loc, "a")
	merge(t, s, loc, map[string][]byte{"b": live(5, 1)})
	broken.Store(true)
	if err := rewritten(s, loc, nil); !errs.Is(err, errs.BadDevice) {
		t.Errorf("the name was not synced: %v", err)
	}
	broken.Store(false)
	err := s.Update(bg, loc, func(tx *Tx) error { _, err := tx.MergeRow(0, "c", live(5, 1)); return err })
	if !errs.Is(err, errs.BadDevice) {
		t.Errorf("more was written under a name that may not last: %v", err)
	}
	if got, err := page(s, loc, Query{Params: allParams}); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("listed are %q, %v", got, err)
	}
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
